//! Holders of locks and deadlocks, as `snapshot` and `run` tell them.

use std::{collections::BTreeSet, thread, time::Duration};

use serde_json::Value;
use testbed::{Program, Target};

use crate::support::{Daemon, Process, snapshot, start};

fn numbers(value: &Value) -> Vec<u64> {
    value
        .as_array()
        .unwrap()
        .iter()
        .map(|id| id.as_u64().unwrap())
        .collect()
}

/// Tids of the threads of this name.
fn named(target: &Target, name: &str) -> BTreeSet<u64> {
    let threads = target.threads().unwrap();
    threads
        .iter()
        .filter(|thread| thread.comm == name)
        .map(|thread| u64::from(thread.tid))
        .collect()
}

fn group<'a>(process: &'a Process, site: &str) -> &'a Value {
    let is_meant = |group: &&Value| group["block_site"]["function"] == site;
    process
        .groups()
        .iter()
        .find(is_meant)
        .unwrap_or_else(|| panic!("no {site} in {:#?}", process.value))
}

#[test]
fn rings_are_told_with_exactly_their_members() {
    for size in [1, 2, 3, 10, 50] {
        let target = start(
            "rings",
            Program::CBlockers,
            &[&format!("deadlock_ring={size}"), "mutex=2"],
        )
        .unwrap();
        let seen = snapshot(target.pid(), &["--observe", "1200ms"]);
        let deadlocks = seen.value["deadlocks"].as_array().unwrap();
        assert_eq!(deadlocks.len(), 1, "{size}: {deadlocks:?}");
        assert_eq!(deadlocks[0]["verdict"], "proven");
        let members = numbers(&deadlocks[0]["ids"]);
        assert_eq!(members.len(), size);
        assert_eq!(
            members.into_iter().collect::<BTreeSet<_>>(),
            named(&target, "deadlock_ring")
        );
        let ring = group(&seen, "ring_acquire_forever");
        assert_eq!(
            (&ring["count"], &ring["verdict"]),
            (&size.into(), &"proven".into())
        );
        let mutex = group(&seen, "mutex_acquire_forever");
        assert_eq!(mutex["verdict"], "unknown", "its holder may come back");
        assert_eq!(numbers(&mutex["waits_for"]).len(), 1);
    }
}

#[test]
fn a_chain_is_no_deadlock() {
    let target = start("chain", Program::CBlockers, &["lock_chain=4"]).unwrap();
    let daemon = Daemon::watch(target.pid(), "200ms", "500ms");
    let has_holders = |process: Option<&Process>| {
        process.is_some_and(|process| {
            process
                .groups()
                .iter()
                .any(|group| numbers(&group["waits_for"]).len() == 4)
        })
    };
    let seen = daemon.until(target.pid(), "with holders", has_holders).unwrap();
    assert_eq!(seen.value["deadlocks"], Value::Array(Vec::new()));
    let chain = group(&seen, "chain_acquire_forever");
    assert_eq!(
        (&chain["count"], &chain["verdict"]),
        (&4.into(), &"unknown".into())
    );
}

/// A lock that is handed to and fro has a holder at every moment, and never a cycle; nor has a pool.
#[test]
fn healthy_programs_have_no_deadlock() {
    let scenarios = [
        "ping_pong=4",
        "cond=4",
        "semaphore=2",
        "barrier=2",
        "timed_mutex=2",
    ];
    let target = start("healthy", Program::CBlockers, &scenarios).unwrap();
    let daemon = Daemon::watch(target.pid(), "100ms", "100ms");
    for _ in 0..30 {
        let seen = daemon.process(target.pid()).unwrap();
        assert_eq!(seen.value["deadlocks"], Value::Array(Vec::new()));
        assert!(
            seen.groups().iter().all(|group| group["verdict"] == "unknown"),
            "{seen:?}"
        );
        thread::sleep(Duration::from_millis(100));
    }
}
