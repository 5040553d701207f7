//! Stuck tasks among many that come and go.

use std::{thread, time::Duration};

use testbed::tokio::{Flavor, NEWEST};

use super::bed::start;
use crate::support::{Daemon, Process};

const STUCK: u64 = 10_000;
const SNAPSHOTS: usize = 50;

fn stuck(process: &Process) -> u64 {
    let groups = process.groups().iter();
    let of_ours = groups.filter(|group| group["entry"]["function"] == "tasks::stuck::notified");
    of_ours.map(|group| group["count"].as_u64().unwrap()).sum()
}

/// Once they have been watched for long enough all of them are blocked in every snapshot, while tens of thousands are made
/// and end in each second.
#[test]
fn ten_thousand_stuck_tasks_are_in_every_snapshot() {
    let scenarios = [&format!("notify={STUCK}"), "churn=3"];
    let Some(target) = start("tokio::churn", (NEWEST, Flavor::Debug), &scenarios) else {
        return;
    };
    let pid = target.pid();
    let daemon = Daemon::watch(pid, "300ms", "1s");
    let until = |count: u64| {
        daemon.until(pid, "all are blocked", |process| {
            process.is_some_and(|process| stuck(process) == count)
        })
    };
    until(STUCK);
    let mut last = String::new();
    let mut snapshots = 0;
    while snapshots < SNAPSHOTS {
        thread::sleep(Duration::from_millis(50));
        let (_, _, body) = daemon.get("/api/v1/snapshot");
        if body == last {
            continue;
        }
        let process = Process::of(&serde_json::from_str(&body).unwrap(), pid).unwrap();
        assert_eq!(stuck(&process), STUCK, "snapshot {snapshots}");
        assert!(process.value["tasks"]["tokio"].as_u64().unwrap() > STUCK);
        last = body;
        snapshots += 1;
    }
}
