//! Goroutines: a full grouped snapshot with stacks beside the program's own profiles, and a million of them.

use std::{
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use testbed::{
    Socket, Target,
    go::{self, Flavor},
};

use super::{lateness, median, seconds, watch};
use crate::workspace;

const VERSION: &str = "1.27";
const ROUNDS: usize = 5;
const MANY: usize = 100_000;
/// How long `run` looks at them.
const WATCHED: Duration = Duration::from_secs(8);
const MOST: usize = 1_000_000;

/// A program with so many blocked goroutines of four kinds, its profiles on a socket, and a ticker that keeps how
/// late it was at most.
struct Load {
    target: Target,
    socket: Socket,
}

impl Load {
    fn start(goroutines: usize) -> Result<Self> {
        let socket = Socket::new("bench-go");
        let each = goroutines / 4;
        let args = [
            format!("pprof={}", socket.path()),
            format!("chan_receive={each}"),
            format!("select={each}"),
            format!("mutex={each}"),
            format!("waitgroup={each}"),
            "latency=1".to_owned(),
        ];
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let target = Target::start_command(go::build(VERSION, Flavor::Plain)?, &args)?;
        std::thread::sleep(Duration::from_secs(2));
        Ok(Self { target, socket })
    }

    fn get(&self, path: &str) -> Result<Vec<u8>> {
        let mut stream = UnixStream::connect(self.socket.path()).context("connecting to the program")?;
        write!(stream, "GET {path} HTTP/1.0\r\n\r\n")?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        Ok(answer)
    }

    /// The longest that the ticker was late since the last call.
    fn latency(&self) -> Result<Duration> {
        let answer = String::from_utf8(self.get("/latency")?)?;
        let nanoseconds = answer.trim().rsplit('\n').next().unwrap_or_default();
        Ok(Duration::from_nanos(nanoseconds.trim().parse()?))
    }

    fn pid(&self) -> String {
        self.target.pid().to_string()
    }
}

/// Goals: 20 times faster than debug=2, faster than debug=1, no delay above the noise floor; `stacks` as text, the whole
/// command, within a second.
pub fn snapshot() -> Result<()> {
    println!("\n## Goroutines: {MANY} blocked ones, {ROUNDS} rounds");
    let load = Load::start(MANY)?;
    let pid = load.pid();
    let (mut ours, mut whole, mut debug1, mut debug2) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut late = [const { Vec::new() }; 5];
    let (mut stacks, mut one_look) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        load.latency()?;
        let taken = take(&pid)?;
        ours.push(taken.looks);
        whole.push(taken.wall);
        late[1].push(load.latency()?.as_secs_f64());
        // The longer one waits, the later it is at most: as long as the whole command took.
        std::thread::sleep(Duration::from_secs_f64(taken.wall));
        late[0].push(load.latency()?.as_secs_f64());
        let timed = |path: &str| -> Result<f64> {
            let begun = Instant::now();
            load.get(path)?;
            Ok(begun.elapsed().as_secs_f64())
        };
        debug1.push(timed("/debug/pprof/goroutine?debug=1")?);
        late[2].push(load.latency()?.as_secs_f64());
        debug2.push(timed("/debug/pprof/goroutine?debug=2")?);
        late[3].push(load.latency()?.as_secs_f64());
        let shown = show_all(&pid, MANY)?;
        stacks.push(shown.wall);
        one_look.push(shown.look.wall);
        late[4].push(load.latency()?.as_secs_f64());
    }
    let [ours, whole, debug1, debug2] = [ours, whole, debug1, debug2].map(|mut times| median(&mut times));
    let [stacks, one_look] = [stacks, one_look].map(|mut times| median(&mut times));
    let known = known_looks(&pid)?;
    let [idle, own, one, two, all] = late.map(|mut late| median(&mut late) * 1e3);
    println!(
        "                                    wall   a 1 ms ticker is late by (nothing asked: {idle:.2} ms)"
    );
    let row = |what: &str, time: f64, late: f64| println!("{what:<30}{:>8.1} ms {late:>8.2} ms", time * 1e3);
    row("the first look, all stacks", one_look, all);
    println!("    (at a program that was not seen before: its tables are found and checked)");
    println!("{:<30}{:>8.1} ms", "one look, all stacks, names", known * 1e3);
    row("two looks, which tell who waits", ours, own);
    let unwatched = lateness(WATCHED, || load.latency())?;
    let (later, watched) = later_look(&load)?;
    row("a look of `run`, all is known", later, watched);
    println!(
        "    (median of sixths of {WATCHED:?}, two looks a second; while nobody looks for as long: {unwatched:.2} ms)"
    );
    row("goroutine?debug=1", debug1, one);
    row("goroutine?debug=2", debug2, two);
    row("taskleak stacks, as text", stacks, all);
    println!(
        "stacks: ratio {:.1} to debug=2 (goal: under 1 s beside it)",
        debug2 / stacks
    );
    println!(
        "one look: ratio {:.1} to debug=2 (goal: 20), {:.1} to debug=1 (goal: 1); the first one: {:.1} and {:.1}",
        debug2 / known,
        debug1 / known,
        debug2 / one_look,
        debug1 / one_look
    );
    println!(
        "two looks: ratio {:.1} to debug=2 (goal: 20), {:.1} to debug=1 (goal: 1); a later one: {:.1} and {:.1}",
        debug2 / ours,
        debug1 / ours,
        debug2 / later,
        debug1 / later
    );
    println!(
        "the whole command, eBPF programs loaded and judged included: {:.0} ms",
        whole * 1e3
    );
    Ok(())
}

/// Goals: the `g` structures in under 0.5 s, whole groups in under 2 s, under 1 GiB copied by one look with all stacks, RSS
/// under 300 MiB.
pub fn million() -> Result<()> {
    println!("\n## Goroutines: {MOST} blocked ones, 3 rounds");
    let load = Load::start(MOST)?;
    let (mut looks, mut reads, mut whole, mut most_copied) = (Vec::new(), Vec::new(), Vec::new(), 0);
    for _ in 0..3 {
        load.latency()?;
        let taken = take(&load.pid())?;
        println!(
            "two looks with all stacks {:>6.2} s, whole command {:>6.2} s, CPU {:>6.2} s, peak RSS {:>4} MiB, \
             ticker late by {:.2} ms, {} and {} MiB copied",
            taken.looks,
            taken.wall,
            taken.cpu,
            taken.peak_rss_kib / 1024,
            load.latency()?.as_secs_f64() * 1e3,
            taken.copied[0],
            taken.copied[1],
        );
        looks.push(taken.looks);
        reads.extend(taken.read);
        let Look { wall, copied, .. } = show_all(&load.pid(), MOST)?.look;
        println!("one look, all stacks       {wall:>6.2} s, {copied:>6} MiB copied");
        whole.push(wall);
        most_copied = most_copied.max(copied);
    }
    println!(
        "median {:.2} s of two looks, {:.2} s of one (goal: 2), the g structures {:.2} s (goal: 0.5), RSS (goal: 300 MiB), \
         {most_copied} MiB copied by one look with all stacks (goal: 1024)",
        median(&mut looks),
        median(&mut whole),
        median(&mut reads)
    );
    Ok(())
}

struct Shown {
    /// s, of the whole command.
    wall: f64,
    look: Look,
}

/// At all goroutines.
struct Look {
    /// s
    wall: f64,
    /// s until the last goroutine was read, and its stack if all stacks are.
    read: f64,
    /// MiB that were copied from the program.
    copied: u64,
}

struct Taken {
    /// s, of the whole command.
    wall: f64,
    /// s, of its looks at goroutines, together.
    looks: f64,
    /// s, by each of them until all goroutines were read.
    read: [f64; 2],
    /// MiB, by each of them.
    copied: [u64; 2],
    /// s, helper processes included.
    cpu: f64,
    /// Of the monitor, or of a helper if that is more.
    peak_rss_kib: u64,
}

/// `taskleak stacks`; all goroutines must be in what it prints.
fn show_all(pid: &str, goroutines: usize) -> Result<Shown> {
    let begun = Instant::now();
    let output = Command::new(workspace::taskleak())
        .args(["--log", "debug", "stacks", pid])
        .stdin(Stdio::null())
        .output()?;
    let wall = begun.elapsed().as_secs_f64();
    let text = String::from_utf8_lossy(&output.stdout);
    let each = goroutines / 4;
    if !output.status.success() || !text.contains(&format!("\n{each} goroutines: select")) {
        bail!(
            "stacks: {}: {}",
            output.status,
            text.lines().next().unwrap_or_default()
        );
    }
    let look = looks(&output.stderr, WHOLE).pop();
    let look = look.context("stacks does not say how long it looked")?;
    Ok(Shown { wall, look })
}

/// At which all was told of all goroutines.
const WHOLE: &str = " goroutines with all their stacks ";
/// Any other one.
const USUAL: &str = " goroutines read in ";

/// The looks that a log tells of.
fn looks(log: &[u8], which: &str) -> Vec<Look> {
    let look = |line: &str| {
        let (before, _) = line.split_once(" MiB copied, ")?;
        let (_, read) = line.split_once(" read in ")?;
        Some(Look {
            wall: seconds(line.rsplit(' ').next()?)?,
            read: seconds(read.split(',').next()?)?,
            copied: before.rsplit(' ').next()?.parse().ok()?,
        })
    };
    String::from_utf8_lossy(log)
        .lines()
        .filter(|line| line.contains(which))
        .filter_map(look)
        .collect()
}

/// s, the median of whole looks of a daemon, which has seen the program before.
fn known_looks(pid: &str) -> Result<f64> {
    let socket = Socket::new("bench-go-daemon");
    let options = [
        "--interval",
        "60s",
        "--no-spawn-probes",
        "--socket",
        socket.path(),
    ];
    let mut daemon = watch(pid, &options)?;
    std::thread::sleep(Duration::from_secs(3));
    let mut is_answered = true;
    for _ in 0..=ROUNDS {
        let mut asked = Command::new(workspace::taskleak());
        asked.args(["stacks", pid, "--connect", &format!("unix:{}", socket.path())]);
        is_answered &= asked.stdout(Stdio::null()).status()?.success();
    }
    daemon.kill()?;
    let looks = looks(&daemon.wait_with_output()?.stderr, WHOLE);
    let mut looks: Vec<f64> = looks.into_iter().map(|look| look.wall).collect();
    if !is_answered || looks.len() <= ROUNDS {
        bail!("a daemon was asked for all stacks: {} answers", looks.len());
    }
    // The first one may have met the program.
    Ok(median(&mut looks[1..]))
}

/// A `snapshot` whose two looks follow each other at once: it has the groups and stacks of all that waits at all.
fn take(pid: &str) -> Result<Taken> {
    let time = workspace::find_in_path("time").unwrap_or_else(|| Path::new("/usr/bin/time").to_owned());
    if !time.exists() {
        bail!("no /usr/bin/time: apt-get install time");
    }
    let mut command = Command::new(time);
    command.args(["-f", "%U %S %M"]).arg(workspace::taskleak());
    command.args(["--log", "debug", "snapshot", "--pid", pid, "--observe", "1ms"]);
    command.args(["--blocked-after", "1ms", "--no-spawn-probes", "--format", "json"]);
    let begun = Instant::now();
    let output = command.stdin(Stdio::null()).output()?;
    let wall = begun.elapsed().as_secs_f64();
    if !output.status.success() {
        bail!("{command:?}: {}", output.status);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let looks = looks(&output.stderr, USUAL);
    let last = said.lines().last().unwrap_or_default();
    let numbers: Vec<f64> = last.split(' ').filter_map(|number| number.parse().ok()).collect();
    let (&[user, system, rss], [first, second]) = (&numbers[..], &looks[..]) else {
        bail!("time says {last:?}, and there were {} looks", looks.len());
    };
    Ok(Taken {
        wall,
        looks: first.wall + second.wall,
        read: [first.read, second.read],
        copied: [first.copied, second.copied],
        cpu: user + system,
        peak_rss_kib: rss as u64,
    })
}

/// s, the median of the looks of a `run` that knows all stacks already, and the ticker's [`lateness`] meanwhile.
fn later_look(load: &Load) -> Result<(f64, f64)> {
    let options = [
        "--interval",
        "500ms",
        "--blocked-after",
        "500ms",
        "--no-spawn-probes",
    ];
    let mut child = watch(&load.pid(), &options)?;
    let late = lateness(WATCHED, || load.latency());
    child.kill()?;
    let output = child.wait_with_output()?;
    let looks = looks(&output.stderr, " 0 stacks until ");
    let mut looks: Vec<f64> = looks.into_iter().map(|look| look.wall).collect();
    if looks.is_empty() {
        bail!("no look without new stacks");
    }
    Ok((median(&mut looks), late?))
}
