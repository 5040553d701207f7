//! Programs whose debug information tells of no types, as most are: their timers tell who is blocked.

use std::{collections::BTreeMap, thread, time::Duration};

use testbed::tokio::{self, Flavor, NEWEST};

use super::{
    bed::{look, start},
    blocking::SCENARIOS,
};
use crate::support::{Daemon, Process};

/// What is never blocked, and waits for timers in ways that debug information would tell.
const SLEEPERS: [&str; 7] = [
    "in_list=2",
    "in_lists=2",
    "joined=4",
    "select_sleep=2",
    "interval=2",
    "elsewhere=3",
    "crowd_of_sleepers=2000",
];

/// Functions of the program, and how many of their tasks are blocked.
const BLOCKED: [(&str, u64); 18] = [
    ("mpsc_recv", 3),
    ("unbounded_recv", 1),
    ("mpsc_send", 2),
    ("oneshot_recv", 4),
    ("watch_changed", 1),
    ("broadcast_recv", 1),
    ("mutex_lock", 2),
    ("rwlock_read", 1),
    ("semaphore_acquire", 3),
    ("notified", 2),
    ("barrier_wait", 2),
    ("join_two", 2),
    ("select_two", 3),
    ("dyn_future", 4),
    ("join_handle", 2),
    ("never", 2),
    ("two_blocks", 4),
    // A pinned box: what is in it is not known.
    ("", 2),
];
/// Those of them that wait for a socket.
const WAITING_FOR_THE_WORLD: [(&str, u64); 2] = [("tcp_read", 2), ("accept", 1)];

/// reason, class, function → tasks.
type Groups = BTreeMap<(String, String, String), u64>;

fn expected(version: &str) -> Groups {
    let told = |reason: &str, class: &str, (function, count): (&str, u64)| {
        ((reason.to_owned(), class.to_owned(), function.to_owned()), count)
    };
    // Before 1.30 it is not known who waits for a socket.
    let is_old = version == "1.28.2";
    let class = if is_old { "external" } else { "internal" };
    let io = if is_old { "await" } else { "io" };
    let world = WAITING_FOR_THE_WORLD.map(|it| told(io, "external", it));
    BLOCKED
        .map(|it| told("await", class, it))
        .into_iter()
        .chain(world)
        .collect()
}

/// The function of the program whose future has this name: the function's, or the place of its body in the sources. Empty
/// for a future of somebody else's.
fn function(name: &str) -> String {
    const SOURCE: &str = include_str!("../../../../testbed/tokio/src/stuck.rs");
    if let Some((_, place)) = name.split_once("/src/stuck.rs:") {
        let line: usize = place.split(':').next().unwrap().parse().unwrap();
        let mut lines: Vec<&str> = SOURCE.lines().take(line).collect();
        lines.reverse();
        let head = lines.iter().find_map(|line| line.split_once("fn ")).unwrap();
        return head.1.split(['(', '<']).next().unwrap().to_owned();
    }
    let path = name.strip_prefix("tasks::stuck::").unwrap_or_default();
    path.split("::").next().unwrap().to_owned()
}

fn seen(process: &Process) -> Groups {
    let mut groups = Groups::new();
    for group in process.groups().iter().filter(|group| group["kind"] == "tokio") {
        let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
        let name = text(&group["block_site"]["function"]);
        // The future is all that is known of the place.
        assert_eq!(group["entry"]["function"], name.as_str(), "{group}");
        let is_other = ["core::pin::Pin<", "[stripped]"]
            .iter()
            .any(|other| name.starts_with(other));
        let function = function(&name);
        assert!(is_other || !function.is_empty(), "{group}");
        let key = (text(&group["reason"]), text(&group["wait_class"]), function);
        *groups.entry(key).or_default() += group["count"].as_u64().unwrap();
    }
    groups
}

/// A group that is more than is expected. On a machine that is too busy there may be less (also, that it is not known who
/// waits for the world), never anything else.
fn too_much<'a>(seen: &'a Groups, expected: &Groups) -> Option<(&'a (String, String, String), &'a u64)> {
    seen.iter().find(|(key, count)| {
        let (reason, class, function) = key;
        let is_unknown = reason == "await" && class == "external";
        let known = expected.iter().find(|(other, _)| {
            *other == *key || is_unknown && other.2 == *function && !expected.contains_key(*key)
        });
        known.is_none_or(|(_, all)| *count > all)
    })
}

/// Each version in a build without types.
fn builds() -> Vec<(&'static str, Flavor)> {
    let mut builds = tokio::builds();
    let more = ("1.35.1", Flavor::Release);
    if !builds.contains(&more) {
        builds.push(more);
    }
    builds.retain(|(_, flavor)| !flavor.tells_types());
    builds
}

#[test]
fn who_waits_for_no_timer_is_blocked() {
    let scenarios = [&SCENARIOS[..], &SLEEPERS[..]].concat();
    for build @ (version, _) in builds() {
        let Some(target) = start("tokio::untyped", build, &scenarios) else {
            continue;
        };
        let expected = expected(version);
        let mut process = look(&target);
        for _ in 0..4 {
            assert_eq!(too_much(&seen(&process), &expected), None, "{build:?}");
            if seen(&process) == expected && process.incomplete() == ["tokio_types_missing"] {
                break;
            }
            process = look(&target);
        }
        assert_eq!(seen(&process), expected, "{build:?}");
        assert_eq!(process.incomplete(), ["tokio_types_missing"], "{build:?}");
    }
}

/// Neither at the first look nor at a later one, while timers move down the wheel and others come and go.
#[test]
fn no_sleeper_is_ever_called_blocked() {
    let healthy = SCENARIOS
        .iter()
        .skip_while(|scenario| !scenario.starts_with("ticker"));
    let healthy: Vec<&str> = healthy.chain(&SLEEPERS).copied().collect();
    for build @ (version, _) in builds() {
        for workers in ["workers=0", "workers=3"] {
            let scenarios = [&healthy[..], &["notify=2", workers]].concat();
            let Some(target) = start("tokio::untyped", build, &scenarios) else {
                continue;
            };
            let pid = target.pid();
            let daemon = Daemon::watch(pid, "100ms", "2s");
            let expected: Groups = expected(version)
                .into_iter()
                .filter(|((_, _, function), _)| function == "notified")
                .collect();
            let until_all_are = |when: &str| {
                daemon.until(pid, when, |process| {
                    let told = process.map(seen).unwrap_or_default();
                    assert_eq!(
                        too_much(&told, &expected),
                        None,
                        "{build:?} {workers}: {process:?}"
                    );
                    told == expected
                });
            };
            until_all_are("the stuck are blocked");
            for _ in 0..25 {
                thread::sleep(Duration::from_millis(100));
                let process = daemon.process(pid).unwrap();
                let told = seen(&process);
                assert_eq!(
                    too_much(&told, &expected),
                    None,
                    "{build:?} {workers}: {process:?}"
                );
            }
            until_all_are("the stuck are blocked at the end, too");
        }
    }
}

/// A timer that may be anybody's: nobody is called blocked who may have set it.
#[test]
fn a_timer_of_which_nobody_knows_whose_it_is_may_be_anybodys() {
    for build in [("1.28.2", Flavor::Release), (NEWEST, Flavor::Stripped)] {
        let Some(target) = start("tokio::untyped", build, &["mpsc_recv=3", "shared=1"]) else {
            return;
        };
        let daemon = Daemon::watch(target.pid(), "200ms", "1s");
        let process = daemon
            .until(target.pid(), "timers are unknown", |process| {
                process.is_some_and(|process| process.incomplete().contains(&"tokio_timers_unknown"))
            })
            .unwrap();
        assert!(seen(&process).is_empty(), "{build:?}: {process:?}");
        thread::sleep(Duration::from_secs(1));
        let process = daemon.process(target.pid()).unwrap();
        assert!(seen(&process).is_empty(), "{build:?}: {process:?}");
    }
}

/// One that was set after a task was last polled is not that task's.
#[test]
fn a_timer_that_was_set_later_is_somebody_elses() {
    for build in [("1.28.2", Flavor::Release), (NEWEST, Flavor::Stripped)] {
        let Some(target) = start("tokio::untyped", build, &["mpsc_recv=3", "short_shared=2"]) else {
            return;
        };
        let pid = target.pid();
        let daemon = Daemon::watch(pid, "300ms", "1s");
        let are_told = |process: &Process| -> bool {
            let counts: Vec<_> = seen(process)
                .into_iter()
                .filter(|(_, count)| *count > 0)
                .map(|((_, _, function), count)| (function, count))
                .collect();
            assert!(
                counts.iter().all(|(function, _)| function == "mpsc_recv"),
                "{process:?}"
            );
            counts == [("mpsc_recv".to_owned(), 3)]
        };
        daemon.until(pid, "the stuck are blocked", |process| {
            process.is_some_and(are_told)
        });
        for _ in 0..10 {
            thread::sleep(Duration::from_millis(150));
            assert!(are_told(&daemon.process(pid).unwrap()), "{build:?}");
        }
    }
}
