//! `taskleak stacks`: every task of a process.

mod connect;
mod daemon;
mod debug2;
mod formats;
mod labels;
mod partial;
mod refusals;

use std::process::Output;

use serde_json::Value;

use crate::support::{assert_valid, stderr, taskleak};

fn stacks(pid: u32, args: &[&str]) -> Output {
    taskleak(&[&["stacks", &pid.to_string()], args].concat())
}

/// What it prints, which must go well.
fn told(pid: u32, args: &[&str]) -> String {
    let output = stacks(pid, args);
    assert!(output.status.success(), "{args:?}: {}", stderr(&output));
    String::from_utf8(output.stdout).unwrap()
}

fn json(pid: u32, args: &[&str]) -> Value {
    let document = serde_json::from_str(&told(pid, &[&["--format", "json"], args].concat())).unwrap();
    assert_valid("stacks", &document);
    document
}

/// Tasks of a document for which something holds.
fn tasks(document: &Value, which: impl Fn(&Value) -> bool) -> Vec<&Value> {
    let tasks = document["tasks"].as_array().unwrap().iter();
    tasks.filter(|task| which(task)).collect()
}

/// Functions of a task's stack, innermost first.
fn functions<'a>(document: &'a Value, task: &Value) -> Vec<&'a str> {
    let Some(index) = task["stack"].as_u64() else {
        return Vec::new();
    };
    let frames = document["stacks"][index as usize]["frames"].as_array().unwrap();
    frames
        .iter()
        .map(|frame| frame["function"].as_str().unwrap_or("?"))
        .collect()
}
