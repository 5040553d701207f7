//! How old tasks are: exactly, of those whose birth was seen; at least, of others.

use std::time::{Duration, Instant};

use serde_json::Value;
use testbed::tokio::{Flavor, NEWEST};

use super::maker::{Maker, counted, stacks_by};
use crate::{
    counted::{until, watch},
    support::taskleak,
};

/// What is told of each job's birth: how long ago it was, and whether that is the least.
fn jobs(pid: u32, address: &str) -> Vec<(Duration, bool)> {
    let output = taskleak(&[
        "stacks",
        &pid.to_string(),
        "--connect",
        address,
        "--kind",
        "tokio",
        "--format",
        "json",
    ]);
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    let tasks = document["tasks"].as_array().unwrap().iter();
    tasks
        .filter(|task| task["entry"]["function"] == "tasks::made::job")
        .map(|task| {
            let ago = Duration::from_secs_f64(task["made_seconds_ago"].as_f64().unwrap());
            (ago, task["made_at_least"].as_bool().unwrap())
        })
        .collect()
}

#[test]
fn who_was_seen_being_made_tells_its_age() {
    let before_all = Instant::now();
    let Some(maker) = Maker::start("ages", (NEWEST, Flavor::Debug), &[]) else {
        return;
    };
    let pid = maker.pid();
    maker.ask("here 3");
    let daemon = watch(pid, &["--expose-stacks"]);
    counted(&daemon, pid).until_active();
    let begun = Instant::now();
    maker.ask("here 4");
    let made = Instant::now();
    let address = daemon.address.to_string();
    // Once those of before have been seen more than once.
    until("all are told", || {
        let told = jobs(pid, &address);
        told.len() == 7 && told.iter().filter(|(_, at_least)| *at_least).count() == 3
    });
    // They were made within a time that this test has measured itself.
    let asked = Instant::now();
    let told = jobs(pid, &address);
    let answered = Instant::now();
    for (ago, at_least) in &told {
        if *at_least {
            assert!(*ago <= answered - before_all, "{ago:?}");
        } else {
            assert!((asked - made..=answered - begun).contains(ago), "{ago:?}");
        }
    }
    assert_eq!(told.iter().filter(|(_, at_least)| !at_least).count(), 4);
    let text = stacks_by(&address, pid);
    let line = text
        .lines()
        .find(|line| line.contains("made at tasks::made::Maker::here"))
        .unwrap();
    assert!(line.ends_with(" ago") && !line.contains("at least"), "{line}");
    assert!(text.lines().any(|line| line.contains("made at least ")), "{text}");
}
