//! Memory and files that do not answer, and processes that come and go.

use std::{collections::BTreeSet, time::Duration};

use taskleak::{
    identify::{Inspector, Options},
    observe::helper::SpawnPoint,
};

use super::{Folder, GUEST, Hostile, Neighbour, causes, compile, is_told, program, watch};
use crate::support::{Daemon, exe};
use testbed::Program;

/// Longer than any deadline of a helper.
const LONG: Duration = Duration::from_secs(8);

/// Pages that nobody serves are not touched: the threads are counted, their stacks are not told.
#[test]
fn a_stack_that_nobody_serves() {
    let test = "hostile::a_stack_that_nobody_serves";
    let folder = Folder::new("stack");
    let Some(exe) = program(test, &folder) else { return };
    let (Some(neighbour), Some(hostile)) = (Neighbour::start(test), Hostile::start(test, &exe, &["stack"]))
    else {
        return;
    };
    let daemon = watch(&neighbour, &[&hostile]);
    neighbour.stays_seen(&daemon, LONG);
    assert_eq!(causes(&daemon, &hostile), ["stack_unreadable"]);
    assert!(is_told(&daemon, hostile.pid(), "stack_unreadable"));
    let seen = daemon.process(hostile.pid()).unwrap();
    let without_site = seen
        .groups()
        .iter()
        .find(|group| group["block_site"].is_null())
        .unwrap();
    assert_eq!(
        (without_site["reason"].as_str(), without_site["count"].as_u64()),
        (Some("futex"), Some(4))
    );
}

/// A page may go between the look at it and the read, which then sleeps until it is killed.
#[test]
fn pages_that_come_and_go() {
    let test = "hostile::pages_that_come_and_go";
    let folder = Folder::new("racing");
    let Some(exe) = program(test, &folder) else { return };
    let (Some(neighbour), Some(hostile)) = (
        Neighbour::start(test),
        Hostile::start(test, &exe, &["racing", "200"]),
    ) else {
        return;
    };
    let daemon = watch(&neighbour, &[&hostile]);
    let mut seen = BTreeSet::new();
    neighbour.stays_seen_while(&daemon, LONG * 2, || seen.extend(causes(&daemon, &hostile)));
    assert!(seen.contains("timeout_unreadable"), "{seen:?}");
    let of_its_own = [
        "holders_unreadable",
        "stack_pending",
        "stack_unreadable",
        "stack_unresponsive",
        "timeout_unreadable",
    ];
    assert!(
        seen.iter().all(|cause| of_its_own.contains(&cause.as_str())),
        "{seen:?}"
    );
}

/// The server stops to read requests, or reads them and never answers: then not even SIGKILL wakes who has asked.
#[test]
fn a_file_that_nobody_serves() {
    let test = "hostile::a_file_that_nobody_serves";
    let folder = Folder::new("fuse");
    let Some(exe) = program(test, &folder) else { return };
    let library = folder.path("guest.so");
    compile(GUEST, &library, &["-shared"]);
    let mounts = ["unread", "unanswered"].map(|how| {
        std::fs::create_dir(folder.path(how)).unwrap();
        (how, folder.path(how))
    });
    let Some(neighbour) = Neighbour::start(test) else {
        return;
    };
    let start = |(how, at): &(&str, String)| Hostile::start(test, &exe, &["fuse", &library, at, how]);
    let [unread, unanswered] = &mounts;
    let (Some(unread), Some(unanswered)) = (start(unread), start(unanswered)) else {
        return;
    };
    let daemon = watch(&neighbour, &[&unread, &unanswered]);
    // One deadline after the other.
    neighbour.stays_seen(&daemon, LONG * 2);
    for hostile in [&unread, &unanswered] {
        // On a busy machine a deadline comes later.
        let what = "its stacks to be given up";
        daemon.until(hostile.pid(), what, |process| {
            process.is_some_and(|process| process.incomplete() == ["stack_unresponsive"])
        });
        assert!(is_told(&daemon, hostile.pid(), "stack_unresponsive"));
        let counted: u64 = daemon.process(hostile.pid()).unwrap().counts().values().sum();
        assert_eq!(counted, 3);
    }
    // A helper that cannot be killed does not hold the monitor.
    daemon.signal(libc::SIGTERM);
    let (status, _) = daemon.wait();
    assert!(status.success(), "{status}");
}

/// Its file does not answer, and while that is waited for it ends: what was seen of it until then is told.
#[test]
fn who_ends_while_it_is_looked_at_is_told_in_part() {
    let test = "hostile::who_ends_while_it_is_looked_at_is_told_in_part";
    let folder = Folder::new("ends");
    let Some(exe) = program(test, &folder) else { return };
    let (library, at) = (folder.path("guest.so"), folder.path("mount"));
    compile(GUEST, &library, &["-shared"]);
    std::fs::create_dir(&at).unwrap();
    let Some(mut hostile) = Hostile::start(test, &exe, &["fuse", &library, &at, "left"]) else {
        return;
    };
    let pid = hostile.pid().to_string();
    // It is looked at for the first time when it is asked for.
    let daemon = Daemon::start(&["--pid", &pid, "--expose-stacks", "--interval", "50s"]);
    let (status, head, body) = std::thread::scope(|scope| {
        let ending = scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(1500));
            // Who serves the file is another process, and stays.
            hostile.child.kill().unwrap();
            hostile.child.wait().unwrap();
        });
        let told = daemon.get(&format!("/api/v1/stacks?pid={pid}&format=json"));
        assert!(ending.is_finished(), "the file was not waited for");
        told
    });
    assert_eq!(status, 200, "{body}");
    assert!(head.contains("taskleak-partial: true"), "{head}\n{body}");
    let told: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(
        (&told["partial"], &told["complete"]),
        (&true.into(), &false.into())
    );
    assert_eq!(told["tasks_total"]["thread"], 3, "{told}");
    assert_eq!(daemon.get(&format!("/api/v1/stacks?pid={pid}")).0, 404);
}

/// To put a probe into a file the kernel reads it, on behalf of the monitor itself, which nobody could kill at a deadline.
#[test]
fn no_probe_is_put_into_a_file_that_a_process_serves() {
    let test = "hostile::no_probe_is_put_into_a_file_that_a_process_serves";
    let folder = Folder::new("probe");
    let Some(exe) = program(test, &folder) else {
        return;
    };
    let (library, at) = (folder.path("libc.guest.so"), folder.path("mount"));
    compile(GUEST, &library, &["-shared", "-DNAME=pthread_create"]);
    std::fs::create_dir(&at).unwrap();
    let files = |args: &[&str]| {
        let hostile = Hostile::start(test, &exe, args)?;
        let pid = hostile.pid();
        let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
        let points = Inspector::new(Options::default()).spawn_points(pid, pid).unwrap();
        let of = |point: &SpawnPoint| {
            let range = point.file.file_name().unwrap().to_str().unwrap().to_owned();
            let line = maps
                .lines()
                .find(|line| line.split(' ').next().unwrap().trim_start_matches('0') == range);
            line.unwrap().rsplit('/').next().unwrap().to_owned()
        };
        Some(points.iter().map(of).collect::<BTreeSet<_>>())
    };
    let both = ["libc.guest.so", "libc.so.6"].map(str::to_owned);
    assert_eq!(files(&["guest", &library]), Some(both.into()), "from a disk");
    if let Some(files) = files(&["fuse", &library, &at, "served"]) {
        assert_eq!(files, ["libc.so.6".to_owned()].into());
    }
}

/// 1,000 processes, each of which forks, execs, maps and unmaps code, and is killed.
#[test]
fn processes_that_come_and_go() {
    let test = "hostile::processes_that_come_and_go";
    let folder = Folder::new("churn");
    let Some(hostile_exe) = program(test, &folder) else {
        return;
    };
    let Some(neighbour) = Neighbour::start(test) else {
        return;
    };
    let daemon = Daemon::start(&[
        "--interval",
        "200ms",
        "--blocked-after",
        "5ms",
        "--exe",
        &format!("^{}$", exe(Program::CBlockers)),
        "--exe",
        &format!("^{hostile_exe}$"),
    ]);
    let Some(mut hostile) = Hostile::start(test, &hostile_exe, &["churn"]) else {
        return;
    };
    neighbour.stays_seen(&daemon, Duration::from_secs(20));
    assert_eq!(hostile.line(), "done\n");
    neighbour.stays_seen(&daemon, Duration::from_secs(1));
    let (_, _, metrics) = daemon.get("/metrics");
    let gone = metrics.lines().filter(|line| line.contains(&hostile_exe));
    let leader = format!("pid=\"{}\"", hostile.pid());
    assert_eq!(
        gone.filter(|line| !line.contains(&leader)).count(),
        0,
        "their series have gone with them"
    );
}
