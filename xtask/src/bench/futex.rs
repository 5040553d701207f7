//! What a futex wait costs: in the programs themselves, and as lost throughput of the load.

use anyhow::Result;

use super::{
    load::{self, BpfStats, Watcher},
    median,
};

const SECONDS: u64 = 4;
const ROUNDS: usize = 3;

/// ns of eBPF a wait, ours beside the peer's. Goal: at most half.
pub fn cost() -> Result<()> {
    println!(
        "\n## Futex wait: ns in the eBPF programs (kernel bpf_stats, ping-pong on one CPU, {ROUNDS} × {SECONDS} s)"
    );
    let _stats = BpfStats::enable()?;
    let mut ours = Vec::new();
    let mut theirs = Vec::new();
    for _ in 0..ROUNDS {
        ours.push(ns_per_wait(Watcher::Taskleak)?);
        theirs.push(ns_per_wait(Watcher::Futexctn)?);
    }
    let (ours, theirs) = (median(&mut ours), median(&mut theirs));
    println!(
        "{:<28}{ours:>8.1} ns a wait (with the wake that goes with it)",
        Watcher::Taskleak.name()
    );
    println!("{:<28}{theirs:>8.1} ns", Watcher::Futexctn.name());
    println!("ratio {:.2} (goal: at most 0.50)", ours / theirs);
    Ok(())
}

fn ns_per_wait(watcher: Watcher) -> Result<f64> {
    let programs = load::run(watcher, SECONDS)?.programs;
    // A wait and its wake are two calls, and each call runs a program on its way in and one on its way out.
    Ok(programs.ns as f64 / (programs.runs as f64 / 4.0))
}

/// Round trips a second with nobody, ours, theirs, and ours without its futex probes.
pub fn throughput() -> Result<()> {
    println!("\n## Ping-pong: throughput while watched ({ROUNDS} × {SECONDS} s each, in turn)");
    let watchers = [
        Watcher::Nobody,
        Watcher::Taskleak,
        Watcher::Futexctn,
        Watcher::SweepAlone,
    ];
    let mut rates = vec![Vec::new(); watchers.len()];
    for _ in 0..ROUNDS {
        for (watcher, rates) in watchers.iter().zip(&mut rates) {
            rates.push(load::run(*watcher, SECONDS)?.round_trips as f64 / SECONDS as f64);
        }
    }
    let rates: Vec<f64> = rates.iter_mut().map(|rates| median(rates)).collect();
    for (watcher, rate) in watchers.iter().zip(&rates) {
        println!(
            "{:<28}{rate:>10.0} round trips a second, {:.3} of nothing",
            watcher.name(),
            rate / rates[0]
        );
    }
    Ok(())
}
