//! Programs whose file is not where it was, or never was where we could see it.

use std::{fs, process::Command};

use testbed::Program;

use crate::{
    builds::{command, compile},
    scenarios::{args, check, still},
    support::{Folder, Running, misses, stacks, text},
};

const COUNT: usize = 2;

#[test]
fn deleted() {
    if misses("places::deleted", &["gcc"]) {
        return;
    }
    let folder = Folder::new("deleted");
    let exe = folder.path("blockers");
    compile(&exe, &["-g"]);
    let scenarios = still(Program::CBlockers);
    let Some(running) = Running::start("places::deleted", command(&exe, &scenarios)) else {
        return;
    };
    fs::remove_file(&exe).unwrap();
    let threads = stacks(running.pid());
    let frames = || threads.iter().flat_map(|thread| &thread.stack().frames);
    assert!(frames().any(|frame| frame.module == "blockers"));
    assert!(frames().all(|frame| !frame.module.contains("deleted")));
    check(&scenarios, COUNT, threads);
}

/// The program that stands there now is another one, and says nothing of this process.
#[test]
fn replaced() {
    if misses("places::replaced", &["gcc"]) {
        return;
    }
    let folder = Folder::new("replaced");
    let (exe, other) = (folder.path("blockers"), folder.path("other"));
    compile(&exe, &["-g"]);
    fs::copy("/bin/true", &other).unwrap();
    let scenarios = still(Program::CBlockers);
    let Some(running) = Running::start("places::replaced", command(&exe, &scenarios)) else {
        return;
    };
    fs::rename(&other, &exe).unwrap();
    check(&scenarios, COUNT, stacks(running.pid()));
}

/// As in a container: its files are on a file system that nobody else sees.
#[test]
fn in_another_mount_namespace() {
    if misses("places::in_another_mount_namespace", &["gcc"]) {
        return;
    }
    let folder = Folder::new("namespace");
    let exe = folder.path("blockers");
    compile(&exe, &["-g"]);
    let hidden = folder.path("hidden");
    fs::create_dir(&hidden).unwrap();
    let scenarios = still(Program::CBlockers);
    let script = "mount -t tmpfs none \"$2\" && cp \"$1\" \"$2/program\" && shift && cd \"$1\" && shift && exec ./program \"$@\"";
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "sh", "-c", script, "sh", text(&exe), text(&hidden)])
        .args(args(&scenarios, COUNT));
    let Some(running) = Running::start("places::in_another_mount_namespace", command) else {
        return;
    };
    assert!(!hidden.join("program").exists());
    let threads = stacks(running.pid());
    let frames = || threads.iter().flat_map(|thread| &thread.stack().frames);
    assert!(frames().any(|frame| frame.module == "program"));
    check(&scenarios, COUNT, threads);
}

/// The first thread has left by pthread_exit: `/proc/PID/maps` is empty.
#[test]
fn without_its_first_thread() {
    let scenarios: Vec<_> = still(Program::CBlockers)
        .into_iter()
        .filter(|scenario| ["mutex", "poll"].contains(&scenario.name))
        .collect();
    let mut args = args(&scenarios, COUNT);
    args.push("main_exits=1".to_owned());
    let Some(target) = crate::support::start("places::without_its_first_thread", Program::CBlockers, &args)
    else {
        return;
    };
    let mut threads = stacks(target.pid());
    threads.retain(|thread| thread.tid() != target.pid());
    check(&scenarios, COUNT, threads);
}
