//! `stacks --connect`: what a daemon sees, asked without privileges.

use std::process::Command;

use testbed::{Program, Socket};

use crate::support::{Daemon, TASKLEAK, start, stderr, taskleak};

#[test]
fn a_daemon_is_asked_over_its_socket_or_its_port() {
    let target = start("stacks::connect", Program::CBlockers, &["mutex=3", "read=4"]).unwrap();
    let pid = target.pid().to_string();
    let socket = Socket::new("connect");
    let daemon = Daemon::start(&["--pid", &pid, "--interval", "300ms", "--socket", socket.path()]);
    let unix = format!("unix:{}", socket.path());
    let output = taskleak(&[
        "stacks",
        &pid,
        "--connect",
        &unix,
        "--site",
        "^mutex_",
        "--format",
        "json",
    ]);
    assert!(output.status.success(), "{}", stderr(&output));
    let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(document["tasks"].as_array().unwrap().len(), 3);
    let address = daemon.address.to_string();
    for (args, code, said) in [
        (["stacks", &pid, "--connect", &address], 3, "--expose-stacks"),
        (
            ["stacks", "4194303", "--connect", &unix],
            4,
            "no process 4194303 is watched",
        ),
        (
            ["stacks", &pid, "--connect", "127.0.0.1:1"],
            4,
            "no taskleak answers",
        ),
        (
            ["stacks", &pid, "--connect", "nowhere"],
            2,
            "neither HOST:PORT nor unix:PATH",
        ),
    ] {
        let output = taskleak(&args);
        assert_eq!(output.status.code(), Some(code), "{}", stderr(&output));
        assert!(stderr(&output).contains(said), "{}", stderr(&output));
    }
}

#[test]
fn a_daemon_that_asks_for_a_token_is_shown_one() {
    let target = start("stacks::token", Program::CBlockers, &["mutex=3"]).unwrap();
    let pid = target.pid().to_string();
    let folder = std::env::temp_dir();
    let file = |name: &str, text: &str| {
        let path = folder.join(format!("taskleak-connect-{}-{name}", std::process::id()));
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (right, wrong, none) = (
        file("right", "s3cret\n"),
        file("wrong", "other\n"),
        file("none", "\n"),
    );
    let daemon = Daemon::start(&[
        "--pid",
        &pid,
        "--interval",
        "300ms",
        "--expose-stacks",
        "--token-file",
        &right,
    ]);
    let address = daemon.address.to_string();
    for (token, code) in [(&right, 0), (&wrong, 3), (&none, 2)] {
        let output = taskleak(&["stacks", &pid, "--connect", &address, "--token-file", token]);
        assert_eq!(output.status.code(), Some(code), "{}", stderr(&output));
        assert!(!stderr(&output).contains("s3cret"));
    }
    let output = taskleak(&["top", "--connect", &address, "--iterations", "1"]);
    assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
    for path in [right, wrong, none] {
        std::fs::remove_file(path).unwrap();
    }
}

#[test]
fn no_privileges_are_needed_for_it() {
    let target = start("stacks::nobody", Program::CBlockers, &["mutex=3"]).unwrap();
    let pid = target.pid().to_string();
    let daemon = Daemon::start(&["--pid", &pid, "--interval", "300ms", "--expose-stacks"]);
    let address = daemon.address.to_string();
    let none = |args: &[&str]| {
        Command::new("setpriv")
            .args(["--inh-caps=-all", "--bounding-set=-all", "--no-new-privs"])
            .arg(TASKLEAK)
            .args(args)
            .output()
            .unwrap()
    };
    let output = none(&["stacks", &pid, "--connect", &address]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(String::from_utf8_lossy(&output.stdout).contains("3 threads: futex"));
    let output = none(&["top", "--connect", &address, "--iterations", "1"]);
    assert!(output.status.success(), "{}", stderr(&output));
    // By itself it cannot look.
    let output = none(&["stacks", &pid]);
    assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
}
