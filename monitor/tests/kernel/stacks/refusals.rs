//! What who asks the daemon for tasks is told when there is no answer: the thread that would make it has no time or cannot,
//! or the process is no more.

use std::{
    os::unix::net::UnixStream,
    thread,
    time::{Duration, Instant},
};

use testbed::{Program, Socket, Target};

use super::daemon::{exchange, over_socket};
use crate::support::{Daemon, PATIENCE, start};

/// A thread of ours that stands still, until this is dropped.
struct Stopped(i32);

impl Stopped {
    fn new(tid: i32) -> Self {
        let stopped = Self(tid);
        stopped.trace(libc::PTRACE_SEIZE);
        stopped.trace(libc::PTRACE_INTERRUPT);
        let mut status = 0;
        // SAFETY: the status is ours.
        assert_eq!(unsafe { libc::waitpid(tid, &mut status, libc::__WALL) }, tid);
        assert!(libc::WIFSTOPPED(status));
        stopped
    }

    /// The thread of the daemon that sweeps.
    fn sweeper(daemon: &Daemon) -> Self {
        Self::new(sweeper(daemon).unwrap())
    }

    fn trace(&self, request: libc::c_uint) {
        // SAFETY: no request that is made here reads or writes memory.
        let done = unsafe { libc::ptrace(request, self.0, 0, 0) };
        assert_eq!(done, 0, "{request}: {}", std::io::Error::last_os_error());
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        // SAFETY: as above. A thread that is gone needs no more.
        unsafe { libc::ptrace(libc::PTRACE_DETACH, self.0, 0, 0) };
    }
}

fn sweeper(daemon: &Daemon) -> Option<i32> {
    let folder = format!("/proc/{}/task", daemon.pid());
    let mut threads = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let is_it = |path: &std::path::PathBuf| {
        std::fs::read_to_string(path.join("comm")).is_ok_and(|name| name == "sweeper\n")
    };
    let found = threads.find(is_it)?;
    found.file_name()?.to_str()?.parse().ok()
}

/// It looks at the target only when it is asked.
fn watch(test: &str) -> (Target, Socket, Daemon) {
    let target = start(test, Program::CBlockers, &["mutex=3"]).unwrap();
    let socket = Socket::new(&test.replace("::", "-"));
    let pid = target.pid().to_string();
    let daemon = Daemon::start(&["--pid", &pid, "--socket", socket.path(), "--interval", "50s"]);
    // A thread gives itself its name when it begins.
    let begun = Instant::now();
    while sweeper(&daemon).is_none() {
        assert!(begun.elapsed() < PATIENCE);
        thread::sleep(Duration::from_millis(10));
    }
    (target, socket, daemon)
}

fn path(target: &Target) -> String {
    format!("/api/v1/stacks?pid={}", target.pid())
}

fn text((status, body): (u16, Vec<u8>)) -> (u16, String) {
    (status, String::from_utf8(body).unwrap())
}

#[test]
fn of_many_who_ask_at_once_some_are_sent_away_and_nobody_waits_for_ever() {
    let (target, socket, daemon) = watch("refusals::many");
    let path = path(&target);
    assert_eq!(over_socket(&socket, &path).0, 200);
    let stopped = Stopped::sweeper(&daemon);
    let mut told: Vec<(u16, String)> = thread::scope(|scope| {
        let asking: Vec<_> = (0..7)
            .map(|_| scope.spawn(|| text(over_socket(&socket, &path))))
            .collect();
        asking.into_iter().map(|asking| asking.join().unwrap()).collect()
    });
    told.sort();
    let expected = [
        vec![
            (
                503,
                "others are being told already: ask again in a moment\n".to_owned()
            );
            3
        ],
        vec![(504, "not read within 30 s\n".to_owned()); 4],
    ];
    assert_eq!(told, expected.concat());
    // Meanwhile everything else is answered.
    assert_eq!(daemon.get("/metrics").0, 200);
    drop(stopped);
    let (status, body) = text(over_socket(&socket, &path));
    assert_eq!(status, 200);
    assert!(body.contains("\n3 threads: futex"), "{body}");
}

#[test]
fn a_look_that_fails_is_told_with_its_reason_and_the_next_one_may_do() {
    let (target, socket, daemon) = watch("refusals::failed");
    // Made before: there are no descriptors for another connection either.
    let connection = UnixStream::connect(socket.path()).unwrap();
    assert_eq!(over_socket(&socket, &path(&target)).0, 200);
    let limit = |limit: Option<libc::rlimit>| {
        let mut before = libc::rlimit {
            rlim_cur: 0,
            rlim_max: 0,
        };
        let new = limit.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
        // SAFETY: both are ours, or null; the process is our child.
        let done = unsafe { libc::prlimit(daemon.pid() as i32, libc::RLIMIT_NOFILE, new, &mut before) };
        assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
        before
    };
    let before = limit(None);
    limit(Some(libc::rlimit {
        // Fewer than it has; as many as it waits for at once.
        rlim_cur: 4,
        ..before
    }));
    let (status, body) = text(exchange(connection, &path(&target)));
    assert_eq!(status, 500, "{body}");
    assert!(
        body.starts_with("no look: ") && body.contains("Too many open files"),
        "{body}"
    );
    limit(Some(before));
    let (status, body) = text(over_socket(&socket, &path(&target)));
    assert_eq!(status, 200, "{body}");
    assert!(body.contains("\n3 threads: futex"), "{body}");
}

#[test]
fn of_a_process_that_ends_before_its_turn_there_is_nothing_to_tell() {
    let (target, socket, daemon) = watch("refusals::ended");
    let path = path(&target);
    let stopped = Stopped::sweeper(&daemon);
    let pid = target.pid();
    let told = thread::scope(|scope| {
        let asking = scope.spawn(|| text(over_socket(&socket, &path)));
        thread::sleep(Duration::from_millis(300));
        drop(target);
        drop(stopped);
        asking.join().unwrap()
    });
    assert_eq!(told, (404, format!("no process {pid} is watched\n")));
}
