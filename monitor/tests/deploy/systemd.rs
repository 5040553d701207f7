//! The unit: how exposed it is, whether it has what taskleak needs, and that taskleak says when it is ready.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::net::UnixDatagram,
    process::{Child, Command, Stdio},
    time::Duration,
};

use testbed::{Program, Target};

use crate::support::{TASKLEAK, capabilities_needed, deploy, missing, said, skip};

/// Tenths, of `systemd-analyze security`.
const MOST_EXPOSED: &str = "40";
const PATIENCE: Duration = Duration::from_secs(30);

fn unit() -> String {
    fs::read_to_string(deploy("systemd/taskleak.service")).unwrap()
}

/// All values of a key, in their order.
fn values(key: &str) -> Vec<String> {
    let unit = unit();
    let lines = unit
        .lines()
        .filter_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    lines.map(str::to_owned).collect()
}

#[test]
fn it_is_little_exposed() {
    if missing("deploy::systemd::security", "systemd-analyze") {
        return;
    }
    let judged = |unit: &std::path::Path| {
        Command::new("systemd-analyze")
            .args([
                "security",
                "--no-pager",
                "--offline=true",
                "--threshold",
                MOST_EXPOSED,
            ])
            .arg(unit)
            .output()
            .unwrap()
    };
    let output = judged(&deploy("systemd/taskleak.service"));
    let said_of_it = said(&output);
    if said_of_it.contains("unrecognized option")
        || said_of_it.contains("offline") && !output.status.success()
    {
        return skip(
            "deploy::systemd::security",
            "this systemd-analyze is too old (250 is needed)",
        );
    }
    assert!(output.status.success(), "{said_of_it}");
    assert!(
        said_of_it.contains("Overall exposure level for taskleak.service"),
        "{said_of_it}"
    );
    // Without its hardening it would not pass.
    let bare = std::env::temp_dir().join(format!("bare-{}.service", std::process::id()));
    fs::write(&bare, "[Service]\nExecStart=/bin/true\n").unwrap();
    let output = judged(&bare);
    fs::remove_file(&bare).unwrap();
    assert!(!output.status.success(), "{}", said(&output));
}

#[test]
fn systemd_understands_it() {
    if missing("deploy::systemd::verify", "systemd-analyze") {
        return;
    }
    let folder = std::env::temp_dir().join(format!("taskleak-unit-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let verify = |text: &str| {
        // The program is elsewhere here.
        let text = text.replace("/usr/local/bin/taskleak", TASKLEAK);
        let file = folder.join("taskleak.service");
        fs::write(&file, text).unwrap();
        let output = Command::new("systemd-analyze")
            .args(["verify", "--man=no"])
            .arg(&file)
            .output()
            .unwrap();
        // Of other units of the machine it complains too.
        let said = said(&output);
        let of_it: Vec<&str> = said.lines().filter(|line| line.contains("taskleak")).collect();
        of_it.join("\n")
    };
    assert_eq!(verify(&unit()), "");
    let wrong = verify(&unit().replace("RestrictRealtime=", "RestrictRealTime="));
    assert!(wrong.contains("Unknown key"), "{wrong}");
    fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn it_has_the_capabilities_that_doctor_speaks_of() {
    for key in ["AmbientCapabilities", "CapabilityBoundingSet"] {
        let granted = values(key).join(" ");
        let granted: BTreeSet<String> = granted.split(' ').map(str::to_owned).collect();
        assert_eq!(granted, capabilities_needed(), "{key}");
    }
}

/// The system calls that the unit allows, as systemd reads it.
fn allowed() -> BTreeSet<String> {
    let output = Command::new("systemd-analyze")
        .arg("syscall-filter")
        .output()
        .unwrap();
    let mut sets: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut set = String::new();
    for line in String::from_utf8(output.stdout).unwrap().lines() {
        match line.strip_prefix("    ") {
            Some(member) if !member.starts_with('#') => {
                sets.entry(set.clone()).or_default().push(member.to_owned())
            }
            _ if line.starts_with('@') => set = line.to_owned(),
            _ => {}
        }
    }
    fn expand(sets: &BTreeMap<String, Vec<String>>, name: &str) -> BTreeSet<String> {
        if !name.starts_with('@') {
            return [name.to_owned()].into();
        }
        let members = sets.get(name).unwrap_or_else(|| panic!("no set {name}"));
        members.iter().flat_map(|member| expand(sets, member)).collect()
    }
    let mut allowed = expand(&sets, "@default");
    for line in values("SystemCallFilter") {
        let (denied, names) = match line.strip_prefix('~') {
            Some(names) => (true, names),
            None => (false, line.as_str()),
        };
        for call in names.split(' ').flat_map(|name| expand(&sets, name)) {
            if denied {
                allowed.remove(&call);
            } else {
                allowed.insert(call);
            }
        }
    }
    allowed
}

#[test]
fn it_may_make_the_system_calls_that_it_makes() {
    const TEST: &str = "deploy::systemd::system_calls";
    if missing(TEST, "systemd-analyze") || missing(TEST, "strace") {
        return;
    }
    let target = Target::start(Program::CBlockers, &["mutex=2", "read=1"]);
    let Some(target) = testbed::or_skip(TEST, target).unwrap() else {
        return;
    };
    let trace = std::env::temp_dir().join(format!("taskleak-strace-{}", std::process::id()));
    let state = trace.with_extension("state");
    // Enough for some sweeps, stacks, spawn probes, and a scrape.
    let output = Command::new("timeout")
        .args(["--signal=TERM", "8", "strace", "-f", "-qq", "-o"])
        .arg(&trace)
        .args([
            TASKLEAK,
            "run",
            "--listen",
            "127.0.0.1:0",
            "--interval",
            "500ms",
            "--blocked-after",
            "1s",
        ])
        .args(["--pid", &target.pid().to_string(), "--state-file"])
        .arg(&state)
        .output()
        .unwrap();
    let text = fs::read_to_string(&trace).unwrap();
    let _ = fs::remove_file(&trace);
    let _ = fs::remove_file(&state);
    // `PID CALL(…`
    let calls = text.lines().filter_map(|line| {
        let rest = line.split_once(' ')?.1.trim_start();
        let name = rest.split_once('(')?.0;
        name.bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
            .then(|| name.to_owned())
    });
    let made: BTreeSet<String> = calls.collect();
    for expected in ["bpf", "perf_event_open", "process_vm_readv", "execve"] {
        assert!(
            made.contains(expected),
            "{expected} was never called: {made:?} {}",
            said(&output)
        );
    }
    // What is asked of it is not to be refused; raising limits may be, and is not fatal.
    let not_fatal: BTreeSet<String> = ["setrlimit", "prlimit64"].map(str::to_owned).into();
    let allowed = allowed();
    assert!(!allowed.contains("mount") && !allowed.contains("ptrace") && allowed.contains("bpf"));
    let refused: Vec<&String> = made
        .iter()
        .filter(|it| !allowed.contains(*it) && !not_fatal.contains(*it))
        .collect();
    assert!(refused.is_empty(), "{refused:?}");
}

struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn systemd_hears_of_its_start_its_life_and_its_end() {
    let Some(target) = testbed::or_skip(
        "deploy::systemd::notify",
        Target::start(Program::CBlockers, &["mutex=1"]),
    )
    .unwrap() else {
        return;
    };
    let path = std::env::temp_dir().join(format!("taskleak-notify-{}", std::process::id()));
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let free = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let daemon = Command::new(TASKLEAK)
        .args(["run", "--pid", &target.pid().to_string(), "--interval", "200ms"])
        .args(["--listen", &free.to_string()])
        .env("NOTIFY_SOCKET", &path)
        .env("WATCHDOG_USEC", "10000000")
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut daemon = Daemon(daemon);
    let hear = || {
        let mut buffer = [0; 256];
        let length = socket.recv(&mut buffer).expect("it says something");
        String::from_utf8_lossy(&buffer[..length]).trim_end().to_owned()
    };
    assert_eq!(hear(), "READY=1");
    // Ready is who answers.
    assert!(std::net::TcpStream::connect(free).is_ok());
    assert_eq!(hear(), "WATCHDOG=1");
    assert_eq!(hear(), "WATCHDOG=1");
    // SAFETY: a process that this test has started and not reaped.
    unsafe { libc::kill(daemon.0.id() as i32, libc::SIGTERM) };
    let last = std::iter::repeat_with(hear).find(|it| it != "WATCHDOG=1");
    assert_eq!(last.as_deref(), Some("STOPPING=1"));
    assert!(daemon.0.wait().unwrap().success());
    fs::remove_file(&path).unwrap();
}

#[test]
fn a_watchdog_that_is_too_impatient_is_refused() {
    let run = |interval: &str| {
        Command::new(TASKLEAK)
            .args(["run", "--listen", "203.0.113.1:1", "--interval", interval])
            .env("WATCHDOG_USEC", "20000000")
            .output()
            .unwrap()
    };
    let refused = run("10s");
    assert_eq!(refused.status.code(), Some(2), "{}", said(&refused));
    assert!(
        said(&refused).contains("set WatchdogSec= of the unit to 3 times the interval (10s)"),
        "{}",
        said(&refused)
    );
    // This one only has no such address.
    let patient = run("5s");
    assert_eq!(patient.status.code(), Some(3), "{}", said(&patient));
}
