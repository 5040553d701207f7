//! Text, JSON, folded stacks and profiles, and which tasks are in them.

use std::{collections::BTreeMap, path::PathBuf, process::Command};

use testbed::{Program, go::Flavor};

use super::{functions, json, stacks, tasks, told};
use crate::{
    go::bed,
    support::{skip, start, stderr},
};

const C: [&str; 5] = ["mutex=3", "cond=2", "read=4", "nanosleep=2", "spin=1"];

/// The scenarios of these that there are.
fn scenarios() -> Vec<&'static str> {
    let known = Program::CBlockers.scenarios();
    let is_known = |text: &&str| {
        let name = text.split('=').next().unwrap_or_default();
        known.iter().any(|scenario| scenario.name == name)
    };
    C.iter().copied().filter(is_known).collect()
}

#[test]
fn every_thread_is_told_blocked_or_not() {
    let target = start("stacks::threads", Program::CBlockers, &scenarios()).unwrap();
    let document = json(target.pid(), &[]);
    let all = std::fs::read_dir(format!("/proc/{}/task", target.pid())).unwrap();
    let mut ids: Vec<u64> = all
        .map(|entry| entry.unwrap().file_name().to_str().unwrap().parse().unwrap())
        .collect();
    ids.sort_unstable();
    let mut told: Vec<u64> = tasks(&document, |_| true)
        .iter()
        .map(|task| task["id"].as_u64().unwrap())
        .collect();
    told.sort_unstable();
    assert_eq!(told, ids);
    let at = |function: &str| {
        tasks(&document, |task| functions(&document, task).contains(&function))
            .iter()
            .map(|task| {
                assert_eq!(task["state"], "waiting");
                let class = task["wait_class"].as_str().unwrap_or("none");
                (task["reason"].as_str().unwrap().to_owned(), class.to_owned())
            })
            .collect::<Vec<_>>()
    };
    let pair = |reason: &str, class: &str, count: usize| vec![(reason.to_owned(), class.to_owned()); count];
    assert_eq!(at("mutex_acquire_forever"), pair("futex", "internal", 3));
    assert_eq!(at("cond_wait_forever"), pair("futex", "internal", 2));
    assert_eq!(at("pipe_read_forever"), pair("read", "external", 4));
    for task in tasks(&document, |task| task["state"] == "running") {
        assert!(task["stack"].is_null(), "{task}");
    }
}

#[test]
fn what_ends_by_itself_and_what_runs_is_told_as_that() {
    let scenarios = ["chan_receive=3", "sleep=2", "article_endless_loop=1", "select=2"];
    let Some(target) = bed::start("stacks::states", "1.27", Flavor::Plain, &scenarios) else {
        return;
    };
    let document = json(target.pid(), &["--kind", "goroutine"]);
    let at = |function: &str| tasks(&document, |task| functions(&document, task).contains(&function));
    for (function, reason, class, count) in [
        ("main.chanReceiveForever", "chan receive", Some("internal"), 3),
        ("main.selectForever", "select", Some("internal"), 2),
        ("main.idleSleep", "sleep", None, 2),
    ] {
        let found = at(function);
        assert_eq!(found.len(), count, "{function}");
        for task in found {
            assert_eq!(
                (task["reason"].as_str(), task["wait_class"].as_str()),
                (Some(reason), class)
            );
            assert_eq!(task["made_by"], 1, "{task}");
        }
    }
    let loops = tasks(&document, |task| task["entry"]["function"] == "main.endlessLoop");
    assert_eq!(loops.len(), 1);
    assert!(["running", "runnable"].contains(&loops[0]["state"].as_str().unwrap()));
    let text = told(target.pid(), &["--site", "endlessLoop"]);
    assert!(
        text.contains("(running: there is no stack to read)") || text.contains("goroutine: runnable"),
        "{text}"
    );
}

#[test]
fn what_is_the_same_is_told_once_unless_each_is_asked_for() {
    let target = start("stacks::text", Program::CBlockers, &scenarios()).unwrap();
    let text = told(target.pid(), &[]);
    let group = text
        .split("\n\n")
        .find(|group| group.contains("mutex_acquire_forever"));
    let group = group.unwrap();
    assert!(
        group.starts_with("3 threads: futex for ") && group.contains(", internal; ids "),
        "{group}"
    );
    assert!(group.contains("    leak_mutex at "), "{group}");
    let each = told(target.pid(), &["--no-group", "--site", "^mutex_acquire"]);
    let heads = each
        .lines()
        .filter(|line| line.starts_with("1 thread: futex for "));
    assert_eq!(heads.count(), 3, "{each}");
    assert!(!each.contains("cond_wait_forever"), "{each}");
}

#[test]
fn only_what_is_blocked_for_so_long_is_shown_when_that_is_asked_for() {
    let scenarios = ["chan_receive=3", "sleep=2", "article_endless_loop=1"];
    let Some(target) = bed::start("stacks::blocked", "1.27", Flavor::Plain, &scenarios) else {
        return;
    };
    let args = [
        "--blocked-after",
        "1500ms",
        "--kind",
        "goroutine",
        "--site",
        "^main",
    ];
    let document = json(target.pid(), &args);
    let found = tasks(&document, |_| true);
    assert_eq!(found.len(), 3, "{found:?}");
    for task in found {
        assert!(task["age_seconds"].as_f64().unwrap() >= 1.5, "{task}");
        assert_eq!(task["reason"], "chan receive");
    }
}

#[test]
fn folded_stacks_count_each_task_once() {
    let target = start("stacks::folded", Program::CBlockers, &scenarios()).unwrap();
    let text = told(target.pid(), &["--format", "folded"]);
    let mut counts = BTreeMap::new();
    for line in text.lines() {
        let (stack, count) = line.rsplit_once(' ').unwrap();
        assert!(stack.starts_with("blockers;"), "{line}");
        for function in ["leak_mutex", "leak_cond", "leak_read"] {
            if stack.split(';').any(|part| part == function) {
                *counts.entry(function).or_insert(0) += count.parse::<u32>().unwrap();
            }
        }
    }
    assert_eq!(
        counts,
        BTreeMap::from([("leak_mutex", 3), ("leak_cond", 2), ("leak_read", 4)])
    );
}

/// `go tool pprof` with these arguments.
pub fn pprof(profile: &str, args: &[&str]) -> Option<String> {
    let Some(go) = testbed::go::toolchain("1.27") else {
        skip(
            "stacks::pprof",
            "no Go 1.27: `cargo xtask setup --tests` brings it",
        );
        return None;
    };
    let output = Command::new(go)
        .args(["tool", "pprof"])
        .args(args)
        .arg(profile)
        .env("HOME", std::env::temp_dir())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    Some(String::from_utf8(output.stdout).unwrap())
}

pub struct Profile(PathBuf);

impl Profile {
    pub fn of(pid: u32, name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("taskleak-{name}-{}.pb.gz", std::process::id()));
        told(pid, &["--format", "pprof", "--output", path.to_str().unwrap()]);
        Self(path)
    }

    pub fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for Profile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Function → what all samples with it on the stack sum up to, as `-top` tells.
pub fn cumulated(top: &str) -> BTreeMap<String, f64> {
    let rows = top.lines().skip_while(|line| !line.contains("flat%")).skip(1);
    rows.map(|row| {
        let fields: Vec<&str> = row.split_whitespace().collect();
        let number = fields[3].trim_end_matches(|c: char| c.is_alphabetic());
        (fields[5].to_owned(), number.parse().unwrap())
    })
    .collect()
}

#[test]
fn profiles_are_read_by_gos_own_tool() {
    let target = start("stacks::pprof", Program::CBlockers, &scenarios()).unwrap();
    let profile = Profile::of(target.pid(), "threads");
    let all = ["-top", "-cum", "-nodecount=1000", "-nodefraction=0"];
    let Some(top) = pprof(profile.path(), &all) else {
        return;
    };
    assert!(top.contains("Type: tasks"), "{top}");
    let counts = cumulated(&top);
    assert_eq!(
        ["leak_mutex", "leak_cond", "leak_read"].map(|function| counts.get(function).copied()),
        [Some(3.0), Some(2.0), Some(4.0)],
        "{top}"
    );
    let blocked = [&["-sample_index=blocked", "-unit=ms"], all.as_slice()].concat();
    let blocked = cumulated(&pprof(profile.path(), &blocked).unwrap());
    assert!(blocked["leak_mutex"] > blocked["leak_cond"], "{blocked:?}");
    let only = [&["-tagfocus=reason=^read$"], all.as_slice()].concat();
    let only = cumulated(&pprof(profile.path(), &only).unwrap());
    assert!(
        only.contains_key("leak_read") && !only.contains_key("leak_mutex"),
        "{only:?}"
    );
    let raw = pprof(profile.path(), &["-raw"]).unwrap();
    assert!(raw.contains(&format!("pid:[{}]", target.pid())), "{raw}");
    // No address of the process is in it.
    let maps = std::fs::read_to_string(format!("/proc/{}/maps", target.pid())).unwrap();
    let hexadecimal = |text: &str| u64::from_str_radix(text, 16).unwrap();
    let mapped: Vec<(u64, u64)> = maps
        .lines()
        .map(|line| line.split(' ').next().unwrap().split_once('-').unwrap())
        .map(|(start, end)| (hexadecimal(start), hexadecimal(end)))
        .collect();
    let addresses: Vec<u64> = raw
        .lines()
        .skip_while(|line| *line != "Locations")
        .take_while(|line| *line != "Mappings")
        .filter_map(|line| line.split_once(": 0x")?.1.split(' ').next())
        .map(hexadecimal)
        .collect();
    assert!(addresses.len() > 10, "{raw}");
    for address in addresses {
        assert!(
            !mapped
                .iter()
                .any(|(start, end)| (*start..*end).contains(&address)),
            "{address:#x}"
        );
    }
    let id = Command::new("readelf")
        .args(["-n", &crate::support::exe(Program::CBlockers)])
        .output()
        .unwrap();
    let notes = String::from_utf8(id.stdout).unwrap();
    let build_id = notes
        .split("Build ID: ")
        .nth(1)
        .map(|rest| rest.lines().next().unwrap().trim());
    if let Some(build_id) = build_id {
        assert!(raw.contains(build_id), "{build_id} not in {raw}");
    }
}

#[test]
fn profiles_of_goroutines_count_them() {
    let scenarios = ["chan_receive=300", "select=20"];
    let Some(target) = bed::start("stacks::pprof_go", "1.27", Flavor::Pie, &scenarios) else {
        return;
    };
    let profile = Profile::of(target.pid(), "goroutines");
    let args = ["-top", "-cum", "-nodecount=1000", "-tagfocus=kind=goroutine"];
    let Some(top) = pprof(profile.path(), &args) else {
        return;
    };
    let counts = cumulated(&top);
    assert_eq!(
        (counts["main.leakChanReceive"], counts["main.leakSelect"]),
        (300.0, 20.0),
        "{top}"
    );
}

/// More of them than is read at once, among others.
#[test]
fn stacks_may_be_large() {
    let scenarios = ["large=300", "chan_receive=200", "large=300"];
    let Some(target) = bed::start("stacks::large", "1.27", Flavor::Plain, &scenarios) else {
        return;
    };
    let document = json(target.pid(), &[]);
    let at = |function: &str| tasks(&document, |task| functions(&document, task).contains(&function)).len();
    assert_eq!((at("main.leakLarge"), at("main.leakChanReceive")), (600, 200));
}

#[test]
fn a_pattern_that_is_none_is_named() {
    let output = stacks(std::process::id(), &["--site", "a("]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("`a(` is not a regular expression"));
    let output = stacks(std::process::id(), &["--output", "/nowhere/at/all"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("/nowhere/at/all"));
}
