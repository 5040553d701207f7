//! Making tokio tasks with and without the probes that count them.

use anyhow::Result;
use testbed::tokio::{Flavor, NEWEST, Served};

use super::counting::{self, Costs};

/// A million in all: more of them at once would be over any budget there is.
const COUNT: u64 = 250_000;
const ROUNDS: usize = 4;

/// Goals: at most 1.5 µs for each of the two; with the governor on, under 1 % of a core.
pub fn tokio_spawn() -> Result<()> {
    println!("\n## Making {COUNT} tokio tasks that end at once, {ROUNDS} rounds in turn");
    let served = Served::start("bench-tokio-spawn", NEWEST, Flavor::Release, &[])?;
    let costs = Costs {
        kind: "tokio",
        pid: served.pid(),
        count: COUNT,
        rounds: ROUNDS,
        goal: 3_000.0,
    };
    counting::measure(&costs, || {
        let each = served.ask(&format!("burst {COUNT}"))?;
        Ok(each.as_nanos() as f64)
    })
}
