//! Since when tasks are as they are: who has not changed since the last look. Pure.
//!
//! A task whose state and bytes are another is polled. That they are the same proves nothing: many futures keep what changes
//! elsewhere. Whether it was polled all the same the probes tell (`polls`).

use super::{
    protocol::{Record, Wanted},
    task::Status,
};

/// What is known of what a task awaits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Awaited {
    Unasked,
    /// It is the chain of this number.
    Number(u32),
    /// The debug information does not tell.
    Unknown,
    /// Nor does it, but it is no timer.
    Untimed(World),
}

/// Whether a task waits for the world, besides what else it may wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum World {
    Yes,
    No,
    /// That is not known.
    Maybe,
}

/// A task as it was looked at. There may be a million of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub id: u64,
    pub address: u64,
    /// CLOCK_MONOTONIC ns: it has not changed since then.
    pub since: u64,
    /// The task that it awaits by its handle, or 0.
    pub joins: u64,
    /// Number of its future.
    pub future: u32,
    sum: u32,
    chain: u32,
    pub status: Status,
    /// 255 where there are more.
    pub references: u8,
    /// Whether it was the same at the look before.
    pub is_still: bool,
    /// Whether it was known at the look before what it awaits, or that it is no timer.
    pub was_known: bool,
}

const UNASKED: u32 = u32::MAX;
const UNKNOWN: u32 = u32::MAX - 1;
const FOR_THE_WORLD: u32 = u32::MAX - 2;
const FOR_NO_WORLD: u32 = u32::MAX - 3;
const FOR_ANYTHING: u32 = u32::MAX - 4;

impl Entry {
    /// `now`: when it was read, CLOCK_MONOTONIC ns.
    pub const fn new(record: &Record, future: u32, now: u64) -> Self {
        Self {
            id: record.id,
            address: record.address,
            since: now,
            joins: 0,
            future,
            sum: record.sum,
            chain: UNASKED,
            status: record.status,
            references: record.references,
            is_still: false,
            was_known: false,
        }
    }

    pub const fn wanted(&self) -> Wanted {
        Wanted {
            address: self.address,
            id: self.id,
            sum: self.sum,
        }
    }

    pub const fn awaited(&self) -> Awaited {
        match self.chain {
            UNASKED => Awaited::Unasked,
            UNKNOWN => Awaited::Unknown,
            FOR_THE_WORLD => Awaited::Untimed(World::Yes),
            FOR_NO_WORLD => Awaited::Untimed(World::No),
            FOR_ANYTHING => Awaited::Untimed(World::Maybe),
            number => Awaited::Number(number),
        }
    }

    /// Notes what is known of what it awaits.
    pub const fn set_awaited(&mut self, awaited: Awaited) {
        self.chain = match awaited {
            Awaited::Unasked => UNASKED,
            Awaited::Unknown => UNKNOWN,
            Awaited::Untimed(World::Yes) => FOR_THE_WORLD,
            Awaited::Untimed(World::No) => FOR_NO_WORLD,
            Awaited::Untimed(World::Maybe) => FOR_ANYTHING,
            Awaited::Number(number) => number,
        };
    }

    fn is_same(&self, before: &Self) -> bool {
        self.status == Status::Idle
            && before.status == Status::Idle
            && before.sum == self.sum
            && before.address == self.address
    }
}

/// The tasks of one process.
#[derive(Debug, Default)]
pub struct Tracker {
    /// By number, which no other task of the process ever had.
    entries: Vec<Entry>,
    /// Whether there was a look.
    pub has_looked: bool,
}

impl Tracker {
    /// Takes in all tasks of a look, and puts them in the order of their numbers, each once.
    pub fn look(&mut self, mut entries: Vec<Entry>) {
        entries.sort_unstable_by_key(|entry| entry.id);
        entries.dedup_by_key(|entry| entry.id);
        let mut before = self.entries.iter().peekable();
        for entry in &mut entries {
            while before.next_if(|known| known.id < entry.id).is_some() {}
            if let Some(known) = before.next_if(|known| known.id == entry.id)
                && entry.is_same(known)
            {
                entry.since = known.since;
                entry.chain = known.chain;
                entry.joins = known.joins;
                entry.is_still = true;
                entry.was_known = !matches!(known.chain, UNASKED | UNKNOWN);
            }
        }
        self.entries = entries;
    }

    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    pub fn entries_mut(&mut self) -> &mut [Entry] {
        &mut self.entries
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(id: u64, sum: u32, status: Status, now: u64) -> Entry {
        let record = Record {
            address: 128 * id,
            id,
            vtable: 1,
            status,
            references: 1,
            sum,
        };
        Entry::new(&record, 0, now)
    }

    #[test]
    fn what_has_not_changed_waits_since_it_was_first_seen_so() {
        let mut tracker = Tracker::default();
        let idle = |id, sum, now| entry(id, sum, Status::Idle, now);
        tracker.look(vec![
            idle(3, 1, 10),
            idle(1, 1, 10),
            idle(2, 1, 10),
            idle(1, 9, 10),
        ]);
        let ids: Vec<u64> = tracker.entries().iter().map(|entry| entry.id).collect();
        assert_eq!(ids, [1, 2, 3]);
        tracker.entries_mut()[0].set_awaited(Awaited::Number(7));
        tracker.entries_mut()[1].set_awaited(Awaited::Number(7));
        tracker.look(vec![
            idle(1, 1, 20),
            idle(2, 2, 20),
            entry(3, 1, Status::Notified, 20),
            idle(4, 1, 20),
        ]);
        let seen: Vec<_> = tracker
            .entries()
            .iter()
            .map(|entry| (entry.since, entry.is_still, entry.awaited()))
            .collect();
        assert_eq!(
            seen,
            [
                (10, true, Awaited::Number(7)),
                (20, false, Awaited::Unasked),
                (20, false, Awaited::Unasked),
                (20, false, Awaited::Unasked),
            ]
        );
    }
}
