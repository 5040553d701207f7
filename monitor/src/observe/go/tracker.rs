//! Since when goroutines wait: who has not run since the last look. Pure.
//!
//! `g.trackingSeq` rises whenever a goroutine stops running (`casgstatus`, runtime/proc.go); while it, the
//! goroutine's number and its place stay the same, it has not run. It is one byte: a goroutine that stops exactly 256
//! times between two looks looks as if it had not, which is why looks are jittered and each new finding is confirmed
//! by another look after [`Tracker::confirm_after`]. A garbage collection notes when it found a goroutine waiting
//! (`g.waitsince`), which tells of waits from before we came.

use std::time::Duration;

use super::{
    goroutine::Status,
    protocol::{Record, Wanted},
};

/// What is known of a wait's stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stacked {
    Unasked,
    /// It is the stack of this number.
    Number(u32),
    /// It tells that the wait ends by itself.
    Passing,
    Unreadable,
}

/// A goroutine as it was looked at. There may be a million of them: 48 bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub id: u64,
    pub address: u64,
    /// CLOCK_MONOTONIC ns: it has not run since then.
    since: u64,
    /// Numbers of the place that it was made at, and of what it runs.
    pub made_at: u32,
    pub runs: u32,
    place: u32,
    stack: u32,
    /// Its thread, or 0.
    pub thread: u32,
    seq: u8,
    pub reason: u8,
    pub status: Status,
}

const UNASKED: u32 = u32::MAX;
const PASSING: u32 = u32::MAX - 1;
const UNREADABLE: u32 = u32::MAX - 2;

impl Entry {
    /// `began`: when the look began; `ended`: when this one had been read; both CLOCK_MONOTONIC ns.
    pub fn new(record: &Record, began: u64, ended: u64, made_at: u32, runs: u32) -> Self {
        let is_noted = record.status == Status::Waiting && (1..=began).contains(&record.wait_since);
        Self {
            id: record.id,
            address: record.address,
            since: if is_noted { record.wait_since } else { ended },
            made_at,
            runs,
            place: record.place,
            stack: UNASKED,
            thread: u32::try_from(record.thread).unwrap_or(0),
            seq: record.seq,
            reason: record.reason,
            status: record.status,
        }
    }

    pub fn wanted(&self) -> Wanted {
        Wanted {
            address: self.address,
            id: self.id,
            seq: self.seq,
            place: self.place,
        }
    }

    pub const fn stack(&self) -> Stacked {
        match self.stack {
            UNASKED => Stacked::Unasked,
            PASSING => Stacked::Passing,
            UNREADABLE => Stacked::Unreadable,
            number => Stacked::Number(number),
        }
    }

    /// Notes what is known of its wait's stack.
    pub const fn set_stack(&mut self, stack: Stacked) {
        self.stack = match stack {
            Stacked::Unasked => UNASKED,
            Stacked::Number(number) => number,
            Stacked::Passing => PASSING,
            Stacked::Unreadable => UNREADABLE,
        };
    }

    /// It has run since it was looked at: it waits since `now` at most, and the next look begins anew.
    pub const fn has_run(&mut self, now: u64) {
        self.since = now;
        self.status = Status::Running;
    }

    fn is_still(&self, before: &Self) -> bool {
        !self.status.is_active()
            && before.status == self.status
            && before.seq == self.seq
            && before.place == self.place
            && before.reason == self.reason
    }
}

/// The goroutines of one process.
#[derive(Debug, Default)]
pub struct Tracker {
    /// By number.
    entries: Vec<Entry>,
    /// When the last look began, and the one before it, CLOCK_MONOTONIC ns.
    looked_at: u64,
    gap: u64,
}

impl Tracker {
    /// Takes in all goroutines of a look that began then, and puts them in the order of their numbers, each once.
    pub fn look(&mut self, began: u64, mut entries: Vec<Entry>) {
        // A stable sort would be faster, as they come in long runs; but it takes half as much memory again.
        entries.sort_unstable_by_key(|entry| entry.id);
        entries.dedup_by_key(|entry| entry.id);
        let mut before = self.entries.iter().peekable();
        for entry in &mut entries {
            while before.next_if(|known| known.id < entry.id).is_some() {}
            if let Some(known) = before.next_if(|known| known.id == entry.id)
                && entry.is_still(known)
            {
                entry.since = entry.since.min(known.since);
                entry.stack = known.stack;
            }
        }
        self.entries = entries;
        // The first look proves nothing that could be wrong.
        self.gap = match self.looked_at {
            0 => 0,
            before => began.saturating_sub(before),
        };
        self.looked_at = began;
    }

    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    pub fn entries_mut(&mut self) -> &mut [Entry] {
        &mut self.entries
    }

    /// How long it has not run; `None` of one that runs or may run.
    pub fn age(&self, entry: &Entry) -> Option<Duration> {
        let is_still = !entry.status.is_active();
        is_still.then(|| Duration::from_nanos(self.looked_at.saturating_sub(entry.since)))
    }

    /// How long after the last look a confirming one is to be: longer than a goroutine stands still that stopped 256
    /// times between the last two. Not for ever: these may be far apart.
    pub fn confirm_after(&self) -> Duration {
        const LONGEST: Duration = Duration::from_millis(200);
        Duration::from_nanos(self.gap / 128).min(LONGEST)
    }
}

#[cfg(test)]
mod tests;
