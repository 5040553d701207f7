//! What the monitor asks the helper process about a program with tokio in it, and what it is answered. Addresses of code
//! and constants are the linker's; only those of tasks are the process's, and they go no further than the monitor's own
//! memory.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::task::Status;
use crate::{model::Site, observe::thread::spawns::Origin};

pub use super::chain::Chain;
pub use crate::observe::{helper::Who, programs::Unknown};

/// Futures that are named at once.
pub const MAX_FUTURES: usize = 32;
/// Locations that are read at once.
pub const MAX_LOCATIONS: usize = 256;
/// Tasks of which it is asked at once what they await.
pub const MAX_WANTED: usize = 1_024;
/// Places that are looked at at once for what is kept of tasks that have ended.
pub const MAX_KEPT: usize = 16 << 10;
/// Functions that places for probes are asked for at once.
pub const MAX_POINTS: usize = 1_024;
/// Functions that tasks are made by, and that they end by: a program has one for each scheduler. One that seems to have many
/// more has something else.
pub const MAX_BIRTHS: usize = 8;
/// Places that these functions were put into: one for each future that is spawned, and more where that was put into several.
pub const MAX_INLINED: usize = 4_096;
/// Places in the code that are found before they are met.
pub const MAX_STEPS: usize = 8 << 10;
/// Places in the code that are named at once, or told how to get on from.
pub const MAX_NAMED: usize = 64;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Question {
    /// Begins a walk over all tasks.
    Begin {
        who: Who,
        /// The thread pointers of the process's threads.
        threads: Vec<u64>,
        /// The stack pointers of those that sleep.
        stacks: Vec<u64>,
        /// Whether some of these threads are tokio's own, by their names.
        has_workers: bool,
    },
    /// The next ones of the walk that was begun last.
    Next,
    /// Which tasks are kept that have ended, of those that lay there.
    Kept { who: Who, addresses: Vec<u64> },
    /// Reads some more of the program's debug information.
    Prepare(Who),
    /// What futures are, by their vtables.
    Futures { who: Who, vtables: Vec<u64> },
    /// The places in the sources that these `Location`s tell.
    Locations { who: Who, addresses: Vec<u64> },
    /// What tasks await that have not been polled since they were read.
    Awaits(Who, Vec<Wanted>),
    /// Who waits for a timer, and who for the world; `threads`: their thread pointers. To be asked until it is the last answer.
    Timers { who: Who, threads: Vec<u64> },
    /// Where the probes go that tell that tasks are polled, by vtable.
    Points { who: Who, vtables: Vec<u64> },
    /// Where the probes go that tell that tasks are made and end.
    Births(Who),
    /// How to get on from places that calls return to.
    Steps { who: Who, places: Vec<u64> },
    /// Who makes tasks at such places, and what they run, by vtable; 0 where either is not known.
    Origins { who: Who, places: Vec<(u64, u64)> },
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Answer {
    Begun,
    Some(Batch),
    Kept(Vec<Record>),
    Prepared(Prepared),
    Futures(Vec<Option<Site>>),
    Locations(Vec<Option<Site>>),
    Awaits(Awaits),
    Timers(Timers),
    /// The file, and where in it; `None` where no probe can be put in safely.
    Points(PathBuf, Vec<Option<u64>>),
    /// `None` when there are none that are safe.
    Births(Option<Births>),
    Steps(Vec<Step>),
    Origins(Vec<Origin>),
    Refused(Unknown),
}

/// Some tasks of a walk.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Batch {
    pub records: Vec<Record>,
    pub is_last: bool,
    /// Not all of them were found.
    pub is_incomplete: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    pub address: u64,
    pub id: u64,
    pub vtable: u64,
    pub status: Status,
    /// 255 where there are more.
    pub references: u8,
    /// Of its state and of its future's bytes: another one tells that it was polled.
    pub sum: u32,
    /// Of the `Location` that it was spawned at, if the program keeps that; 0 otherwise.
    pub made_at: u64,
}

/// How far the debug information is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Prepared {
    Types,
    /// There is more.
    Reading,
    /// It tells of no types, or there is none.
    Nothing,
}

/// A task of which it is wanted what it awaits, as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wanted {
    pub address: u64,
    pub id: u64,
    pub sum: u32,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Awaits {
    /// Of the first ones that were asked for, in their order; of others it is to be asked again.
    pub outcomes: Vec<Outcome>,
    /// Each once.
    pub chains: Vec<Chain>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    Chain {
        number: u32,
        /// The task that it awaits by its handle.
        joins: Option<u64>,
    },
    /// It has been polled meanwhile, or is gone.
    Moved,
    /// The debug information does not tell of its future.
    Unknown,
}

/// Who waits for a timer, and who for the world.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timers {
    /// Whether this is the answer, and not one that says that there is more to read.
    pub is_last: bool,
    /// Whether all timers of all runtimes were read.
    pub is_whole: bool,
    /// Tasks, by address.
    pub tasks: Vec<u64>,
    /// Tasks that wait for sockets or pipes; `None` where that is not known.
    pub world: Option<Vec<u64>>,
    /// Timers of which it is not known who waits for them, each by a number that it keeps until somebody else may wait for
    /// it.
    pub unknown: Vec<u64>,
}

/// Places for the probes on births and deaths, in a program's file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Births {
    /// Leads to it from here, whatever the process's mounts (`/proc/PID/map_files/…`).
    pub file: PathBuf,
    pub spawns: Vec<Point>,
    pub exits: Vec<Point>,
    /// How far behind the linker's addresses the process has its program.
    pub bias: u64,
    /// How to get on from places that are known before they are met.
    pub steps: Vec<(u64, Step)>,
}

impl Births {
    /// Whether there are no more of them than can be true.
    pub fn is_bounded(&self) -> bool {
        self.spawns.len() <= MAX_INLINED && self.exits.len() <= MAX_INLINED && self.steps.len() <= MAX_STEPS
    }
}

/// Where a probe goes that sees a task begin or end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Point {
    pub offset: u64,
    pub task: Holder,
}

/// What has the task there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Holder {
    /// The second argument, at a function's beginning.
    Argument,
    /// What that points to.
    Pointee,
    /// Amid a function: the register of this number, as x86 has them.
    Register(u8),
}

/// What is known of a place that a call returns to ([`crate::observe::bpf::TokioStep`]).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    pub flags: u32,
    pub cfa: i32,
    pub bp: i32,
}
