//! Every task is listed, by what it runs.

use std::collections::BTreeMap;

use testbed::tokio::{self, Flavor, NEWEST};

use super::bed::{live, look, start};

const SCENARIOS: [&str; 8] = [
    "mpsc_recv=7",
    "oneshot=5",
    "semaphore=3",
    "join_handle=2",
    "boxed=4",
    "tcp_read=1",
    "ticker=6",
    "timeout=9",
];

/// What the functions of [`SCENARIOS`] are called, and how many tasks run each.
const FUNCTIONS: [(&str, u64); 8] = [
    ("stuck::mpsc_recv", 7),
    ("stuck::oneshot_recv", 5),
    ("stuck::semaphore_acquire", 3),
    ("stuck::join_handle", 2),
    ("stuck::never", 2),
    ("stuck::tcp_read", 1),
    ("healthy::ticker", 6),
    ("healthy::timeout", 9),
];
const BOXED: u64 = 4;

/// What is said of a build whose tasks are all listed.
fn untold((_, flavor): (&str, Flavor)) -> Vec<&'static str> {
    match flavor.tells_types() {
        true => Vec::new(),
        false => vec!["tokio_types_missing"],
    }
}

/// The function at a place of the program's sources: `…/src/stuck.rs:7:8`.
fn placed(name: &str) -> Option<String> {
    const SOURCES: [(&str, &str); 2] = [
        ("stuck", include_str!("../../../../testbed/tokio/src/stuck.rs")),
        (
            "healthy",
            include_str!("../../../../testbed/tokio/src/healthy.rs"),
        ),
    ];
    SOURCES.into_iter().find_map(|(module, source)| {
        let (_, place) = name.split_once(&format!("/src/{module}.rs:"))?;
        let line: usize = place.split(':').next()?.parse().ok()?;
        let (_, function) = source.lines().nth(line - 1)?.split_once("async fn ")?;
        Some(format!("{module}::{}", function.split(['(', '<']).next()?))
    })
}

/// A list has as many parts as there are processors, times four: whatever the numbers in it, it is found.
#[test]
fn few_tasks_are_found_whatever_their_number() {
    for build in [
        ("1.28.2", Flavor::Release),
        ("1.35.1", Flavor::FatLtoDebug),
        (NEWEST, Flavor::Debug),
    ] {
        for count in [1, 3, 7, 8, 15, 31, 63] {
            let Some(target) = start("tokio::list", build, &[&format!("notify={count}")]) else {
                return;
            };
            assert_eq!(live(&target).values().sum::<u64>(), count, "{build:?}");
        }
    }
}

#[test]
fn every_task_is_listed_by_its_future() {
    for build in tokio::builds() {
        let Some(target) = start("tokio::list", build, &SCENARIOS) else {
            continue;
        };
        let (version, flavor) = build;
        let what = format!("tokio {version}, {flavor:?}");
        let process = look(&target);
        assert_eq!(process.incomplete(), untold(build), "{what}");
        assert_eq!(process.value["runtimes"][0], "tokio", "{what}");
        let count = FUNCTIONS.iter().map(|(_, count)| count).sum::<u64>() + BOXED;
        assert_eq!(process.value["tasks"]["tokio"], count, "{what}");
        let live = live(&target);
        if flavor == Flavor::Stripped {
            // The places that its panics would tell: one for each future, but for boxed ones, which have none.
            let mut counts: Vec<u64> = live
                .iter()
                .filter(|(name, _)| name.contains("src/stuck.rs:") || name.contains("src/healthy.rs:"))
                .map(|(_, count)| *count)
                .collect();
            counts.sort_unstable();
            assert_eq!(counts, [1, 2, 2, 3, 5, 6, 7, 9], "{what}: {live:#?}");
            assert_eq!(live.get("[stripped]"), Some(&BOXED), "{what}: {live:#?}");
            continue;
        }
        let mut expected: BTreeMap<String, u64> = FUNCTIONS
            .iter()
            .map(|(name, count)| (name.to_string(), *count))
            .collect();
        expected.insert("Future".to_owned(), BOXED);
        // Without types nobody knows whether it is the body of a function or a block in it. Of those that are freed alike
        // the place is told.
        let seen: BTreeMap<String, u64> = live
            .iter()
            .map(|(name, count)| {
                let placed = placed(name);
                let name = placed.as_deref().unwrap_or(name);
                let name = name.strip_suffix("::{async block}").unwrap_or(name);
                let name = name.strip_prefix("tasks::").unwrap_or(name);
                let is_boxed = name.starts_with("core::pin::Pin<alloc::boxed::Box<");
                (if is_boxed { "Future" } else { name }.to_owned(), *count)
            })
            .collect();
        assert_eq!(seen, expected, "{what}");
    }
}

/// What frees a sleeper frees a leak as well: the compiler has made one function of two, and it has the name of one of them.
#[test]
fn futures_that_are_freed_alike_are_not_mistaken() {
    for build in [("1.28.2", Flavor::Release), (NEWEST, Flavor::Debug)] {
        let Some(target) = start("tokio::list", build, &["leak=2", "sleeper=9"]) else {
            return;
        };
        let live = live(&target);
        let of = |count: u64, names: [&str; 2]| {
            live.iter()
                .any(|(name, told)| *told == count && names.iter().any(|it| name.contains(it)))
        };
        assert!(
            of(9, ["healthy::sleeper", "src/healthy.rs:"]),
            "{build:?}: {live:#?}"
        );
        assert!(of(2, ["stuck::leak", "src/stuck.rs:"]), "{build:?}: {live:#?}");
    }
}

#[test]
fn tasks_of_one_thread_and_of_several_runtimes_are_listed() {
    for (version, flavor) in [("1.28.2", Flavor::Release), (NEWEST, Flavor::Debug)] {
        for settings in [
            ["workers=0", "runtimes=1"],
            ["workers=0", "runtimes=3"],
            ["workers=3", "runtimes=2"],
        ] {
            let scenarios = [&settings[..], &["mpsc_recv=40", "ticker=2"]].concat();
            let Some(target) = start("tokio::list", (version, flavor), &scenarios) else {
                return;
            };
            let runtimes: u64 = settings[1].split_once('=').unwrap().1.parse().unwrap();
            let process = look(&target);
            let what = format!("{version} {settings:?}: {process:?}");
            assert_eq!(process.value["tasks"]["tokio"], 42 * runtimes, "{what}");
            assert_eq!(process.incomplete(), untold((version, flavor)), "{what}");
        }
    }
}

/// A program that has tokio and no runtime yet, or none at all, has no tasks, and nothing about it is incomplete.
#[test]
fn a_program_without_tokio_has_no_tasks() {
    let Some(target) = crate::support::start("tokio::list", testbed::Program::RustBlockers, &["mutex=1"])
    else {
        return;
    };
    let process = look(&target);
    assert!(process.value["tasks"]["tokio"].is_null());
    assert_eq!(process.value["runtimes"], serde_json::json!([]));
    assert!(process.incomplete().is_empty(), "{process:?}");
}

#[test]
fn a_hundred_thousand_are_counted_to_the_last() {
    for build in [("1.28.2", Flavor::Release), (NEWEST, Flavor::Debug)] {
        let Some(target) = start("tokio::list", build, &["mpsc_recv=60000", "semaphore=40000"]) else {
            return;
        };
        let process = look(&target);
        assert_eq!(process.incomplete(), untold(build), "{build:?}");
        assert_eq!(process.value["tasks"]["tokio"], 100_000, "{build:?}");
    }
}
