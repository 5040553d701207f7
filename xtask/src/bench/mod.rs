//! `cargo xtask bench`: measures taskleak beside its peers, in one run, on this machine.

mod counting;
mod footprint;
mod futex;
mod futexctn;
mod go;
mod go_spawn;
mod load;
mod spawn;
mod stacks;
mod tokio;
mod tokio_spawn;
mod verdict;

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::Result;
use clap::{Args, ValueEnum};

use crate::{run, setup, workspace};

#[derive(Args)]
pub struct Options {
    /// Runs only this one; may be given several times
    #[arg(long, value_enum, value_name = "BENCH")]
    only: Vec<Bench>,
}

/// The benches, in the order in which they run.
#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Bench {
    /// That the peer, libbpf-tools' futexctn, runs here and sees the load
    Peer,
    /// What a futex wait costs in the eBPF programs, beside futexctn's
    FutexCost,
    /// Throughput of a futex ping-pong that is watched by nobody, by us, and by futexctn
    Throughput,
    /// CPU and memory of `run` over 10,000 threads, and the time of a sweep
    Footprint,
    /// Unwinding and naming of 5,000 blocked threads, beside gdb
    Stacks,
    /// Thread creation with and without the spawn probe
    Spawn,
    /// A snapshot of 100,000 goroutines, beside the program's own profiles
    Go,
    /// A snapshot of a million goroutines
    GoMillion,
    /// Making goroutines with and without the probes that count them
    GoSpawn,
    /// A snapshot of 100,000 tokio tasks, beside the runtime's own dump
    Tokio,
    /// A look at a million tokio tasks
    TokioMillion,
    /// What a program with tokio pays for being watched, beside one that is instrumented for tokio-console
    TokioConsole,
    /// Making tokio tasks with and without the probes that count them
    TokioSpawn,
    /// Verdicts on simulated processes: false alarms and time to detection, beside hand-written rules
    Verdict,
}

impl Bench {
    fn run(self) -> Result<()> {
        match self {
            Self::Peer => futexctn::check(),
            Self::FutexCost => futex::cost(),
            Self::Throughput => futex::throughput(),
            Self::Footprint => footprint::footprint(),
            Self::Stacks => stacks::stacks(),
            Self::Spawn => spawn::spawn(),
            Self::Go => go::snapshot(),
            Self::GoMillion => go::million(),
            Self::GoSpawn => go_spawn::go_spawn(),
            Self::Tokio => tokio::tasks(),
            Self::TokioMillion => tokio::million(),
            Self::TokioConsole => tokio::console(),
            Self::TokioSpawn => tokio_spawn::tokio_spawn(),
            Self::Verdict => verdict::verdict(),
        }
    }
}

pub fn run(options: &Options) -> Result<()> {
    setup::for_build(false)?;
    setup::for_programs()?;
    setup::for_go();
    run::build()?;
    for bench in Bench::value_variants() {
        if options.only.is_empty() || options.only.contains(bench) {
            bench.run()?;
        }
    }
    Ok(())
}

/// Parts of a time in which each a ticker's lateness is taken.
const WINDOWS: u32 = 6;

/// The middle one of the values, of two middle ones the larger.
fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// ms that a ticker is late at most in a sixth of a time: the median of six, as once in a while the machine itself does
/// something else. `ask`: how late it was at most since it was asked last.
fn lateness(during: Duration, ask: impl Fn() -> Result<Duration>) -> Result<f64> {
    ask()?;
    let mut late = Vec::new();
    for _ in 0..WINDOWS {
        std::thread::sleep(during / WINDOWS);
        late.push(ask()?.as_secs_f64() * 1e3);
    }
    Ok(median(&mut late))
}

/// A `run` that watches a process, and says of each look how long it took.
fn watch(pid: &str, args: &[&str]) -> Result<Child> {
    let child = Command::new(workspace::taskleak())
        .args(["--log", "debug", "run", "--listen", "127.0.0.1:0", "--pid", pid])
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    Ok(child)
}

/// As Rust prints durations: `78.75ms`.
fn seconds(text: &str) -> Option<f64> {
    let at = text.find(|c: char| c.is_alphabetic() || c == '\u{b5}')?;
    let (number, unit) = text.split_at(at);
    let factor = match unit {
        "s" => 1.0,
        "ms" => 1e-3,
        "µs" => 1e-6,
        _ => return None,
    };
    Some(number.parse::<f64>().ok()? * factor)
}
