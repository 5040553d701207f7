//! Where in the code: exact counts by block site and entry.

use std::collections::BTreeMap;

use testbed::{Expect, Program};

use crate::support::{Daemon, Process, exe, skip, snapshot, start};

/// (reason, block site, entry) → blocked tasks.
type Sites = BTreeMap<(String, String, String), u64>;

/// Scenarios of which one test is enough (`blocked.rs`): not every kernel permits them.
const NOT_EVERYWHERE: &[&str] = &["futex_waitv", "futex_wait2", "userfault", "io_uring"];

fn scenarios(program: Program) -> Vec<String> {
    let all = program
        .scenarios()
        .into_iter()
        .filter(|scenario| !NOT_EVERYWHERE.contains(&scenario.name));
    // Each signal wakes these for a moment in which their stack is another.
    let calm = all.filter(|scenario| !scenario.name.ends_with("_signals"));
    let count = |expect| if expect == Expect::Healthy { 1 } else { 2 };
    calm.map(|scenario| format!("{}={}", scenario.name, count(scenario.expect)))
        .collect()
}

fn expected(program: Program, scenarios: &[String]) -> Sites {
    let mut sites = Sites::new();
    for text in scenarios {
        let (name, count) = text.split_once('=').unwrap();
        let scenario = program
            .scenarios()
            .into_iter()
            .find(|scenario| scenario.name == name)
            .unwrap();
        let Expect::Blocked { reason, .. } = scenario.expect else {
            continue;
        };
        let key = (
            reason.to_owned(),
            scenario.block_site.to_owned(),
            scenario.entry(),
        );
        *sites.entry(key).or_default() += scenario.blocked(count.parse().unwrap()) as u64;
    }
    sites
}

fn sites(process: &Process) -> Sites {
    let mut sites = Sites::new();
    for group in process.groups() {
        let name = |site: &serde_json::Value| short(site["function"].as_str().unwrap_or("?"));
        let key = (
            group["reason"].as_str().unwrap().to_owned(),
            name(&group["block_site"]),
            name(&group["entry"]),
        );
        *sites.entry(key).or_default() += group["count"].as_u64().unwrap();
    }
    sites
}

/// A function's own name: without its module, arguments and closures.
fn short(function: &str) -> String {
    let plain = function.split('(').next().unwrap();
    let parts = plain.split("::").filter(|part| !part.starts_with("{{closure"));
    let own = parts.last().unwrap();
    // A closure that hands on to the entry function what it has captured is the entry.
    if plain.contains("{{closure") {
        own.replacen("spawn_", "leak_", 1)
    } else {
        own.to_owned()
    }
}

/// Seen by one run that was there before, and by one that came after.
fn check(program: Program) {
    let test = format!("sites::{program:?}");
    let scenarios = scenarios(program);
    let names: Vec<&str> = scenarios.iter().map(String::as_str).collect();
    let daemon = match program.build() {
        Ok(_) => Daemon::start(&[
            "--exe",
            &format!("^{}$", exe(program)),
            "--interval",
            "300ms",
            "--blocked-after",
            "2s",
        ]),
        Err(error) => return skip(&test, &error.to_string()),
    };
    let Some(target) = start(&test, program, &names) else {
        return;
    };
    let expected = expected(program, &scenarios);
    let has_sites = |process: Option<&Process>| process.is_some_and(|process| sites(process) == expected);
    let before = daemon
        .until(target.pid(), &format!("{expected:#?}"), has_sites)
        .unwrap();
    assert!(before.incomplete().is_empty(), "{before:?}");
    let after = snapshot(target.pid(), &["--observe", "200ms", "--blocked-after", "2s"]);
    assert_eq!(sites(&after), expected);
    let stacks = after
        .groups()
        .iter()
        .filter(|group| !group["stack"].as_array().unwrap().is_empty());
    assert_eq!(stacks.count(), after.groups().len(), "every group has a stack");
}

#[test]
fn c() {
    check(Program::CBlockers);
}

#[test]
fn cpp() {
    check(Program::CppBlockers);
}

#[test]
fn rust() {
    check(Program::RustBlockers);
}

/// Without `--expose-stacks` the web server names functions, but shows neither stacks nor files.
#[test]
fn stacks_and_files_are_shown_to_those_only_who_may_see_them() {
    let target = start("expose", Program::CBlockers, &["mutex=2"]).unwrap();
    let pid = target.pid().to_string();
    let common = ["--pid", &pid, "--interval", "200ms", "--blocked-after", "500ms"];
    let group_of = |more: &[&str]| {
        let daemon = Daemon::start(&[&common[..], more].concat());
        let named = |process: Option<&Process>| {
            process.is_some_and(|process| {
                sites(process)
                    .keys()
                    .any(|(_, site, _)| site == "mutex_acquire_forever")
            })
        };
        daemon.until(target.pid(), "named", named).unwrap().groups()[0].clone()
    };
    let names = group_of(&[]);
    assert_eq!(names.get("stack"), None);
    assert_eq!(
        names["block_site"]
            .as_object()
            .unwrap()
            .keys()
            .collect::<Vec<_>>(),
        ["function"]
    );
    let stacks = group_of(&["--expose-stacks"]);
    assert!(stacks["stack"].as_array().unwrap().len() > 3);
    assert!(
        stacks["block_site"]["file"]
            .as_str()
            .unwrap()
            .ends_with("locks.c"),
        "{stacks}"
    );
}

#[test]
fn without_stacks_groups_have_no_sites() {
    let target = start("no_stacks", Program::CBlockers, &["mutex=2", "cond=1"]).unwrap();
    let seen = snapshot(target.pid(), &["--observe", "1200ms", "--no-stacks"]);
    let expected: Sites = [(("futex".to_owned(), "?".to_owned(), "?".to_owned()), 3)].into();
    assert_eq!(sites(&seen), expected);
    assert!(seen.incomplete().is_empty());
}
