//! Stuck tasks that cannot be watched for a while are still stuck.

use std::{
    thread,
    time::{Duration, Instant},
};

use testbed::tokio::{Flavor, NEWEST};

use super::{bed::start, maker::Maker};
use crate::support::{Daemon, Process};

/// Stuck tasks of the scenarios, and how many of the group they are in have come back.
fn stuck(process: &Process) -> Vec<(&str, u64, u64)> {
    let groups = process
        .groups()
        .iter()
        .filter(|group| group["kind"] == "tokio" && group["entry"]["function"] != "tasks::made::make");
    let number = |group: &serde_json::Value, name: &str| group[name].as_u64().unwrap();
    let told = groups.map(|group| {
        (
            group["reason"].as_str().unwrap(),
            number(group, "count"),
            number(group, "returned"),
        )
    });
    told.filter(|(_, count, returned)| count + returned > 0).collect()
}

/// When others that run the same begin to be polled a million times a second, the probe is taken off their function.
#[test]
fn tasks_whose_function_is_left_alone_have_not_come_back() {
    let Some(twins) = Maker::start("twins", (NEWEST, Flavor::Debug), &["twins=30"]) else {
        return;
    };
    let pid = twins.pid();
    let daemon = Daemon::watch(pid, "300ms", "1s");
    let expected = [("oneshot::Receiver", 30, 0)];
    let are_told = |process: &Process| stuck(process) == expected;
    daemon.until(pid, "the stuck are blocked", |process| {
        process.is_some_and(are_told)
    });
    twins.ask("busy");
    let is_unseen = |process: &Process| process.incomplete().contains(&"tokio_polls_unseen");
    let begun = Instant::now();
    let mut unseen = None;
    while unseen.is_none_or(|since: Instant| since.elapsed() < Duration::from_secs(3)) {
        thread::sleep(Duration::from_millis(150));
        let process = daemon.process(pid).unwrap();
        assert_eq!(stuck(&process), expected, "{process:?}");
        if is_unseen(&process) {
            unseen.get_or_insert_with(Instant::now);
        }
        assert!(begun.elapsed() < crate::support::PATIENCE, "{process:?}");
    }
}

/// More tasks are polled at once than the kernel's map of polls has room for.
#[test]
fn polls_that_have_no_room_make_nobody_come_back() {
    let scenarios = ["notify=20", "crowd=25000"];
    let Some(target) = start("tokio::unwatched", (NEWEST, Flavor::Debug), &scenarios) else {
        return;
    };
    let pid = target.pid();
    let daemon = Daemon::start(&[
        "--pid",
        &pid.to_string(),
        "--interval",
        "200ms",
        "--blocked-after",
        "4s",
        "--probe-budget",
        "90%",
    ]);
    let expected = [("Notified", 20, 0)];
    daemon.until(pid, "the stuck are blocked", |process| {
        process.is_some_and(|process| stuck(process) == expected)
    });
    for _ in 0..50 {
        thread::sleep(Duration::from_millis(150));
        let process = daemon.process(pid).unwrap();
        assert_eq!(stuck(&process), expected, "{process:?}");
    }
}
