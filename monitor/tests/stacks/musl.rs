//! Static programs of musl, whose C library has no unwind information.

use std::process::Command;

use crate::support::{Folder, Running, Thread, by_name, run, skip, stacks, text};

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

fn is_there(tool: &str) -> bool {
    Command::new(tool).arg("--version").output().is_ok()
}

#[test]
fn c() {
    if !is_there("musl-gcc") {
        return skip("musl::c", "no musl-gcc: apt-get install musl-tools");
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
    if !is_there("musl-gcc") {
        return skip("musl::stripped", "no musl-gcc: apt-get install musl-tools");
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
