//! Starting the tokio program, and what is read of its tasks.

use std::collections::BTreeMap;

use testbed::{
    Target,
    tokio::{self, Flavor},
};

use crate::support::{Process, snapshot, stderr, taskleak};

/// The program, running these scenarios. `None` (and the test is skipped) where this machine cannot build it.
pub fn start(test: &str, (version, flavor): (&str, Flavor), scenarios: &[&str]) -> Option<Target> {
    let test = format!("{test} (tokio {version}, {flavor:?})");
    let started = tokio::build(version, flavor).and_then(|command| Target::start_command(command, scenarios));
    testbed::or_skip(&test, started).unwrap_or_else(|error| panic!("{test}: {error:#}"))
}

/// What a snapshot of it says.
pub fn look(target: &Target) -> Process {
    snapshot(target.pid(), &["--observe", "1600ms"])
}

/// Live tasks by what they run.
pub fn live(target: &Target) -> BTreeMap<String, u64> {
    let output = taskleak(&[
        "snapshot",
        "--format",
        "prometheus",
        "--pid",
        &target.pid().to_string(),
    ]);
    assert!(output.status.success(), "{}", stderr(&output));
    let text = String::from_utf8(output.stdout).unwrap();
    let samples = text
        .lines()
        .filter(|line| line.starts_with("taskleak_live_tasks{") && line.contains("kind=\"tokio\""));
    samples
        .map(|line| {
            let (_, rest) = line.split_once("entry=\"").unwrap();
            let (entry, rest) = rest.split_once('"').unwrap();
            (
                entry.to_owned(),
                rest.rsplit(' ').next().unwrap().parse::<f64>().unwrap() as u64,
            )
        })
        .collect()
}
