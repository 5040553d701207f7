//! Targets that mean it: whatever one does, what is beside it is seen on time and in full, and it alone is
//! incomplete.

mod libraries;
mod memory;

use std::{
    fs,
    io::{BufRead as _, BufReader},
    os::unix::process::CommandExt as _,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use testbed::{Program, Target};

use crate::support::{Counts, Daemon, Folder, counts, skip, start};

/// A library in which threads wait.
const GUEST: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/kernel/hostile/guest.S");
/// What a program of ours ends with that is asked for what the kernel does not have.
const UNSUPPORTED: i32 = 77;
/// The helper's deadline for a stack (observe/helper/client.rs): who waits for a hostile target waits so long.
const STACK_DEADLINE: f64 = 5.0;
/// What the helper may take of memory beside a hostile file, in KiB.
const MAX_HELPER_KIB: u64 = 256 << 10;

fn compile(source: &str, output: &str, flags: &[&str]) -> bool {
    let mut command = Command::new("gcc");
    let done = command
        .args(["-O2", "-g", "-pthread"])
        .args(flags)
        .args([source, "-o", output])
        .output();
    match done {
        Ok(done) => {
            assert!(
                done.status.success(),
                "{source}: {}",
                String::from_utf8_lossy(&done.stderr)
            );
            true
        }
        Err(_) => false,
    }
}

/// The hostile program itself. `None` (and the test is skipped) without a compiler.
fn program(test: &str, folder: &Folder) -> Option<String> {
    let exe = folder.path("hostile");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/kernel/hostile/hostile.c");
    if compile(source, &exe, &[]) {
        return Some(exe);
    }
    skip(test, "no gcc in PATH: apt-get install gcc libc6-dev");
    None
}

/// A running hostile program; killed with all that it has started.
struct Hostile {
    child: Child,
    output: BufReader<std::process::ChildStdout>,
}

impl Hostile {
    /// `None` (and the test is skipped) where the kernel does not have what it takes.
    fn start(test: &str, exe: &str, args: &[&str]) -> Option<Self> {
        let mut command = Command::new(exe);
        command
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .process_group(0);
        // SAFETY: one system call, which is permitted between fork and exec.
        unsafe {
            command.pre_exec(|| {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                Ok(())
            });
        }
        let mut child = command.spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let mut hostile = Self { child, output };
        if hostile.line() == "ready\n" {
            return Some(hostile);
        }
        let status = hostile.child.wait().unwrap();
        assert_eq!(status.code(), Some(UNSUPPORTED), "{args:?}: {status}");
        skip(test, "the kernel does not have what the program asks for");
        None
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        line
    }

    fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Hostile {
    fn drop(&mut self) {
        // SAFETY: plain numbers; the group is that of a child that was not reaped yet.
        unsafe { libc::kill(-(self.child.id() as i32), libc::SIGKILL) };
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The healthy process beside, and what is to be seen of it all the time.
struct Neighbour {
    target: Target,
    expected: Counts,
}

impl Neighbour {
    fn start(test: &str) -> Option<Self> {
        let target = start(test, Program::CBlockers, &["mutex=3", "cond=2", "timed_poll=2"])?;
        Some(Self {
            target,
            expected: counts(&[("futex", "internal", 5)]),
        })
    }

    fn pid(&self) -> String {
        self.target.pid().to_string()
    }

    /// Its groups as they are when nobody is hostile: reason, block site and entry.
    fn is_seen(&self, daemon: &Daemon) -> bool {
        let Some(process) = daemon.process(self.target.pid()) else {
            return false;
        };
        let site =
            |group: &serde_json::Value, site: &str| group[site]["function"].as_str().map(str::to_owned);
        let is_named = |name: &str, count: u64, entry: &str| {
            process.groups().iter().any(|group| {
                site(group, "block_site").as_deref() == Some(name)
                    && site(group, "entry").as_deref() == Some(entry)
                    && group["count"] == count
            })
        };
        process.counts() == self.expected
            && process.incomplete().is_empty()
            && is_named("mutex_acquire_forever", 3, "leak_mutex")
            && is_named("cond_wait_forever", 2, "leak_cond")
    }

    /// Watches for so long that what was to happen has happened: the neighbour is seen in full throughout (from when
    /// a helper's deadline can have passed at the latest), and no sweep comes late.
    fn stays_seen(&self, daemon: &Daemon, time: Duration) {
        self.stays_seen_while(daemon, time, || {});
    }

    /// The same, and asks something else each time.
    fn stays_seen_while(&self, daemon: &Daemon, time: Duration, mut each: impl FnMut()) {
        let begun = Instant::now();
        while !self.is_seen(daemon) {
            assert!(
                begun.elapsed().as_secs_f64() < STACK_DEADLINE * 2.0,
                "never seen: {:?}",
                daemon.process(self.target.pid())
            );
            thread::sleep(Duration::from_millis(20));
        }
        let begun = Instant::now();
        let mut stamps = Vec::new();
        while begun.elapsed() < time {
            assert!(
                self.is_seen(daemon),
                "not any more: {:?} {:?}",
                daemon
                    .process(self.target.pid())
                    .map(|process| process.value["incomplete"].clone()),
                daemon.process(self.target.pid())
            );
            stamps.extend(daemon.sample("taskleak_last_sweep_timestamp_seconds"));
            each();
            thread::sleep(Duration::from_millis(20));
        }
        stamps.dedup();
        let gaps = stamps.windows(2).map(|pair| pair[1] - pair[0]);
        let largest = gaps.fold(0.0, f64::max);
        println!("{} sweeps, at most {largest:.3} s apart", stamps.len());
        assert!(stamps.len() > 2 && largest < STACK_DEADLINE / 2.0, "{stamps:?}");
    }
}

/// The daemon over the neighbour and the hostile ones.
fn watch(neighbour: &Neighbour, hostiles: &[&Hostile]) -> Daemon {
    let pids: Vec<String> = hostiles.iter().map(|hostile| hostile.pid().to_string()).collect();
    let neighbour = neighbour.pid();
    let mut args = vec![
        "--interval",
        "200ms",
        "--blocked-after",
        "500ms",
        "--pid",
        &neighbour,
    ];
    for pid in &pids {
        args.extend(["--pid", pid]);
    }
    Daemon::start(&args)
}

/// Largest resident set of the daemon's children, KiB.
fn helper_peak(daemon: &Daemon) -> u64 {
    let pid = daemon.pid();
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let children = tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("children")).ok());
    let pids: Vec<String> = children
        .flat_map(|text| {
            text.split_ascii_whitespace()
                .map(str::to_owned)
                .collect::<Vec<_>>()
        })
        .collect();
    assert!(!pids.is_empty());
    let peak = |pid: &String| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
        line.trim().strip_suffix(" kB")?.parse().ok()
    };
    pids.iter().filter_map(peak).max().unwrap_or(0)
}

/// What is said of a hostile process: its causes.
fn causes(daemon: &Daemon, hostile: &Hostile) -> Vec<String> {
    let process = daemon.process(hostile.pid());
    let Some(process) = process else { return Vec::new() };
    process.incomplete().into_iter().map(str::to_owned).collect()
}

fn is_told(daemon: &Daemon, pid: u32, cause: &str) -> bool {
    let (_, _, metrics) = daemon.get("/metrics");
    metrics.lines().any(|line| {
        line.starts_with("taskleak_process_incomplete{")
            && line.contains(&format!("pid=\"{pid}\""))
            && line.contains(&format!("cause=\"{cause}\""))
            && line.ends_with(" 1")
    })
}
