//! Bad requests to the web server: the right status, and neither its memory nor its time is theirs to take.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::TcpStream,
    thread,
    time::{Duration, Instant},
};

use testbed::Program;

use crate::support::{Daemon, PATIENCE, counts, start};

/// What the server grants for the head of a request, and some.
const SOON: Duration = Duration::from_secs(15);
/// How many connections the server has at once.
const MAX_CONNECTIONS: usize = 256;

fn daemon(
    test: &str,
    scenarios: &[&str],
    interval: &str,
    arguments: &[&str],
) -> Option<(testbed::Target, Daemon)> {
    let target = start(test, Program::CBlockers, scenarios)?;
    // The first sweep is to find them blocked.
    thread::sleep(Duration::from_secs(1));
    let pid = target.pid().to_string();
    let all = [
        &["--pid", &pid, "--interval", interval, "--blocked-after", "500ms"],
        arguments,
    ]
    .concat();
    let daemon = Daemon::start(&all);
    Some((target, daemon))
}

fn connect(daemon: &Daemon) -> TcpStream {
    let stream = TcpStream::connect(daemon.address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Waits until the other side has closed it; how long that took.
fn until_closed(mut stream: TcpStream) -> Duration {
    let begun = Instant::now();
    let mut rest = Vec::new();
    match stream.read_to_end(&mut rest) {
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
        Err(error) => panic!("it is kept open: {error}"),
    }
    begun.elapsed()
}

/// Bytes of memory that are its own.
fn resident(pid: u32) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 1024
}

fn open_files(pid: u32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

#[test]
fn each_bad_request_has_its_status() {
    let Some((_target, daemon)) = daemon("requests::statuses", &["mutex=1"], "1s", &[]) else {
        return;
    };
    let long = "x".repeat(20_000);
    let of = |line: &str, headers: &str, body: &str| {
        let host = daemon.address;
        daemon.request(&format!(
            "{line} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{headers}\r\n{body}"
        ))
    };
    for (line, headers, body, status) in [
        ("GET /metrics", "", "", 200),
        ("HEAD /metrics", "", "", 200),
        ("GET /metrics?", "", "", 200),
        ("GET /nothing", "", "", 404),
        ("GET /api/v1/snapshot/17", "", "", 404),
        ("GET /api/v2/snapshot", "", "", 404),
        ("GET /../etc/passwd", "", "", 404),
        ("GET /%2e%2e/etc/passwd", "", "", 404),
        ("GET /metrics/", "", "", 404),
        ("GET /api/v1/snapshot?pid=17", "", "", 400),
        ("GET /metrics?collect[]=x", "", "", 400),
        ("GET /?%00=%ff", "", "", 400),
        ("POST /metrics", "", "", 405),
        ("DELETE /api/v1/snapshot", "", "", 405),
        ("PUT /", "Content-Length: 5\r\n", "hello", 405),
        ("OPTIONS /metrics", "", "", 405),
        ("BREW /metrics", "", "", 405),
        ("POST /nothing", "", "", 404),
        ("GET /metrics", "Content-Length: 5\r\n", "hello", 413),
        (
            "GET /metrics",
            "Transfer-Encoding: chunked\r\n",
            "5\r\nhello\r\n0\r\n\r\n",
            413,
        ),
        (
            "GET /metrics",
            "Content-Length: 1\r\nContent-Length: 2\r\n",
            "xx",
            400,
        ),
        ("GET /metrics", "Content-Length: many\r\n", "", 400),
        ("GET /metrics", "No colon\r\n", "", 400),
        ("GET", "", "", 400),
        ("", "", "", 400),
        ("GET /metrics", &format!("X: {long}\r\n"), "", 431),
        ("GET /metrics", &"X: y\r\n".repeat(200), "", 431),
    ] {
        let (seen, head, answer) = of(line, headers, body);
        assert_eq!(seen, status, "{line} {headers:.40}: {head}");
        if line.starts_with("HEAD") {
            assert_eq!(answer, "", "a HEAD has no body");
        }
        if status == 405 {
            assert!(head.to_lowercase().contains("\r\nallow: get"), "{head}");
        }
    }
    let (seen, ..) = of(&format!("GET /{long}"), "", "");
    assert!(matches!(seen, 414 | 431), "{seen}");
    // None of this has hurt it.
    assert_eq!(daemon.get("/healthz").0, 200);
}

#[test]
fn half_slow_and_endless_requests_end() {
    let Some((_target, daemon)) = daemon("requests::slow", &["mutex=1"], "1s", &[]) else {
        return;
    };
    let mut half = connect(&daemon);
    half.write_all(b"GET /metrics HTTP/1.1\r\nHo").unwrap();
    let silent = connect(&daemon);
    let mut kept = connect(&daemon);
    kept.write_all(format!("GET /healthz HTTP/1.1\r\nHost: {}\r\n\r\n", daemon.address).as_bytes())
        .unwrap();
    // One that never stops: a header, byte by byte.
    let address = daemon.address;
    let slow = thread::spawn(move || {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(b"GET /metrics HTTP/1.1\r\nX: ").unwrap();
        let begun = Instant::now();
        while stream.write_all(b"x").is_ok() {
            assert!(begun.elapsed() < PATIENCE, "it listens for ever");
            thread::sleep(Duration::from_millis(100));
        }
        begun.elapsed()
    });
    let mut endless = connect(&daemon);
    endless
        .write_all(b"POST /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n")
        .unwrap();
    let chunk = [b"10000\r\n".as_slice(), &[b'x'; 0x10000], b"\r\n"].concat();
    let refused = (0..1_000).any(|_| endless.write_all(&chunk).is_err());
    assert!(refused, "64 MB were taken of a body that nobody reads");
    // Others are served meanwhile.
    let begun = Instant::now();
    assert_eq!(daemon.get("/metrics").0, 200);
    assert!(begun.elapsed() < SOON);
    for (what, stream) in [("half", half), ("silent", silent), ("kept", kept)] {
        assert!(until_closed(stream) < SOON, "{what}");
    }
    assert!(slow.join().unwrap() < SOON);
}

#[test]
fn more_connections_than_there_is_room_for_wait_and_are_served() {
    let Some((_target, daemon)) = daemon("requests::crowd", &["mutex=1"], "1s", &[]) else {
        return;
    };
    let before = open_files(daemon.pid());
    let silent: Vec<TcpStream> = (0..MAX_CONNECTIONS + 100).map(|_| connect(&daemon)).collect();
    let begun = Instant::now();
    let mut most = 0;
    while begun.elapsed() < Duration::from_secs(2) {
        most = most.max(open_files(daemon.pid()) - before);
        thread::sleep(Duration::from_millis(50));
    }
    // One more may be open: what a sweep reads.
    let around = MAX_CONNECTIONS..MAX_CONNECTIONS + 16;
    assert!(around.contains(&most), "{most} connections");
    assert_eq!(daemon.get("/metrics").0, 200);
    assert!(begun.elapsed() < SOON);
    drop(silent);
}

/// Two hundred who ask at once and take their time to read.
#[test]
fn two_hundred_scrapes_at_once_get_the_same_answer() {
    const CROWD: usize = 200;
    const THREADS: u64 = 10_000;
    let scenario = format!("mutex={THREADS}");
    // The ids of all threads make an answer of some size.
    let arguments = ["--max-ids", "10000", "--no-stacks"];
    let Some((target, daemon)) = daemon("requests::scrapes", &[&scenario], "60s", &arguments) else {
        return;
    };
    daemon.until_counts(target.pid(), &counts(&[("futex", "internal", THREADS)]));
    let size = daemon.get("/api/v1/snapshot").2.len();
    assert!(size > 5 * THREADS as usize, "{size}");
    let before = resident(daemon.pid());
    let request = format!(
        "GET /api/v1/snapshot HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n",
        daemon.address
    );
    let mut crowd: Vec<TcpStream> = (0..CROWD).map(|_| connect(&daemon)).collect();
    for stream in &mut crowd {
        stream.write_all(request.as_bytes()).unwrap();
    }
    let mut answers = crowd.into_iter().map(|mut stream| {
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    });
    let first = answers.next().unwrap();
    let during = resident(daemon.pid());
    assert!(first.starts_with("HTTP/1.1 200"), "{first:.100}");
    assert!(first.len() > size - 100);
    let body = |answer: &str| answer.split_once("\r\n\r\n").unwrap().1.to_owned();
    assert!(answers.all(|answer| body(&answer) == body(&first)));
    let grown = during.saturating_sub(before);
    assert!(
        grown < CROWD * size / 2,
        "{grown} bytes for {CROWD} answers of {size}"
    );
}
