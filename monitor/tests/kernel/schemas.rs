//! What is told as JSON is what the schemas in docs/ say, of each command; that of `snapshot`, `stacks` and `check` is checked
//! wherever a test reads it.

use serde_json::{Value, json};
use testbed::Program;

use crate::support::{Daemon, assert_valid, start, stderr, taskleak};

fn document(args: &[&str]) -> Value {
    let output = taskleak(args);
    assert!(output.status.success(), "{args:?}: {}", stderr(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn the_doctor_and_the_judge_keep_to_theirs() {
    assert_valid("doctor", &document(&["doctor", "--format", "json"]));
    let series = std::env::temp_dir().join(format!("taskleak-schema-{}.csv", std::process::id()));
    let samples = (0..2000).map(|minute| format!("{},{}\n", 60 * minute, 10 + minute));
    std::fs::write(&series, samples.collect::<String>()).unwrap();
    let judged = document(&["judge", "--format", "json", "--series", series.to_str().unwrap()]);
    std::fs::remove_file(&series).unwrap();
    assert_valid("judge", &judged);
    assert_eq!(judged[0]["verdict"], "growing");
}

#[test]
fn the_daemon_keeps_to_that_of_snapshot_with_stacks_and_without() {
    let target = start(
        "schemas::daemon",
        Program::CBlockers,
        &["mutex=3", "deadlock_ring=1"],
    )
    .unwrap();
    let pid = target.pid().to_string();
    for more in [&[][..], &["--expose-stacks"]] {
        let args = ["--pid", &pid, "--interval", "200ms", "--blocked-after", "500ms"];
        let daemon = Daemon::start(&[&args, more].concat());
        daemon.until(target.pid(), "blocked", |process| {
            process.is_some_and(|process| process.groups().len() > 1)
        });
        let text = daemon.get("/api/v1/snapshot").2;
        let snapshot: Value = serde_json::from_str(&text).unwrap();
        assert_valid("snapshot", &snapshot);
    }
}

#[test]
fn what_is_no_such_document_is_told() {
    let wrong = json!({"schema": 1, "processes": [{"pid": "seven"}]});
    let refused = std::panic::catch_unwind(|| assert_valid("snapshot", &wrong));
    assert!(refused.is_err());
}
