//! Programs that make tasks when they are told to, and what is told of those.

use testbed::{
    Socket, Target,
    tokio::{self, Flavor},
};

use crate::{
    counted::Counted,
    support::{Daemon, taskleak},
};

/// A program that makes tasks when it is told to.
pub struct Maker {
    target: Target,
    socket: Socket,
}

impl Maker {
    pub fn start(test: &str, (version, flavor): (&str, Flavor), scenarios: &[&str]) -> Option<Self> {
        let socket = Socket::new(&format!("{test}-{version}-{flavor:?}"));
        let test = format!("tokio::{test} (tokio {version}, {flavor:?})");
        let started = tokio::build(version, flavor).and_then(|mut command| {
            tokio::answer_on(&mut command, &socket);
            Target::start_command(command, scenarios)
        });
        let target = testbed::or_skip(&test, started).unwrap_or_else(|error| panic!("{test}: {error:#}"))?;
        Some(Self { target, socket })
    }

    pub fn ask(&self, what: &str) {
        tokio::ask(&self.socket, what).unwrap();
    }

    pub fn pid(&self) -> u32 {
        self.target.pid()
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
