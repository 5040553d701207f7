//! Programs that make tasks when they are told to, and what is told of those.

use testbed::tokio::{self, Flavor, NEWEST, Served};

use crate::{
    counted::Counted,
    support::{Daemon, taskleak},
};

/// A program that makes tasks when it is told to.
pub struct Maker(Served);

impl Maker {
    pub fn start(test: &str, (version, flavor): (&str, Flavor), scenarios: &[&str]) -> Option<Self> {
        let started = Served::start(
            &format!("{test}-{version}-{flavor:?}"),
            version,
            flavor,
            scenarios,
        );
        Self::of(test, (version, flavor), started)
    }

    /// A small program of this name.
    pub fn start_small(name: &str, flavor: Flavor) -> Option<Self> {
        let socket = format!("{name}-{flavor:?}");
        let started =
            tokio::build_small(name, flavor).and_then(|program| Served::start_command(&socket, program, &[]));
        Self::of(name, (NEWEST, flavor), started)
    }

    fn of(test: &str, (version, flavor): (&str, Flavor), started: anyhow::Result<Served>) -> Option<Self> {
        let test = format!("tokio::{test} (tokio {version}, {flavor:?})");
        let served = testbed::or_skip(&test, started).unwrap_or_else(|error| panic!("{test}: {error:#}"))?;
        Some(Self(served))
    }

    pub fn ask(&self, what: &str) {
        self.0.ask(what).unwrap();
    }

    pub fn pid(&self) -> u32 {
        self.0.pid()
    }
}

/// What `stacks` prints of a process's tasks that asks the daemon at an address.
pub fn stacks_by(address: &str, pid: u32) -> String {
    let pid = pid.to_string();
    let output = taskleak(&["stacks", &pid, "--connect", address, "--kind", "tokio"]);
    String::from_utf8(output.stdout).unwrap()
}

/// What a daemon tells of a process's tasks.
pub fn counted(daemon: &Daemon, pid: u32) -> Counted<'_> {
    Counted {
        daemon,
        pid,
        kind: "tokio",
    }
}

/// The line of a source of the program's that is marked so.
pub fn line_of(source: &str, place: &str) -> usize {
    let mark = format!("// {place}");
    source.lines().position(|line| line.ends_with(&mark)).unwrap() + 1
}
