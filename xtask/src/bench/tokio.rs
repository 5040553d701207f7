//! Tokio tasks: a snapshot of many of them, beside what the runtime itself takes to dump them.

use std::{
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Result, bail};
use testbed::{
    Socket, Target,
    tokio::{self, Flavor, NEWEST},
};

use super::{footprint::peak_kib, median, seconds};
use crate::workspace;

const MANY: usize = 100_000;
const MOST: usize = 1_000_000;
const BURST: usize = 100_000;
const ROUNDS: usize = 3;

/// A program with so many stuck tasks of four kinds, a ticker that keeps how late it was at most, and the means to dump its
/// own tasks.
struct Load {
    target: Target,
    socket: Socket,
}

impl Load {
    fn start(tasks: usize) -> Result<Self> {
        let socket = Socket::new("bench-tokio");
        let each = tasks / 4;
        let args = ["mpsc_recv", "notify", "oneshot", "select"].map(|name| format!("{name}={each}"));
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let mut command = tokio::build(NEWEST, Flavor::Dumping)?;
        tokio::answer_on(&mut command, &socket);
        let target = Target::start_command(command, &args)?;
        std::thread::sleep(Duration::from_secs(2));
        Ok(Self { target, socket })
    }

    fn ask(&self, what: &str) -> Result<Duration> {
        tokio::ask(&self.socket, what)
    }
}

/// Goals: a list of all tasks in under 100 ms, no delay above the noise floor.
pub fn tasks() -> Result<()> {
    println!("\n## Tokio: {MANY} stuck tasks");
    let load = Load::start(MANY)?;
    load.ask("late")?;
    std::thread::sleep(Duration::from_secs(8));
    let idle = load.ask("late")?;
    let (mut lists, mut looks, _) = looks(load.target.pid(), "500ms", Duration::from_secs(8))?;
    let watched = load.ask("late")?;
    let dump = load.ask("dump")?;
    let dumped = load.ask("late")?;
    let first = looks.first().copied().unwrap_or_default();
    let (list, look) = (median(&mut lists), median(&mut looks));
    let late = |late: Duration| late.as_secs_f64() * 1e3;
    println!("                                    wall   a 1 ms ticker is late by at most");
    println!("nothing asked, 8 s                       {:>11.2} ms", late(idle));
    println!(
        "a list of all tasks            {:>6.1} ms (goal: 100)",
        list * 1e3
    );
    println!(
        "the first look, debug information read, all chains {:>6.1} ms",
        first * 1e3
    );
    println!(
        "a look of `run`, 8 s of them   {:>6.1} ms {:>10.2} ms",
        look * 1e3,
        late(watched)
    );
    println!(
        "the runtime's own Handle::dump {:>6.1} ms {:>10.2} ms: ratio {:.1} to a look",
        dump.as_secs_f64() * 1e3,
        late(dumped),
        dump.as_secs_f64() / look
    );
    Ok(())
}

/// What a million of them take.
pub fn million() -> Result<()> {
    println!("\n## Tokio: {MOST} stuck tasks");
    let load = Load::start(MOST)?;
    load.ask("late")?;
    std::thread::sleep(Duration::from_secs(8));
    let idle = load.ask("late")?;
    let (mut lists, mut looks, peak) = looks(load.target.pid(), "2s", Duration::from_secs(30))?;
    let late = load.ask("late")?;
    let first = looks.first().copied().unwrap_or_default();
    println!(
        "a list {:.2} s, the first look {first:.2} s, a later one {:.2} s; peak RSS {:.0} MiB, helper processes included; \
         ticker late by {:.2} ms at most (nothing asked: {:.2} ms)",
        median(&mut lists),
        median(&mut looks),
        peak / 1024.0,
        late.as_secs_f64() * 1e3,
        idle.as_secs_f64() * 1e3
    );
    Ok(())
}

/// What a program pays for being seen: the same one, plain, watched by us, and instrumented for tokio-console.
pub fn console() -> Result<()> {
    println!("\n## Tokio: what a program pays, {ROUNDS} rounds in turn of {BURST} tasks that end at once");
    let plain = Instrumented::start(Flavor::Release)?;
    let console = Instrumented::start(Flavor::Console)?;
    let (mut alone, mut watched, mut instrumented) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        alone.push(plain.burst()?);
        instrumented.push(console.burst()?);
        let mut watcher = Command::new(workspace::taskleak())
            .args(["run", "--listen", "127.0.0.1:0", "--interval", "3s"])
            .args(["--pid", &plain.target.pid().to_string()])
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        std::thread::sleep(Duration::from_secs(2));
        let burst = plain.burst();
        watcher.kill()?;
        watcher.wait()?;
        watched.push(burst?);
    }
    let [alone, watched, instrumented] = [alone, watched, instrumented].map(|mut times| median(&mut times));
    println!("plain                  {alone:>8.0} ns a task");
    println!("watched by taskleak    {watched:>8.0} ns");
    println!("with console-subscriber{instrumented:>8.0} ns");
    let memory = |flavor| -> Result<f64> {
        let target = Target::start_command(tokio::build(NEWEST, flavor)?, &[&format!("notify={MANY}")])?;
        std::thread::sleep(Duration::from_secs(3));
        peak_kib(target.pid())
    };
    println!(
        "{MANY} stuck tasks take {:.0} MiB in the plain program, {:.0} MiB in the instrumented one",
        memory(Flavor::Release)? / 1024.0,
        memory(Flavor::Console)? / 1024.0
    );
    Ok(())
}

/// A program that makes tasks when it is asked to.
struct Instrumented {
    target: Target,
    socket: Socket,
}

impl Instrumented {
    fn start(flavor: Flavor) -> Result<Self> {
        let socket = Socket::new(&format!("bench-{flavor:?}"));
        let mut command = tokio::build(NEWEST, flavor)?;
        tokio::answer_on(&mut command, &socket);
        // A port of its own, whoever else has tokio-console's.
        command.env("TOKIO_CONSOLE_BIND", "127.0.0.1:0");
        let target = Target::start_command(command, &[])?;
        Ok(Self { target, socket })
    }

    /// ns of each.
    fn burst(&self) -> Result<f64> {
        let each = tokio::ask(&self.socket, &format!("burst {BURST}"))?;
        Ok(each.as_nanos() as f64)
    }
}

/// s: how long the lists of tasks took, and how long all of each look, the first one first; KiB: what it all took at its peak.
fn looks(pid: u32, interval: &str, during: Duration) -> Result<(Vec<f64>, Vec<f64>, f64)> {
    let mut child = Command::new(workspace::taskleak())
        .args(["--log", "debug", "run", "--listen", "127.0.0.1:0"])
        .args([
            "--pid",
            &pid.to_string(),
            "--interval",
            interval,
            "--blocked-after",
            "1s",
        ])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    std::thread::sleep(during);
    let peak = peak_kib(child.id())?;
    child.kill()?;
    let output = child.wait_with_output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    let (mut lists, mut looks) = (Vec::new(), Vec::new());
    for line in said.lines() {
        let Some((_, times)) = line.split_once(" tokio tasks read in ") else {
            continue;
        };
        let (list, look) = times.split_once(", the rest until ").unwrap_or_default();
        lists.extend(seconds(list));
        looks.extend(seconds(look));
    }
    if looks.len() < 2 {
        bail!("{} looks in {during:?}", looks.len());
    }
    Ok((lists, looks, peak))
}
