//! What the monitor asks the helper process about a Go program, and what it is answered. Addresses of code are the
//! linker's; only those of goroutines are the process's, and they go no further than the monitor's own memory.

use serde::{Deserialize, Serialize};

use super::goroutine::Status;
use crate::{
    model::{Creator, Frame, Labels, Site},
    observe::helper::words::{self, Words},
};

pub use crate::observe::{helper::Who, programs::Unknown};

/// Goroutines whose stacks are asked for at once: with the longest stacks each of its own the answer is no longer
/// than a message may be.
pub const MAX_STACKS: usize = 1024;
/// Stacks that are named at once.
pub const MAX_NAMED: usize = 4;
/// Addresses that are named at once, of each kind.
pub const MAX_SITES: usize = 256;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Question {
    /// Begins a walk over all goroutines; `whole`: with the stacks of all that do not run, and the labels of all.
    Begin { who: Who, whole: bool },
    /// The next ones of the walk that was begun last.
    Next,
    /// Stacks of goroutines that have not run since they were read.
    Stacks(Who, Vec<Wanted>),
    /// The frames of stacks.
    Name(Who, Vec<Vec<u64>>),
    /// The places that goroutines were made at (behind the call), and what they run.
    Sites {
        who: Who,
        made_at: Vec<u64>,
        runs: Vec<u64>,
    },
    /// Where the probes go that count its goroutines.
    Points(Who),
    /// What a traceback calls the places that goroutines were made at.
    Creators(Who, Vec<u64>),
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Answer {
    Begun(Begun),
    Some(Batch),
    Stacks(Stacks),
    Named(Vec<Named>),
    Sites {
        made_at: Vec<Option<Site>>,
        runs: Vec<Option<Site>>,
    },
    /// `None` when none can be put in safely.
    Points(Option<Points>),
    Creators(Vec<Option<Creator>>),
    Refused(Unknown),
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Begun {
    /// CLOCK_MONOTONIC ns; all are read later.
    pub began: u64,
    pub version: String,
    /// Goroutines, ended ones included.
    pub count: u64,
    /// The runtime's texts by number.
    pub reasons: Vec<String>,
    /// Whether the runtime's own tracebacks have labels.
    pub traces_labels: bool,
    /// Bytes that the helper had copied from other processes before the walk.
    pub copied: u64,
}

/// Some goroutines of a walk.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Batch {
    /// CLOCK_MONOTONIC ns, after they were read.
    pub ended: u64,
    #[serde(with = "words")]
    pub records: Vec<Record>,
    /// Of a walk over the whole: the records' stacks. Who has run while its stack was read is told to have.
    pub stacks: Option<Stacks>,
    /// Not in memory, or no goroutines.
    pub unreadable: u64,
    /// Bytes that the helper has copied from other processes by now.
    pub copied: u64,
    pub is_last: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub address: u64,
    pub id: u64,
    pub status: Status,
    pub reason: u8,
    pub seq: u8,
    /// CLOCK_MONOTONIC ns, or 0.
    pub wait_since: u64,
    pub gopc: u64,
    pub startpc: u64,
    /// [`super::goroutine::Goroutine::place`].
    pub place: u32,
    /// Its thread as its own PID namespace numbers it, or 0.
    pub thread: u64,
    /// Its place in the runtime's list.
    pub order: u32,
    /// Number of the goroutine that made it, or 0.
    pub parent: u64,
    pub is_locked: bool,
    /// [`super::goroutine::Goroutine::is_leaked`].
    pub is_leaked: bool,
    /// Number of the bubble that it is in (testing/synctest; in Go 1.24 that of the goroutine that made it), or 0.
    pub bubble: u64,
}

impl Words<10> for Record {
    fn words(&self) -> [u64; 10] {
        let status = match self.status {
            Status::Running => 0,
            Status::Runnable => 1,
            Status::Syscall => 2,
            Status::Waiting => 3,
        };
        let [is_locked, is_leaked] = [self.is_locked, self.is_leaked].map(u8::from);
        let small = [status, self.reason, self.seq, is_locked, is_leaked, 0, 0, 0];
        [
            self.address,
            self.id,
            self.wait_since,
            self.gopc,
            self.startpc,
            self.thread,
            self.parent,
            self.bubble,
            u64::from(self.place) | u64::from(self.order) << 32,
            u64::from_le_bytes(small),
        ]
    }

    fn of_words(words: [u64; 10]) -> Option<Self> {
        let [
            address,
            id,
            wait_since,
            gopc,
            startpc,
            thread,
            parent,
            bubble,
            pair,
            small,
        ] = words;
        let [status, reason, seq, is_locked, is_leaked, ..] = small.to_le_bytes();
        Some(Self {
            address,
            id,
            status: match status {
                0 => Status::Running,
                1 => Status::Runnable,
                2 => Status::Syscall,
                3 => Status::Waiting,
                _ => return None,
            },
            reason,
            seq,
            wait_since,
            gopc,
            startpc,
            place: pair as u32,
            thread,
            order: (pair >> 32) as u32,
            parent,
            is_locked: is_locked != 0,
            is_leaked: is_leaked != 0,
            bubble,
        })
    }
}

/// A goroutine whose stack is wanted, as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wanted {
    pub address: u64,
    pub id: u64,
    pub seq: u8,
    pub place: u32,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Stacks {
    /// In the order in which they were asked for.
    pub outcomes: Vec<Outcome>,
    /// Each once.
    pub stacks: Vec<Pcs>,
    /// Whether some of their waits may end by themselves and it is not known.
    pub timers_unread: bool,
    /// Of a walk over the whole: which of `labels` each has.
    pub labelled: Vec<Option<u32>>,
    pub labels: Vec<Labels>,
    /// Bytes that the helper has copied from other processes by now.
    pub copied: u64,
}

pub use super::{points::Points, stack::Pcs};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// It stands where it stood.
    Stack {
        number: u32,
        /// Its wait for a connection ends by itself.
        has_deadline: bool,
    },
    /// It has run meanwhile, or is gone.
    Moved,
    Unreadable,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Named {
    pub frames: Vec<Frame>,
    /// How far into its function each of them is; 0 of inlined ones.
    pub within: Vec<u32>,
    pub truncated: bool,
    pub block_site: Option<Site>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_of_a_record_is_told() {
        let mut record = Record {
            address: 0xc000_0001,
            id: 2,
            status: Status::Running,
            reason: 3,
            seq: 4,
            wait_since: 5,
            gopc: 6,
            startpc: 7,
            place: u32::MAX - 8,
            thread: 9,
            order: u32::MAX - 10,
            parent: 11,
            is_locked: false,
            is_leaked: true,
            bubble: 12,
        };
        for status in [
            Status::Running,
            Status::Runnable,
            Status::Syscall,
            Status::Waiting,
        ] {
            record.status = status;
            (record.is_locked, record.is_leaked) = (record.is_leaked, record.is_locked);
            assert_eq!(Record::of_words(record.words()), Some(record.clone()));
        }
        let mut words = record.words();
        words[9] |= 0xff;
        assert_eq!(Record::of_words(words), None);
    }
}
