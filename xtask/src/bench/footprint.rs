//! What the monitor itself takes while it watches 100 processes with 10,000 threads.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use testbed::{Program, Target};

use crate::workspace;

const PROCESSES: usize = 100;
const THREADS: usize = 100;
const INTERVAL: u64 = 10;
/// The stacks of all threads are read once, in the first seconds.
const SETTLED: Duration = Duration::from_secs(21);
const WATCHED: Duration = Duration::from_secs(41);

/// CPU and memory of `run`, and the time of a sweep beside a walk through /proc.
pub fn footprint() -> Result<()> {
    println!(
        "\n## `run` over {PROCESSES} processes and {} threads, every {INTERVAL} s",
        PROCESSES * THREADS
    );
    let scenario = format!("cond={THREADS}");
    let targets: Vec<Target> = (0..PROCESSES)
        .map(|_| Target::start(Program::CBlockers, &[&scenario]))
        .collect::<Result<_>>()?;
    let pids: Vec<String> = targets.iter().map(|target| target.pid().to_string()).collect();
    let mut child = Command::new(workspace::taskleak())
        .args([
            "run",
            "--listen",
            "127.0.0.1:0",
            "--blocked-after",
            "5s",
            "--interval",
            &format!("{INTERVAL}s"),
        ])
        .args(["--pid", &pids.join(",")])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    let measured = measure(&mut child);
    child.kill()?;
    child.wait()?;
    let Measured {
        start_up,
        cpu,
        peak_kib,
        sweep,
        blocked,
    } = measured?;
    let walk = walk_proc(&pids)?;
    println!(
        "start and all stacks        {:>8.1} ms of CPU, helper processes included",
        start_up * 1e3
    );
    println!(
        "CPU after that              {:>8.2} % of a core (goal: under 1)",
        cpu * 100.0
    );
    println!(
        "peak memory                 {:>8.1} MiB (goal: under 64, start-up included)",
        peak_kib / 1024.0
    );
    println!("blocked threads found       {blocked:>8.0}");
    println!("a sweep                     {:>8.1} ms", sweep * 1e3);
    println!(
        "the same files of /proc     {:>8.1} ms, {:.0} times a sweep",
        walk * 1e3,
        walk / sweep
    );
    Ok(())
}

struct Measured {
    /// s of CPU in the first seconds, in which all stacks are read.
    start_up: f64,
    /// Share of a core afterwards.
    cpu: f64,
    peak_kib: f64,
    /// s of the last sweep.
    sweep: f64,
    blocked: f64,
}

fn measure(child: &mut Child) -> Result<Measured> {
    let stderr = child.stderr.take().context("no stderr")?;
    let line = BufReader::new(stderr)
        .lines()
        .map_while(Result::ok)
        .find(|line| line.contains("http://"))
        .context("taskleak did not become ready")?;
    let address = line
        .split_once("http://")
        .and_then(|(_, rest)| rest.split('/').next())
        .context("no address")?;
    thread::sleep(SETTLED);
    let start_up = cpu_seconds(child.id())?;
    let begun = Instant::now();
    thread::sleep(WATCHED);
    let cpu = (cpu_seconds(child.id())? - start_up) / begun.elapsed().as_secs_f64();
    let metrics = get(address, "/metrics")?;
    let samples = |name: &str| -> f64 {
        let values = metrics
            .lines()
            .filter(|line| line.starts_with(name))
            .filter_map(|line| line.rsplit(' ').next());
        values.filter_map(|value| value.parse::<f64>().ok()).sum()
    };
    Ok(Measured {
        start_up,
        cpu,
        peak_kib: peak_kib(child.id())?,
        sweep: samples("taskleak_sweep_duration_seconds{"),
        blocked: samples("taskleak_blocked_tasks{"),
    })
}

/// User and system time of the monitor and its helper processes, from `/proc/PID/schedstat` of each thread (ns;
/// `stat` has ticks only).
fn cpu_seconds(pid: u32) -> Result<f64> {
    let mut total = 0.0;
    for pid in family(pid) {
        for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
            let text = fs::read_to_string(thread?.path().join("schedstat")).unwrap_or_default();
            total += text
                .split(' ')
                .next()
                .and_then(|ns| ns.parse::<f64>().ok())
                .unwrap_or(0.0);
        }
    }
    Ok(total / 1e9)
}

/// Peak resident memory of the monitor and its helper processes, added up, KiB.
pub fn peak_kib(pid: u32) -> Result<f64> {
    let mut total = 0.0;
    for pid in family(pid) {
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        // One that has ended has no memory.
        if let Some(peak) = peak {
            let number = peak.split_whitespace().next().context("no number of VmHWM")?;
            total += number.parse::<f64>()?;
        }
    }
    Ok(total)
}

/// A process and its children.
fn family(pid: u32) -> Vec<u32> {
    let mut family = vec![pid];
    for thread in fs::read_dir(format!("/proc/{pid}/task"))
        .into_iter()
        .flatten()
        .flatten()
    {
        let children = fs::read_to_string(thread.path().join("children")).unwrap_or_default();
        family.extend(
            children
                .split_whitespace()
                .filter_map(|child| child.parse::<u32>().ok()),
        );
    }
    family
}

/// What a tool without eBPF must read to know as much: state, switches and system call of each thread. The
/// faster of two walks, s.
fn walk_proc(pids: &[String]) -> Result<f64> {
    let mut best = f64::INFINITY;
    for _ in 0..2 {
        let begun = Instant::now();
        for pid in pids {
            for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
                let folder = thread?.path();
                for file in ["status", "syscall"] {
                    fs::read(folder.join(file))?;
                }
            }
        }
        best = best.min(begun.elapsed().as_secs_f64());
    }
    Ok(best)
}

fn get(address: &str, path: &str) -> Result<String> {
    let mut stream = TcpStream::connect(address)?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}
