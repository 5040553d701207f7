//! Healthy tasks: never blocked, never growing.

use std::{thread, time::Duration};

use testbed::tokio::{Flavor, NEWEST};

use super::bed::start;
use crate::support::{Daemon, Process, QUICK_VERDICTS};

/// Tickers, sleepers, connections that talk, workers that get jobs, and churn; and an idle listener, which waits for the
/// world.
const HEALTHY: [&str; 8] = [
    "ticker=50",
    "sleeper=50",
    "boxed_sleeper=20",
    "timeout=20",
    "echo=30",
    "worker=30",
    "churn=1",
    "accept=3",
];

fn tokio_groups(process: &Process) -> Vec<(&str, &str, u64)> {
    let groups = process.groups().iter().filter(|group| group["kind"] == "tokio");
    groups
        .filter(|group| group["count"] != 0)
        .map(|group| {
            let text = |name: &str| group[name].as_str().unwrap();
            (text("reason"), text("verdict"), group["count"].as_u64().unwrap())
        })
        .collect()
}

/// What waits for less than the threshold, or for a timer, is not counted: in no pass of many.
#[test]
fn healthy_tasks_are_not_blocked_in_any_pass() {
    for build in [("1.28.2", Flavor::Debug), (NEWEST, Flavor::Debug)] {
        let Some(target) = start("tokio::healthy", build, &HEALTHY) else {
            return;
        };
        let pid = target.pid();
        let daemon = Daemon::watch(pid, "300ms", "1s");
        let mut seen = 0;
        for _ in 0..60 {
            thread::sleep(Duration::from_millis(150));
            let Some(process) = daemon.process(pid) else {
                continue;
            };
            for (reason, _, count) in tokio_groups(&process) {
                assert_eq!((reason, count), ("TcpListener::accept", 3), "{process:?}");
                seen += 1;
            }
        }
        assert!(seen > 0, "{build:?}: the listeners were not seen");
    }
}

/// Nor do they grow, however long they are watched: by the count of the blocked or of the live.
#[test]
fn healthy_tasks_are_never_an_alarm() {
    let Some(target) = start("tokio::healthy", (NEWEST, Flavor::Debug), &HEALTHY) else {
        return;
    };
    let pid = target.pid().to_string();
    let daemon = Daemon::start(&[&["--pid", pid.as_str()], &QUICK_VERDICTS[..]].concat());
    for _ in 0..90 {
        thread::sleep(Duration::from_millis(500));
        let Some(process) = daemon.process(target.pid()) else {
            continue;
        };
        let is_alarm = |verdict: &str| ["growing", "leaking", "proven"].contains(&verdict);
        assert!(
            tokio_groups(&process)
                .iter()
                .all(|(_, verdict, _)| !is_alarm(verdict)),
            "{process:?}"
        );
        let live = process.value["live"].as_array().cloned().unwrap_or_default();
        for tasks in live {
            assert!(!is_alarm(tasks["verdict"].as_str().unwrap()), "{tasks}");
        }
    }
}

/// A function that polls too often for the budget is left alone: nothing is said of its tasks, but of those of others it is.
#[test]
fn what_polls_too_often_is_left_alone_and_the_rest_goes_on() {
    let Some(target) = start(
        "tokio::healthy",
        (NEWEST, Flavor::Debug),
        &["pingpong=1", "notify=40"],
    ) else {
        return;
    };
    let pid = target.pid();
    let daemon = Daemon::watch(pid, "300ms", "1s");
    let stuck = |process: &Process| tokio_groups(process) == [("Notified", "unknown", 40)];
    daemon.until(pid, "the stuck are blocked", |process| process.is_some_and(stuck));
    for _ in 0..30 {
        thread::sleep(Duration::from_millis(150));
        let process = daemon.process(pid).unwrap();
        let blocked: u64 = tokio_groups(&process).iter().map(|(.., count)| count).sum();
        assert_eq!(blocked, 40, "{process:?}");
    }
    // It runs at full speed by then: its probes are off.
    let process = daemon.process(pid).unwrap();
    assert!(
        process
            .incomplete()
            .iter()
            .all(|cause| *cause == "tokio_polls_unseen"),
        "{:?}",
        process.incomplete()
    );
}
