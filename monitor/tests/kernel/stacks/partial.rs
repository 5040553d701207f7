//! Processes that are gone, and readers that are.

use std::{
    io::Read as _,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use testbed::Program;

use super::stacks;
use crate::support::{PATIENCE, TASKLEAK, assert_valid, start, stderr};

#[test]
fn what_is_gone_is_no_process() {
    let output = stacks(4_194_303, &[]);
    assert_eq!(output.status.code(), Some(4));
    assert!(stderr(&output).contains("no process with pid 4194303"));
    assert!(output.stdout.is_empty());
}

#[test]
fn of_a_process_that_ends_meanwhile_is_told_what_was_seen_and_that_it_is_partial() {
    let target = start("stacks::partial", Program::CBlockers, &["mutex=3"]).unwrap();
    let mut child = Command::new(TASKLEAK)
        .args(["stacks", &target.pid().to_string(), "--blocked-after", "3s"])
        .args(["--format", "json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Long enough for the first look, not for the second.
    std::thread::sleep(Duration::from_millis(2000));
    drop(target);
    let begun = Instant::now();
    let output = loop {
        if child.try_wait().unwrap().is_some() {
            break child.wait_with_output().unwrap();
        }
        assert!(begun.elapsed() < PATIENCE);
        std::thread::sleep(Duration::from_millis(20));
    };
    assert_eq!(output.status.code(), Some(4), "{}", stderr(&output));
    assert!(stderr(&output).contains("partial"), "{}", stderr(&output));
    let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_valid("stacks", &document);
    assert_eq!(document["partial"], true);
    assert_eq!(document["complete"], false);
    assert!(document["tasks_total"]["thread"].as_u64().unwrap() >= 4);
}

#[test]
fn a_reader_that_leaves_is_no_failure() {
    let target = start("stacks::pipe", Program::CBlockers, &["mutex=300"]).unwrap();
    let mut child = Command::new(TASKLEAK)
        .args(["stacks", &target.pid().to_string(), "--no-group"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut byte = [0];
    let mut stdout = child.stdout.take().unwrap();
    stdout.read_exact(&mut byte).unwrap();
    drop(stdout);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(output.stderr.is_empty(), "{}", stderr(&output));
}
