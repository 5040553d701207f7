//! A target in a PID namespace below the monitor's: its locks have its own small numbers, edges have ours.

use std::process::Command;

use taskleak::observe::thread::holders::Evidence::{Join, MutexOwner, PiWord, RobustWord, RwlockWriter};
use testbed::{Program, Target, Unsupported};

use crate::support::Observer;

fn start_in_namespace(test: &str, program: Program, scenarios: &[&str]) -> Option<Target> {
    let in_namespace = |program: Command| {
        let mut unshare = Command::new("unshare");
        unshare.args(["--pid", "--fork", "--mount-proc", "--kill-child"]);
        unshare.arg(program.get_program()).args(program.get_args());
        unshare
    };
    let started = Target::start_with(program, scenarios, in_namespace).map_err(|error| {
        if format!("{error:#}").contains("not permitted") {
            Unsupported(format!("{error:#}")).into()
        } else {
            error
        }
    });
    testbed::or_skip(&format!("holders::{test}"), started).unwrap_or_else(|error| panic!("{error:#}"))
}

#[test]
fn holders_have_the_monitors_numbers() {
    for (name, evidence) in [
        ("mutex", MutexOwner),
        ("rwlock_read", RwlockWriter),
        ("pi_mutex", PiWord),
        ("robust_mutex", RobustWord),
    ] {
        let scenario = format!("{name}=3");
        let Some(target) = start_in_namespace(name, Program::CBlockers, &[&scenario]) else {
            return;
        };
        let mut observer = Observer::new(target.pid());
        let look = observer.until(name, |look| look.edges.len() == 3);
        let helper = look.only("helper");
        assert!(helper > target.pid(), "a number of ours");
        let holders: Vec<_> = look.held(name).into_values().collect();
        assert_eq!(holders, [(helper, evidence); 3]);
    }
}

#[test]
fn joins_and_rings_are_found() {
    let scenarios = ["join=2", "deadlock_ring=3"];
    let Some(target) = start_in_namespace("ring", Program::CBlockers, &scenarios) else {
        return;
    };
    let mut observer = Observer::new(target.pid());
    let look = observer.until("everybody waits", |look| look.edges.len() == 5);
    let helpers = look.called("helper");
    let joined: Vec<_> = look.held("join").into_values().collect();
    assert_eq!(joined.len(), 2);
    assert!(
        joined
            .iter()
            .all(|(holder, evidence)| helpers.contains(holder) && *evidence == Join)
    );
    let ring: Vec<u64> = look.called("deadlock_ring").into_iter().map(u64::from).collect();
    assert_eq!(look.cycles(), [ring]);
}

/// Here 1, 2 and 3 are threads: what else has such a value in a futex word must not be taken for one.
#[test]
fn small_numbers_are_not_taken_for_threads() {
    let scenarios = ["cond=3", "semaphore=3", "barrier=3", "churn=3", "cond_2days=2"];
    let Some(target) = start_in_namespace("small numbers", Program::CBlockers, &scenarios) else {
        return;
    };
    let cpp = [
        "condition_variable=3",
        "future_get=3",
        "semaphore=3",
        "latch=3",
        "atomic_wait=3",
    ];
    let rust = [
        "mutex=3",
        "condvar=3",
        "park=3",
        "rwlock=3",
        "barrier=3",
        "once=3",
        "mpsc_recv=3",
    ];
    let targets = [
        Some(target),
        start_in_namespace("small numbers C++", Program::CppBlockers, &cpp),
        start_in_namespace("small numbers Rust", Program::RustBlockers, &rust),
    ];
    for target in targets.into_iter().flatten() {
        let mut observer = Observer::new(target.pid());
        for _ in 0..20 {
            let look = observer.look();
            assert!(look.edges.is_empty(), "{look:#?}");
        }
    }
}
