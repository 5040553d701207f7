//! The verdict on real programs.

use std::time::{Duration, Instant};

use serde_json::Value;
use testbed::Program;

use crate::support::{Daemon, QUICK_VERDICTS, VERDICT_PATIENCE, start, stderr, taskleak};

fn group<'a>(groups: &'a Value, site: &str) -> Option<&'a Value> {
    let mut groups = groups.as_array()?.iter();
    groups.find(|group| group["block_site"]["function"] == site)
}

fn groups(daemon: &Daemon) -> Value {
    let document: Value = serde_json::from_str(&daemon.get("/api/v1/snapshot").2).unwrap();
    document["processes"][0]["groups"].clone()
}

/// Asks until it holds; what was seen of every verdict of the group at `healthy` on the way.
fn until(daemon: &Daemon, healthy: &str, holds: impl Fn(&Value) -> bool) -> Vec<String> {
    let begun = Instant::now();
    let mut seen = Vec::new();
    loop {
        let groups = groups(daemon);
        if let Some(group) = group(&groups, healthy) {
            let verdict = group["verdict"].as_str().unwrap().to_owned();
            if seen.last() != Some(&verdict) {
                seen.push(verdict);
            }
        }
        if holds(&groups) {
            return seen;
        }
        assert!(begun.elapsed() < VERDICT_PATIENCE, "{groups:#}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn a_leak_is_called_one_and_the_idle_pool_beside_it_is_not() {
    let target = start("verdicts::leak", Program::Demo, &[]).unwrap();
    let pid = target.pid().to_string();
    let daemon = Daemon::start(&[["--pid", &pid].as_slice(), &QUICK_VERDICTS].concat());
    let verdict = |groups: &Value, site: &str| group(groups, site).map(|group| group["verdict"].clone());
    let of_pool = until(&daemon, "next_job", |groups| {
        verdict(groups, "wait_for_reply") == Some("leaking".into())
            && verdict(groups, "next_job") == Some("stable".into())
    });
    assert_eq!(of_pool, ["unknown", "stable"]);
    let groups = groups(&daemon);
    let leak = group(&groups, "wait_for_reply").unwrap();
    let growth = &leak["growth"];
    assert!(growth["to"].as_f64() > growth["from"].as_f64(), "{growth}");
    assert!(growth["p"].as_f64() < Some(0.05), "{growth}");
    // One a second, that is 3,600 an hour; the scheduler may be late.
    let per_hour = growth["per_hour"].as_f64().unwrap();
    assert!((3000.0..=3660.0).contains(&per_hour), "{growth}");
    assert_eq!(leak["returned"], 0);
    assert_eq!(leak["basis"], "blocked");
    let (_, _, metrics) = daemon.get("/metrics");
    let verdicts: Vec<&str> = metrics
        .lines()
        .filter(|line| line.starts_with("taskleak_verdict{") && line.contains("verdict=\"leaking\""))
        .collect();
    assert_eq!(verdicts.len(), 1, "{verdicts:?}");
    assert!(
        verdicts[0].contains("block_site=\"wait_for_reply\"") && verdicts[0].contains("basis=\"blocked\"")
    );
    assert!(!metrics.contains("verdict=\"growing\""), "{metrics}");
}

#[test]
fn many_blocked_tasks_that_do_not_grow_are_stable() {
    let target = start("verdicts::stable", Program::CBlockers, &["mutex=50", "read=20"]).unwrap();
    let pid = target.pid().to_string();
    let daemon = Daemon::start(&[["--pid", &pid].as_slice(), &QUICK_VERDICTS].concat());
    let seen = until(&daemon, "mutex_acquire_forever", |groups| {
        groups.as_array().is_some_and(|groups| {
            groups.len() == 2 && groups.iter().all(|group| group["verdict"] == "stable")
        })
    });
    assert_eq!(seen, ["unknown", "stable"]);
}

#[test]
fn tasks_that_come_back_are_counted_and_are_no_leak() {
    // All of them end on SIGUSR2.
    let target = start("verdicts::returned", Program::CBlockers, &["churn=7", "mutex=1"]).unwrap();
    let pid = target.pid().to_string();
    let daemon = Daemon::start(&[["--pid", &pid].as_slice(), &QUICK_VERDICTS].concat());
    until(&daemon, "churn_wait", |groups| {
        group(groups, "churn_wait").is_some_and(|group| group["count"] == 7)
    });
    target.signal(libc::SIGUSR2).unwrap();
    until(&daemon, "churn_wait", |groups| {
        group(groups, "churn_wait").is_none()
    });
    let begun = Instant::now();
    loop {
        let (_, _, metrics) = daemon.get("/metrics");
        let returned = metrics
            .lines()
            .find(|line| line.starts_with("taskleak_returned_tasks_total{") && line.contains("churn_wait"))
            .expect("a drained group keeps its series")
            .to_owned();
        if returned.ends_with(" 7") {
            break;
        }
        assert!(begun.elapsed() < VERDICT_PATIENCE, "{returned}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn a_verdict_outlives_the_monitor() {
    let target = start("verdicts::state", Program::Demo, &[]).unwrap();
    let pid = target.pid().to_string();
    let folder = std::env::temp_dir().join(format!("taskleak-verdicts-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let file = folder.join("state");
    let args = [
        ["--pid", &pid, "--state-file", file.to_str().unwrap()].as_slice(),
        &QUICK_VERDICTS,
    ]
    .concat();
    let leaks =
        |groups: &Value| group(groups, "wait_for_reply").is_some_and(|group| group["verdict"] == "leaking");
    let first = Daemon::start(&args);
    until(&first, "next_job", leaks);
    first.signal(libc::SIGTERM);
    assert!(first.wait().0.success());
    let second = Daemon::start(&args);
    // Without a history its first word would be `unknown`.
    assert_eq!(until(&second, "wait_for_reply", leaks), ["leaking"]);
    drop(second);
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_state_file_that_cannot_be_kept_is_said_at_once() {
    let target = start("verdicts::no_state", Program::CBlockers, &["mutex=1"]).unwrap();
    let pid = target.pid().to_string();
    let output = taskleak(&[
        "run",
        "--pid",
        &pid,
        "--listen",
        "127.0.0.1:0",
        "--state-file",
        "/proc/nowhere/state",
    ]);
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    assert!(
        stderr(&output).contains("the state file /proc/nowhere/state cannot be kept"),
        "{}",
        stderr(&output)
    );
}

/// They are never in one wait for longer than 20 ms, but they never end.
#[test]
fn threads_that_tick_for_ever_are_a_leak_by_their_number() {
    let target = start("verdicts::ticking", Program::Spawner, &["--ticking", "400"]).unwrap();
    let pid = target.pid().to_string();
    // Of live tasks growth must go on for longer.
    let mut quick = QUICK_VERDICTS;
    quick[5] = "20s";
    let daemon = Daemon::start(&[["--pid", &pid].as_slice(), &quick].concat());
    let begun = Instant::now();
    let live = loop {
        let document: Value = serde_json::from_str(&daemon.get("/api/v1/snapshot").2).unwrap();
        let process = document["processes"][0].clone();
        for group in process["groups"].as_array().unwrap() {
            let verdict = group["verdict"].as_str().unwrap();
            assert!(["unknown", "stable"].contains(&verdict), "{group:#}");
        }
        let live = process["live"].as_array().unwrap().clone();
        if live.iter().any(|tasks| tasks["verdict"] == "leaking") {
            break live;
        }
        assert!(begun.elapsed() < VERDICT_PATIENCE, "{process:#}");
        std::thread::sleep(Duration::from_millis(100));
    };
    for tasks in &live {
        let is_leak = tasks["entry"]["function"] == "ticker";
        assert_eq!(tasks["verdict"] == "leaking", is_leak, "{live:#?}");
        assert!(is_leak || tasks["verdict"] != "growing", "{live:#?}");
    }
    let (_, _, metrics) = daemon.get("/metrics");
    let alarms = metrics.lines().filter(|line| {
        line.starts_with("taskleak_verdict{")
            && (line.contains("\"leaking\"") || line.contains("\"growing\""))
    });
    let alarms: Vec<&str> = alarms.collect();
    assert_eq!(alarms.len(), 1, "{alarms:?}");
    assert!(
        alarms[0].contains("entry=\"ticker\"") && alarms[0].contains("basis=\"live\""),
        "{alarms:?}"
    );
}
