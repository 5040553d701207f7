//! `taskleak check -- CMD`: what a command has left behind when it wants to end.

use std::{
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

use testbed::{
    go::{self, Flavor},
    tokio,
};

use super::File;
use crate::support::{PATIENCE, TASKLEAK, assert_valid, skip, stderr};

const PYTHON: &str = "/usr/bin/python3";

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../testbed/check")
}

fn source(name: &str) -> String {
    folder().join(name).to_str().unwrap().to_owned()
}

/// The same of a command.
fn check(args: &[&str], command: &[&str]) -> Output {
    Command::new(TASKLEAK)
        .args([&["check", "--settle", "1s"], args, &["--"], command].concat())
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn a_script_keeps_its_output_and_its_exit_code() {
    let script = source("leaks.py");
    for (left, code, expected) in [("0", "0", 0), ("2", "0", 1), ("0", "7", 7), ("2", "7", 7)] {
        let output = check(&[], &[PYTHON, &script, left, code]);
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(expected), "{left} {code}: {said}");
        assert_eq!(stdout(&output), "done\n");
        let found = said.contains(&format!("{left} threads left behind"));
        assert_eq!(found, left != "0", "{said}");
    }
    let output = check(&["--max", "2"], &[PYTHON, &script, "2", "0"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
}

#[test]
fn a_rust_test_binary_that_leaves_a_thread_behind_fails() {
    let binary = std::env::temp_dir().join(format!("taskleak-leaks-{}", std::process::id()));
    let built = Command::new("rustc")
        .args(["--edition", "2024", "--test", "-g", "-o"])
        .arg(&binary)
        .arg(folder().join("leaks.rs"))
        .output()
        .unwrap();
    assert!(built.status.success(), "{}", stderr(&built));
    let path = binary.to_str().unwrap();
    let leaking = check(&[], &[path, "leaves_one"]);
    let clean = check(&[], &[path, "joins"]);
    std::fs::remove_file(&binary).unwrap();
    let said = stderr(&leaking);
    assert_eq!(leaking.status.code(), Some(1), "{said}");
    assert!(stdout(&leaking).contains("test leaves_one ... ok"), "{said}");
    assert!(said.contains("1 thread left behind at "), "{said}");
    assert!(said.contains("::wait_for_nobody ("), "{said}");
    assert_eq!(clean.status.code(), Some(0), "{}", stderr(&clean));
}

#[test]
fn of_a_jvm_the_programs_threads_count_and_not_its_own() {
    let classes = std::env::temp_dir().join(format!("taskleak-classes-{}", std::process::id()));
    let compiled = Command::new("javac")
        .arg("-d")
        .arg(&classes)
        .arg(folder().join("Leaks.java"))
        .output();
    let Ok(compiled) = compiled else {
        skip("check::jvm", "no javac: `cargo xtask setup --tests` brings it");
        return;
    };
    assert!(compiled.status.success(), "{}", stderr(&compiled));
    let path = classes.to_str().unwrap();
    let run = |left: &str| check(&[], &["java", "-cp", path, "Leaks", left]);
    let (leaking, clean) = (run("3"), run("0"));
    std::fs::remove_dir_all(&classes).unwrap();
    assert_eq!(leaking.status.code(), Some(1), "{}", stderr(&leaking));
    let said = stderr(&leaking);
    let heads: Vec<&str> = said.lines().filter(|line| line.contains("left behind")).collect();
    assert_eq!(heads.len(), 1, "{said}");
    assert!(heads[0].contains("3 threads left behind at [java]"), "{said}");
    assert_eq!(clean.status.code(), Some(0), "{}", stderr(&clean));
    assert_eq!(stdout(&clean), "42\n");
}

#[test]
fn what_a_handler_leaves_when_curl_hangs_up_is_found_at_the_end() {
    for version in ["1.19", "1.27"] {
        let Some(program) = testbed::or_skip("check::curl", go::build(version, Flavor::Plain)).unwrap()
        else {
            return;
        };
        let program = program.get_program().to_str().unwrap();
        let leaking = check(&[], &[program, "curl_leaking=3", "exit=0"]);
        let said = stderr(&leaking);
        assert_eq!(leaking.status.code(), Some(1), "Go {version}: {said}");
        let heads: Vec<&str> = said.lines().filter(|line| line.contains("left behind")).collect();
        assert_eq!(heads.len(), 1, "Go {version}: {said}");
        assert!(
            heads[0].contains("3 goroutines left behind at main.bringResult")
                && heads[0].contains("made at main.query"),
            "Go {version}: {said}"
        );
        let clean = check(&[], &[program, "curl_clean=3", "exit=5"]);
        assert_eq!(clean.status.code(), Some(5), "Go {version}: {}", stderr(&clean));
        assert!(
            stderr(&clean).contains("Nothing is left behind"),
            "{}",
            stderr(&clean)
        );
    }
}

#[test]
fn of_a_stripped_go_program_the_schedulers_threads_are_no_fault() {
    let Some(program) = testbed::or_skip("check::stripped", go::build("1.27", Flavor::Stripped)).unwrap()
    else {
        return;
    };
    let program = program.get_program().to_str().unwrap();
    let leaking = check(&[], &[program, "curl_leaking=2", "exit=0"]);
    let said = stderr(&leaking);
    let heads: Vec<&str> = said.lines().filter(|line| line.contains("left behind")).collect();
    assert_eq!((leaking.status.code(), heads.len()), (Some(1), 1), "{said}");
    assert!(
        heads[0].contains("2 goroutines left behind at main.bringResult"),
        "{said}"
    );
    let clean = check(&[], &[program, "curl_clean=2", "exit=0"]);
    assert_eq!(clean.status.code(), Some(0), "{}", stderr(&clean));
}

#[test]
fn reports_are_for_machines() {
    let (report, found) = (File::new("command.xml", b""), File::new("command.json", b""));
    let args = [
        "--report",
        report.path(),
        "--format",
        "json",
        "--output",
        found.path(),
    ];
    let output = check(&args, &[PYTHON, &source("leaks.py"), "2", "0"]);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert_eq!(stderr(&output), "");
    let xml = std::fs::read(report.path()).unwrap();
    let xml = quick_junit::Report::deserialize(xml.as_slice()).unwrap();
    let case = &xml.test_suites[0].test_cases[0];
    assert_eq!((xml.tests, xml.failures), (1, 1));
    assert_eq!(case.name.as_str(), format!("no task left behind in {PYTHON}"));
    let document: serde_json::Value = serde_json::from_slice(&std::fs::read(found.path()).unwrap()).unwrap();
    assert_valid("check", &document);
    assert_eq!(
        (&document["passed"], &document["left_behind"]),
        (&false.into(), &2.into())
    );
    assert_eq!(document["groups"][0]["count"], 2);
}

#[test]
fn a_command_that_cannot_be_started_is_named() {
    for command in ["/no/such/command", "no-such-command", "/"] {
        let output = check(&[], &[command]);
        assert_eq!(output.status.code(), Some(2), "{command}");
        assert!(
            stderr(&output).contains(&format!("`{command}` cannot be started")),
            "{}",
            stderr(&output)
        );
    }
    let output = Command::new(TASKLEAK).arg("check").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let output = check(&["--pid", "1"], &["true"]);
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn one_that_a_signal_ends_is_not_judged_and_says_so() {
    let output = check(&[], &["sh", "-c", "kill -9 $$"]);
    assert_eq!(output.status.code(), Some(137));
    assert!(
        stderr(&output).contains("not judged: signal 9"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn without_the_right_to_it_a_filter_costs_setuid_programs_only() {
    let script = format!(
        "grep NoNewPrivs /proc/self/status; exec {PYTHON} {} 2 0",
        source("leaks.py")
    );
    let output = Command::new("setpriv")
        .args(["--inh-caps=-sys_admin", "--bounding-set=-sys_admin", TASKLEAK])
        .args(["check", "--settle", "1s", "--", "sh", "-c", &script])
        .output()
        .unwrap();
    assert_eq!(stdout(&output), "NoNewPrivs:\t1\ndone\n", "{}", stderr(&output));
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    let output = check(&[], &["grep", "NoNewPrivs", "/proc/self/status"]);
    assert_eq!(stdout(&output), "NoNewPrivs:\t0\n");
}

#[test]
fn what_it_has_started_can_end_after_us() {
    let (told, waits) = (File::new("late", b""), File::new("waits", b""));
    let script = format!(
        "(sh -c 'while [ -e {} ]; do sleep 0.05; done; exit 5'; echo $? > {}) > /dev/null 2>&1 & exit 0",
        waits.path(),
        told.path()
    );
    let output = check(&[], &["sh", "-c", &script]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(
        stderr(&output).contains("left processes behind"),
        "{}",
        stderr(&output)
    );
    drop(waits);
    let begun = Instant::now();
    while std::fs::read_to_string(told.path()).unwrap().is_empty() {
        assert!(begun.elapsed() < PATIENCE, "it never ends");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(std::fs::read_to_string(told.path()).unwrap(), "5\n");
}

#[test]
fn children_of_it_end_as_they_please() {
    // Each of them ends while the command itself has threads that are not judged yet.
    let script = "for i in 1 2 3; do sh -c \"exit $i\"; echo $?; done";
    let output = check(&[], &["sh", "-c", script]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(stdout(&output), "1\n2\n3\n");
}

#[test]
fn a_signal_to_us_is_passed_on() {
    let script = "trap 'exit 3' TERM; echo ready; while :; do sleep 0.1; done";
    let mut child = Command::new(TASKLEAK)
        .args(["check", "--", "sh", "-c", script])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap())
        .read_line(&mut line)
        .unwrap();
    assert_eq!(line, "ready\n");
    // SAFETY: a process that this test has started and not reaped.
    unsafe { libc::kill(child.id() as i32, libc::SIGTERM) };
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
}

/// Who made it was seen while the command ran.
#[test]
fn tokio_tasks_may_be_allowed_by_who_made_them() {
    let built = tokio::build(tokio::NEWEST, tokio::Flavor::Debug);
    let Some(program) = testbed::or_skip("check::command::tokio", built).unwrap() else {
        return;
    };
    let program = program.get_program().to_str().unwrap();
    for (maker, code) in [("made::late", 0), ("made::soon", 1)] {
        let args = ["--kind", "tokio", "--allow-created-by", maker];
        let output = check(&args, &[program, "late=3"]);
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(code), "{maker}: {said}");
        assert_eq!(said.contains("3 tokio tasks left behind"), code == 1, "{said}");
    }
}
