//! Making goroutines with and without the probes that count them.

use std::{fs, os::unix::net::UnixStream, path::PathBuf};

use anyhow::{Context as _, Result, bail};
use testbed::{
    Target,
    go::{self, Flavor},
};

use super::counting::{self, Costs, get};

const VERSION: &str = "1.27";
/// A million in all: more of them at once would be over any budget there is.
const COUNT: u64 = 250_000;
const ROUNDS: usize = 4;

/// Goals: at most 2 µs for the pair; with the governor on, under 1 % of a core.
pub fn go_spawn() -> Result<()> {
    println!("\n## Making {COUNT} goroutines that end at once, {ROUNDS} rounds in turn");
    let load = Load::start()?;
    let costs = Costs {
        kind: "goroutine",
        pid: load.target.pid(),
        count: COUNT,
        rounds: ROUNDS,
        goal: 2_000.0,
    };
    counting::measure(&costs, || load.burst())
}

struct Load {
    target: Target,
    socket: PathBuf,
}

impl Load {
    fn start() -> Result<Self> {
        let socket = std::env::temp_dir().join(format!("taskleak-bench-{}", std::process::id()));
        let _ = fs::remove_file(&socket);
        let pprof = format!("pprof={}", socket.display());
        let target = Target::start_command(go::build(VERSION, Flavor::Plain)?, &[&pprof, "sleep=1"])?;
        Ok(Self { target, socket })
    }

    /// ns to make one and let it end.
    fn burst(&self) -> Result<f64> {
        let stream = UnixStream::connect(&self.socket).context("connecting to the program")?;
        let answer = get(stream, &format!("/burst?count={COUNT}"))?;
        let [sum, ns] = answer.split_whitespace().collect::<Vec<_>>()[..] else {
            bail!("the program says {answer:?}");
        };
        // That it did its work under the probes too.
        if sum.parse() != Ok(COUNT * (COUNT - 1) / 2) {
            bail!("the program's sum is {sum}");
        }
        Ok(ns.parse()?)
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.socket);
    }
}
