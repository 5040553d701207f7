//! What the monitor asks the helper process about a program with tokio in it, and what it is answered. Addresses of code
//! and constants are the linker's; only those of tasks are the process's, and they go no further than the monitor's own
//! memory.

use serde::{Deserialize, Serialize};

use super::task::Status;
use crate::model::Site;

pub use crate::observe::{helper::Who, programs::Unknown};

/// Futures that are named at once.
pub const MAX_FUTURES: usize = 32;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Question {
    /// Begins a walk over all tasks.
    Begin {
        who: Who,
        /// The thread pointers of the process's threads.
        threads: Vec<u64>,
        /// Whether some of these threads are tokio's own, by their names.
        has_workers: bool,
    },
    /// The next ones of the walk that was begun last.
    Next,
    /// What futures are, by their vtables.
    Futures { who: Who, vtables: Vec<u64> },
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Answer {
    Begun,
    Some(Batch),
    Futures(Vec<Option<Site>>),
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
    /// Of its state and of its future's bytes: another one tells that it was polled.
    pub sum: u32,
}
