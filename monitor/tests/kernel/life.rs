//! Threads and processes that come and go.

use std::{
    fs,
    path::PathBuf,
    process::{Command, Stdio},
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use testbed::{Program, Target};

use crate::support::{Counts, Daemon, Script, TASKLEAK, counts, exe, expected, snapshot, start};

#[test]
fn threads_that_end_make_the_count_go_down() {
    let target = start("churn", Program::CBlockers, &["churn=5", "mutex=2"]).unwrap();
    let pid = target.pid();
    let daemon = Daemon::watch(pid, "200ms", "1s");
    daemon.until_counts(pid, &counts(&[("futex", "internal", 7)]));
    let threads = daemon.process(pid).unwrap().threads();
    target.signal(libc::SIGUSR2).unwrap();
    let after = daemon.until_counts(pid, &counts(&[("futex", "internal", 2)]));
    assert_eq!(after.threads(), threads - 5);
}

#[test]
fn a_process_that_ends_takes_its_series_with_it() {
    let target = start("gone", Program::CBlockers, &["mutex=2"]).unwrap();
    let pid = target.pid();
    let other = start("gone", Program::CBlockers, &["mutex=1"]).unwrap();
    let pids = format!("{pid},{}", other.pid());
    let daemon = Daemon::start(&["--pid", &pids, "--interval", "200ms", "--blocked-after", "1s"]);
    daemon.until_counts(pid, &counts(&[("futex", "internal", 2)]));
    let series = |text: &str| {
        text.lines()
            .filter(|line| line.contains(&format!("pid=\"{pid}\"")))
            .count()
    };
    assert!(series(&daemon.get("/metrics").2) >= 5);
    drop(target);
    daemon.until(pid, "gone", |process| process.is_none());
    assert_eq!(series(&daemon.get("/metrics").2), 0);
    assert_eq!(
        daemon.process(other.pid()).unwrap().counts(),
        counts(&[("futex", "internal", 1)])
    );
}

/// /proc/PID/exe and maps of such a process are empty; a live thread's are not.
#[test]
fn the_first_thread_left_by_pthread_exit() {
    let scenarios = ["main_exits=1", "mutex=2", "cond_2days=1", "timed_cond=1"];
    let target = start("main_exits", Program::CBlockers, &scenarios).unwrap();
    let status = || fs::read_to_string(format!("/proc/{}/status", target.pid())).unwrap();
    while !status().contains("State:\tZ") {
        thread::sleep(Duration::from_millis(20));
    }
    let seen = snapshot(target.pid(), &["--observe", "1200ms"]);
    assert_eq!(seen.counts(), counts(&[("futex", "internal", 3)]));
    assert!(seen.incomplete().is_empty(), "{seen:?}");
    assert_eq!(seen.value["exe"], exe(Program::CBlockers));
}

/// Programs that start, and ones that an exec turns into what is looked for, are picked up long before the next
/// sweep: the probes know since when their threads wait, though signals keep waking them.
#[test]
fn programs_are_picked_up_as_they_start() {
    let exe = exe(Program::CBlockers);
    let daemon = Daemon::start(&[
        "--exe",
        &format!("^{exe}$"),
        "--interval",
        "4s",
        "--blocked-after",
        "1s",
    ]);
    let by_exec = |program: Command| {
        let mut shell = Command::new("/bin/sh");
        shell
            .args(["-c", "exec \"$0\" \"$@\""])
            .arg(program.get_program())
            .args(program.get_args());
        shell
    };
    let target = Target::start_with(Program::CBlockers, &["mutex_signals=3"], by_exec).unwrap();
    let started = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs_f64();
    let seen = daemon.until_counts(target.pid(), &counts(&[("futex", "internal", 3)]));
    let missed = seen.beginnings()["futex"].0 - started;
    assert!(missed < 1.0, "{missed} s of their wait were missed: {seen:?}");
    assert_eq!(seen.value["comm"], "blockers");
}

/// A link to a program, under a name that no other process of the machine has.
struct Renamed(PathBuf);

impl Renamed {
    fn link(program: &str, name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("taskleak-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        std::os::unix::fs::symlink(program, folder.join(name)).unwrap();
        Self(folder)
    }

    fn command(&self, name: &str, args: &[&str]) -> Command {
        let mut command = Command::new(self.0.join(name));
        command.args(args);
        command
    }
}

impl Drop for Renamed {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// An exec into something else ends the watch; pid and start time stay the same.
#[test]
fn an_exec_makes_another_process() {
    let renamed = Renamed::link("/bin/sh", "taskleak-exec");
    let script = "echo ready; sleep 2; exec /bin/sleep 1000";
    let target = Script::start(renamed.command("taskleak-exec", &["-c", script]));
    let pid = target.pid();
    let daemon = Daemon::start(&[
        "--comm",
        "^taskleak-exec$",
        "--interval",
        "200ms",
        "--blocked-after",
        "500ms",
    ]);
    daemon.until(pid, "watched", |process| {
        process.is_some_and(|p| p.value["comm"] == "taskleak-exec")
    });
    daemon.until(pid, "left", |process| process.is_none());
}

/// A fork of a watched program is one more process, watched from the start.
#[test]
fn a_fork_is_watched_as_well() {
    let renamed = Renamed::link("/usr/bin/python3", "taskleak-fork");
    let target = Script::start(renamed.command("taskleak-fork", &["-c", FORKING]));
    let daemon = Daemon::start(&[
        "--comm",
        "^taskleak-fork$",
        "--interval",
        "4s",
        "--blocked-after",
        "1s",
    ]);
    let children = format!("/proc/{0}/task/{0}/children", target.pid());
    let child: u32 = loop {
        if let Some(child) = fs::read_to_string(&children).unwrap().split_whitespace().next() {
            break child.parse().unwrap();
        }
        thread::sleep(Duration::from_millis(50));
    };
    let seen = daemon.until_counts(child, &counts(&[("futex", "internal", 1)]));
    assert!(
        seen.value["futex_waits"].as_u64().unwrap() >= 1,
        "watched only from the next sweep on: {seen:?}"
    );
    assert_eq!(daemon.process(target.pid()).unwrap().counts(), Counts::new());
}

const FORKING: &str = "
import ctypes, os, sys, time
ctypes.CDLL(None).prctl(1, 9)
print('ready', flush=True)
time.sleep(1.5)
if os.fork() == 0:
    import threading
    ctypes.CDLL(None).prctl(1, 9)
    threading.Thread(target=threading.Event().wait, daemon=True).start()
while True:
    time.sleep(3600)
";

/// Programs start and die all the time while others are watched: never an error, never a wrong count.
#[test]
fn processes_that_die_in_the_middle_of_a_sweep() {
    let exe = exe(Program::CBlockers);
    let steady = start("dying", Program::CBlockers, &["mutex=4"]).unwrap();
    let daemon = Daemon::start(&[
        "--exe",
        &format!("^{exe}$"),
        "--interval",
        "100ms",
        "--blocked-after",
        "500ms",
    ]);
    daemon.until_counts(steady.pid(), &counts(&[("futex", "internal", 4)]));
    for _ in 0..40 {
        let dying = start("dying", Program::CBlockers, &["cond=50"]).unwrap();
        thread::sleep(Duration::from_millis(20));
        drop(dying);
        let seen = daemon.process(steady.pid()).unwrap();
        assert_eq!(seen.counts(), counts(&[("futex", "internal", 4)]));
    }
    let complaints: Vec<_> = daemon
        .log()
        .into_iter()
        .filter(|line| !line.contains("INFO"))
        .collect();
    assert_eq!(complaints, Vec::<String>::new());
    let lost = daemon.sample("taskleak_lost_events_total{cause=\"futex_waits_full\"}");
    assert_eq!(lost, Some(0.0));
}

/// In a PID namespace with room for few pids the same pid comes again and again; each is another process.
#[test]
fn reused_pids_are_other_processes() {
    let exe = exe(Program::CBlockers);
    // Pid 1 of the namespace starts the program until its pid has come twice, then lets taskleak look.
    let script = format!(
        "echo 400 > /proc/sys/kernel/pid_max || exit 77
         # Pids below 300 are not given a second time (RESERVED_PIDS, kernel/pid.c).
         last=0; while [ $last -lt 320 ]; do true & last=$!; wait; done
         {exe} mutex=1 >/dev/null & first=$!
         sleep 1.2
         {TASKLEAK} run --listen 127.0.0.1:0 --all --interval 200ms --blocked-after 500ms 2>/tmp/taskleak-$$.log & monitor=$!
         sleep 1
         kill -9 $first; wait $first 2>/dev/null
         tries=0; second=0
         while [ $second != $first ] && [ $tries -lt 2000 ]; do
             {exe} mutex=2 >/dev/null & second=$!
             [ $second = $first ] || {{ kill -9 $second; wait $second 2>/dev/null; }}
             tries=$((tries + 1))
         done
         echo reused $((second == first))
         sleep 1.5
         port=$(sed -n 's|.*http://127.0.0.1:\\([0-9]*\\)/.*|\\1|p' /tmp/taskleak-$$.log)
         rm -f /tmp/taskleak-$$.log
         exec 3<>/dev/tcp/127.0.0.1/$port
         printf 'GET /api/v1/snapshot HTTP/1.1\\r\\nHost: localhost\\r\\nConnection: close\\r\\n\\r\\n' >&3
         cat <&3 | tail -n 1
         echo; echo first $first
         kill -9 $monitor $second"
    );
    let output = Command::new("unshare")
        .args([
            "--pid",
            "--fork",
            "--mount-proc",
            "--kill-child",
            "bash",
            "-c",
            &script,
        ])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    if output.status.code() == Some(77) {
        return crate::support::skip(
            "life::reused_pids_are_other_processes",
            "pid_max is not a namespace's own (before 6.14)",
        );
    }
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        text.contains("reused 1"),
        "{text} {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let json = text
        .lines()
        .find(|line| line.starts_with('{'))
        .unwrap_or_else(|| panic!("{text}"));
    let first: u32 = text
        .lines()
        .find_map(|line| line.strip_prefix("first "))
        .unwrap()
        .parse()
        .unwrap();
    let seen = crate::support::Process::of(&serde_json::from_str(json).unwrap(), first).unwrap();
    assert_eq!(
        seen.counts(),
        expected(Program::CBlockers, &["mutex=2"]),
        "{text}"
    );
    assert!(
        seen.oldest("futex") < 4.0,
        "it has not inherited the first one's age: {text}"
    );
}
