//! Holds probes that slow their targets to a budget.
//!
//! The rate of a probe is measured per process. Over the budget (a share of one core) it is to be taken off, and
//! tried again later: after a minute, then after twice as long each time, up to an hour.

mod budget;
#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    hash::Hash,
    time::{Duration, Instant},
};

pub use budget::Budget;

use crate::model::ProcessId;

/// What one run of the threads' probe takes from its target: the trap, the program, and copying the creator's stack.
/// `cargo xtask bench` measures these.
pub const THREAD_COST: Duration = Duration::from_micros(8);
/// Of the goroutines' probes, each of which counts and no more.
pub const GOROUTINE_COST: Duration = Duration::from_micros(1);
/// Of the probe on polls of tokio tasks.
pub const POLL_COST: Duration = Duration::from_micros(1);
/// Of a probe on births or deaths of tokio tasks: it follows a stack, and counts.
pub const BIRTH_COST: Duration = Duration::from_nanos(1_500);
/// A short burst is not held against a process: what it takes is taken as if it had lasted that long at least.
const BURST: Duration = Duration::from_secs(1);
const FIRST_PAUSE: Duration = Duration::from_secs(60);
const LONGEST_PAUSE: Duration = Duration::from_secs(3_600);

/// What is to be done with a process's probes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// They are to be on.
    On,
    /// They are to be off for now.
    Off,
}

struct Record {
    /// Since then.
    runs: u64,
    since: Instant,
    /// Off until then.
    paused_until: Option<Instant>,
    next_pause: Duration,
}

impl Record {
    fn new(now: Instant) -> Self {
        Self {
            runs: 0,
            since: now,
            paused_until: None,
            next_pause: FIRST_PAUSE,
        }
    }

    /// Share of a core.
    fn taken(&self, cost: Duration, now: Instant) -> f64 {
        cost.as_secs_f64() * self.runs as f64 / self.elapsed(now).max(BURST).as_secs_f64()
    }

    fn elapsed(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.since)
    }

    fn begin_anew(&mut self, now: Instant) {
        (self.runs, self.since) = (0, now);
    }
}

/// Decides by process, or by whatever else probes are taken off together.
pub struct Governor<K = ProcessId> {
    budget: Budget<K>,
    /// Which of those it is that have the budget together.
    member: usize,
    /// Of one run.
    cost: Duration,
    records: HashMap<K, Record>,
}

impl<K: Copy + Eq + Hash> Governor<K> {
    /// One more of those that have the budget together; `cost`: what one run of its probes takes.
    pub fn new(budget: &Budget<K>, cost: Duration) -> Self {
        Self {
            budget: budget.clone(),
            member: budget.join(),
            cost,
            records: HashMap::new(),
        }
    }

    /// The probe ran so many times more.
    pub fn ran(&mut self, key: K, runs: u64, now: Instant) {
        record(&mut self.records, key, now).runs += runs;
    }

    /// Whether the process's probes have run so often that the next call of [`Self::order`] is not to be waited for.
    pub fn is_urgent(&self, key: K, now: Instant) -> bool {
        let running = self
            .records
            .get(&key)
            .filter(|record| record.paused_until.is_none());
        running.is_some_and(|record| {
            self.budget
                .is_exceeded(key, self.member, record.taken(self.cost, now))
        })
    }

    /// What is to be done with the process's probes, by what they have done of late.
    pub fn order(&mut self, key: K, now: Instant) -> Order {
        let (cost, member) = (self.cost, self.member);
        let record = record(&mut self.records, key, now);
        let taken = record.taken(cost, now);
        if let Some(until) = record.paused_until {
            record.begin_anew(now);
            if now < until {
                return Order::Off;
            }
            record.paused_until = None;
            return Order::On;
        }
        if self.budget.is_exceeded(key, member, taken) {
            self.budget.note(key, member, 0.0);
            record.begin_anew(now);
            record.paused_until = Some(now + record.next_pause);
            record.next_pause = (record.next_pause * 2).min(LONGEST_PAUSE);
            return Order::Off;
        }
        if record.elapsed(now) >= BURST {
            // A quiet time makes the next pause a short one again.
            if record.runs == 0 {
                record.next_pause = FIRST_PAUSE;
            }
            self.budget.note(key, member, taken);
            record.begin_anew(now);
        }
        Order::On
    }

    /// Forgets processes that are gone.
    pub fn retain(&mut self, is_alive: impl Fn(&K) -> bool) {
        let member = self.member;
        self.records.retain(|key, _| {
            let is_alive = is_alive(key);
            if !is_alive {
                self.budget.note(*key, member, 0.0);
            }
            is_alive
        });
    }
}

fn record<K: Eq + Hash>(records: &mut HashMap<K, Record>, key: K, now: Instant) -> &mut Record {
    records.entry(key).or_insert_with(|| Record::new(now))
}
