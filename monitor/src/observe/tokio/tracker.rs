//! Since when tasks are as they are: who has not changed since the last look. Pure.

use super::{protocol::Record, task::Status};

/// A task as it was looked at. There may be a million of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub id: u64,
    pub address: u64,
    /// CLOCK_MONOTONIC ns: it has not changed since then.
    since: u64,
    /// Number of its future.
    pub future: u32,
    sum: u32,
    pub status: Status,
}

impl Entry {
    /// `now`: when it was read, CLOCK_MONOTONIC ns.
    pub const fn new(record: &Record, future: u32, now: u64) -> Self {
        Self {
            id: record.id,
            address: record.address,
            since: now,
            future,
            sum: record.sum,
            status: record.status,
        }
    }
}

/// The tasks of one process.
#[derive(Debug, Default)]
pub struct Tracker {
    /// By number, which no other task of the process ever had.
    entries: Vec<Entry>,
}

impl Tracker {
    /// Takes in all tasks of a look, and puts them in the order of their numbers, each once.
    pub fn look(&mut self, mut entries: Vec<Entry>) {
        entries.sort_unstable_by_key(|entry| entry.id);
        entries.dedup_by_key(|entry| entry.id);
        self.entries = entries;
    }

    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }
}
