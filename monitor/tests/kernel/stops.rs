//! Stopped, frozen and traced processes are not judged, and their ages stand still.

use std::{fs, thread, time::Duration};

use testbed::{Program, Target};

use crate::support::{Cgroup, Counts, Daemon, counts, skip, snapshot, start};

const SCENARIOS: [&str; 5] = ["mutex=2", "poll=1", "read=1", "timed_cond=1", "sleep=1"];

fn blocked() -> Counts {
    counts(&[
        ("futex", "internal", 2),
        ("poll", "external", 1),
        ("read", "external", 1),
    ])
}

fn watch(target: &Target) -> Daemon {
    let pid = target.pid().to_string();
    let daemon = Daemon::start(&["--pid", &pid, "--interval", "200ms", "--blocked-after", "1s"]);
    daemon.until_counts(target.pid(), &blocked());
    daemon
}

/// Holds the target for 3 s and lets it go; checks what is said meanwhile and afterwards.
fn hold(target: &Target, cause: &str, hold: impl FnOnce(), release: impl FnOnce()) {
    const HELD: f64 = 3.0;
    let daemon = watch(target);
    let before = daemon.process(target.pid()).unwrap();
    hold();
    let is_held =
        |process: Option<&crate::support::Process>| process.is_some_and(|p| p.incomplete() == [cause]);
    let first = daemon.until(target.pid(), cause, is_held).unwrap();
    thread::sleep(Duration::from_secs_f64(HELD));
    let last = daemon.process(target.pid()).unwrap();
    assert_eq!(last.incomplete(), [cause]);
    assert_eq!(last.counts(), blocked(), "what was known stays");
    for reason in ["futex", "poll", "read"] {
        assert!(
            (last.oldest(reason) - first.oldest(reason)).abs() < 0.001,
            "{reason}: {first:?} {last:?}"
        );
        assert!(
            first.oldest(reason) - before.oldest(reason) < 1.0,
            "{reason}: {before:?} {first:?}"
        );
    }
    let late = snapshot(target.pid(), &["--observe", "200ms"]);
    assert_eq!(
        (late.incomplete(), late.counts()),
        (vec![cause], Counts::new()),
        "unknown to who came late"
    );
    release();
    let goes_on =
        |process: Option<&crate::support::Process>| process.is_some_and(|p| p.incomplete().is_empty());
    let after = daemon.until(target.pid(), "going on", goes_on).unwrap();
    assert_eq!(after.counts(), blocked());
    for reason in ["futex", "poll", "read"] {
        let aged = after.oldest(reason) - last.oldest(reason);
        assert!(
            (0.0..HELD / 2.0).contains(&aged),
            "{reason} aged by {aged} s while it was held: {after:?}"
        );
    }
}

#[test]
fn sigstop_and_sigcont() {
    let target = start("sigstop", Program::CBlockers, &SCENARIOS).unwrap();
    hold(
        &target,
        "stopped",
        || target.signal(libc::SIGSTOP).unwrap(),
        || target.signal(libc::SIGCONT).unwrap(),
    );
}

fn own_name() -> String {
    format!("taskleak-test-{}", std::process::id())
}

#[test]
fn the_freezer_of_cgroup_v1() {
    let name = "stops::the_freezer_of_cgroup_v1";
    let Ok(cgroup) = Cgroup::create("/sys/fs/cgroup/freezer", &own_name()) else {
        return skip(name, "no cgroup v1 freezer hierarchy is mounted");
    };
    let target = start(name, Program::CBlockers, &SCENARIOS).unwrap();
    cgroup.write("cgroup.procs", &target.pid().to_string());
    let set = |state: &str| cgroup.write("freezer.state", state);
    hold(&target, "frozen", || set("FROZEN"), || set("THAWED"));
    drop(target);
}

#[test]
fn the_freezer_of_cgroup_v2() {
    let name = "stops::the_freezer_of_cgroup_v2";
    let roots = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"];
    let root = roots
        .into_iter()
        .find(|root| fs::metadata(format!("{root}/cgroup.procs")).is_ok());
    let is_v2 = |root: &&str| fs::metadata(format!("{root}/cgroup.controllers")).is_ok();
    let Some(cgroup) = root
        .filter(is_v2)
        .and_then(|root| Cgroup::create(root, &own_name()).ok())
    else {
        return skip(name, "no cgroup v2 hierarchy is mounted, or it is read-only");
    };
    let target = start(name, Program::CBlockers, &SCENARIOS).unwrap();
    cgroup.write("cgroup.procs", &target.pid().to_string());
    let set = |state: &str| cgroup.write("cgroup.freeze", state);
    hold(&target, "frozen", || set("1"), || set("0"));
    drop(target);
}

/// Nothing of taskleak traces; but a debugger may.
#[test]
fn a_traced_stop() {
    let target = start("traced", Program::CBlockers, &SCENARIOS).unwrap();
    let pid = target.pid() as i32;
    let tids: Vec<i32> = fs::read_dir(format!("/proc/{pid}/task"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_str().unwrap().parse().unwrap())
        .collect();
    let trace = |request, tid: i32| {
        // SAFETY: a thread of a process that this test has started; no memory is passed.
        let done = unsafe { libc::ptrace(request, tid, 0, 0) };
        assert_eq!(done, 0, "{tid}: {}", std::io::Error::last_os_error());
    };
    let stop = || {
        for tid in &tids {
            trace(libc::PTRACE_SEIZE, *tid);
            trace(libc::PTRACE_INTERRUPT, *tid);
            // SAFETY: waits for the stop of a thread that this test traces.
            unsafe { libc::waitpid(*tid, std::ptr::null_mut(), libc::__WALL) };
        }
    };
    let go_on = || tids.iter().for_each(|tid| trace(libc::PTRACE_DETACH, *tid));
    hold(&target, "traced", stop, go_on);
}
