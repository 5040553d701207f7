//! Wrong words on the command line: exit 2 with the offending text; a lost target: exit 4.

use crate::support::{stderr, taskleak};

#[test]
fn wrong_values_exit_2_with_the_offending_text() {
    for (args, offending) in [
        (&["snapshot", "--comm", "a("][..], "`a(`"),
        (&["snapshot", "--exe", "[z-a]"], "`[z-a]`"),
        (&["snapshot", "--cgroup", "a["], "`a[`"),
        (&["snapshot", "--exclude", "*"], "`*`"),
        (&["snapshot", "--observe", "3"], "`3`"),
        (&["snapshot", "--observe", "soon"], "`soon`"),
        (&["snapshot", "--blocked-after=-1s"], "`-1s`"),
        (
            &["snapshot", "--blocked-after", "0s"],
            "blocked-after must be longer than 0",
        ),
        (&["snapshot", "--pid", "0"], "'0'"),
        (&["snapshot", "--pid", "x"], "'x'"),
        (&["snapshot", "--pid", "4294967296"], "'4294967296'"),
        (&["snapshot", "--format", "xml"], "'xml'"),
        (&["snapshot", "--max-groups", "0"], "'0'"),
        (
            &["snapshot", "--all", "--pid", "1"],
            "--all watches every process",
        ),
        (&["run", "--listen", "localhost"], "'localhost'"),
        (&["run", "--listen", "127.0.0.1:99999"], "'127.0.0.1:99999'"),
        (
            &["run", "--interval", "1ms", "--config-check"],
            "interval must be at least 100ms",
        ),
        (
            &["run", "--config", "/nonexistent/taskleak.toml"],
            "/nonexistent/taskleak.toml",
        ),
        (&["run", "--config", "/proc/self/mem"], "/proc/self/mem"),
        (&["stare"], "'stare'"),
    ] {
        let output = taskleak(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {}", stderr(&output));
        assert!(
            stderr(&output).contains(offending),
            "{args:?}: {}",
            stderr(&output)
        );
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn an_unknown_pid_exits_4() {
    // A pid that was just free.
    let mut child = std::process::Command::new("true").spawn().unwrap();
    child.wait().unwrap();
    let pid = child.id().to_string();
    for args in [
        &["snapshot", "--observe", "100ms", "--pid", &pid][..],
        &["run", "--listen", "127.0.0.1:0", "--pid", &pid],
    ] {
        let output = taskleak(args);
        assert_eq!(output.status.code(), Some(4), "{args:?}: {}", stderr(&output));
        assert!(
            stderr(&output).contains(&format!("no process with pid {pid}")),
            "{}",
            stderr(&output)
        );
    }
}

#[test]
fn a_target_that_ends_between_the_sweeps_exits_4() {
    let mut child = std::process::Command::new("sleep").arg("1").spawn().unwrap();
    let output = taskleak(&[
        "snapshot",
        "--observe",
        "1500ms",
        "--pid",
        &child.id().to_string(),
    ]);
    // Reaped only now: a zombie is no process that can be watched.
    child.wait().unwrap();
    assert_eq!(output.status.code(), Some(4), "{}", stderr(&output));
}
