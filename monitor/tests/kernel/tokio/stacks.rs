//! `stacks` of a program that runs tokio: every task, what it awaits and where.

use std::collections::BTreeMap;

use serde_json::Value;
use testbed::tokio::{Flavor, NEWEST};

use super::{bed::start, blocking::line_of};
use crate::support::{stderr, taskleak};

/// state, class (empty of what ends by itself), innermost function of the program on the stack → tasks.
type Tasks = BTreeMap<[String; 3], u64>;

fn told(pid: u32) -> Tasks {
    let output = taskleak(&["stacks", &pid.to_string(), "--kind", "tokio", "--format", "json"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    let mut tasks = Tasks::new();
    for task in document["tasks"].as_array().unwrap() {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let stack = &document["stacks"][task["stack"].as_u64().unwrap() as usize];
        let site = text(&stack["block_site"]["function"]);
        let function = site.trim_end_matches("::{async fn}").rsplit("::").next().unwrap();
        let key = [
            text(&task["state"]),
            text(&task["wait_class"]),
            function.to_owned(),
        ];
        *tasks.entry(key).or_default() += 1;
    }
    tasks
}

#[test]
fn every_task_is_told_with_what_it_awaits() {
    let scenarios = ["mpsc_recv=3", "oneshot=4", "tcp_read=2", "sleeper=5"];
    let Some(target) = start("tokio::stacks", (NEWEST, Flavor::Debug), &scenarios) else {
        return;
    };
    let expected = [
        ("internal", "mpsc_recv", 3),
        ("internal", "oneshot_recv", 4),
        ("external", "tcp_read", 2),
        ("", "sleeper", 5),
    ];
    let expected: Tasks = expected
        .into_iter()
        .map(|(class, function, count)| (["waiting", class, function].map(str::to_owned), count))
        .collect();
    assert_eq!(told(target.pid()), expected);
    let text = taskleak(&["stacks", &target.pid().to_string(), "--kind", "tokio"]);
    let text = String::from_utf8(text.stdout).unwrap();
    assert!(text.contains("3 tokio tasks: mpsc::Receiver::recv"), "{text}");
}

/// The list of its runtime's has one reference to each task, a waker that somebody keeps another one, and so has the handle
/// of one that is to be joined.
#[test]
fn references_are_counted() {
    let scenarios = ["oneshot=4", "join_handle=3", "forgotten=2"];
    let Some(target) = start("tokio::stacks", (NEWEST, Flavor::Debug), &scenarios) else {
        return;
    };
    let output = taskleak(&[
        "stacks",
        &target.pid().to_string(),
        "--kind",
        "tokio",
        "--format",
        "json",
    ]);
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    let mut references: BTreeMap<(String, u64), u64> = BTreeMap::new();
    for task in document["tasks"].as_array().unwrap() {
        let entry = task["entry"]["function"]
            .as_str()
            .unwrap()
            .rsplit("::")
            .next()
            .unwrap();
        let key = (entry.to_owned(), task["references"].as_u64().unwrap());
        *references.entry(key).or_default() += 1;
    }
    let expected = [
        (("oneshot_recv", 2), 4),
        (("never", 2), 3),
        (("join_handle", 2), 3),
        (("forgotten", 1), 2),
    ];
    let expected: BTreeMap<(String, u64), u64> = expected
        .into_iter()
        .map(|((entry, references), count)| ((entry.to_owned(), references), count))
        .collect();
    assert_eq!(references, expected);
}

/// Built with `--cfg tokio_unstable` a program keeps where its tasks were spawned itself.
#[test]
fn who_keeps_where_it_spawns_tells_that_however_late_one_comes() {
    let scenarios = ["mpsc_recv=3", "mutex=2", "blocks=1"];
    let Some(target) = start("tokio::places", (NEWEST, Flavor::Dumping), &scenarios) else {
        return;
    };
    let pid = target.pid().to_string();
    let output = taskleak(&["stacks", &pid, "--kind", "tokio", "--format", "json"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    let mut lines: BTreeMap<u64, u64> = BTreeMap::new();
    for task in document["tasks"].as_array().unwrap() {
        let site = &task["spawn_site"];
        assert!(site["file"].as_str().unwrap().ends_with("/stuck.rs"), "{task}");
        *lines.entry(site["line"].as_u64().unwrap()).or_default() += 1;
    }
    let first_block = line_of("fn two_blocks()") + 3;
    let expected = [
        (line_of("tokio::spawn(mpsc_recv(receiver))"), 3),
        (line_of("tokio::spawn(mutex_lock(lock.clone()))"), 2),
        (first_block, 1),
        (first_block + 6, 1),
    ];
    assert_eq!(lines, BTreeMap::from(expected));
}
