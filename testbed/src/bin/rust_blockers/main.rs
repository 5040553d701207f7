//! rust_blockers NAME=COUNT... for Rust's standard library, and with nothing but it: the library of this
//! package compiles it by rustc alone. The contract is that of the C program (see the README).
//!
//! A scenario NAME has `leak_NAME` (or `idle_NAME`, when it is healthy), a function of its own that makes the
//! blocking call, and `spawn_NAME`. None of these calls is the last thing that its function does, for it
//! could become a jump and leave no frame.

mod bed;
mod healthy;
mod waits;

use std::io::Write;
use std::process::exit;

const MAX_COUNT: u32 = 20_000;

type Scenario = (&'static str, fn(u32));

const SCENARIOS: [Scenario; 13] = [
    ("mutex", waits::spawn_mutex),
    ("condvar", waits::spawn_condvar),
    ("mpsc_recv", waits::spawn_mpsc_recv),
    ("sync_send", waits::spawn_sync_send),
    ("park", waits::spawn_park),
    ("join_handle", waits::spawn_join_handle),
    ("rwlock", waits::spawn_rwlock),
    ("barrier", waits::spawn_barrier),
    ("once", waits::spawn_once),
    ("timed_condvar", healthy::spawn_timed_condvar),
    ("timed_recv", healthy::spawn_timed_recv),
    ("timed_park", healthy::spawn_timed_park),
    ("sleep", healthy::spawn_sleep),
];

/// How many threads of each scenario are asked for.
fn parse(args: impl Iterator<Item = String>) -> Result<[u32; SCENARIOS.len()], String> {
    let mut counts = [0; SCENARIOS.len()];
    for arg in args {
        let (name, count) = arg
            .split_once('=')
            .ok_or(format!("`{arg}`: not of the form NAME=COUNT"))?;
        let index = SCENARIOS
            .iter()
            .position(|scenario| scenario.0 == name)
            .ok_or(format!(
                "`{arg}`: no such scenario (without arguments the names are listed)"
            ))?;
        if counts[index] != 0 {
            return Err(format!("`{arg}`: named twice"));
        }
        counts[index] = match count.parse() {
            Ok(count @ 1..=MAX_COUNT) => count,
            _ => {
                return Err(format!(
                    "`{arg}`: the count is not a number from 1 to {MAX_COUNT}"
                ));
            }
        };
    }
    Ok(counts)
}

fn main() {
    if std::env::args().len() < 2 {
        eprintln!("usage: rust_blockers NAME=COUNT...");
        for (name, _) in SCENARIOS {
            eprintln!("  {name}");
        }
        exit(2);
    }
    let counts = parse(std::env::args().skip(1)).unwrap_or_else(|why| {
        eprintln!("rust_blockers: {why}");
        exit(2)
    });
    for ((_, spawn), count) in SCENARIOS.iter().zip(counts) {
        if count > 0 {
            spawn(count);
        }
    }
    bed::wait_for_arrivals();
    println!("ready");
    if let Err(error) = std::io::stdout().flush() {
        eprintln!("rust_blockers: stdout: {error}");
        exit(1);
    }
    bed::sleep_forever();
}
