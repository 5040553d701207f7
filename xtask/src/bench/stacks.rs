//! Unwinding and naming of 5,000 blocked threads, beside gdb's `thread apply all bt` of the same process.

use std::{
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use testbed::{Program, Target};

use super::median;
use crate::workspace;

const THREADS: usize = 5_000;
const ROUNDS: usize = 3;
/// s that a whole command varies by from run to run: what is shorter is taken for this long.
const NOISE: f64 = 0.02;

/// Whole commands, so gdb's start and symbol loading count as ours do. Goal: 50 times faster.
pub fn stacks() -> Result<()> {
    println!("\n## Stacks of {THREADS} blocked threads: whole commands, {ROUNDS} rounds");
    let target = Target::start(Program::CBlockers, &[&format!("cond={THREADS}")])?;
    std::thread::sleep(Duration::from_millis(1_500));
    let pid = target.pid().to_string();
    let mut with = Vec::new();
    let mut without = Vec::new();
    let mut gdb = Vec::new();
    for _ in 0..ROUNDS {
        with.push(seconds(taskleak(&pid).arg("--stacks"))?);
        without.push(seconds(taskleak(&pid).arg("--no-stacks"))?);
        if workspace::find_in_path("gdb").is_some() {
            let mut command = Command::new("gdb");
            command.args(["-batch", "-p", &pid, "-ex", "thread apply all bt"]);
            gdb.push(seconds(&mut command)?);
        }
    }
    let (with, without) = (median(&mut with), median(&mut without));
    println!(
        "taskleak snapshot --stacks      {:>8.1} ms, target never stopped",
        with * 1e3
    );
    println!("taskleak snapshot --no-stacks   {:>8.1} ms", without * 1e3);
    if gdb.is_empty() {
        println!("gdb is not installed: no ratio");
        return Ok(());
    }
    let gdb = median(&mut gdb);
    println!(
        "gdb thread apply all bt         {:>8.1} ms, target stopped for most of it",
        gdb * 1e3
    );
    // The two commands differ by their noise as well.
    let stacks = (with - without).max(NOISE);
    println!(
        "ratio {:.0} whole commands, {:.0} for the stacks alone (goal: 50)",
        gdb / with,
        gdb / stacks
    );
    Ok(())
}

fn taskleak(pid: &str) -> Command {
    let mut command = Command::new(workspace::taskleak());
    command.args(["snapshot", "--pid", pid, "--observe", "1ms", "--no-spawn-probes"]);
    command
}

fn seconds(command: &mut Command) -> Result<f64> {
    let begun = Instant::now();
    let status = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()?;
    if !status.success() {
        bail!("{command:?} ended with {status}");
    }
    Ok(begun.elapsed().as_secs_f64())
}
