//! The programs, and the commands that start them.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::compile::up_to_date;
use crate::folders::{self, find_in_path};
use crate::recipes::{self, Recipe};
use crate::scenario::Scenario;
use crate::scenarios;
use crate::unsupported::Unsupported;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Program {
    CBlockers,
    /// The same as a 32-bit program.
    CBlockers32,
    CppBlockers,
    RustBlockers,
    PythonBlockers,
    JavaBlockers,
    /// Two threads that hand a token to and fro by futexes for so many seconds: the load of the benches. It
    /// does not say `ready`, but `round_trips N` at its end.
    PingPong,
    /// A small job server that leaks a thread each second.
    Demo,
    /// Creates threads, in a burst or steadily, from two places (c/spawner.c).
    Spawner,
    /// The same as a static program of glibc's, and of musl's.
    SpawnerStatic,
    SpawnerMusl,
    /// Creates threads of every kind of callable (cpp/spawner.cc, rust/spawner.rs).
    CppSpawner,
    RustSpawner,
    /// A static program of musl with a thread that waits for each kind of its locks.
    MuslLocks,
}

/// What every JVM of ours is told: no threads but the indispensable (see the README), no files in /tmp.
const JVM_FLAGS: [&str; 4] = ["-Xint", "-XX:+UseSerialGC", "-XX:-UsePerfData", "-Xmx128m"];

/// The system's own: another one that comes first in `PATH` may wait in other ways.
const PYTHON: &str = "/usr/bin/python3";

impl Program {
    /// Those that take `NAME=COUNT`.
    pub const BLOCKERS: [Self; 6] = [
        Self::CBlockers,
        Self::CBlockers32,
        Self::CppBlockers,
        Self::RustBlockers,
        Self::PythonBlockers,
        Self::JavaBlockers,
    ];

    /// A command that starts it, compiled anew if its sources have changed. The error is [`Unsupported`]
    /// where a compiler or an interpreter is missing.
    pub fn build(self) -> Result<Command> {
        match self {
            Self::CBlockers => self.compiled(&recipes::blockers()),
            Self::CBlockers32 => self.compiled(&recipes::blockers32()),
            Self::CppBlockers => self.compiled(&recipes::cpp_blockers()),
            Self::RustBlockers => self.compiled(&recipes::rust_blockers()),
            Self::PingPong => self.compiled(&recipes::pingpong()),
            Self::Demo => self.compiled(&recipes::demo()),
            Self::Spawner => self.compiled(&recipes::spawner()),
            Self::SpawnerStatic => self.compiled(&recipes::spawner_static()),
            Self::SpawnerMusl => self.compiled(&recipes::spawner_musl()),
            Self::CppSpawner => self.compiled(&recipes::cpp_spawner()),
            Self::RustSpawner => self.compiled(&recipes::rust_spawner()),
            Self::MuslLocks => self.compiled(&recipes::musl_locks()),
            Self::PythonBlockers => python(),
            Self::JavaBlockers => java(),
        }
    }

    fn compiled(self, recipe: &Recipe) -> Result<Command> {
        up_to_date(recipe)
            .map(Command::new)
            .with_context(|| format!("building {self:?}"))
    }

    /// Whether it says `ready` once its threads are there.
    pub fn says_ready(self) -> bool {
        self != Self::PingPong
    }

    /// What there is to start of it; nothing for the programs that take no `NAME=COUNT`.
    pub fn scenarios(self) -> Vec<Scenario> {
        match self {
            Self::CBlockers => scenarios::C.to_vec(),
            Self::CBlockers32 => scenarios::C.iter().copied().map(scenarios::on_i386).collect(),
            Self::CppBlockers => scenarios::CPP.to_vec(),
            Self::RustBlockers => scenarios::RUST.to_vec(),
            Self::PythonBlockers => scenarios::PYTHON.to_vec(),
            Self::JavaBlockers => scenarios::JAVA.to_vec(),
            Self::PingPong
            | Self::Demo
            | Self::MuslLocks
            | Self::Spawner
            | Self::SpawnerStatic
            | Self::SpawnerMusl
            | Self::CppSpawner
            | Self::RustSpawner => Vec::new(),
        }
    }
}

fn python() -> Result<Command> {
    let Ok(python) = Path::new(PYTHON).canonicalize() else {
        return Err(Unsupported(format!("no {PYTHON}: apt-get install python3")).into());
    };
    let mut command = Command::new(python);
    // -B: leaves no compiled files beside the sources.
    command
        .arg("-B")
        .arg(folders::sources().join("python/blockers.py"));
    Ok(command)
}

fn java() -> Result<Command> {
    let classes = up_to_date(&recipes::java_blockers()).context("building JavaBlockers")?;
    let Some(java) = find_in_path("java") else {
        return Err(
            Unsupported("no java in PATH: apt-get install openjdk-17-jdk-headless".to_owned()).into(),
        );
    };
    let mut command = Command::new(java);
    command.args(JVM_FLAGS).arg("-cp").arg(classes).arg("Blockers");
    Ok(command)
}
