//! What threads were started with, by the C library's own notes, against what their stacks say.

use taskleak::identify::{Inspector, Options};
use testbed::Program;

use crate::support::{stacks_by, start};

/// For each thread but the first: whether the start routine is the program's own, and what it says. The same site
/// as the stack's, file and all: a thread that blocks must not change its entry.
fn check(test: &str, program: Program, args: &[&str], is_routine: bool) {
    let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
    let Some(target) = start(test, program, &args) else {
        return;
    };
    let pid = target.pid();
    let mut inspector = Inspector::new(Options::default());
    let threads = stacks_by(&mut inspector, pid);
    let mut told = 0;
    for thread in threads.iter().filter(|thread| !thread.record.is_leader()) {
        let start = inspector
            .thread_start(pid, thread.tid(), thread.record.thread_pointer)
            .unwrap();
        let entry = thread.stack().entry();
        assert!(start.is_certain, "{thread}{start:?}");
        if is_routine {
            assert_eq!(start.entry, entry, "{thread}");
        } else {
            let name = |site: Option<taskleak::model::Site>| site.map(|site| site.function);
            assert_eq!(name(start.entry), name(entry), "{thread}");
        }
        told += 1;
    }
    assert_eq!(told + 1, threads.len());
    assert!(told >= 6);
    // The first thread has none, and what is no descriptor says nothing.
    let leader = threads.iter().find(|thread| thread.record.is_leader()).unwrap();
    for thread_pointer in [leader.record.thread_pointer, 0, 1 << 40, leader.record.sp] {
        let start = inspector.thread_start(pid, pid, thread_pointer).unwrap();
        assert_eq!(start.entry, None);
    }
}

#[test]
fn of_c() {
    check(
        "starts::of_c",
        Program::CBlockers,
        &["mutex=2", "poll=2", "timed_cond=2", "sleep=2"],
        true,
    );
}

/// Functions and a lambda.
#[test]
fn of_cpp() {
    check(
        "starts::of_cpp",
        Program::CppBlockers,
        &["thread_mutex=2", "condition_variable=2", "timed_cv=2"],
        false,
    );
}

/// A library that forgets: musl's descriptors are others.
#[test]
fn of_musl() {
    let Some(target) = start("starts::of_musl", Program::MuslLocks, &[]) else {
        return;
    };
    let mut inspector = Inspector::new(Options::default());
    for thread in stacks_by(&mut inspector, target.pid()) {
        let start = inspector
            .thread_start(target.pid(), thread.tid(), thread.record.thread_pointer)
            .unwrap();
        assert_eq!(start.entry, None, "{thread}");
    }
}
