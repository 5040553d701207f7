//! Static programs of musl, whose C library has no unwind information.

use std::process::Command;

use testbed::Program;

use crate::{
    scenarios::{self, args, still},
    support::{Folder, Running, Thread, by_name, misses, run, skip, stacks, text},
};

/// What `programs/waits.c` can wait in.
const WAITS: [&str; 14] = [
    "mutex",
    "cond",
    "rwlock_read",
    "rwlock_write",
    "semaphore",
    "join",
    "barrier",
    "read",
    "recv",
    "poll",
    "epoll",
    "pause",
    "sigwait",
    "handler",
];

/// Block site and entry of each thread are those of its name.
fn check(threads: Vec<Thread>, library: &str) {
    let threads = by_name(threads);
    for name in WAITS {
        let thread = &threads[name][0];
        let site = match name {
            "handler" => "handle_forever".to_owned(),
            name => format!("wait_{name}"),
        };
        assert_eq!(thread.block_site(), site, "{library}: {thread}");
        assert_eq!(thread.entry(), format!("run_{name}"), "{library}: {thread}");
    }
    assert_eq!(threads["helper"][0].entry(), "hold");
    assert_eq!(threads["waits"][0].entry(), "main");
}

fn compile(folder: &Folder, compiler: &str, flags: &[&str]) -> Command {
    let exe = folder.path("waits");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/stacks/programs/waits.c");
    let mut args = vec!["-Wall", "-Wextra", source, "-o", text(&exe)];
    args.extend(flags);
    run(compiler, &args);
    let mut command = Command::new(&exe);
    command.args(WAITS);
    command
}

#[test]
fn c() {
    if misses("musl::c", &["musl-gcc"]) {
        return;
    }
    for flags in [
        ["-static", "-O2", "-g"],
        ["-static", "-O2", "-g0"],
        ["-static", "-O0", "-g"],
    ] {
        let folder = Folder::new("musl");
        let command = compile(&folder, "musl-gcc", &flags);
        let Some(running) = Running::start("musl::c", command) else {
            return;
        };
        let threads = stacks(running.pid());
        let frames = threads.iter().flat_map(|thread| &thread.stack().frames);
        assert!(frames.into_iter().any(|frame| frame.guessed));
        check(threads, "musl");
    }
}

/// The same program with glibc, for which nothing has to be guessed.
#[test]
fn the_same_with_glibc() {
    if misses("musl::the_same_with_glibc", &["gcc"]) {
        return;
    }
    for flags in [["-pthread", "-O2", "-g"], ["-static", "-O2", "-g"]] {
        let folder = Folder::new("glibc");
        let command = compile(&folder, "gcc", &flags);
        let Some(running) = Running::start("musl::the_same_with_glibc", command) else {
            return;
        };
        let threads = stacks(running.pid());
        let frames = threads.iter().flat_map(|thread| &thread.stack().frames);
        assert!(frames.into_iter().all(|frame| !frame.guessed));
        check(threads, "glibc");
    }
}

/// Without symbols as well, every frame that names would tell is still there.
#[test]
fn stripped() {
    if misses("musl::stripped", &["musl-gcc"]) {
        return;
    }
    let (full, bare) = (Folder::new("musl-full"), Folder::new("musl-bare"));
    let named = compile(&full, "musl-gcc", &["-static", "-O2", "-g"]);
    let stripped = compile(&bare, "musl-gcc", &["-static", "-O2", "-g", "-s"]);
    let Some(named) = Running::start("musl::stripped", named) else {
        return;
    };
    let Some(stripped) = Running::start("musl::stripped", stripped) else {
        return;
    };
    let named = by_name(stacks(named.pid()));
    let stripped = by_name(stacks(stripped.pid()));
    let mut same = 0;
    for name in WAITS {
        let (named, stripped) = (&named[name][0], &stripped[name][0]);
        assert_eq!(stripped.block_site(), "[waits]", "{stripped}");
        same += usize::from(named.places() == stripped.places());
    }
    // A guess without names may go wrong.
    assert!(same >= WAITS.len() / 2, "{same}");
}

/// Rust's standard library has unwind information, what it calls in the C library has none.
#[test]
fn rust() {
    const TARGET: &str = "x86_64-unknown-linux-musl";
    let test = "musl::rust";
    if misses(test, &["rustc"]) {
        return;
    }
    let output = Command::new("rustc")
        .args(["--print", "target-libdir", "--target", TARGET])
        .output()
        .unwrap();
    let library = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    if !std::path::Path::new(&library).is_dir() {
        return skip(test, &format!("rustup target add {TARGET}"));
    }
    let folder = Folder::new("musl-rust");
    let exe = folder.path("rust_blockers");
    let source = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../testbed/src/bin/rust_blockers/main.rs"
    );
    let flags = [
        "--edition=2024",
        "--crate-name=rust_blockers",
        "-Copt-level=2",
        "-Cdebuginfo=2",
    ];
    run(
        "rustc",
        &[&flags[..], &["--target", TARGET, source, "-o", text(&exe)]].concat(),
    );
    let scenarios = still(Program::RustBlockers);
    let mut command = Command::new(&exe);
    command.args(args(&scenarios, 2));
    let Some(running) = Running::start(test, command) else {
        return;
    };
    scenarios::check(&scenarios, 2, stacks(running.pid()));
}
