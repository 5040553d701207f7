//! The verdict on goroutines: the same alert as for threads.

use std::{
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;
use testbed::go::Flavor;

use super::bed::start;
use crate::support::{Daemon, QUICK_VERDICTS, VERDICT_PATIENCE};

fn document(daemon: &Daemon) -> Value {
    serde_json::from_str(&daemon.get("/api/v1/snapshot").2).unwrap()
}

fn find<'a>(list: &'a Value, site: &str, function: &str) -> Option<&'a Value> {
    list.as_array()?
        .iter()
        .find(|it| it[site]["function"] == function)
}

#[test]
fn leaks_are_called_so_and_what_is_healthy_beside_them_is_not() {
    let scenarios = [
        "steady_adder=1",
        "steady_poller=1",
        "pool=1",
        "ticker=5",
        "accept=2",
        "churn=1",
    ];
    let Some(target) = start("go::verdicts", "1.27", Flavor::Plain, &scenarios) else {
        return;
    };
    let pid = target.pid().to_string();
    let daemon = Daemon::start(&[["--pid", &pid].as_slice(), &QUICK_VERDICTS].concat());
    let begun = Instant::now();
    loop {
        let document = document(&daemon);
        let process = &document["processes"][0];
        let verdict = |it: Option<&Value>| it.map(|it| it["verdict"].as_str().unwrap().to_owned());
        // Never anything else, at no time.
        for group in process["groups"].as_array().into_iter().flatten() {
            let is_leak = group["block_site"]["function"] == "main.addUp";
            let verdict = group["verdict"].as_str().unwrap();
            assert!(is_leak || ["unknown", "stable"].contains(&verdict), "{group:#}");
        }
        for live in process["live"].as_array().into_iter().flatten() {
            let function = live["entry"]["function"].as_str().unwrap_or_default();
            let is_leak = ["main.addUp", "main.pollForEver"].contains(&function);
            let verdict = live["verdict"].as_str().unwrap();
            assert!(is_leak || ["unknown", "stable"].contains(&verdict), "{live:#}");
        }
        let leak = verdict(find(&process["groups"], "block_site", "main.addUp"));
        // What never blocks for long grows too, by what it runs; how sure one must be of that is for the judge.
        let polling = find(&process["live"], "entry", "main.pollForEver");
        let grows = polling.is_some_and(|live| {
            let growth = &live["growth"];
            growth["p"].as_f64().is_some_and(|p| p < 0.05)
                && growth["to"].as_f64() > growth["from"].as_f64().map(|from| 3.0 * from)
        });
        if leak.as_deref() == Some("leaking") && grows {
            break;
        }
        assert!(begun.elapsed() < VERDICT_PATIENCE, "{leak:?} {polling:#?}");
        thread::sleep(Duration::from_millis(200));
    }
    let (_, _, metrics) = daemon.get("/metrics");
    let alarms: Vec<&str> = metrics
        .lines()
        .filter(|line| line.starts_with("taskleak_verdict{") && line.contains("basis=\"blocked\""))
        .filter(|line| line.contains("verdict=\"leaking\"") || line.contains("verdict=\"growing\""))
        .collect();
    assert_eq!(alarms.len(), 1, "{alarms:?}");
    for label in [
        "kind=\"goroutine\"",
        "reason=\"chan send\"",
        "block_site=\"main.addUp\"",
        "entry=\"main.addUp\"",
        "spawn_site=\"main.oneOfTwoSums\"",
    ] {
        assert!(alarms[0].contains(label), "{label}: {}", alarms[0]);
    }
}
