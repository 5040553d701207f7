//! What counts as blocked: exact numbers by reason and class, for every primitive of the C testbed.

use std::{collections::BTreeMap, thread, time::Duration};

use testbed::{Expect, Program};

use crate::support::{Counts, Daemon, counts, exe, expected, snapshot, start};

/// Not every kernel has these calls or permits them: they are tried one by one.
const NOT_EVERYWHERE: &[&str] = &["futex_waitv", "futex_wait2", "userfault", "io_uring"];

/// Timed and busy: never blocked. `burner` computes for seconds and then sleeps for a blink.
const HEALTHY: &[&str] = &[
    "timed_cond=2",
    "timed_mutex=2",
    "timed_semaphore=1",
    "timed_poll=2",
    "timed_epoll=1",
    "timed_select=1",
    "timed_sigwait=1",
    "timed_futex=2",
    "cond_2h=2",
    "sleep=2",
    "ping_pong=1",
    "lock_traffic=2",
    "burner=1",
];

/// Every scenario of the C testbed, with numbers that differ, so that no two can be mixed up.
fn everything() -> Vec<String> {
    let leaks = Program::CBlockers
        .scenarios()
        .into_iter()
        .filter(|scenario| scenario.expect != Expect::Healthy);
    let leaks = leaks
        .filter(|scenario| !NOT_EVERYWHERE.contains(&scenario.name))
        .enumerate();
    let leaks = leaks.map(|(index, scenario)| format!("{}={}", scenario.name, 1 + index % 3));
    leaks
        .chain(HEALTHY.iter().map(|name| (*name).to_owned()))
        .collect()
}

/// One run that was there before the waits began, and one that came after: the same counts, and the same
/// beginnings of the oldest and youngest wait of each group.
#[test]
fn every_primitive_before_and_after_the_waits_began() {
    let scenarios = everything();
    // What signals keep waking without ending its wait in the kernel: only the probes know since when it waits.
    let scenarios: Vec<&str> = scenarios
        .iter()
        .map(String::as_str)
        .filter(|name| !name.contains("_signals"))
        .collect();
    let expected = expected(Program::CBlockers, &scenarios);
    let exe = exe(Program::CBlockers);
    let daemon = Daemon::start(&[
        "--exe",
        &format!("^{exe}$"),
        "--interval",
        "300ms",
        "--blocked-after",
        "2s",
    ]);
    let target = start("every_primitive", Program::CBlockers, &scenarios).expect("plain C runs everywhere");
    let before = daemon.until_counts(target.pid(), &expected);
    assert!(before.incomplete().is_empty(), "{before:?}");
    let after = snapshot(target.pid(), &["--observe", "1s", "--blocked-after", "2s"]);
    assert_eq!(after.counts(), expected);
    assert!(after.incomplete().is_empty(), "{after:?}");
    assert_same_beginnings(&before.beginnings(), &after.beginnings());
    let alone = snapshot(
        target.pid(),
        &["--observe", "1s", "--blocked-after", "2s", "--no-futex-probes"],
    );
    assert_eq!(alone.counts(), expected);
    assert_same_beginnings(&before.beginnings(), &alone.beginnings());
}

/// The two runs date each wait by different clocks and different means, but to the same moment.
fn assert_same_beginnings(before: &BTreeMap<String, (f64, f64)>, after: &BTreeMap<String, (f64, f64)>) {
    for (reason, (oldest, youngest)) in before {
        let (oldest_after, youngest_after) = after[reason];
        assert!(
            (oldest - oldest_after).abs() < 0.1,
            "{reason}: {oldest} {oldest_after}"
        );
        assert!(
            (youngest - youngest_after).abs() < 0.1,
            "{reason}: {youngest} {youngest_after}"
        );
    }
}

/// Calls that not every kernel has or permits: each is skipped by itself.
#[test]
fn calls_that_not_every_kernel_has() {
    for name in NOT_EVERYWHERE {
        let scenario = format!("{name}=3");
        let Some(target) = start(&format!("blocked::{name}"), Program::CBlockers, &[&scenario]) else {
            continue;
        };
        let expected = expected(Program::CBlockers, &[&scenario]);
        let seen = snapshot(target.pid(), &["--observe", "1200ms"]);
        assert_eq!(seen.counts(), expected, "{name}");
        let (reason, _) = expected.keys().next().unwrap();
        let oldest = seen.oldest(reason);
        let later = snapshot(target.pid(), &["--observe", "200ms"]);
        let between = later.taken_at - seen.taken_at;
        assert!(
            (later.oldest(reason) - oldest - between).abs() < 0.1,
            "{name}: {oldest} {later:?}"
        );
    }
}

/// Looks ten times a second.
fn never_blocked(test: &str, scenarios: &[&str], threshold: &str, looks: u32) {
    let target = start(test, Program::CBlockers, scenarios).unwrap();
    let daemon = Daemon::watch(target.pid(), "100ms", threshold);
    for _ in 0..looks {
        let process = daemon.process(target.pid()).unwrap();
        assert_eq!(process.counts(), Counts::new(), "{process:?}");
        thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn timed_and_busy_threads_are_never_blocked() {
    never_blocked("timed_and_busy", HEALTHY, "1s", 50);
}

/// It computes for 3 s, then sleeps for 50 ms: when it last came onto the CPU says nothing of its sleep.
#[test]
fn a_thread_that_computed_is_not_blocked_when_it_sleeps_for_a_blink() {
    never_blocked("burner", &["burner=2"], "500ms", 80);
}

#[test]
fn a_task_is_blocked_from_the_threshold_on_and_not_before() {
    let target = start("threshold", Program::CBlockers, &["mutex=2"]).unwrap();
    let early = snapshot(target.pid(), &["--observe", "1s", "--blocked-after", "60s"]);
    assert_eq!((early.counts(), early.threads()), (Counts::new(), 4));
    assert_eq!(early.value["threshold_seconds"], 60.0);
    let late = snapshot(target.pid(), &["--observe", "1s"]);
    assert_eq!(late.counts(), counts(&[("futex", "internal", 2)]));
}

#[test]
fn two_thousand_threads() {
    let target = start("two_thousand_threads", Program::CBlockers, &["cond=2000"]).unwrap();
    let seen = snapshot(target.pid(), &["--observe", "1500ms", "--max-ids", "7"]);
    assert_eq!(seen.counts(), counts(&[("futex", "internal", 2000)]));
    assert_eq!(seen.groups()[0]["ids"].as_array().unwrap().len(), 7);
    assert_eq!(seen.groups()[0]["ids_truncated"], true);
}

/// The probes can hold 10 threads' waits; the rest are found by the sweep, and the loss is said.
#[test]
fn a_full_map_is_counted_and_loses_no_blocked_thread() {
    let target = start("full_map", Program::CBlockers, &["cond=30"]).unwrap();
    let pid = target.pid().to_string();
    let daemon = Daemon::start(&[
        "--pid",
        &pid,
        "--max-threads",
        "10",
        "--interval",
        "300ms",
        "--blocked-after",
        "1s",
    ]);
    let seen = daemon.until_counts(target.pid(), &counts(&[("futex", "internal", 30)]));
    assert_eq!(seen.incomplete(), ["futex_waits_full"]);
    let full = daemon
        .sample("taskleak_lost_events_total{cause=\"futex_waits_full\"}")
        .unwrap();
    assert!(full >= 20.0, "{full}");
    assert_eq!(
        daemon.sample("taskleak_bpf_map_capacity{map=\"WAITS\"}"),
        Some(10.0)
    );
    assert_eq!(
        daemon.sample("taskleak_bpf_map_entries{map=\"WAITS\"}"),
        Some(10.0)
    );
}
