//! Starting the Go programs, and what is read of their groups.

use std::collections::BTreeMap;

use serde_json::Value;
use testbed::{
    Target,
    go::{self, Flavor},
};

use crate::support::{Process, snapshot};

/// reason, class, block site, entry, spawn site (functions without their package's path) → goroutines.
pub type Groups = BTreeMap<[String; 5], u64>;

/// One expected group.
pub type Expected<'a> = (&'a str, &'a str, &'a str, &'a str, &'a str, u64);

pub fn groups(expected: &[Expected<'_>]) -> Groups {
    let mut groups = Groups::new();
    for (reason, class, block_site, entry, spawn_site, count) in expected {
        let key = [reason, class, block_site, entry, spawn_site].map(|text| (*text).to_owned());
        *groups.entry(key).or_default() += count;
    }
    groups
}

/// The program, running these scenarios. `None` (and the test is skipped) where this machine cannot build it.
pub fn start(test: &str, version: &str, flavor: Flavor, scenarios: &[&str]) -> Option<Target> {
    start_with(test, version, flavor, scenarios, ("GODEBUG", ""))
}

/// The same, with a variable in its environment.
pub fn start_with(
    test: &str,
    version: &str,
    flavor: Flavor,
    scenarios: &[&str],
    (name, value): (&str, &str),
) -> Option<Target> {
    let test = format!("{test} (Go {version}, {flavor:?})");
    let started = go::build(version, flavor).and_then(|mut command| {
        command.env(name, value);
        Target::start_command(command, scenarios)
    });
    testbed::or_skip(&test, started).unwrap_or_else(|error| panic!("{test}: {error:#}"))
}

/// What a snapshot of it says.
pub fn look(target: &Target) -> Process {
    snapshot(target.pid(), &["--observe", "1600ms"])
}

/// The groups of goroutines, those of the program's main goroutine and of the runtime's signal handling left out.
pub fn seen(process: &Process) -> Groups {
    let mut groups = Groups::new();
    let function = |site: &Value| site["function"].as_str().unwrap_or_default().to_owned();
    for group in process
        .groups()
        .iter()
        .filter(|group| group["kind"] == "goroutine")
    {
        let key = [
            group["reason"].as_str().unwrap().to_owned(),
            group["wait_class"].as_str().unwrap().to_owned(),
            function(&group["block_site"]),
            function(&group["entry"]),
            function(&group["spawn_site"]),
        ];
        let ids = group["ids"].as_array().unwrap();
        let count = group["count"].as_u64().unwrap();
        assert_eq!(ids.len() as u64, count.min(100), "{group}");
        *groups.entry(key).or_default() += count;
    }
    groups
}

/// Compares them, and tells only what differs.
pub fn assert_same(seen: &Groups, expected: &Groups, what: &str) {
    let only = |a: &Groups, b: &Groups| -> Groups {
        let differs = |(key, count): &(&[String; 5], &u64)| b.get(*key) != Some(*count);
        a.iter()
            .filter(differs)
            .map(|(key, count)| (key.clone(), *count))
            .collect()
    };
    let (unexpected, missing) = (only(seen, expected), only(expected, seen));
    assert!(
        unexpected.is_empty() && missing.is_empty(),
        "{what}: seen {unexpected:#?}, expected {missing:#?}"
    );
}
