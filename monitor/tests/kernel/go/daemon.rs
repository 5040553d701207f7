//! Goroutines over time: programs that come, change, end and lie, and helpers that die.

use std::{fs, process::Command, thread, time::Duration};

use testbed::{
    Target,
    go::{self, Flavor},
};

use super::bed::{assert_same, groups, look, seen, start};
use crate::support::{Daemon, Process, snapshot};

const VERSION: &str = "1.27";

fn blocked(process: &Process) -> u64 {
    seen(process).values().sum()
}

fn oldest(process: &Process) -> f64 {
    let groups = process
        .groups()
        .iter()
        .filter(|group| group["kind"] == "goroutine");
    groups
        .filter_map(|group| group["oldest_blocked_seconds"].as_f64())
        .fold(0.0, f64::max)
}

#[test]
fn waits_from_before_us_are_dated_by_the_garbage_collector() {
    for version in go::versions() {
        let scenarios = ["chan_receive=5", "collect=1"];
        let Some(target) = start("go::daemon::before", version, Flavor::Plain, &scenarios) else {
            continue;
        };
        thread::sleep(Duration::from_secs(3));
        let process = snapshot(target.pid(), &["--observe", "20ms"]);
        assert_eq!(blocked(&process), 5, "{version}: {process:?}");
        // Three collections have found them waiting within the first second.
        assert!(oldest(&process) > 2.0, "{version}: {}", oldest(&process));
    }
}

#[test]
fn a_program_that_starts_later_is_found() {
    let Ok(command) = go::build(VERSION, Flavor::Plain) else {
        return;
    };
    let path = fs::canonicalize(command.get_program()).unwrap();
    let exe = format!("^{}$", path.display());
    let daemon = Daemon::start(&["--exe", &exe, "--interval", "200ms", "--blocked-after", "1s"]);
    let target = Target::start_command(command, &["chan_send=7", "ticker=5"]).unwrap();
    let process = daemon
        .until(target.pid(), "seven", |process| {
            process.is_some_and(|it| blocked(it) == 7)
        })
        .unwrap();
    let expected = [(
        "chan send",
        "internal",
        "main.chanSendForever",
        "main.leakChanSend",
        "main.spawnChanSend",
        7,
    )];
    assert_same(&seen(&process), &groups(&expected), VERSION);
}

#[test]
fn ages_outlive_the_helper() {
    let Some(target) = start("go::daemon::helper", VERSION, Flavor::Plain, &["mutex=4"]) else {
        return;
    };
    let daemon = Daemon::watch(target.pid(), "200ms", "1s");
    let is_old = |process: Option<&Process>| process.is_some_and(|it| blocked(it) == 4 && oldest(it) > 2.0);
    daemon.until(target.pid(), "two seconds old", is_old);
    let helpers = helpers(daemon.pid());
    assert!(!helpers.is_empty());
    for pid in &helpers {
        // SAFETY: children of a process that this test has started.
        unsafe { libc::kill(*pid as i32, libc::SIGKILL) };
    }
    // Ages that began anew would be below that for two seconds.
    for _ in 0..10 {
        thread::sleep(Duration::from_millis(150));
        let process = daemon.process(target.pid()).unwrap();
        assert_eq!(blocked(&process), 4, "{process:?}");
        assert!(oldest(&process) > 2.0, "{process:?}");
    }
    assert!(
        self::helpers(daemon.pid())
            .iter()
            .any(|pid| !helpers.contains(pid))
    );
    assert_eq!(daemon.get("/healthz").0, 200);
}

/// Helper processes of a daemon.
fn helpers(daemon: u32) -> Vec<u32> {
    let children = fs::read_dir(format!("/proc/{daemon}/task")).unwrap().flatten();
    children
        .filter_map(|task| fs::read_to_string(task.path().join("children")).ok())
        .flat_map(|pids| pids.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
        .filter_map(|pid| pid.parse().ok())
        .collect()
}

#[test]
fn goroutines_that_come_and_go_by_the_thousand_disturb_nothing() {
    for version in go::versions() {
        let scenarios = ["chan_receive=300", "select=200", "churn=4", "collect=1"];
        let Some(target) = start("go::daemon::churn", version, Flavor::Plain, &scenarios) else {
            continue;
        };
        for _ in 0..3 {
            let process = look(&target);
            let seen = seen(&process);
            let of = |entry: &str| {
                seen.iter()
                    .filter(|(key, _)| key[3] == entry)
                    .map(|(_, count)| count)
                    .sum::<u64>()
            };
            assert_eq!(
                (of("main.leakChanReceive"), of("main.leakSelect")),
                (300, 200),
                "{version}: {seen:#?}"
            );
            assert_eq!(seen.len(), 2, "{version}: {seen:#?}");
        }
    }
}

#[test]
fn programs_that_end_while_they_are_read_do_no_harm() {
    let Ok(command) = go::build(VERSION, Flavor::Plain) else {
        return;
    };
    let path = fs::canonicalize(command.get_program()).unwrap();
    let exe = format!("^{}$", path.display());
    let daemon = Daemon::start(&["--exe", &exe, "--interval", "100ms", "--blocked-after", "100ms"]);
    for _ in 0..8 {
        let command = go::build(VERSION, Flavor::Plain).unwrap();
        let target = Target::start_command(command, &["chan_receive=20000"]).unwrap();
        thread::sleep(Duration::from_millis(150));
        drop(target);
    }
    let command = go::build(VERSION, Flavor::Plain).unwrap();
    let target = Target::start_command(command, &["chan_receive=20"]).unwrap();
    daemon.until(target.pid(), "twenty", |process| {
        process.is_some_and(|it| blocked(it) == 20)
    });
}

#[test]
fn calls_are_told_in_another_pid_namespace_too() {
    for version in go::versions() {
        let build = || go::build(version, Flavor::Plain);
        let started = build().and_then(|command| {
            Target::start_command_with(command, &["syscall_read=3", "chan_receive=2"], |program| {
                let mut unshare = Command::new("unshare");
                unshare
                    .args(["--pid", "--fork", "--kill-child", "--mount-proc", "--"])
                    .arg(program.get_program())
                    .args(program.get_args());
                unshare
            })
        });
        let name = format!("go::daemon::namespace (Go {version})");
        let Some(target) = testbed::or_skip(&name, started).unwrap() else {
            continue;
        };
        let expected = [
            (
                "read",
                "external",
                "main.syscallReadForever",
                "main.leakSyscallRead",
                "main.spawnSyscallRead",
                3,
            ),
            (
                "chan receive",
                "internal",
                "main.chanReceiveForever",
                "main.leakChanReceive",
                "main.spawnChanReceive",
                2,
            ),
        ];
        assert_same(&seen(&look(&target)), &groups(&expected), version);
    }
}
