//! Frame by frame the same as gdb.

use testbed::Program;

use crate::{
    gdb::{SIGNAL, backtraces, last_part},
    scenarios::{args, still},
    support::{Folder, Running, Thread, misses, run, stacks, start, text},
};

/// gdb waits for ever for a parent that waits in vfork; the others are interrupted while gdb comes.
const LEFT_OUT: [&str; 3] = ["vfork", "mutex_signals", "read_signals"];

/// Compares each thread's functions; `alike` says whether two names are the same. How many frames there were.
fn compare(pid: u32, threads: &[Thread], alike: impl Fn(&str, &str) -> bool) -> usize {
    let theirs = backtraces(pid);
    let mut frames = 0;
    for thread in threads {
        let ours = &thread.stack().frames;
        let theirs = &theirs[&thread.tid()];
        assert_eq!(ours.len(), theirs.len(), "{thread}\ngdb: {theirs:#?}");
        for (our, their) in ours.iter().zip(theirs) {
            let same = match (our.function.as_deref(), their.as_deref()) {
                (Some("__restore_rt"), Some(SIGNAL)) | (None, None) => true,
                (Some(our), Some(their)) => alike(our, their),
                _ => false,
            };
            assert!(same, "{our:?}, gdb: {their:?}\n{thread}");
            assert!(!our.guessed, "{thread}");
        }
        frames += ours.len();
    }
    frames
}

fn same_as_gdb(program: Program, alike: impl Fn(&str, &str) -> bool) {
    let test = format!("equality::{program:?}");
    if misses(&test, &["gdb"]) {
        return;
    }
    let scenarios: Vec<_> = still(program)
        .into_iter()
        .filter(|scenario| !LEFT_OUT.contains(&scenario.name))
        .collect();
    let Some(target) = start(&test, program, &args(&scenarios, 1)) else {
        return;
    };
    let threads = stacks(target.pid());
    let frames = compare(target.pid(), &threads, alike);
    assert!(frames > 5 * scenarios.len(), "{frames}");
}

#[test]
fn c() {
    same_as_gdb(Program::CBlockers, |our, their| our == their);
}

#[test]
fn cpp() {
    same_as_gdb(Program::CppBlockers, |our, their| {
        last_part(our) == last_part(their)
    });
}

#[test]
fn rust() {
    same_as_gdb(Program::RustBlockers, |our, their| {
        last_part(our) == last_part(their)
    });
}

/// Frames of signals, on the same stack and on one of their own, and functions that align their stack.
#[test]
fn odd_frames() {
    if misses("equality::odd_frames", &["gcc", "gdb"]) {
        return;
    }
    let folder = Folder::new("odd-frames");
    let exe = folder.path("odd");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/stacks/programs/odd.c");
    run(
        "gcc",
        &["-O2", "-g", "-pthread", "-Wall", source, "-o", text(&exe)],
    );
    let Some(running) = Running::start("equality::odd_frames", std::process::Command::new(&exe)) else {
        return;
    };
    let threads = stacks(running.pid());
    assert_eq!(threads.len(), 5);
    compare(running.pid(), &threads, |our, their| our == their);
    for (name, site, entry) in [
        ("handler", "wait_in_handler", "run_handler"),
        ("other_stack", "wait_on_other_stack", "run_other_stack"),
        ("aligned", "wait_aligned", "run_aligned"),
        ("deep", "descend", "run_deep"),
    ] {
        let thread = threads.iter().find(|thread| thread.comm == name).unwrap();
        assert_eq!(thread.block_site(), site, "{thread}");
        assert_eq!(thread.entry(), entry, "{thread}");
    }
}
