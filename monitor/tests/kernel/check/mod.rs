//! `taskleak check`: what a test has left behind.

mod command;

use std::{path::PathBuf, process::Output};

use testbed::Program;

use crate::support::{start, stderr, taskleak};

fn check(pid: u32, args: &[&str]) -> (Option<i32>, String) {
    let pid = pid.to_string();
    let output = taskleak(&[&["check", "--pid", &pid, "--settle", "2s"], args].concat());
    (output.status.code(), stdout(&output))
}

fn stdout(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), stderr(output))
}

struct File(PathBuf);

impl File {
    fn new(name: &str, text: &[u8]) -> Self {
        let path = std::env::temp_dir().join(format!("taskleak-check-{}-{name}", std::process::id()));
        std::fs::write(&path, text).unwrap();
        Self(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[test]
fn blocked_threads_fail_it_and_waits_for_the_world_do_not() {
    let target = start(
        "check::blocked",
        Program::CBlockers,
        &["mutex=3", "cond=2", "read=4"],
    )
    .unwrap();
    let (code, text) = check(target.pid(), &[]);
    assert_eq!(code, Some(1), "{text}");
    let heads: Vec<&str> = text.lines().filter(|line| line.contains("left behind")).collect();
    assert_eq!(heads.len(), 2, "{text}");
    assert!(
        heads[0].contains("3 threads left behind at mutex_acquire_forever"),
        "{text}"
    );
    assert!(
        heads[1].contains("2 threads left behind at cond_wait_forever"),
        "{text}"
    );
    assert!(
        text.contains("    leak_mutex at ") || text.contains("    leak_mutex in "),
        "{text}"
    );
}

#[test]
fn what_is_allowed_is_no_fault() {
    let target = start(
        "check::allowed",
        Program::CBlockers,
        &["mutex=3", "cond=2", "read=4"],
    )
    .unwrap();
    let pid = target.pid();
    let (code, text) = check(pid, &["--allow", "^mutex_acquire", "--allow", "leak_cond"]);
    assert_eq!(code, Some(0), "{text}");
    let (code, text) = check(pid, &["--max", "5"]);
    assert_eq!(code, Some(0), "{text}");
    let (code, text) = check(pid, &["--max", "4"]);
    assert_eq!(code, Some(1), "{text}");
    let (code, text) = check(pid, &["--kind", "goroutine"]);
    assert_eq!(code, Some(0), "{text}");
}

#[test]
fn what_is_denied_is_a_fault_whatever_it_waits_for() {
    let target = start("check::denied", Program::CBlockers, &["mutex=3", "read=4"]).unwrap();
    let (code, text) = check(target.pid(), &["--deny", "pipe_read"]);
    assert_eq!(code, Some(1), "{text}");
    assert!(
        text.contains("4 threads left behind at pipe_read_forever"),
        "{text}"
    );
    assert!(!text.contains("mutex_acquire_forever"), "{text}");
    let (code, text) = check(target.pid(), &["--deny", "nobody_is_called_so"]);
    assert_eq!(code, Some(0), "{text}");
}

#[test]
fn what_was_there_before_is_no_fault() {
    let target = start("check::before", Program::CBlockers, &["mutex=3", "churn=2"]).unwrap();
    let pid = target.pid().to_string();
    let before = taskleak(&[
        "snapshot",
        "--pid",
        &pid,
        "--format",
        "json",
        "--max-ids",
        "1000000",
    ]);
    let baseline = File::new("before.json", &before.stdout);
    let (code, text) = check(target.pid(), &["--baseline", baseline.path()]);
    assert_eq!(code, Some(0), "{text}");
    // Of a baseline of another program nothing is here.
    let other = start("check::other", Program::CBlockers, &["mutex=3"]).unwrap();
    let (code, text) = check(other.pid(), &["--baseline", baseline.path()]);
    assert_eq!(code, Some(1), "{text}");
    assert!(
        text.contains("3 threads left behind at mutex_acquire_forever"),
        "{text}"
    );
}

#[test]
fn reports_are_for_machines() {
    let target = start("check::report", Program::CBlockers, &["mutex=1"]).unwrap();
    let report = File::new("report.xml", b"");
    let args = ["--report", report.path(), "--format", "github"];
    let (code, text) = check(target.pid(), &args);
    assert_eq!(code, Some(1), "{text}");
    assert!(
        text.starts_with("::error file=") && text.contains("locks.c,line="),
        "{text}"
    );
    let xml = std::fs::read_to_string(report.path()).unwrap();
    assert!(
        xml.contains("<testsuites name=\"taskleak\" tests=\"1\" skipped=\"0\" failures=\"1\""),
        "{xml}"
    );
    assert!(xml.contains("<failure message=\"blockers (pid "), "{xml}");
    let (code, _) = check(target.pid(), &["--allow", "mutex", "--report", report.path()]);
    assert_eq!(code, Some(0));
    let xml = std::fs::read_to_string(report.path()).unwrap();
    assert!(
        xml.contains("failures=\"0\"") && !xml.contains("<failure"),
        "{xml}"
    );
}

#[test]
fn a_goroutine_that_a_handler_left_is_found_by_its_name() {
    let scenarios = ["article_log_follower=2", "article_producer=3"];
    let Some(target) = crate::go::bed::start("check::go", "1.27", testbed::go::Flavor::Plain, &scenarios)
    else {
        return;
    };
    let (code, text) = check(target.pid(), &["--deny", r"main\.followLog$"]);
    assert_eq!(code, Some(1), "{text}");
    assert!(
        text.contains("2 goroutines left behind at main.writeLogStream"),
        "{text}"
    );
    assert!(!text.contains("randomStream"), "{text}");
    let args = [
        "--allow",
        "followLog",
        "--allow-created-by",
        r"^main\.randomStream$",
    ];
    let (code, text) = check(target.pid(), &args);
    assert_eq!(code, Some(0), "{text}");
}

#[test]
fn what_is_denied_is_a_fault_while_it_lives_and_all_that_was_there_is_a_baseline() {
    let scenarios = ["sleep=2", "article_endless_loop=1", "ticker=1"];
    let Some(target) = crate::go::bed::start("check::alive", "1.27", testbed::go::Flavor::Plain, &scenarios)
    else {
        return;
    };
    let pid = target.pid().to_string();
    let (code, text) = check(target.pid(), &[]);
    assert_eq!(code, Some(0), "{text}");
    let (code, text) = check(target.pid(), &["--deny", "idleSleep"]);
    assert_eq!(code, Some(1), "{text}");
    assert!(
        text.contains("2 goroutines left behind at main.idleSleep"),
        "{text}"
    );
    // It runs: nothing is known of it but what it runs.
    let (code, text) = check(target.pid(), &["--deny", "endlessLoop"]);
    assert_eq!(code, Some(1), "{text}");
    let all = taskleak(&["stacks", &pid, "--format", "json"]);
    let baseline = File::new("all.json", &all.stdout);
    let (code, text) = check(target.pid(), &["--deny", "^main", "--baseline", baseline.path()]);
    assert_eq!(code, Some(0), "{text}");
}

#[test]
fn bad_input_is_named() {
    let target = start("check::bad", Program::CBlockers, &["mutex=1"]).unwrap();
    let (code, text) = check(target.pid(), &["--allow", "a("]);
    assert_eq!(
        (code, text.contains("`a(` is not a regular expression")),
        (Some(2), true),
        "{text}"
    );
    let other = File::new("schema.json", b"{\"schema\": 2, \"processes\": []}");
    let (code, text) = check(target.pid(), &["--baseline", other.path()]);
    assert_eq!(
        (code, text.contains("it is of schema 2, not 1")),
        (Some(2), true),
        "{text}"
    );
    let cut = File::new(
        "cut.json",
        b"{\"schema\": 1, \"processes\": [{\"pid\": 1, \"groups\": [{\"kind\": \"thread\", \"ids\": [1], \"ids_truncated\": true}]}]}",
    );
    let (code, text) = check(target.pid(), &["--baseline", cut.path()]);
    assert_eq!(
        (code, text.contains("--max-ids 1000000")),
        (Some(2), true),
        "{text}"
    );
    let (code, text) = check(4_194_303, &[]);
    assert_eq!(code, Some(4), "{text}");
}
