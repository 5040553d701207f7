//! Goroutines: a full grouped snapshot with stacks beside the program's own profiles, and a million of them.

use std::{
    fs,
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use testbed::{
    Target,
    go::{self, Flavor},
};

use super::median;
use crate::workspace;

const VERSION: &str = "1.27";
const ROUNDS: usize = 5;
/// Of which a snapshot's whole command is measured beside an empty one of the same kind.
const MANY: usize = 100_000;
const MOST: usize = 1_000_000;

/// A program with so many blocked goroutines of four kinds, its profiles on a socket, and a ticker that keeps how
/// late it was at most.
struct Load {
    target: Target,
    socket: PathBuf,
}

impl Load {
    fn start(goroutines: usize) -> Result<Self> {
        let socket = std::env::temp_dir().join(format!("taskleak-bench-{}", std::process::id()));
        let _ = fs::remove_file(&socket);
        let each = goroutines / 4;
        let args = [
            format!("pprof={}", socket.display()),
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
        let mut stream = UnixStream::connect(&self.socket).context("connecting to the program")?;
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

impl Drop for Load {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.socket);
    }
}

/// Goals: 20 times faster than debug=2, faster than debug=1, no delay above the noise floor.
pub fn snapshot() -> Result<()> {
    println!("\n## Goroutines: {MANY} blocked ones, {ROUNDS} rounds");
    let load = Load::start(MANY)?;
    let pid = load.pid();
    let (mut whole, mut debug1, mut debug2) = (Vec::new(), Vec::new(), Vec::new());
    let mut late = [Vec::new(), Vec::new(), Vec::new(), Vec::new()];
    for _ in 0..ROUNDS {
        load.latency()?;
        std::thread::sleep(Duration::from_millis(500));
        late[0].push(load.latency()?.as_secs_f64());
        whole.push(seconds(&pid)?.0);
        late[1].push(load.latency()?.as_secs_f64());
        let timed = |path: &str| -> Result<f64> {
            let begun = Instant::now();
            load.get(path)?;
            Ok(begun.elapsed().as_secs_f64())
        };
        debug1.push(timed("/debug/pprof/goroutine?debug=1")?);
        late[2].push(load.latency()?.as_secs_f64());
        debug2.push(timed("/debug/pprof/goroutine?debug=2")?);
        late[3].push(load.latency()?.as_secs_f64());
    }
    let (whole, debug1, debug2) = (median(&mut whole), median(&mut debug1), median(&mut debug2));
    let [idle, ours, one, two] = late.map(|mut late| median(&mut late) * 1e3);
    println!(
        "                                     wall     1 ms ticker late by (nothing asked: {idle:.2} ms)"
    );
    println!(
        "taskleak snapshot, whole command {:>8.1} ms  {ours:>8.2} ms",
        whole * 1e3
    );
    println!(
        "goroutine?debug=1                {:>8.1} ms  {one:>8.2} ms",
        debug1 * 1e3
    );
    println!(
        "goroutine?debug=2                {:>8.1} ms  {two:>8.2} ms",
        debug2 * 1e3
    );
    println!(
        "ratio {:.1} to debug=2 (goal: 20), {:.1} to debug=1 (goal: 1)",
        debug2 / whole,
        debug1 / whole
    );
    Ok(())
}

/// Goals: whole groups in under 2 s, RSS under 300 MiB.
pub fn million() -> Result<()> {
    println!("\n## Goroutines: {MOST} blocked ones, 3 rounds");
    let load = Load::start(MOST)?;
    let mut wall = Vec::new();
    for _ in 0..3 {
        let (seconds, usage) = seconds(&load.pid())?;
        println!(
            "whole command {:>7.2} s, CPU {:>6.2} s, peak RSS of the monitor {:>5} MiB, ticker late by {:.2} ms",
            seconds,
            usage.cpu,
            usage.peak_rss_kib / 1024,
            load.latency()?.as_secs_f64() * 1e3
        );
        wall.push(seconds);
    }
    println!("median {:.2} s (goal: 2), RSS (goal: 300 MiB)", median(&mut wall));
    Ok(())
}

struct Usage {
    cpu: f64,
    peak_rss_kib: u64,
}

/// Wall time of a whole `snapshot` whose two looks follow each other at once: it has the groups and stacks of all
/// that waits for 0 s. Its CPU time is with that of its helpers.
fn seconds(pid: &str) -> Result<(f64, Usage)> {
    let time = workspace::find_in_path("time").unwrap_or_else(|| Path::new("/usr/bin/time").to_owned());
    if !time.exists() {
        bail!("no /usr/bin/time: apt-get install time");
    }
    let mut command = Command::new(time);
    command.args(["-f", "%U %S %M"]).arg(workspace::taskleak());
    command.args([
        "snapshot",
        "--pid",
        pid,
        "--observe",
        "1ms",
        "--blocked-after",
        "1ms",
    ]);
    command.args(["--no-spawn-probes", "--format", "json"]);
    let begun = Instant::now();
    let output = command.stdin(Stdio::null()).output()?;
    let took = begun.elapsed().as_secs_f64();
    if !output.status.success() {
        bail!("{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let last = said.lines().last().unwrap_or_default();
    let numbers: Vec<f64> = last.split(' ').filter_map(|number| number.parse().ok()).collect();
    let [user, system, rss] = numbers[..] else {
        bail!("time says {last:?}");
    };
    let usage = Usage {
        cpu: user + system,
        peak_rss_kib: rss as u64,
    };
    Ok((took, usage))
}
