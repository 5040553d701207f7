//! PID namespaces: pids are those that the monitor's own namespace shows, though the kernel's probes see others.

use std::process::Command;

use testbed::{Program, Target};

use crate::support::{Daemon, Process, TASKLEAK, counts, exe, in_pid_namespace};

/// Monitor and target together in a namespace, as in a pod with a shared PID namespace.
#[test]
fn the_monitor_in_the_namespace_of_its_target() {
    let exe = exe(Program::CBlockers);
    let script = format!(
        "{exe} mutex=3 mutex_signals=2 >/dev/null & {TASKLEAK} snapshot --pid $! --observe 2500ms --blocked-after 2s --format json
         echo; echo pid $!; kill -9 $!"
    );
    let output = in_pid_namespace(&script);
    let text = String::from_utf8(output.stdout).unwrap();
    let (json, pid) = text.split_once("\npid ").unwrap_or_else(|| panic!("{text}"));
    let pid: u32 = pid.trim().parse().unwrap();
    assert!(pid < 20, "a pid of the namespace, not of the host");
    let seen = Process::of(&serde_json::from_str(json).unwrap(), pid).unwrap();
    // The interrupted ones are found only if the probes' entries, under host ids, met the sweep's records.
    assert_eq!(seen.counts(), counts(&[("futex", "internal", 5)]));
    assert!(seen.incomplete().is_empty());
    let ids: Vec<u64> = seen.groups()[0]["ids"]
        .as_array()
        .unwrap()
        .iter()
        .map(|id| id.as_u64().unwrap())
        .collect();
    assert!(ids.iter().all(|id| *id < 40), "tids of the namespace: {ids:?}");
}

/// The monitor outside, the target in a namespace of its own: pids are the outer ones.
#[test]
fn the_target_in_a_namespace_below() {
    let exe = exe(Program::CBlockers);
    let in_namespace = |program: Command| {
        let mut unshare = Command::new("unshare");
        unshare.args(["--pid", "--fork", "--mount-proc", "--kill-child"]);
        unshare.arg(program.get_program()).args(program.get_args());
        unshare
    };
    let target = Target::start_with(Program::CBlockers, &["mutex=3", "poll=1"], in_namespace).unwrap();
    let pid = target.pid();
    let daemon = Daemon::watch(pid, "200ms", "1s");
    let seen = daemon.until_counts(pid, &counts(&[("futex", "internal", 3), ("poll", "external", 1)]));
    assert_eq!(seen.value["exe"], exe);
}
