//! The same exact numbers for programs in C++, Rust, Python and Java.

use testbed::{Expect, Program, Target};

use crate::support::{Counts, Daemon, expected, snapshot, start};

/// Two threads of every leaking scenario, one of every healthy one.
fn everything(program: Program) -> Vec<String> {
    let count = |expect| if expect == Expect::Healthy { 1 } else { 2 };
    program
        .scenarios()
        .into_iter()
        .map(|scenario| format!("{}={}", scenario.name, count(scenario.expect)))
        .collect()
}

fn healthy(program: Program) -> Vec<String> {
    let scenarios = program
        .scenarios()
        .into_iter()
        .filter(|scenario| scenario.expect == Expect::Healthy);
    scenarios.map(|scenario| format!("{}=2", scenario.name)).collect()
}

fn start_all(program: Program, scenarios: &[String]) -> Option<Target> {
    let scenarios: Vec<&str> = scenarios.iter().map(String::as_str).collect();
    start(&format!("languages::{program:?}"), program, &scenarios)
}

fn expect_all(program: Program, scenarios: &[String]) -> Counts {
    expected(program, &scenarios.iter().map(String::as_str).collect::<Vec<_>>())
}

/// Leaks and healthy threads side by side, then the healthy ones alone.
fn check(program: Program) {
    let scenarios = everything(program);
    let Some(target) = start_all(program, &scenarios) else {
        return;
    };
    let seen = snapshot(target.pid(), &["--observe", "1500ms"]);
    assert_eq!(seen.counts(), expect_all(program, &scenarios));
    assert!(seen.incomplete().is_empty(), "{seen:?}");
    drop(target);
    let Some(target) = start_all(program, &healthy(program)) else {
        return;
    };
    let seen = snapshot(target.pid(), &["--observe", "1500ms"]);
    assert_eq!(seen.counts(), Counts::new());
}

#[test]
fn cpp() {
    check(Program::CppBlockers);
}

#[test]
fn rust() {
    check(Program::RustBlockers);
}

#[test]
fn python() {
    check(Program::PythonBlockers);
}

/// A JVM has threads of its own that wait: how many, a JVM with only healthy threads of ours tells.
#[test]
fn java() {
    let program = Program::JavaBlockers;
    let Some(idle) = start_all(program, &healthy(program)) else {
        return;
    };
    let baseline = Daemon::watch(idle.pid(), "500ms", "1s");
    let settled = baseline.until(idle.pid(), "settled", |process| {
        process.is_some_and(|process| process.oldest_of_all() > 3.0)
    });
    let own = settled.unwrap().counts();
    let scenarios = everything(program);
    let Some(target) = start_all(program, &scenarios) else {
        return;
    };
    let mut expected = expect_all(program, &scenarios);
    for (key, count) in own {
        *expected.entry(key).or_default() += count;
    }
    let daemon = Daemon::watch(target.pid(), "500ms", "1s");
    // Its stacks take a while on a busy machine.
    daemon.until(target.pid(), "counted and complete", |process| {
        process.is_some_and(|process| process.counts() == expected && process.incomplete().is_empty())
    });
}
