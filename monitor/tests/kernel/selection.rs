//! Which processes are watched: by cgroup, and all but some.

use std::fs;

use serde_json::Value;
use testbed::Program;

use crate::support::{Cgroup, TASKLEAK, counts, exe, in_pid_namespace, skip, start, taskleak};

/// In whichever hierarchy takes it.
fn cgroup(name: &str) -> Option<Cgroup> {
    let roots = [
        "/sys/fs/cgroup/unified",
        "/sys/fs/cgroup",
        "/sys/fs/cgroup/freezer",
        "/sys/fs/cgroup/pids",
    ];
    let mut hierarchies = roots
        .iter()
        .filter(|root| fs::metadata(format!("{root}/cgroup.procs")).is_ok());
    hierarchies.find_map(|root| Cgroup::create(root, name).ok())
}

fn pids(output: &std::process::Output) -> Vec<u64> {
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    document["processes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|process| process["pid"].as_u64().unwrap())
        .collect()
}

#[test]
fn a_cgroup_by_a_glob() {
    let name = format!("taskleak-select-{}", std::process::id());
    let Some(cgroup) = cgroup(&name) else {
        return skip("selection::a_cgroup_by_a_glob", "no cgroup can be made here");
    };
    let inside = start("cgroup", Program::CBlockers, &["mutex=2"]).unwrap();
    let outside = start("cgroup", Program::CBlockers, &["mutex=1"]).unwrap();
    cgroup.write("cgroup.procs", &inside.pid().to_string());
    let output = taskleak(&[
        "snapshot",
        "--cgroup",
        "/taskleak-sel*",
        "--observe",
        "1200ms",
        "--format",
        "json",
    ]);
    assert_eq!(pids(&output), [u64::from(inside.pid())]);
    let document = serde_json::from_slice(&output.stdout).unwrap();
    let seen = crate::support::Process::of(&document, inside.pid()).unwrap();
    assert_eq!(seen.counts(), counts(&[("futex", "internal", 2)]));
    let prometheus = taskleak(&[
        "snapshot",
        "--cgroup",
        &format!("/{name}"),
        "--observe",
        "100ms",
        "--format",
        "prometheus",
    ]);
    let text = String::from_utf8(prometheus.stdout).unwrap();
    assert!(text.contains(&format!("workload=\"/{name}\"")), "{text}");
    drop((inside, outside));
}

/// In a PID namespace of its own: everything but what is excluded.
#[test]
fn all_but_the_excluded() {
    let exe = exe(Program::CBlockers);
    let script = format!(
        "{exe} mutex=2 >/dev/null & {TASKLEAK} snapshot --exclude '^sh$' --observe 1200ms --format json; kill -9 $!"
    );
    let output = in_pid_namespace(&script);
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    let names: Vec<&Value> = document["processes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|process| &process["comm"])
        .collect();
    assert_eq!(names, ["blockers"], "{document}");
}
