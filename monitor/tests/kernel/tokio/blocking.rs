//! What tasks wait for, where, and what they run: of programs whose debug information tells of types.

use std::collections::BTreeMap;

use serde_json::Value;
use testbed::tokio::{self, Flavor, NEWEST};

use super::bed::{look, start};
use crate::support::Process;

/// reason, class, block site, entry (both without the module they are all in) → tasks.
type Groups = BTreeMap<[String; 4], u64>;

pub const SCENARIOS: [&str; 27] = [
    "mpsc_recv=3",
    "unbounded_recv=1",
    "mpsc_send=2",
    "oneshot=4",
    "watch=1",
    "broadcast=1",
    "mutex=2",
    "rwlock=1",
    "semaphore=3",
    "notify=2",
    "barrier=2",
    "join=2",
    "select=3",
    "boxed=2",
    "dyn_future=4",
    "join_handle=2",
    "tcp_read=2",
    "accept=1",
    "blocks=2",
    // And what is never blocked.
    "ticker=2",
    "sleeper=2",
    "boxed_sleeper=1",
    "timeout=1",
    "echo=2",
    "worker=2",
    "churn=1",
    "workers=2",
];

/// What a pinned box is called, as short as it can be said.
const BOX: &str = "Box";

const EXPECTED: [(&str, &str, &str, &str, u64); 21] = [
    ("mpsc::Receiver::recv", "internal", "mpsc_recv", "mpsc_recv", 3),
    (
        "mpsc::UnboundedReceiver::recv",
        "internal",
        "unbounded_recv",
        "unbounded_recv",
        1,
    ),
    ("mpsc::Sender::send", "internal", "mpsc_send", "mpsc_send", 2),
    ("oneshot::Receiver", "internal", "oneshot_recv", "oneshot_recv", 4),
    (
        "watch::Receiver::changed",
        "internal",
        "watch_changed",
        "watch_changed",
        1,
    ),
    (
        "broadcast::Receiver::recv",
        "internal",
        "broadcast_recv",
        "broadcast_recv",
        1,
    ),
    ("Mutex::lock", "internal", "mutex_lock", "mutex_lock", 2),
    ("RwLock::read", "internal", "rwlock_read", "rwlock_read", 1),
    (
        "Semaphore::acquire",
        "internal",
        "semaphore_acquire",
        "semaphore_acquire",
        3,
    ),
    ("Notified", "internal", "notified", "notified", 2),
    ("Barrier::wait", "internal", "barrier_wait", "barrier_wait", 2),
    ("join!", "internal", "join_two", "join_two", 2),
    ("select!", "internal", "select_two", "select_two", 3),
    ("oneshot::Receiver", "internal", "leaf", BOX, 2),
    ("oneshot::Receiver", "internal", "leaf", "dyn_future", 2),
    (
        "future::pending",
        "internal",
        "call::{async block}",
        "dyn_future",
        2,
    ),
    ("JoinHandle", "internal", "join_handle", "join_handle", 2),
    ("future::pending", "internal", "never", "never", 2),
    ("TcpStream::read", "external", "tcp_read", "tcp_read", 2),
    ("TcpListener::accept", "external", "accept", "accept", 1),
    (
        "mpsc::Receiver::recv",
        "internal",
        "two_blocks::{async block}",
        "two_blocks::{async block}",
        2,
    ),
];
const LAST: (&str, &str, &str, &str, u64) = (
    "oneshot::Receiver",
    "internal",
    "two_blocks::{async block#1}",
    "two_blocks::{async block#1}",
    2,
);

fn expected() -> Groups {
    let all = EXPECTED.into_iter().chain([LAST]);
    all.map(|(reason, class, site, entry, count)| ([reason, class, site, entry].map(str::to_owned), count))
        .collect()
}

fn function(site: &Value) -> String {
    let name = site["function"].as_str().unwrap_or_default();
    let name = name.strip_prefix("tasks::stuck::").unwrap_or(name);
    if name.starts_with("core::pin::Pin<") {
        BOX
    } else {
        name
    }
    .to_owned()
}

fn seen(process: &Process) -> Groups {
    let mut groups = Groups::new();
    for group in process.groups().iter().filter(|group| group["kind"] == "tokio") {
        let key = [
            group["reason"].as_str().unwrap().to_owned(),
            group["wait_class"].as_str().unwrap().to_owned(),
            function(&group["block_site"]),
            function(&group["entry"]),
        ];
        let count = group["count"].as_u64().unwrap();
        assert_eq!(group["ids"].as_array().unwrap().len() as u64, count, "{group}");
        *groups.entry(key).or_default() += count;
    }
    groups
}

/// The one line of the program's sources that has this text.
pub fn line_of(text: &str) -> u64 {
    let source = include_str!("../../../../testbed/tokio/src/stuck.rs");
    let lines: Vec<usize> = source
        .lines()
        .enumerate()
        .filter(|(_, line)| line.contains(text))
        .map(|(index, _)| index + 1)
        .collect();
    assert_eq!(lines.len(), 1, "{text}");
    lines[0] as u64
}

#[test]
fn every_wait_is_told_with_its_place() {
    for build in tokio::builds()
        .into_iter()
        .filter(|(_, flavor)| flavor.tells_types())
    {
        let Some(target) = start("tokio::blocking", build, &SCENARIOS) else {
            continue;
        };
        let what = format!("{build:?}");
        let mut process = look(&target);
        // On a machine that is too busy a look may come too late for a wait to be long enough, and says so or says less. It
        // never says anything else.
        for _ in 0..3 {
            let unexpected = |key: &&[String; 4]| !expected().contains_key(*key);
            assert_eq!(seen(&process).keys().find(unexpected), None, "{what}");
            if process.incomplete().is_empty() && seen(&process) == expected() {
                break;
            }
            process = look(&target);
        }
        assert!(
            process.incomplete().is_empty(),
            "{what}: {:?}",
            process.incomplete()
        );
        let (seen, expected) = (seen(&process), expected());
        let differ = |a: &Groups, b: &Groups| -> Groups {
            let differs = |(key, count): &(&[String; 4], &u64)| b.get(*key) != Some(*count);
            a.iter()
                .filter(differs)
                .map(|(key, count)| (key.clone(), *count))
                .collect()
        };
        assert_eq!(differ(&seen, &expected), differ(&expected, &seen), "{what}");
        let group = |site: &str| {
            let is_wanted =
                |group: &&Value| group["kind"] == "tokio" && function(&group["block_site"]) == site;
            process.groups().iter().find(is_wanted).unwrap()
        };
        // The place that is shown is the line of the `.await`, and the frames lead there.
        for (site, text) in [
            ("mutex_lock", "lock.lock().await"),
            ("oneshot_recv", "receiver.await.unwrap()\n"),
            ("tcp_read", "client.read(&mut answer).await"),
            ("dyn_future", "service.call().await"),
        ] {
            let group = match site {
                "dyn_future" => group("call::{async block}"),
                _ => group(site),
            };
            let frames = group["stack"].as_array().unwrap();
            let frame = frames.iter().find(|frame| function(frame) == site).unwrap();
            if site != "oneshot_recv" {
                assert_eq!(frame["line"], line_of(text), "{what}: {group}");
            }
            assert!(
                frame["file"].as_str().unwrap().ends_with("src/stuck.rs"),
                "{what}: {group}"
            );
        }
        assert_eq!(
            group("mutex_lock")["entry"]["line"],
            line_of("async fn mutex_lock"),
            "{what}"
        );
        // Each task that awaits another one says which.
        let children = &group("never")["ids"];
        assert_eq!(&group("join_handle")["waits_for"], children, "{what}");
    }
}

/// Without probes nobody can tell whether a task is polled.
#[test]
fn without_probes_nothing_is_called_blocked() {
    let Some(target) = start("tokio::blocking", (NEWEST, Flavor::Debug), &["mpsc_recv=5"]) else {
        return;
    };
    let args = ["--observe", "1600ms", "--no-spawn-probes"];
    let process = crate::support::snapshot(target.pid(), &args);
    assert!(seen(&process).is_empty(), "{process:?}");
    assert_eq!(process.incomplete(), ["tokio_polls_unseen"]);
}

/// Tasks of a `LocalSet` belong to no runtime's list: the stack of the thread that runs it leads to them.
#[test]
fn tasks_of_a_local_set_are_told() {
    for build in [("1.28.2", Flavor::Debug), (NEWEST, Flavor::Debug)] {
        for workers in ["workers=0", "workers=2"] {
            let Some(target) = start("tokio::blocking", build, &["local=6", "notify=2", workers]) else {
                return;
            };
            let process = look(&target);
            let told = |reason: &str, function: &str, count| {
                let key = [reason, "internal", function, function].map(str::to_owned);
                (key, count)
            };
            let expected = Groups::from([
                told("oneshot::Receiver", "local_oneshot", 6),
                told("Notified", "notified", 2),
            ]);
            assert_eq!(seen(&process), expected, "{build:?} {workers}");
            assert_eq!(process.value["tasks"]["tokio"], 8, "{build:?} {workers}");
        }
    }
}
