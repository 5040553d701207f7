//! What it costs a program that its tasks are counted: with and without the probes, and with their governor.

use std::{
    io::{BufRead as _, BufReader, Read, Write},
    net::TcpStream,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use super::median;
use crate::workspace;

const PATIENCE: Duration = Duration::from_secs(20);
/// How long a process is left alone that was over its budget, at least.
const PAUSE: f64 = 60.0;

/// What is measured.
pub struct Costs {
    /// As in the metrics.
    pub kind: &'static str,
    pub pid: u32,
    /// Tasks that are made and end in one burst.
    pub count: u64,
    pub rounds: usize,
    /// ns that the pair of probes may cost a task.
    pub goal: f64,
}

/// `burst` makes tasks that end at once: ns of each.
pub fn measure(costs: &Costs, burst: impl Fn() -> Result<f64>) -> Result<()> {
    let Costs { kind, count, .. } = costs;
    let (mut plain, mut swept, mut probed) = (Vec::new(), Vec::new(), Vec::new());
    burst()?;
    for _ in 0..costs.rounds {
        plain.push(burst()?);
        let watcher = Watcher::start(costs, &["--interval", "3s", "--no-spawn-probes"])?;
        swept.push(burst()?);
        drop(watcher);
        // A budget that is not reached: the cost of the probes themselves.
        let watcher = Watcher::start(costs, &["--interval", "3s", "--probe-budget", "100%"])?;
        watcher.until_active(true)?;
        probed.push(burst()?);
        watcher.until_counted(2 * count)?;
    }
    let [plain, swept, probed] = [plain, swept, probed].map(|mut times| median(&mut times));
    println!("nobody watches                  {plain:>8.0} ns a {kind}");
    println!("taskleak --no-spawn-probes      {swept:>8.0} ns");
    println!("taskleak --probe-budget 100%    {probed:>8.0} ns");
    let pair = probed - swept;
    println!(
        "the pair of probes              {pair:>8.0} ns (goal: at most {})",
        costs.goal
    );
    let watcher = Watcher::start(costs, &["--interval", "300ms"])?;
    watcher.until_active(true)?;
    let first = burst()?;
    watcher.until_active(false)?;
    watcher.until_counted(1)?;
    let runs = watcher.runs()?;
    let later = burst()?;
    let taken = runs as f64 * pair / 2.0 * 1e-9;
    println!(
        "taskleak (budget 1%)            {first:>8.0} ns, then taken off: {later:.0} ns; the probes ran {runs} times, which took \
         {:.0} ms: {:.2} % of a core until they are tried again (goal: 1)",
        taken * 1e3,
        taken / PAUSE * 100.0
    );
    Ok(())
}

/// A `taskleak run`.
struct Watcher {
    child: Child,
    address: String,
    /// The label of what is counted.
    label: String,
}

impl Watcher {
    fn start(costs: &Costs, options: &[&str]) -> Result<Self> {
        let pid = costs.pid.to_string();
        let mut child = Command::new(workspace::taskleak())
            .args(["run", "--listen", "127.0.0.1:0", "--pid", &pid])
            .args(options)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        let stderr = child.stderr.take().context("no stderr")?;
        let mut lines = BufReader::new(stderr).lines().map_while(Result::ok);
        let address = lines.find_map(|line| {
            let (_, rest) = line.split_once("http://")?;
            Some(rest.split('/').next()?.to_owned())
        });
        // What it says later is read, so that it never waits for us.
        std::thread::spawn(move || lines.for_each(drop));
        let mut watcher = Self {
            child,
            address: String::new(),
            label: format!("kind=\"{}\"", costs.kind),
        };
        watcher.address = address.context("taskleak has ended")?;
        Ok(watcher)
    }

    /// Sum of the samples of these tasks whose lines begin so; `None` without any.
    fn sum(&self, start: &str) -> Result<Option<f64>> {
        let metrics = get(TcpStream::connect(&self.address)?, "/metrics")?;
        let is_meant = |line: &&str| line.starts_with(start) && line.contains(&self.label);
        let values = metrics.lines().filter(is_meant).filter_map(|line| {
            let value: f64 = line.rsplit(' ').next()?.parse().ok()?;
            Some(value)
        });
        Ok(values.fold(None, |sum, value| Some(sum.unwrap_or(0.0) + value)))
    }

    fn until_active(&self, active: bool) -> Result<()> {
        let wanted = Some(f64::from(u8::from(active)));
        until("switched", || {
            Ok(self.sum("taskleak_spawn_probes_active{")? == wanted)
        })
    }

    /// How often the probes have run, as far as it has told.
    fn runs(&self) -> Result<u64> {
        let spawned = self.sum("taskleak_tasks_spawned_total{")?;
        let exited = self.sum("taskleak_tasks_exited_total{")?;
        Ok((spawned.unwrap_or(0.0) + exited.unwrap_or(0.0)) as u64)
    }

    fn until_counted(&self, runs: u64) -> Result<()> {
        until("counted", || Ok(self.runs()? >= runs))
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn until(what: &str, condition: impl Fn() -> Result<bool>) -> Result<()> {
    let begun = Instant::now();
    while !condition()? {
        if begun.elapsed() > PATIENCE {
            bail!("not {what} within {PATIENCE:?}");
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// The body of what is answered.
pub fn get(mut stream: impl Read + Write, path: &str) -> Result<String> {
    write!(
        stream,
        "GET {path} HTTP/1.0\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (_, body) = answer.split_once("\r\n\r\n").context("no answer")?;
    Ok(body.to_owned())
}
