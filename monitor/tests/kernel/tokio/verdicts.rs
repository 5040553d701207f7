//! The verdict on tokio tasks: the same alert as for threads.

use std::{
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;
use testbed::tokio::{Flavor, NEWEST};

use super::bed::start;
use crate::support::{Daemon, QUICK_VERDICTS, VERDICT_PATIENCE};

const SCENARIOS: [&str; 6] = [
    "leak=1",
    "notify=20",
    "ticker=5",
    "accept=2",
    "worker=2",
    "churn=1",
];

/// Waits until something of the process is an alarm, and returns it. Nothing else is, at no time.
fn alarm(daemon: &Daemon, list: &str, is_leak: impl Fn(&Value) -> bool) -> Value {
    let begun = Instant::now();
    loop {
        let document: Value = serde_json::from_str(&daemon.get("/api/v1/snapshot").2).unwrap();
        let mut found = None;
        for it in ["groups", "live"]
            .into_iter()
            .flat_map(|list| document["processes"][0][list].as_array().into_iter().flatten())
            .filter(|it| it["kind"] == "tokio")
        {
            let is_alarm = ["growing", "leaking", "proven"].contains(&it["verdict"].as_str().unwrap());
            let is_leaks = it["entry"]["function"]
                .as_str()
                .is_some_and(|name| name.starts_with("tasks::stuck::leaked"));
            assert!(!is_alarm || is_leaks, "{it:#}");
        }
        for it in document["processes"][0][list].as_array().into_iter().flatten() {
            if it["kind"] == "tokio" && it["verdict"] == "leaking" && is_leak(it) {
                found = Some(it.clone());
            }
        }
        if let Some(found) = found {
            return found;
        }
        assert!(begun.elapsed() < VERDICT_PATIENCE, "{document:#}");
        thread::sleep(Duration::from_millis(200));
    }
}

#[test]
fn a_leak_of_blocked_tasks_is_called_so() {
    let Some(target) = start("tokio::verdicts", (NEWEST, Flavor::Debug), &SCENARIOS) else {
        return;
    };
    let pid = target.pid().to_string();
    let daemon = Daemon::start(&[&["--pid", pid.as_str()], &QUICK_VERDICTS[..]].concat());
    let leak = alarm(&daemon, "groups", |group| {
        group["block_site"]["function"] == "tasks::stuck::leaf" && group["reason"] == "oneshot::Receiver"
    });
    assert_eq!(leak["entry"]["function"], "tasks::stuck::leaked");
    assert_eq!(leak["basis"], "blocked");
}

/// Where nobody knows what tasks await, it is known that they wait for no timer, and that they are more and more.
#[test]
fn a_leak_of_tasks_without_debug_information_is_called_so() {
    let Some(target) = start("tokio::verdicts", ("1.28.2", Flavor::Release), &SCENARIOS) else {
        return;
    };
    let pid = target.pid().to_string();
    let daemon = Daemon::start(&[&["--pid", pid.as_str()], &QUICK_VERDICTS[..]].concat());
    let leak = alarm(&daemon, "groups", |group| group["reason"] == "await");
    assert_eq!(leak["entry"]["function"], "tasks::stuck::leaked::{async block}");
    assert_eq!(leak["block_site"], leak["entry"]);
    assert_eq!(leak["basis"], "blocked");
}
