//! Which processes are watched: by cgroup, and all but some.

use std::{fs, path::PathBuf, process::Command};

use serde_json::Value;
use testbed::Program;

use crate::support::{TASKLEAK, counts, exe, skip, start, taskleak};

/// A cgroup of the test's own, in whichever hierarchy takes it; gone when dropped.
struct Cgroup(PathBuf);

impl Cgroup {
    fn create(name: &str) -> Option<Self> {
        let roots = [
            "/sys/fs/cgroup/unified",
            "/sys/fs/cgroup",
            "/sys/fs/cgroup/freezer",
            "/sys/fs/cgroup/pids",
        ];
        let hierarchies = roots
            .iter()
            .filter(|root| fs::metadata(format!("{root}/cgroup.procs")).is_ok());
        hierarchies
            .map(|root| PathBuf::from(root).join(name))
            .find(|path| fs::create_dir(path).is_ok())
            .map(Self)
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        for _ in 0..100 {
            if fs::remove_dir(&self.0).is_ok() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }
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
    let Some(cgroup) = Cgroup::create(&name) else {
        return skip("selection::a_cgroup_by_a_glob", "no cgroup can be made here");
    };
    let inside = start("cgroup", Program::CBlockers, &["mutex=2"]).unwrap();
    let outside = start("cgroup", Program::CBlockers, &["mutex=1"]).unwrap();
    fs::write(cgroup.0.join("cgroup.procs"), inside.pid().to_string()).unwrap();
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
    let output = Command::new("unshare")
        .args([
            "--pid",
            "--fork",
            "--mount-proc",
            "--kill-child",
            "sh",
            "-c",
            &script,
        ])
        .output()
        .unwrap();
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    let names: Vec<&Value> = document["processes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|process| &process["comm"])
        .collect();
    assert_eq!(names, ["blockers"], "{document}");
}
