//! Every scenario's threads have the block site and the entry that the testbed's tables say.

use testbed::{Expect, Program, Scenario};

use crate::support::{Thread, by_name, stacks, start};

/// Healthy ones that are never long in one place.
const RESTLESS: [&str; 3] = ["ping_pong", "burner", "lock_traffic"];

/// Scenarios whose threads stay where they are.
pub fn still(program: Program) -> Vec<Scenario> {
    let scenarios = program.scenarios().into_iter();
    scenarios
        .filter(|scenario| !RESTLESS.contains(&scenario.name))
        .collect()
}

/// So many threads of each scenario.
pub fn args(scenarios: &[Scenario], count: usize) -> Vec<String> {
    scenarios
        .iter()
        .map(|scenario| format!("{}={count}", scenario.name))
        .collect()
}

/// Compares all threads of each scenario with what the table says.
pub fn check(scenarios: &[Scenario], count: usize, threads: Vec<Thread>) {
    let threads = by_name(threads);
    for scenario in scenarios {
        let members = threads.get(scenario.comm()).map_or(&[][..], Vec::as_slice);
        let expected = count * scenario.threads_each;
        assert_eq!(members.len(), expected, "threads of {}", scenario.name);
        for thread in members {
            check_thread(scenario, thread);
        }
    }
}

fn check_thread(scenario: &Scenario, thread: &Thread) {
    assert!(!thread.stack().truncated, "{thread}");
    let site = thread.block_site();
    assert_eq!(last_part(&site), scenario.block_site, "block site of {thread}");
    let entry = thread.entry();
    // What a thread runs may be a closure of the function that created it, which calls the entry first of all.
    let closure = format!("spawn_{}::{{{{closure}}}}", scenario.name);
    if entry.ends_with(&closure) {
        let calls = |name: &str| last_part(name) == scenario.entry();
        let mut names = thread
            .stack()
            .frames
            .iter()
            .filter_map(|frame| frame.function.as_deref());
        assert!(names.any(calls), "{thread}");
    } else {
        assert_eq!(last_part(&entry), scenario.entry(), "entry of {thread}");
    }
}

fn last_part(path: &str) -> &str {
    path.rsplit("::").next().unwrap_or(path)
}

fn all(program: Program) {
    let scenarios = still(program);
    let Some(target) = start(&format!("scenarios::{program:?}"), program, &args(&scenarios, 2)) else {
        return;
    };
    check(&scenarios, 2, stacks(target.pid()));
}

#[test]
fn c() {
    all(Program::CBlockers);
}

#[test]
fn cpp() {
    all(Program::CppBlockers);
}

#[test]
fn rust() {
    all(Program::RustBlockers);
}

/// Block sites tell file and line; what is in the source stands there.
#[test]
fn lines_are_those_of_the_source() {
    for program in [Program::CBlockers, Program::CppBlockers, Program::RustBlockers] {
        let scenarios: Vec<_> = still(program)
            .into_iter()
            .filter(|scenario| scenario.expect != Expect::Healthy && scenario.name != "vfork")
            .collect();
        let Some(target) = start("scenarios::lines", program, &args(&scenarios, 1)) else {
            continue;
        };
        let threads = by_name(stacks(target.pid()));
        for scenario in &scenarios {
            for thread in &threads[scenario.comm()] {
                let site = thread.stack().block_site().unwrap();
                let source = std::fs::read_to_string(site.file.as_deref().unwrap()).unwrap();
                let lines: Vec<_> = source.lines().collect();
                let line = site.line.unwrap() as usize;
                // The call stands within the function: its name at most some lines above.
                let above = lines[line.saturating_sub(15)..line].join("\n");
                assert!(above.contains(scenario.block_site), "{thread}{above}");
                assert_eq!(thread.stack().entry().unwrap().line, None);
            }
        }
    }
}
