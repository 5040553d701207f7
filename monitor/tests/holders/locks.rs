//! Each kind of lock of the C testbed, in 64 and in 32 bits.

use std::collections::BTreeMap;

use taskleak::observe::thread::holders::Evidence::{self, *};
use testbed::{Class, Expect, Program};

use crate::support::{Observer, start};

/// Their locks are held by a helper.
const HELD: [(&str, Evidence); 8] = [
    ("mutex", MutexOwner),
    ("rwlock_read", RwlockWriter),
    ("rwlock_write", RwlockWriter),
    ("pi_mutex", PiWord),
    ("robust_mutex", RobustWord),
    // In memory that no other process can share.
    ("process_shared_mutex", MutexOwner),
    // The futex probes know that it is one wait, however often a signal is handled.
    ("mutex_signals", MutexOwner),
    ("lock_chain", MutexOwner),
];

fn each_lock_has_its_holder(program: Program) {
    for (name, evidence) in HELD {
        // Of a chain of one the helper is the only holder.
        let count = if name == "lock_chain" { 1 } else { 3 };
        // No tracepoint fires for a 32-bit call: its wait is interrupted, and not known to go on.
        if name == "mutex_signals" && program == Program::CBlockers32 {
            continue;
        }
        let Some(target) = start(
            &format!("{program:?} {name}"),
            program,
            &[&format!("{name}={count}")],
        ) else {
            return;
        };
        let mut observer = Observer::new(target.pid());
        let look = observer.until(name, |look| look.held(name).len() == count);
        let helpers = look.called("helper");
        for holder in look.held(name).into_values() {
            assert_eq!(holder.1, evidence, "{name}: {look:#?}");
            // One holds the lock; the other one of mutex_signals sends the signals.
            assert!(helpers.contains(&holder.0), "{name}: {look:#?}");
            assert!(helpers.len() == 1 || name == "mutex_signals", "{name}: {look:#?}");
        }
        assert_eq!(look.edges.len(), count, "{name}: nobody else waits for anybody");
        assert!(look.cycles().is_empty());
    }
}

#[test]
fn each_lock_has_its_holder_in_64_bits() {
    each_lock_has_its_holder(Program::CBlockers);
}

#[test]
fn each_lock_has_its_holder_in_32_bits() {
    each_lock_has_its_holder(Program::CBlockers32);
}

/// /proc shows whom they await, as glibc 2.36 passes it to the kernel.
#[test]
fn who_joins_waits_for_the_thread_that_it_joins() {
    for program in [Program::CBlockers, Program::CBlockers32] {
        let Some(target) = start(&format!("join {program:?}"), program, &["join=3"]) else {
            continue;
        };
        let mut observer = Observer::new(target.pid());
        let look = observer.until("all join", |look| look.held("join").len() == 3);
        let threads = target.threads().unwrap();
        let joiners = threads.iter().filter(|thread| thread.comm == "join");
        let expected: BTreeMap<_, _> = joiners
            .map(|thread| {
                (
                    thread.tid,
                    (thread.syscall.as_ref().unwrap().args[2] as u32, Join),
                )
            })
            .collect();
        assert_eq!(look.held("join"), expected);
    }
}

/// The first thread is a zombie; its memory and its namespace are still to be seen through the others.
#[test]
fn the_main_thread_may_be_gone() {
    let scenarios = ["mutex=2", "join=2", "main_exits=1"];
    let Some(target) = start("main_exits", Program::CBlockers, &scenarios) else {
        return;
    };
    let mut observer = Observer::new(target.pid());
    observer.until("all are held", |look| {
        look.held("mutex").len() == 2 && look.held("join").len() == 2 && look.edges.len() == 4
    });
}

/// Everything else: events, locks whose holders are written nowhere, calls that are no futex's.
#[test]
fn all_other_waits_have_no_holder() {
    // Which not every kernel has or permits.
    const NOT_EVERYWHERE: [&str; 4] = ["futex_waitv", "futex_wait2", "userfault", "io_uring"];
    for program in [Program::CBlockers, Program::CBlockers32] {
        let scenarios: Vec<_> = program
            .scenarios()
            .into_iter()
            .filter(|scenario| {
                !HELD.iter().any(|(held, _)| scenario.name == *held)
                    && !NOT_EVERYWHERE.contains(&scenario.name)
                    && !matches!(
                        scenario.name,
                        "join" | "deadlock_ring" | "lock_traffic" | "timed_mutex" | "ping_pong"
                    )
            })
            .collect();
        let args: Vec<_> = scenarios
            .iter()
            .map(|scenario| format!("{}=3", scenario.name))
            .collect();
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let Some(target) = start(&format!("others {program:?}"), program, &args) else {
            continue;
        };
        let mut observer = Observer::new(target.pid());
        let waits_by_futex = Expect::Blocked {
            reason: "futex",
            class: Class::Internal,
        };
        assert!(
            scenarios
                .iter()
                .filter(|scenario| scenario.expect == waits_by_futex)
                .count()
                >= 4,
            "there is something to be mistaken for a lock"
        );
        for _ in 0..20 {
            let look = observer.look();
            assert!(look.edges.is_empty(), "{look:#?}");
        }
    }
}

/// Its plain mutex and its read-write lock do not know their owners.
#[test]
fn locks_of_musl() {
    let Some(target) = start("musl", Program::MuslLocks, &[]) else {
        return;
    };
    let mut observer = Observer::new(target.pid());
    let look = observer.until("all are found", |look| look.edges.len() == 6);
    let helper = look.only("helper");
    for (name, evidence) in [
        ("recursive", MutexOwner),
        ("errorcheck", MutexOwner),
        ("robust", MutexOwner),
        ("join", Join),
    ] {
        let holders: Vec<_> = look.held(name).into_values().collect();
        assert_eq!(holders, [(helper, evidence)], "{name}");
    }
    let ring: Vec<u64> = look.called("ring").into_iter().map(u64::from).collect();
    assert_eq!(look.cycles(), [ring]);
}

/// Calls that not every kernel has: each is skipped by itself.
#[test]
fn newer_futex_calls_have_no_holder() {
    for name in ["futex_waitv", "futex_wait2"] {
        let Some(target) = start(name, Program::CBlockers, &[&format!("{name}=3")]) else {
            continue;
        };
        let mut observer = Observer::new(target.pid());
        for _ in 0..5 {
            let look = observer.look();
            assert!(look.edges.is_empty(), "{look:#?}");
        }
    }
}

/// A wait with a timeout has a holder as well: whether it counts as blocked is for others to say.
#[test]
fn a_timeout_makes_no_difference() {
    let Some(target) = start("timed_mutex", Program::CBlockers, &["timed_mutex=2"]) else {
        return;
    };
    let mut observer = Observer::new(target.pid());
    let look = observer.until("both are held", |look| look.held("timed_mutex").len() == 2);
    let helper = look.only("helper");
    let holders: Vec<_> = look.held("timed_mutex").into_values().collect();
    assert_eq!(holders, [(helper, MutexOwner); 2]);
}
