//! The ping-pong load, and what watches it: taskleak with and without its futex probes, the peer, or nobody.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use testbed::{Program, Target};

use super::futexctn;
use crate::workspace;

/// Who watches the load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watcher {
    Nobody,
    Taskleak,
    SweepAlone,
    Futexctn,
}

impl Watcher {
    pub fn name(self) -> &'static str {
        match self {
            Self::Nobody => "nothing",
            Self::Taskleak => "taskleak",
            Self::SweepAlone => "taskleak --no-futex-probes",
            Self::Futexctn => "futexctn -s",
        }
    }
}

/// One run of the load.
#[derive(Clone, Copy, Debug)]
pub struct Run {
    pub round_trips: u64,
    /// What the watcher's eBPF programs did meanwhile; zero unless the kernel's `bpf_stats` are on.
    pub programs: Programs,
}

/// Runs the load for so many seconds with somebody watching.
///
/// # Errors
/// When the load or the watcher cannot be started, or the watcher ends early.
pub fn run(watcher: Watcher, seconds: u64) -> Result<Run> {
    let target = Target::start(Program::PingPong, &[&seconds.to_string(), "--pin"])?;
    let mut watching = start(watcher, target.pid(), seconds)?;
    let programs = |child: &Option<Child>| {
        child
            .as_ref()
            .map_or_else(Programs::default, |c| programs_of(c.id()))
    };
    let before = programs(&watching);
    thread::sleep(Duration::from_secs(seconds).saturating_sub(Duration::from_millis(700)));
    let after = programs(&watching);
    let early = watching
        .as_mut()
        .is_some_and(|child| !matches!(child.try_wait(), Ok(None)));
    if let Some(child) = &mut watching {
        child.kill().ok();
        child.wait()?;
    }
    if early {
        bail!("{} ended before the load did", watcher.name());
    }
    let output = target.wait_output()?;
    let round_trips = output
        .split_whitespace()
        .nth(1)
        .and_then(|count| count.parse().ok());
    Ok(Run {
        round_trips: round_trips.with_context(|| format!("the load printed `{output}`"))?,
        programs: Programs {
            ns: after.ns - before.ns,
            runs: after.runs - before.runs,
        },
    })
}

fn start(watcher: Watcher, pid: u32, seconds: u64) -> Result<Option<Child>> {
    let pid = pid.to_string();
    let mut command = match watcher {
        Watcher::Nobody => return Ok(None),
        Watcher::Taskleak => taskleak(&pid),
        Watcher::SweepAlone => {
            let mut command = taskleak(&pid);
            command.arg("--no-futex-probes");
            command
        }
        Watcher::Futexctn => futexctn::command(["-s", "-p", &pid, &(seconds + 5).to_string()])?,
    };
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
    if watcher != Watcher::Futexctn {
        let stderr = child.stderr.take().context("no stderr")?;
        let ready = BufReader::new(stderr)
            .lines()
            .map_while(Result::ok)
            .any(|line| line.contains("http://"));
        if !ready {
            bail!("{} did not become ready", watcher.name());
        }
    } else {
        // It says nothing when it has attached.
        thread::sleep(Duration::from_millis(400));
    }
    Ok(Some(child))
}

fn taskleak(pid: &str) -> Command {
    let mut command = Command::new(workspace::taskleak());
    command.args(["run", "--listen", "127.0.0.1:0", "--pid", pid]);
    command
}

/// Runs of all eBPF programs of a process together.
#[derive(Clone, Copy, Debug, Default)]
pub struct Programs {
    pub ns: u64,
    pub runs: u64,
}

/// The programs that a process holds, from `/proc/PID/fdinfo`.
fn programs_of(pid: u32) -> Programs {
    let mut programs = Programs::default();
    for file in fs::read_dir(format!("/proc/{pid}/fdinfo"))
        .into_iter()
        .flatten()
        .flatten()
    {
        let text = fs::read_to_string(file.path()).unwrap_or_default();
        let field = |name: &str| -> Option<u64> {
            text.lines()
                .find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
        };
        programs.ns += field("run_time_ns:").unwrap_or(0);
        programs.runs += field("run_cnt:").unwrap_or(0);
    }
    programs
}

/// The kernel's `bpf_stats`, on until dropped.
pub struct BpfStats(String);

const BPF_STATS: &str = "/proc/sys/kernel/bpf_stats_enabled";

impl BpfStats {
    /// # Errors
    /// When the kernel does not let us.
    pub fn enable() -> Result<Self> {
        let before = fs::read_to_string(BPF_STATS).with_context(|| BPF_STATS.to_owned())?;
        fs::write(BPF_STATS, "1").with_context(|| BPF_STATS.to_owned())?;
        Ok(Self(before))
    }
}

impl Drop for BpfStats {
    fn drop(&mut self) {
        // What was there before was accepted once.
        let _ = fs::write(BPF_STATS, self.0.trim());
    }
}
