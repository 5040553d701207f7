//! Who made the threads: the spawn probe's totals and sites.

use std::{thread, time::Duration};

use testbed::Program;

use crate::support::{Daemon, start};

/// Value of a metric of a process, with these label texts in its line.
fn value(metrics: &str, name: &str, pid: u32, labels: &[&str]) -> Option<f64> {
    let pid = format!("pid=\"{pid}\"");
    let is_meant = |line: &&str| {
        line.starts_with(&format!("{name}{{"))
            && line.contains(&pid)
            && labels.iter().all(|label| line.contains(label))
    };
    metrics.lines().find(is_meant)?.rsplit(' ').next()?.parse().ok()
}

fn until(daemon: &Daemon, what: &str, condition: impl Fn(&str) -> bool) -> String {
    for _ in 0..300 {
        let (_, _, metrics) = daemon.get("/metrics");
        if condition(&metrics) {
            return metrics;
        }
        thread::sleep(Duration::from_millis(50));
    }
    panic!("not {what}: {}", daemon.get("/metrics").2);
}

/// Every 60 ms a thread: two of three are short jobs, each third one is left behind.
#[test]
fn births_and_deaths_are_counted_by_entry_and_spawn_site() {
    let target = start("spawns", Program::Spawner, &["--steady", "60"]).unwrap();
    let pid = target.pid();
    let daemon = Daemon::watch(pid, "200ms", "1s");
    until(&daemon, "active", |metrics| {
        value(metrics, "taskleak_spawn_probes_active", pid, &[]) == Some(1.0)
    });
    let short = ["entry=\"short_job\"", "spawn_site=\"spawn_short_job\""];
    let long = ["entry=\"long_job\"", "spawn_site=\"spawn_long_job\""];
    let spawned =
        |metrics: &str, labels: &[&str]| value(metrics, "taskleak_tasks_spawned_total", pid, labels);
    let exited = |metrics: &str, labels: &[&str]| value(metrics, "taskleak_tasks_exited_total", pid, labels);
    let metrics = until(&daemon, "counted", |metrics| {
        spawned(metrics, &long) >= Some(20.0)
    });
    let (short_spawned, short_exited) = (
        spawned(&metrics, &short).unwrap(),
        exited(&metrics, &short).unwrap(),
    );
    let long_spawned = spawned(&metrics, &long).unwrap();
    assert!(
        (short_spawned - 2.0 * long_spawned).abs() <= 4.0,
        "two short ones for a long one:\n{metrics}"
    );
    // A short job lives for three intervals.
    assert!(
        (0.0..=8.0).contains(&(short_spawned - short_exited)),
        "short ones end:\n{metrics}"
    );
    assert_eq!(exited(&metrics, &long), Some(0.0));
    // One may have been under way when the probe was attached.
    let unknown = spawned(&metrics, &["entry=\"\"", "spawn_site=\"\""]).unwrap_or(0.0);
    assert!(unknown <= 1.0, "{metrics}");
    let group = daemon.until(pid, "with spawn sites", |process| {
        process.is_some_and(|process| {
            process
                .groups()
                .iter()
                .any(|group| group["spawn_sites"][0]["count"].as_u64() > Some(5))
        })
    });
    let groups = group.unwrap();
    let group = groups
        .groups()
        .iter()
        .find(|group| group["entry"]["function"] == "long_job")
        .unwrap();
    assert_eq!(group["block_site"]["function"], "wait_for_ever");
    assert_eq!(group["spawn_sites"][0]["function"], "spawn_long_job");
    assert_eq!(
        group["spawn_site"],
        serde_json::Value::Null,
        "threads do not all tell theirs"
    );
}

/// A thread costs some 30 µs to make: a burst is far over the budget, and the probe is taken off.
#[test]
fn a_storm_of_threads_takes_the_probe_off() {
    let target = start("storm", Program::Spawner, &["--burst", "400000"]).unwrap();
    let pid = target.pid();
    let daemon = Daemon::start(&[
        "--pid",
        &pid.to_string(),
        "--interval",
        "200ms",
        "--probe-budget",
        "1%",
    ]);
    until(&daemon, "active", |metrics| {
        value(metrics, "taskleak_spawn_probes_active", pid, &[]) == Some(1.0)
    });
    until(&daemon, "off", |metrics| {
        value(metrics, "taskleak_spawn_probes_active", pid, &[]) == Some(0.0)
    });
    until(&daemon, "counted", |metrics| {
        value(metrics, "taskleak_tasks_spawned_total", pid, &[]) > Some(0.0)
    });
    assert!(daemon.log().iter().any(|line| line.contains("over its budget")));
    // Births that were seen are still being named.
    let total = || {
        value(
            &daemon.get("/metrics").2,
            "taskleak_tasks_spawned_total",
            pid,
            &[],
        )
    };
    let stands_still = (0..10).any(|_| {
        let before = total();
        thread::sleep(Duration::from_millis(600));
        total() == before
    });
    assert!(stands_still, "{:?}", total());
}

#[test]
fn without_spawn_probes_there_are_no_series() {
    let target = start("no_spawns", Program::Spawner, &["--steady", "50"]).unwrap();
    let pid = target.pid().to_string();
    let daemon = Daemon::start(&["--pid", &pid, "--interval", "200ms", "--no-spawn-probes"]);
    thread::sleep(Duration::from_secs(1));
    let (_, _, metrics) = daemon.get("/metrics");
    assert!(
        !metrics.contains("taskleak_tasks_spawned_total{")
            && !metrics.contains("taskleak_spawn_probes_active{")
    );
}

/// Births are named by the helper that reads stacks: without it nobody takes them in, and none may be told.
#[test]
fn without_stacks_no_birth_is_lost() {
    let target = start("no_stacks_spawns", Program::Spawner, &["--steady", "5"]).unwrap();
    let pid = target.pid().to_string();
    let daemon = Daemon::start(&["--pid", &pid, "--interval", "200ms", "--no-stacks"]);
    thread::sleep(Duration::from_secs(3));
    let lost = daemon.sample("taskleak_lost_events_total{cause=\"spawn_events_full\"}");
    assert_eq!(lost, Some(0.0));
}
