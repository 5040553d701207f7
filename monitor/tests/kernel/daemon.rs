//! `taskleak run` as a service: its pages, its end.

use std::{
    io::{Read as _, Write as _},
    net::TcpListener,
    os::unix::{fs::PermissionsExt as _, net::UnixStream},
    path::Path,
    thread,
    time::{Duration, Instant},
};

use testbed::Program;

use crate::{
    counted::until_seen,
    support::{Daemon, counts, exe, in_pid_namespace, start, stderr, taskleak},
};

#[test]
fn every_page_answers() {
    let target = start("pages", Program::CBlockers, &["mutex=2", "read=1"]).unwrap();
    let pid = target.pid();
    let daemon = Daemon::watch(pid, "200ms", "500ms");
    daemon.until_counts(pid, &counts(&[("futex", "internal", 2), ("read", "external", 1)]));
    assert_eq!(daemon.get("/healthz").0, 200);
    assert_eq!(daemon.get("/readyz").0, 200);
    let (status, head, page) = daemon.get("/");
    assert_eq!(status, 200);
    assert!(head.contains("content-type: text/html"), "{head}");
    let row = page.lines().find(|line| line.contains("<td>futex</td>")).unwrap();
    assert!(
        row.contains("<td>blockers</td>") && row.contains(&format!("<td class=\"n\">{pid}</td>")),
        "{row}"
    );
    assert!(
        row.contains("<td class=\"n\">2</td>") && row.contains("<td>internal</td>"),
        "{row}"
    );
    let (status, head, metrics) = daemon.get("/metrics");
    assert_eq!(status, 200);
    assert!(head.contains("content-type: text/plain; version=0.0.4"), "{head}");
    assert!(metrics.contains("process_resident_memory_bytes"), "{metrics}");
    assert_eq!(daemon.get("/nothing").0, 404);
    let post = format!(
        "POST /metrics HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n",
        daemon.address
    );
    assert_eq!(daemon.request(&post).0, 405);
    let rebound = "GET /api/v1/snapshot HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n";
    assert_eq!(daemon.request(rebound).0, 421);
}

#[test]
fn who_shows_no_token_is_told_whether_it_lives_and_nothing_else() {
    let target = start("token", Program::CBlockers, &["mutex=2"]).unwrap();
    let file = std::env::temp_dir().join(format!("taskleak-token-{}", std::process::id()));
    std::fs::write(&file, "s3cret\n").unwrap();
    let socket = file.with_extension("socket");
    let daemon = Daemon::start(&[
        "--pid",
        &target.pid().to_string(),
        "--token-file",
        file.to_str().unwrap(),
        "--socket",
        socket.to_str().unwrap(),
    ]);
    let with = |path: &str, shown: &str| {
        let host = daemon.address;
        let head = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{shown}\r\n");
        daemon.request(&head).0
    };
    for path in [
        "/",
        "/metrics",
        "/api/v1/snapshot",
        "/debug/pprof/tasks?pid=1",
        "/nothing",
    ] {
        assert_eq!(with(path, ""), 401, "{path}");
        assert_eq!(with(path, "Authorization: Bearer wrong\r\n"), 401, "{path}");
    }
    assert_eq!(with("/metrics", "Authorization: Bearer s3cret\r\n"), 200);
    assert_eq!((with("/healthz", ""), with("/readyz", "")), (200, 200));
    // Who may open the socket needs none.
    let answer = ask_socket(&socket, "/metrics");
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    // A client that has it shows it.
    let address = daemon.address.to_string();
    let pid = target.pid().to_string();
    let asked = |more: &[&str]| taskleak(&[&["stacks", &pid, "--connect", &address], more].concat());
    let refused = asked(&[]);
    assert_eq!(refused.status.code(), Some(3), "{}", stderr(&refused));
    assert!(
        stderr(&refused).contains("show the token"),
        "{}",
        stderr(&refused)
    );
    let shown = asked(&["--token-file", file.to_str().unwrap()]);
    assert!(stderr(&shown).contains("--expose-stacks"), "{}", stderr(&shown));
    std::fs::remove_file(file).unwrap();
}

#[test]
fn sigterm_ends_it_within_a_second_and_leaves_no_program_behind() {
    let target = start("sigterm", Program::CBlockers, &["mutex=1"]).unwrap();
    for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGKILL] {
        let daemon = Daemon::start(&["--pid", &target.pid().to_string(), "--interval", "60s"]);
        let pid = daemon.pid();
        assert!(programs_of(pid) >= 5, "its programs are to be seen while it runs");
        let open = std::net::TcpStream::connect(daemon.address).unwrap();
        let ids = program_ids(pid);
        daemon.signal(signal);
        let (status, took) = daemon.wait();
        assert_eq!(status.success(), signal != libc::SIGKILL, "{signal}");
        assert!(took < Duration::from_secs(1), "{signal}: {took:?}");
        drop(open);
        let begun = Instant::now();
        while ids.iter().any(|id| is_loaded(*id)) {
            assert!(
                begun.elapsed() < Duration::from_secs(5),
                "{signal}: programs are left behind"
            );
            thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Ids of the eBPF programs that a process holds open (`/proc/PID/fdinfo`).
fn program_ids(pid: u32) -> Vec<u32> {
    let Ok(files) = std::fs::read_dir(format!("/proc/{pid}/fdinfo")) else {
        return Vec::new();
    };
    let text = |file: std::io::Result<std::fs::DirEntry>| std::fs::read_to_string(file.ok()?.path()).ok();
    let id = |text: String| {
        text.lines()
            .find_map(|line| line.strip_prefix("prog_id:")?.trim().parse().ok())
    };
    files.filter_map(text).filter_map(id).collect()
}

fn programs_of(pid: u32) -> usize {
    program_ids(pid).len()
}

fn is_loaded(id: u32) -> bool {
    aya::programs::loaded_programs()
        .filter_map(Result::ok)
        .any(|program| program.id() == id)
}

#[test]
fn a_port_in_use_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = taskleak(&[
        "run",
        "--pid",
        &std::process::id().to_string(),
        "--listen",
        &address,
    ]);
    assert_eq!(output.status.code(), Some(3));
    assert!(
        stderr(&output).contains(&format!("{address} is in use")),
        "{}",
        stderr(&output)
    );
}

/// The monitor never appears in its own report, nor do kernel threads: all of a PID namespace's processes are
/// pid 1 (the shell) and what it has started.
#[test]
fn all_processes_but_the_monitor_itself() {
    let exe = exe(Program::CBlockers);
    let taskleak = crate::support::TASKLEAK;
    let script = format!(
        "{exe} mutex=2 cond_2days=1 >/dev/null & {taskleak} snapshot --all --observe 2s --format json; kill -9 $!"
    );
    let output = in_pid_namespace(&script);
    let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let names: Vec<_> = document["processes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|p| p["comm"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["sh", "blockers"], "{document}");
}

/// The same words in a flag, in the environment and in a file.
#[test]
fn options_from_flags_environment_and_file() {
    let folder = std::env::temp_dir().join(format!("taskleak-config-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let file = folder.join("taskleak.toml");
    let check = |text: &str, env: &[(&str, &str)], args: &[&str]| {
        std::fs::write(&file, text).unwrap();
        let mut command = std::process::Command::new(crate::support::TASKLEAK);
        command
            .args(["run", "--config-check", "--config"])
            .arg(&file)
            .args(args)
            .envs(env.iter().copied());
        let output = command.output().unwrap();
        (output.status.code(), stderr(&output))
    };
    assert_eq!(
        check("interval = \"5s\"\ncomm = [\"^api$\"]\n", &[], &[]),
        (Some(0), String::new())
    );
    for (text, env, args, offending) in [
        ("interval = \"soon\"", &[][..], &[][..], "`soon`"),
        ("", &[("TASKLEAK_INTERVAL", "soon")], &[], "`soon`"),
        ("", &[], &["--interval", "soon"], "`soon`"),
        ("intervall = \"5s\"", &[], &[], "`intervall`"),
        ("comm = [\"a(\"]", &[], &[], "`a(`"),
        ("", &[("TASKLEAK_COMM", "a(")], &[], "`a(`"),
        (
            "all = true",
            &[("TASKLEAK_PID", "7")],
            &[],
            "--all watches every process",
        ),
        ("listen = \"nowhere\"", &[], &[], "nowhere"),
        ("", &[("TASKLEAK_LISTEN", "nowhere")], &[], "nowhere"),
    ] {
        let (code, error) = check(text, env, args);
        assert_eq!(code, Some(2), "{text} {env:?} {args:?}: {error}");
        assert!(error.contains(offending), "{error}");
    }
    std::fs::remove_dir_all(folder).unwrap();
}

/// What is answered over the Unix socket.
fn ask_socket(path: &Path, page: &str) -> String {
    let mut stream = UnixStream::connect(path).unwrap();
    let request = format!("GET {page} HTTP/1.1\r\nHost: any.example\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn the_unix_socket_is_its_owners_alone_and_shows_stacks() {
    let target = start("socket", Program::CBlockers, &["mutex=2"]).unwrap();
    let pid = target.pid().to_string();
    let path = std::env::temp_dir().join(format!("taskleak-socket-{}", std::process::id()));
    // One that a monitor left behind which was killed.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let socket = path.to_str().unwrap();
    let args = [
        "--pid",
        &pid,
        "--interval",
        "200ms",
        "--blocked-after",
        "500ms",
        "--socket",
        socket,
    ];
    let daemon = Daemon::start(&args);
    daemon.until_counts(target.pid(), &counts(&[("futex", "internal", 2)]));
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    // A pass does not wait for stacks for long: on a busy machine they come with one of the next.
    let look = || ask_socket(&path, "/api/v1/snapshot");
    until_seen("told with its stack", look, |answer| {
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        answer.contains("\"stack\":[") && answer.contains("locks.c")
    });
    let over_tcp = daemon.get("/api/v1/snapshot").2;
    assert!(
        !over_tcp.contains("\"stack\":[") && !over_tcp.contains("locks.c"),
        "{over_tcp}"
    );
    // While it is in use nobody else gets it.
    let second = taskleak(&[
        "run",
        "--pid",
        &pid,
        "--listen",
        "127.0.0.1:0",
        "--socket",
        socket,
    ]);
    assert_eq!(second.status.code(), Some(3), "{}", stderr(&second));
    assert!(
        stderr(&second).contains("somebody listens on it"),
        "{}",
        stderr(&second)
    );
    daemon.signal(libc::SIGTERM);
    assert!(daemon.wait().0.success());
    assert!(!path.exists(), "it is removed at the end");
}
