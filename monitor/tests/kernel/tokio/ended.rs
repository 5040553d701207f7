//! Tasks that have ended, and whose handles are kept: their memory and what they have returned stays for as long.

use std::{
    collections::BTreeMap,
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;
use testbed::tokio::{self, Flavor, NEWEST};

use super::{
    bed::start,
    maker::{Maker, counted, line_of},
};
use crate::{
    counted::{until, watch},
    support::{Daemon, QUICK_VERDICTS, VERDICT_PATIENCE, taskleak},
};

const SOURCE: &str = include_str!("../../../../testbed/tokio/src/ended.rs");

/// The function of [`SOURCE`] that a task runs; in a stripped program it is told by its place.
fn function(entry: &str) -> String {
    if let Some((_, place)) = entry.split_once("/src/ended.rs:") {
        let line: usize = place.split(':').next().unwrap().parse().unwrap();
        let (_, function) = SOURCE
            .lines()
            .nth(line - 1)
            .unwrap()
            .split_once("async fn ")
            .unwrap();
        return function.split('(').next().unwrap().to_owned();
    }
    let name = entry.strip_suffix("::{async block}").unwrap_or(entry);
    let name = name.rsplit("::").next().unwrap();
    name.to_owned()
}

type Kept = BTreeMap<String, u64>;

fn expected(counts: &[(&str, u64)]) -> Kept {
    counts
        .iter()
        .map(|(name, count)| ((*name).to_owned(), *count))
        .collect()
}

/// Tasks of the metrics by the function that they run, or have run.
fn told(daemon: &Daemon, metric: &str) -> Kept {
    let (_, _, metrics) = daemon.get("/metrics");
    let mut told = Kept::new();
    let lines = metrics
        .lines()
        .filter(|line| line.starts_with(&format!("{metric}{{")));
    for line in lines.filter(|line| line.contains("kind=\"tokio\"")) {
        let (_, rest) = line.split_once("entry=\"").unwrap();
        let (entry, _) = rest.split_once('"').unwrap();
        let count: f64 = line.rsplit(' ').next().unwrap().parse().unwrap();
        *told.entry(function(entry)).or_default() += count as u64;
    }
    told
}

fn kept(daemon: &Daemon) -> Kept {
    told(daemon, "taskleak_kept_tasks")
}

fn assert_kept(build: (&str, Flavor)) {
    let Some(maker) = Maker::start("ended", build, &[]) else {
        return;
    };
    let daemon = watch(maker.pid(), &[]);
    counted(&daemon, maker.pid()).until_active();
    for order in ["long 12", "endless 5"] {
        maker.ask(order);
    }
    let live = || told(&daemon, "taskleak_live_tasks");
    until(&format!("seen ({build:?})"), || {
        live().get("long") == Some(&12) && live().get("endless") == Some(&5)
    });
    for order in [
        "end 9",
        "abort 4",
        "short 7",
        "set 6",
        "joined 30",
        "detached 20",
        "drained 10",
    ] {
        maker.ask(order);
    }
    let all = expected(&[("long", 9), ("endless", 4), ("short", 7), ("in_set", 6)]);
    until(&format!("{all:?} ({build:?}), but {:?}", kept(&daemon)), || {
        kept(&daemon) == all
    });
    // It stays so, and they are none of those that live.
    for _ in 0..4 {
        thread::sleep(Duration::from_millis(250));
        assert_eq!(kept(&daemon), all, "{build:?}");
        assert_eq!(
            (live().get("long"), live().get("endless"), live().get("short")),
            (Some(&3), Some(&1), None),
            "{build:?}"
        );
    }
    let lost = daemon.sample("taskleak_lost_events_total{cause=\"tokio_ends_full\"}");
    assert_eq!(lost, Some(0.0));
    maker.ask("give back 0");
    until(&format!("given back ({build:?})"), || kept(&daemon).is_empty());
}

#[test]
fn what_is_kept_is_counted_and_what_is_joined_is_not() {
    for build in tokio::builds() {
        assert_kept(build);
    }
}

/// In all that is told of each task and of all together.
#[test]
fn they_are_told_as_complete_with_who_made_them() {
    let build = (NEWEST, Flavor::Debug);
    let Some(maker) = Maker::start("told-ended", build, &[]) else {
        return;
    };
    let pid = maker.pid();
    let daemon = watch(pid, &["--expose-stacks", "--blocked-after", "300ms"]);
    counted(&daemon, pid).until_active();
    maker.ask("short 7");
    until("kept", || kept(&daemon) == expected(&[("short", 7)]));
    let process = daemon.process(pid).unwrap();
    let all = process.value["kept"].as_array().unwrap();
    assert_eq!(all.len(), 1, "{all:#?}");
    let one = &all[0];
    assert_eq!(one["entry"]["function"], "tasks::ended::short");
    assert_eq!(one["count"], 7);
    assert_eq!(one["basis"], "live");
    assert_eq!(one["spawn_sites"].as_array().unwrap().len(), 1, "{one:#}");
    assert_eq!(one["spawn_sites"][0]["count"], 7);
    assert_eq!(one["spawn_sites"][0]["line"], line_of(SOURCE, "short"));
    let blocked = process.groups().iter();
    let of_them = |group: &&Value| group["entry"]["function"] == "tasks::ended::short";
    assert_eq!(blocked.filter(of_them).count(), 0);

    let address = daemon.address.to_string();
    let stacks = |format: &str| {
        let pid = pid.to_string();
        let output = taskleak(&[
            "stacks",
            &pid,
            "--connect",
            &address,
            "--kind",
            "tokio",
            "--format",
            format,
        ]);
        String::from_utf8(output.stdout).unwrap()
    };
    let document: Value = serde_json::from_str(&stacks("json")).unwrap();
    let tasks = document["tasks"].as_array().unwrap();
    let complete: Vec<&Value> = tasks.iter().filter(|task| task["state"] == "complete").collect();
    assert_eq!(complete.len(), 7, "{complete:#?}");
    for task in complete {
        assert_eq!(task["entry"]["function"], "tasks::ended::short");
        assert!(
            task["wait_class"].is_null() && task["stack"].is_null(),
            "{task:#}"
        );
        // Its handle's alone.
        assert_eq!(task["references"], 1, "{task:#}");
    }
    let text = stacks("text");
    let paragraph = text.split("\n\n").find(|it| it.contains(": complete")).unwrap();
    assert!(paragraph.contains("7 tokio tasks: complete"), "{paragraph}");
    assert!(paragraph.contains("runs tasks::ended::short"), "{paragraph}");
    assert!(paragraph.contains("(ended.rs:"), "{paragraph}");
    assert_eq!(stacks("debug2").matches("[complete").count(), 7);
    assert!(stacks("folded").contains("complete"), "{}", stacks("folded"));
}

/// Who joins what he makes keeps nothing, however much that is.
#[test]
fn a_churn_with_handles_keeps_nothing() {
    for build in [("1.44.2", Flavor::V0), (NEWEST, Flavor::Debug)] {
        let Some(maker) = Maker::start("churn-ended", build, &["churn=3"]) else {
            continue;
        };
        let daemon = watch(maker.pid(), &["--probe-budget", "100%"]);
        let told = counted(&daemon, maker.pid());
        told.until_active();
        for _ in 0..20 {
            thread::sleep(Duration::from_millis(150));
            assert_eq!(kept(&daemon), Kept::new(), "{build:?}");
        }
        maker.ask("short 5");
        until("kept", || kept(&daemon) == expected(&[("short", 5)]));
        let lost = daemon.sample("taskleak_lost_events_total{cause=\"tokio_ends_full\"}");
        assert_eq!(lost, Some(0.0));
        assert!(told.sums().1 > 10_000, "{:?}", told.sums());
    }
}

/// As many as may be made between two looks, twice.
#[test]
fn many_are_counted_to_the_last() {
    const COUNT: u64 = 40_000;
    let Some(maker) = Maker::start("many-ended", (NEWEST, Flavor::Stripped), &[]) else {
        return;
    };
    let daemon = watch(maker.pid(), &["--probe-budget", "100%"]);
    counted(&daemon, maker.pid()).until_active();
    for count in [COUNT, 2 * COUNT] {
        maker.ask(&format!("short {COUNT}"));
        until(&format!("{count} kept"), || {
            kept(&daemon) == expected(&[("short", count)])
        });
    }
    let lost = daemon.sample("taskleak_lost_events_total{cause=\"tokio_ends_full\"}");
    assert_eq!(lost, Some(0.0));
}

/// Handles that are only ever added to a list are a leak, those that are awaited a little later are none.
#[test]
fn handles_that_pile_up_are_called_leaking() {
    let scenarios = ["keeper=1", "joiner=2", "churn=1", "ticker=5"];
    let build = (NEWEST, Flavor::Debug);
    let Some(target) = start("tokio::ended", build, &scenarios) else {
        return;
    };
    let pid = target.pid().to_string();
    let arguments = [&["--pid", &pid, "--probe-budget", "100%"], &QUICK_VERDICTS[..]].concat();
    let daemon = Daemon::start(&arguments);
    let begun = Instant::now();
    loop {
        let document: Value = serde_json::from_str(&daemon.get("/api/v1/snapshot").2).unwrap();
        let process = &document["processes"][0];
        let mut is_found = false;
        for list in ["groups", "live", "kept"] {
            let all = process[list].as_array().into_iter().flatten();
            for it in all.filter(|it| it["kind"] == "tokio") {
                let is_alarm = ["growing", "leaking", "proven"].contains(&it["verdict"].as_str().unwrap());
                let is_leak = list == "kept" && it["entry"]["function"] == "tasks::ended::kept";
                assert!(!is_alarm || is_leak, "{it:#}");
                is_found |= is_leak && it["verdict"] == "leaking" && it["basis"] == "live";
            }
        }
        if is_found {
            break;
        }
        assert!(begun.elapsed() < VERDICT_PATIENCE, "{document:#}");
        thread::sleep(Duration::from_millis(200));
    }
    let (_, _, metrics) = daemon.get("/metrics");
    let is_told = |line: &str| {
        line.starts_with("taskleak_verdict{")
            && ["basis=\"live\"", "reason=\"complete\"", "verdict=\"leaking\""]
                .iter()
                .all(|label| line.contains(label))
    };
    assert!(metrics.lines().any(is_told), "{metrics}");
}
