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
    /// Nor does it, but it is a timer, or that and something else.
    Timed,
    /// Nor does it, but it is no timer.
    Untimed(World),
}

impl Awaited {
    /// Whether it was asked for, and the debug information does not tell.
    pub const fn is_without_types(self) -> bool {
        matches!(self, Self::Unknown | Self::Timed | Self::Untimed(_))
    }
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
    /// CLOCK_MONOTONIC ns: when it was first seen.
    pub first: u64,
    /// CLOCK_MONOTONIC ns: it has not changed since then.
    pub since: u64,
    /// The task that it awaits by its handle, or 0.
    pub joins: u64,
    /// Number of its future.
    pub future: u32,
    /// Number of the place that it was spawned at.
    pub made_at: u32,
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
const TIMED: u32 = u32::MAX - 5;

impl Entry {
    /// `now`: when it was read, CLOCK_MONOTONIC ns.
    pub const fn new(record: &Record, future: u32, made_at: u32, now: u64) -> Self {
        Self {
            id: record.id,
            address: record.address,
            first: now,
            since: now,
            joins: 0,
            future,
            made_at,
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
            TIMED => Awaited::Timed,
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
            Awaited::Timed => TIMED,
            Awaited::Untimed(World::Yes) => FOR_THE_WORLD,
            Awaited::Untimed(World::No) => FOR_NO_WORLD,
            Awaited::Untimed(World::Maybe) => FOR_ANYTHING,
            Awaited::Number(number) => number,
        };
    }

    /// Whether it was there at an earlier look.
    pub const fn was_seen_before(&self) -> bool {
        self.is_still || self.first < self.since
    }

    fn is_same(&self, before: &Self) -> bool {
        let is_same = match self.status {
            Status::Idle => before.sum == self.sum,
            // Nobody polls it any more.
            Status::Kept => true,
            _ => false,
        };
        is_same && before.status == self.status && before.address == self.address
    }

    /// By number; what was met in a list comes before what is kept.
    const fn order(&self) -> (u64, bool) {
        (self.id, matches!(self.status, Status::Kept))
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
    /// Puts tasks in the order of their numbers, each once.
    fn sort(entries: &mut Vec<Entry>) {
        entries.sort_unstable_by_key(Entry::order);
        entries.dedup_by_key(|entry| entry.id);
    }

    /// Where the tasks of the last look lay that are not among those of the next one, which are sorted.
    pub fn missing(&self, entries: &mut Vec<Entry>) -> Vec<u64> {
        Self::sort(entries);
        let mut now = entries.iter().peekable();
        let is_missing = |known: &&Entry| {
            while now.next_if(|entry| entry.id < known.id).is_some() {}
            now.next_if(|entry| entry.id == known.id).is_none()
        };
        let missing = self.entries.iter().filter(is_missing);
        missing.map(|known| known.address).collect()
    }

    /// Takes in all tasks of a look, and sorts them.
    pub fn look(&mut self, mut entries: Vec<Entry>) {
        Self::sort(&mut entries);
        let mut before = self.entries.iter().peekable();
        for entry in &mut entries {
            while before.next_if(|known| known.id < entry.id).is_some() {}
            let Some(known) = before.next_if(|known| known.id == entry.id) else {
                continue;
            };
            entry.first = known.first;
            if entry.is_same(known) {
                entry.since = known.since;
                entry.chain = known.chain;
                entry.joins = known.joins;
                entry.is_still = true;
                entry.was_known = !matches!(known.chain, UNASKED | UNKNOWN | TIMED);
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
            made_at: 0,
        };
        Entry::new(&record, 0, 0, now)
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

    #[test]
    fn what_is_in_no_list_any_more_is_looked_for_where_it_was() {
        let mut tracker = Tracker::default();
        let idle = |id, now| entry(id, 1, Status::Idle, now);
        tracker.look(vec![idle(1, 10), idle(2, 10), idle(3, 10)]);
        let mut entries = vec![idle(4, 20), idle(2, 20)];
        assert_eq!(tracker.missing(&mut entries), [128, 384]);
        // One is kept; another one ended while it was looked, and is told as the list told it.
        entries.push(entry(3, 5, Status::Kept, 20));
        entries.push(entry(2, 6, Status::Kept, 20));
        tracker.look(entries);
        let mut entries = vec![idle(4, 30)];
        assert_eq!(tracker.missing(&mut entries), [256, 384]);
        entries.push(entry(2, 6, Status::Kept, 30));
        // Whatever happens to what it has returned, it is the same.
        entries.push(entry(3, 7, Status::Kept, 30));
        tracker.look(entries);
        let seen: Vec<_> = tracker
            .entries()
            .iter()
            .map(|entry| (entry.id, entry.first, entry.since, entry.is_still, entry.status))
            .collect();
        assert_eq!(
            seen,
            [
                (2, 10, 30, false, Status::Kept),
                (3, 10, 20, true, Status::Kept),
                (4, 20, 20, true, Status::Idle),
            ]
        );
    }
}
