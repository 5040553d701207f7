//! Thread creation with and without the spawn probe.

use std::{
    io::{BufRead as _, BufReader},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result};
use testbed::{Program, Target};

use super::median;
use crate::workspace;

const THREADS: &str = "150000";
const ROUNDS: usize = 3;

/// ns to create and join a thread. Goal: under 2 % more with the probe.
pub fn spawn() -> Result<()> {
    println!("\n## Creating and joining a thread ({THREADS} in a row, {ROUNDS} rounds in turn)");
    let mut plain = Vec::new();
    let mut swept = Vec::new();
    let mut probed = Vec::new();
    let mut governed = Vec::new();
    for _ in 0..ROUNDS {
        plain.push(ns_per_thread(None)?);
        swept.push(ns_per_thread(Some(&["--no-spawn-probes"]))?);
        // A budget that is not reached: the cost of the probe itself, not of its governor.
        probed.push(ns_per_thread(Some(&["--probe-budget", "100%"]))?);
        governed.push(ns_per_thread(Some(&[]))?);
    }
    let (plain, swept) = (median(&mut plain), median(&mut swept));
    let (probed, governed) = (median(&mut probed), median(&mut governed));
    let more = |ns: f64| (ns / plain - 1.0) * 100.0;
    println!("nobody watches                  {plain:>8.0} ns");
    println!(
        "taskleak --no-spawn-probes      {swept:>8.0} ns, {:+.1} %",
        more(swept)
    );
    println!(
        "taskleak --probe-budget 100%    {probed:>8.0} ns, {:+.1} %",
        more(probed)
    );
    println!(
        "taskleak (budget 1%)            {governed:>8.0} ns, {:+.1} % (goal: under 2)",
        more(governed)
    );
    Ok(())
}

fn ns_per_thread(options: Option<&[&str]>) -> Result<f64> {
    let target = Target::start(Program::Spawner, &["--burst", THREADS])?;
    let watching = match options {
        None => None,
        Some(options) => {
            let mut child = Command::new(workspace::taskleak())
                .args([
                    "run",
                    "--listen",
                    "127.0.0.1:0",
                    "--interval",
                    "300ms",
                    "--pid",
                    &target.pid().to_string(),
                ])
                .args(options)
                .stdout(Stdio::null())
                .stderr(Stdio::piped())
                .spawn()?;
            let stderr = child.stderr.take().context("no stderr")?;
            BufReader::new(stderr)
                .lines()
                .map_while(Result::ok)
                .find(|line| line.contains("http://"));
            Some(child)
        }
    };
    let output = target.wait_output();
    if let Some(mut child) = watching {
        child.kill()?;
        child.wait()?;
    }
    let output = output?;
    let ns = output
        .lines()
        .find_map(|line| line.strip_prefix("ns_per_thread "))
        .context(output.clone())?;
    Ok(ns.trim().parse()?)
}
