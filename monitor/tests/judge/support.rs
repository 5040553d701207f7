//! Running `taskleak judge`, and series for it.

use std::{
    io::Write as _,
    process::{Command, Output, Stdio},
};

use serde_json::{Value, json};

pub const TASKLEAK: &str = env!("CARGO_BIN_EXE_taskleak");

pub fn judge(arguments: &[&str], input: &str) -> Output {
    let mut child = Command::new(TASKLEAK)
        .arg("judge")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It may have ended without reading.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

/// Its output, which must be good.
pub fn said(output: Output) -> String {
    let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{complaint}");
    String::from_utf8(output.stdout).unwrap()
}

/// Exit code and complaint.
pub fn failure(output: &Output) -> (Option<i32>, String) {
    assert!(output.stdout.is_empty(), "{output:?}");
    (
        output.status.code(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    )
}

/// One a minute from the third hour on.
pub fn leak(second: u32) -> u32 {
    20 + second.saturating_sub(7200) / 60
}

pub fn verdicts(series: &Value) -> Vec<&str> {
    let changes = series["changes"].as_array().unwrap().iter();
    changes
        .map(|change| change["verdict"].as_str().unwrap())
        .collect()
}

pub fn matrix(samples: &[(u32, String)]) -> String {
    let values: Vec<Value> = samples.iter().map(|(at, value)| json!([at, value])).collect();
    let metric = json!({"__name__": "go_goroutines", "job": "api"});
    let result = json!([{"metric": metric, "values": values}]);
    json!({"status": "success", "data": {"resultType": "matrix", "result": result}}).to_string()
}
