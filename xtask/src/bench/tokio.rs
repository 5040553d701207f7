//! Tokio tasks: a snapshot of many of them, beside what the runtime itself takes to dump them.

use std::{
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Result, bail};
use testbed::{
    Target,
    tokio::{self, Flavor, NEWEST, Served},
};

use super::{footprint::peak_kib, lateness, median, seconds, watch};
use crate::workspace;

const MANY: usize = 100_000;
const MOST: usize = 1_000_000;
const BURST: usize = 100_000;
const ROUNDS: usize = 3;
/// How long many are looked at, and most.
const SOME: Duration = Duration::from_secs(9);
const LONG: Duration = Duration::from_secs(36);

/// A program with so many stuck tasks of four kinds, a ticker that keeps how late it was at most, and the means to dump its
/// own tasks.
struct Load(Served);

impl Load {
    fn start(tasks: usize) -> Result<Self> {
        let each = tasks / 4;
        let args = ["mpsc_recv", "notify", "oneshot", "select"].map(|name| format!("{name}={each}"));
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let served = Served::start("bench-tokio", NEWEST, Flavor::Dumping, &args)?;
        std::thread::sleep(Duration::from_secs(2));
        Ok(Self(served))
    }

    fn ask(&self, what: &str) -> Result<Duration> {
        self.0.ask(what)
    }

    fn lateness(&self, during: Duration) -> Result<f64> {
        lateness(during, || self.ask("late"))
    }
}

/// Goals: a list of all tasks in under 100 ms, no delay above the noise floor.
pub fn tasks() -> Result<()> {
    println!("\n## Tokio: {MANY} stuck tasks");
    let load = Load::start(MANY)?;
    let idle = load.lateness(SOME)?;
    let mut looked = looks(&load, "500ms", SOME)?;
    load.ask("late")?;
    let dump = load.ask("dump")?;
    let dumped = load.ask("late")?.as_secs_f64() * 1e3;
    let (list, look) = (median(&mut looked.lists), median(&mut looked.looks));
    println!("                                    wall   a 1 ms ticker is late by at most");
    println!("nothing asked                            {idle:>11.2} ms");
    println!(
        "a list of all tasks            {:>6.1} ms (goal: 100)",
        list * 1e3
    );
    println!(
        "the first look, debug information read, all chains {:>6.1} ms",
        looked.first * 1e3
    );
    println!(
        "a look of `run`, two a second  {:>6.1} ms {:>10.2} ms",
        look * 1e3,
        looked.late
    );
    println!(
        "the runtime's own Handle::dump {:>6.1} ms {:>10.2} ms: ratio {:.1} to a look",
        dump.as_secs_f64() * 1e3,
        dumped,
        dump.as_secs_f64() / look
    );
    Ok(())
}

/// What a million of them take.
pub fn million() -> Result<()> {
    println!("\n## Tokio: {MOST} stuck tasks");
    let load = Load::start(MOST)?;
    let idle = load.lateness(LONG)?;
    let mut looked = looks(&load, "2s", LONG)?;
    println!(
        "a list {:.2} s, the first look {:.2} s, a later one {:.2} s; peak RSS {:.0} MiB, helper processes included; \
         ticker late by {:.2} ms at most (nothing asked: {idle:.2} ms)",
        median(&mut looked.lists),
        looked.first,
        median(&mut looked.looks),
        looked.peak / 1024.0,
        looked.late,
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
            .args(["--pid", &plain.0.pid().to_string()])
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
struct Instrumented(Served);

impl Instrumented {
    fn start(flavor: Flavor) -> Result<Self> {
        let mut command = tokio::build(NEWEST, flavor)?;
        // A port of its own, whoever else has tokio-console's.
        command.env("TOKIO_CONSOLE_BIND", "127.0.0.1:0");
        Served::start_command(&format!("bench-{flavor:?}"), command, &[]).map(Self)
    }

    /// ns of each.
    fn burst(&self) -> Result<f64> {
        let each = self.0.ask(&format!("burst {BURST}"))?;
        Ok(each.as_nanos() as f64)
    }
}

/// What a `run` said of its looks.
struct Looked {
    /// s, of each list of tasks.
    lists: Vec<f64>,
    /// s, of each look, and of the first one.
    looks: Vec<f64>,
    first: f64,
    /// KiB: what it all took at its peak.
    peak: f64,
    /// [`Load::lateness`] meanwhile.
    late: f64,
}

fn looks(load: &Load, interval: &str, during: Duration) -> Result<Looked> {
    let pid = load.0.pid().to_string();
    let mut child = watch(&pid, &["--interval", interval, "--blocked-after", "1s"])?;
    let late = load.lateness(during)?;
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
    let &[first, _, ..] = &looks[..] else {
        bail!("{} looks in {during:?}", looks.len());
    };
    Ok(Looked {
        lists,
        looks,
        first,
        peak,
        late,
    })
}
