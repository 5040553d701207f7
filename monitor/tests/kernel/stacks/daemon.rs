//! The daemon tells the same: on its Unix socket always, over TCP when it was told to.

use std::{
    io::{Read, Write},
    net::TcpStream,
    os::unix::net::UnixStream,
};

use testbed::{Program, Socket};

use super::formats::cumulated;
use crate::support::{Daemon, PATIENCE, start};

pub fn over_socket(socket: &Socket, path: &str) -> (u16, Vec<u8>) {
    exchange(UnixStream::connect(socket.path()).unwrap(), path)
}

fn over_tcp(daemon: &Daemon, path: &str) -> (u16, Vec<u8>) {
    let stream = TcpStream::connect(daemon.address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    exchange(stream, path)
}

/// Status and body.
pub fn exchange(mut stream: impl Read + Write, path: &str) -> (u16, Vec<u8>) {
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let end = answer
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
        .unwrap();
    let head = String::from_utf8(answer[..end].to_vec()).unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, answer[end + 4..].to_vec())
}

const ARGS: [&str; 4] = ["--interval", "300ms", "--blocked-after", "1s"];

#[test]
fn stacks_are_shown_under_one_rule() {
    let target = start("stacks::rule", Program::CBlockers, &["mutex=3", "read=4"]).unwrap();
    let pid = target.pid().to_string();
    let socket = Socket::new("rule");
    let daemon = Daemon::start(&[&["--pid", &pid, "--socket", socket.path()], ARGS.as_slice()].concat());
    for path in ["/debug/pprof/blocked", "/debug/pprof/tasks", "/api/v1/stacks"] {
        let path = format!("{path}?pid={pid}");
        let (status, body) = over_tcp(&daemon, &path);
        let text = String::from_utf8_lossy(&body).into_owned();
        assert_eq!(
            (status, text.contains("--expose-stacks")),
            (403, true),
            "{path}: {text}"
        );
        assert!(!text.contains("mutex"), "{text}");
        assert_eq!(over_socket(&socket, &path).0, 200, "{path}");
    }
    let (_, text) = over_socket(
        &socket,
        &format!("/api/v1/stacks?pid={pid}&site=%5Emutex_acquire"),
    );
    let text = String::from_utf8(text).unwrap();
    assert!(text.contains("\n3 threads: futex for "), "{text}");
    assert!(!text.contains("pipe_read_forever"), "{text}");
}

#[test]
fn what_is_scraped_is_a_profile_of_what_is_blocked_or_of_all() {
    let scenarios = ["mutex=3", "read=4"];
    let target = start("stacks::scrape", Program::CBlockers, &scenarios).unwrap();
    let pid = target.pid().to_string();
    let daemon = Daemon::start(&[&["--pid", &pid, "--expose-stacks"], ARGS.as_slice()].concat());
    // Blocked for long enough by then.
    daemon.until(target.pid(), "blocked", |process| {
        process.is_some_and(|process| process.counts().values().sum::<u64>() == 7)
    });
    let leaf = |path: &str| {
        let (status, body) = over_tcp(&daemon, &format!("{path}?pid={pid}"));
        assert_eq!(status, 200, "{}", String::from_utf8_lossy(&body));
        let file = std::env::temp_dir().join(format!("taskleak-scrape-{}.pb.gz", std::process::id()));
        std::fs::write(&file, body).unwrap();
        let args = ["-top", "-cum", "-nodecount=1000", "-nodefraction=0"];
        let top = super::formats::pprof(file.to_str().unwrap(), &args);
        std::fs::remove_file(&file).unwrap();
        top.map(|top| cumulated(&top))
    };
    let (Some(blocked), Some(all)) = (leaf("/debug/pprof/blocked"), leaf("/debug/pprof/tasks")) else {
        return;
    };
    for counts in [&blocked, &all] {
        assert_eq!(
            (counts["leak_mutex"], counts["leak_read"]),
            (3.0, 4.0),
            "{counts:?}"
        );
    }
    // The first thread sleeps for a while, again and again.
    assert!(
        all.contains_key("main") && !blocked.contains_key("main"),
        "{blocked:?} {all:?}"
    );
    // The passes go on.
    daemon.until(target.pid(), "still there", |process| {
        process.is_some_and(|process| process.counts().values().sum::<u64>() == 7)
    });
}

#[test]
fn bad_requests_have_the_right_status() {
    let target = start("stacks::requests", Program::CBlockers, &["mutex=1"]).unwrap();
    let pid = target.pid().to_string();
    let daemon = Daemon::start(&[&["--pid", &pid, "--expose-stacks"], ARGS.as_slice()].concat());
    for (path, expected) in [
        ("/debug/pprof/tasks".to_owned(), 400),
        ("/debug/pprof/tasks?pid=x".to_owned(), 400),
        (format!("/debug/pprof/tasks?pid={pid}&seconds=5"), 400),
        ("/debug/pprof/tasks?pid=4194303".to_owned(), 404),
        // There, and not watched.
        ("/debug/pprof/blocked?pid=1".to_owned(), 404),
        (format!("/debug/pprof/nothing?pid={pid}"), 400),
        ("/debug/pprof/nothing".to_owned(), 404),
        (format!("/api/v1/stacks?pid={pid}&site=a("), 400),
        (format!("/api/v1/stacks?pid={pid}&format=json"), 200),
    ] {
        let (status, body) = over_tcp(&daemon, &path);
        assert_eq!(status, expected, "{path}: {}", String::from_utf8_lossy(&body));
    }
    let request =
        format!("POST /debug/pprof/tasks?pid={pid} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    assert_eq!(daemon.request(&request).0, 405);
    drop(target);
    let (status, _) = over_tcp(&daemon, &format!("/debug/pprof/tasks?pid={pid}"));
    assert_eq!(status, 404);
}
