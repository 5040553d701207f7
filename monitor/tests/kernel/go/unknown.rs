//! Versions of Go that nobody has looked into yet, and programs that only look like Go.

use std::{fs, os::unix::fs::PermissionsExt as _, path::PathBuf, process::Command};

use testbed::{
    Target,
    go::{self, Flavor},
};

use super::bed::{look, start};
use crate::support::{Daemon, snapshot, stderr, taskleak};

const MAGIC: &[u8] = b"\xff Go buildinf:";

/// A copy of a program that says of itself that another version of Go made it; removed when dropped.
struct Copy(PathBuf);

impl Copy {
    /// `None` where this machine has no such Go, and the test is skipped.
    fn saying(test: &str, version: &[u8]) -> Option<Self> {
        let program = testbed::or_skip(test, go::build("1.27", Flavor::Plain)).unwrap()?;
        let mut bytes = fs::read(program.get_program()).unwrap();
        let at = bytes
            .windows(MAGIC.len())
            .position(|window| window == MAGIC)
            .unwrap();
        // The length, and the text.
        bytes[at + 32] = version.len() as u8;
        bytes[at + 33..at + 33 + version.len()].copy_from_slice(version);
        let path = std::env::temp_dir().join(format!("taskleak-{test}-{}", std::process::id()));
        fs::write(&path, bytes).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
        Some(Self(path))
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

#[test]
fn a_version_from_the_future_is_named_and_incomplete_and_nothing_else_is() {
    let Some(copy) = Copy::saying("go::unknown::future", b"go1.99.3") else {
        return;
    };
    let future = Target::start_command(Command::new(&copy.0), &["chan_receive=3"]).unwrap();
    let Some(known) = start("go::unknown::beside", "1.27", Flavor::Plain, &["chan_receive=3"]) else {
        return;
    };
    let pid = future.pid();
    let process = look(&future);
    assert_eq!(process.incomplete(), ["go_layout_unknown"]);
    assert_eq!(process.value["tasks"]["goroutine"], serde_json::Value::Null);
    assert!(process.threads() > 0);
    assert!(look(&known).incomplete().is_empty());
    let said = stderr(&taskleak(&[
        "snapshot",
        "--pid",
        &pid.to_string(),
        "--observe",
        "10ms",
    ]));
    assert!(said.contains("go1.99.3: layout not known"), "{said}");
    let daemon = Daemon::watch(pid, "100ms", "100ms");
    std::thread::sleep(std::time::Duration::from_secs(1));
    let warnings = daemon
        .log()
        .iter()
        .filter(|line| line.contains("layout not known"))
        .count();
    // Once, in the first pass, of which the lines may be read already: not in each of ten.
    assert!(warnings <= 1, "{warnings}");
}

#[test]
fn a_version_whose_structures_do_not_fit_is_not_believed() {
    // What Go 1.27 has made is not where that of 1.19 and of 1.22 was.
    for version in [&b"go1.19.3"[..], b"go1.22.3"] {
        let Some(copy) = Copy::saying(&format!("go::unknown::{}", version[5]), version) else {
            return;
        };
        let target = Target::start_command(Command::new(&copy.0), &["chan_receive=30"]).unwrap();
        let process = snapshot(target.pid(), &["--observe", "100ms"]);
        let causes = process.incomplete();
        assert!(
            causes == ["go_layout_unknown"] || causes == ["goroutines_unreadable"],
            "{version:?}: {causes:?}"
        );
        assert_eq!(process.value["tasks"]["goroutine"], serde_json::Value::Null);
    }
}
