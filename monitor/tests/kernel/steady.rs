//! When nothing changes, nothing is read: neither a stack nor a word of a target's memory.

use std::{collections::BTreeMap, fs, thread, time::Duration};

use testbed::Program;

use crate::support::{Daemon, start};

/// Passes that are watched.
const PASSES: usize = 15;

/// pid → how often each helper process of a daemon has come to a CPU: it sleeps until it is asked.
fn helpers(daemon: &Daemon) -> BTreeMap<u32, u64> {
    let tasks = fs::read_dir(format!("/proc/{}/task", daemon.pid())).unwrap();
    let children: String = tasks
        .map(|task| fs::read_to_string(task.unwrap().path().join("children")).unwrap())
        .collect();
    let switches = |pid: u32| -> u64 {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let lines = status
            .lines()
            .filter(|line| line.contains("voluntary_ctxt_switches:"));
        lines
            .map(|line| line.rsplit('\t').next().unwrap().parse::<u64>().unwrap())
            .sum()
    };
    children
        .split_ascii_whitespace()
        .map(|pid| pid.parse().unwrap())
        .map(|pid| (pid, switches(pid)))
        .collect()
}

fn wait_for_passes(daemon: &Daemon, passes: usize) {
    let stamp = || daemon.sample("taskleak_last_sweep_timestamp_seconds");
    let mut last = stamp();
    for _ in 0..passes {
        while stamp() == last {
            thread::sleep(Duration::from_millis(10));
        }
        last = stamp();
    }
}

/// Blocked, asleep for a while, and awake again and again: each was asked about once. (Of a wait on a futex whose holder is
/// not known it is asked after 1, 2, 4, 8, … passes.)
#[test]
fn nothing_is_read_twice() {
    let scenarios = [
        "poll=20",
        "read=20",
        "epoll_wait=5",
        "pause=5",
        "timed_poll=5",
        "timed_select=5",
    ];
    let Some(target) = start("steady", Program::CBlockers, &scenarios) else {
        return;
    };
    let daemon = Daemon::watch(target.pid(), "200ms", "400ms");
    let is_known = |process: Option<&crate::support::Process>| {
        process.is_some_and(|process| {
            let counted: u64 = process.counts().values().sum();
            counted == 50 && process.incomplete().is_empty()
        })
    };
    daemon.until(target.pid(), "known", is_known);
    wait_for_passes(&daemon, 3);
    let before = helpers(&daemon);
    assert!(!before.is_empty());
    wait_for_passes(&daemon, PASSES);
    assert_eq!(helpers(&daemon), before, "switches of the helpers");
}

/// What the test above looks at does change when something is asked.
#[test]
fn new_threads_are_asked_about() {
    let Some(target) = start("steady", Program::Spawner, &["--on-signal", "50"]) else {
        return;
    };
    let daemon = Daemon::watch(target.pid(), "200ms", "400ms");
    wait_for_passes(&daemon, 4);
    let before = helpers(&daemon);
    // SAFETY: plain numbers; a child that was not reaped.
    unsafe { libc::kill(target.pid() as i32, libc::SIGUSR1) };
    wait_for_passes(&daemon, 4);
    let after = helpers(&daemon);
    assert!(
        before
            .iter()
            .any(|(pid, switches)| after.get(pid) > Some(switches)),
        "{before:?} {after:?}"
    );
}
