//! What every thread runs, whether it is blocked, sleeps for a while, or computes.

use std::{collections::BTreeMap, thread, time::Duration};

use testbed::Program;

use crate::support::{Daemon, exe, start, stderr, taskleak};

/// Entry → live threads.
type Live = BTreeMap<String, u64>;

fn live(expected: &[(&str, u64)]) -> Live {
    expected
        .iter()
        .map(|(entry, count)| ((*entry).to_owned(), *count))
        .collect()
}

/// Of a text in Prometheus's format: no two lines may have the same labels.
fn parse(text: &str, pid: u32) -> Live {
    let mut seen = Live::new();
    let pid = format!("pid=\"{pid}\"");
    let lines = text
        .lines()
        .filter(|line| line.starts_with("taskleak_live_tasks{") && line.contains(&pid));
    for line in lines {
        let (_, rest) = line.split_once("entry=\"").unwrap();
        let (entry, rest) = rest.split_once('"').unwrap();
        let count = rest.rsplit(' ').next().unwrap().parse().unwrap();
        assert_eq!(seen.insert(short(entry), count), None, "{text}");
    }
    seen
}

/// A function's own name, without its module and arguments.
fn short(function: &str) -> String {
    let plain = function.split('(').next().unwrap();
    let parts = plain.split("::").filter(|part| !part.starts_with("{{closure"));
    parts.last().unwrap_or_default().to_owned()
}

/// By a look that comes late, with a threshold that nobody or everybody passes; and by a run that was there before.
fn check(program: Program, scenarios: &[&str], expected: &[(&str, u64)]) {
    let test = format!("entries::{program:?}");
    let expected = live(expected);
    let Ok(_) = program.build() else {
        start(&test, program, scenarios);
        return;
    };
    let daemon = Daemon::start(&[
        "--exe",
        &format!("^{}$", exe(program)),
        "--interval",
        "200ms",
        "--blocked-after",
        "2s",
    ]);
    let Some(target) = start(&test, program, scenarios) else {
        return;
    };
    thread::sleep(Duration::from_millis(500));
    for blocked_after in ["1h", "100ms"] {
        let pid = target.pid().to_string();
        let output = taskleak(&[
            "snapshot",
            "--pid",
            &pid,
            "--observe",
            "1s",
            "--blocked-after",
            blocked_after,
            "--format",
            "prometheus",
        ]);
        assert!(output.status.success(), "{}", stderr(&output));
        let text = String::from_utf8(output.stdout).unwrap();
        assert_eq!(parse(&text, target.pid()), expected, "{blocked_after}");
    }
    let seen = || parse(&daemon.get("/metrics").2, target.pid());
    for _ in 0..100 {
        if seen() == expected {
            break;
        }
        thread::sleep(Duration::from_millis(100));
    }
    // Known once, known for good.
    for _ in 0..20 {
        assert_eq!(seen(), expected);
        thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn c() {
    check(
        Program::CBlockers,
        &[
            "mutex=2",
            "poll=2",
            "timed_cond=2",
            "timed_poll=3",
            "sleep=2",
            "ping_pong=2",
            "burner=2",
        ],
        &[
            ("hold", 1),
            ("idle_burner", 2),
            ("idle_ping_pong", 4),
            ("idle_sleep", 2),
            ("idle_timed_cond", 2),
            ("idle_timed_poll", 3),
            ("leak_mutex", 2),
            ("leak_poll", 2),
            ("main", 1),
        ],
    );
}

#[test]
fn cpp() {
    check(
        Program::CppBlockers,
        &["thread_mutex=2", "future_get=2", "timed_cv=3", "sleep=2"],
        &[
            // The lambda in it, which holds the mutex: `hold<spawn_thread_mutex(int)::…>(…)::{lambda()#1}::operator()`.
            ("hold<spawn_thread_mutex", 1),
            ("idle_sleep", 2),
            ("idle_timed_cv", 3),
            ("leak_future_get", 2),
            ("leak_thread_mutex", 2),
            ("main", 1),
        ],
    );
}

#[test]
fn rust() {
    check(
        Program::RustBlockers,
        &["mutex=2", "park=2", "timed_condvar=3", "sleep=2"],
        &[
            ("hold", 1),
            ("idle_sleep", 2),
            ("idle_timed_condvar", 3),
            ("leak_mutex", 2),
            ("leak_park", 2),
            ("main", 1),
        ],
    );
}
