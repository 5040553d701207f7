//! Holds probes that slow their targets to a budget.
//!
//! The rate of a probe is measured per process. Over the budget (a share of one core) it is to be taken off, and
//! tried again later: after a minute, then after twice as long each time, up to an hour.

use std::{
    collections::HashMap,
    hash::Hash,
    time::{Duration, Instant},
};

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
    fn elapsed(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.since)
    }

    fn begin_anew(&mut self, now: Instant) {
        (self.runs, self.since) = (0, now);
    }
}

/// Decides by process, or by whatever else probes are taken off together.
pub struct Governor<K = ProcessId> {
    /// Share of a core.
    budget: f64,
    /// Of one run.
    cost: Duration,
    records: HashMap<K, Record>,
}

impl<K: Copy + Eq + Hash> Governor<K> {
    /// `budget`: share of one core that the probes may take from a process; `cost`: what one run of them takes.
    pub fn new(budget: f64, cost: Duration) -> Self {
        Self {
            budget,
            cost,
            records: HashMap::new(),
        }
    }

    /// The probe ran so many times more.
    pub fn ran(&mut self, key: K, runs: u64, now: Instant) {
        self.record(key, now).runs += runs;
    }

    /// Whether the process's probes have run so often that the next call of [`Self::order`] is not to be waited for.
    pub fn is_urgent(&self, key: K, now: Instant) -> bool {
        self.records
            .get(&key)
            .is_some_and(|record| record.paused_until.is_none() && self.is_over(record, now))
    }

    fn is_over(&self, record: &Record, now: Instant) -> bool {
        let taken = self.cost.as_secs_f64() * record.runs as f64;
        taken > self.budget * record.elapsed(now).max(BURST).as_secs_f64()
    }

    /// What is to be done with the process's probes, by what they have done of late.
    pub fn order(&mut self, key: K, now: Instant) -> Order {
        self.record(key, now);
        let record = &self.records[&key];
        let (paused_until, is_over) = (record.paused_until, self.is_over(record, now));
        let record = self.record(key, now);
        if let Some(until) = paused_until {
            record.begin_anew(now);
            if now < until {
                return Order::Off;
            }
            record.paused_until = None;
            return Order::On;
        }
        if is_over {
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
            record.begin_anew(now);
        }
        Order::On
    }

    /// Forgets processes that are gone.
    pub fn retain(&mut self, is_alive: impl Fn(&K) -> bool) {
        self.records.retain(|id, _| is_alive(id));
    }

    fn record(&mut self, key: K, now: Instant) -> &mut Record {
        self.records.entry(key).or_insert(Record {
            runs: 0,
            since: now,
            paused_until: None,
            next_pause: FIRST_PAUSE,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: ProcessId = ProcessId {
        pid: 7,
        start_boottime: 1,
        exec_id: 1,
    };
    const SECOND: Duration = Duration::from_secs(1);

    /// Orders second by second, with that many runs in each.
    fn orders(governor: &mut Governor, start: Instant, runs: &[u64]) -> Vec<Order> {
        let mut now = start;
        let mut orders = Vec::new();
        governor.order(ID, now);
        for runs in runs {
            governor.ran(ID, *runs, now);
            now += SECOND;
            orders.push(governor.order(ID, now));
        }
        orders
    }

    #[test]
    fn probes_stay_on_within_the_budget() {
        // 1 % of a core is 10 ms a second: 1,250 runs of 8 µs.
        let mut governor = Governor::new(0.01, THREAD_COST);
        assert_eq!(
            orders(&mut governor, Instant::now(), &[0, 100, 1_200]),
            [Order::On; 3]
        );
    }

    #[test]
    fn over_the_budget_they_go_off_and_are_tried_again() {
        let mut governor = Governor::new(0.01, THREAD_COST);
        let start = Instant::now();
        assert_eq!(orders(&mut governor, start, &[1_300]), [Order::Off]);
        assert_eq!(governor.order(ID, start + 60 * SECOND), Order::Off);
        assert_eq!(governor.order(ID, start + 61 * SECOND), Order::On);
    }

    #[test]
    fn each_pause_is_twice_as_long_until_it_was_quiet() {
        let mut governor = Governor::new(0.01, THREAD_COST);
        let mut now = Instant::now();
        governor.order(ID, now);
        let burst = |governor: &mut Governor, now: &mut Instant| {
            governor.ran(ID, 2_000, *now);
            *now += SECOND;
            assert_eq!(governor.order(ID, *now), Order::Off);
            let mut pause = Duration::ZERO;
            while governor.order(ID, *now + pause) == Order::Off {
                pause += SECOND;
            }
            *now += pause;
            pause
        };
        assert_eq!(burst(&mut governor, &mut now), 60 * SECOND);
        assert_eq!(burst(&mut governor, &mut now), 120 * SECOND);
        now += SECOND;
        assert_eq!(governor.order(ID, now), Order::On);
        assert_eq!(burst(&mut governor, &mut now), 60 * SECOND);
    }

    #[test]
    fn a_burst_is_borne_however_often_it_is_asked() {
        let mut governor = Governor::new(0.01, GOROUTINE_COST);
        let mut now = Instant::now();
        governor.order(ID, now);
        // 10 ms at once, a second's worth, which is looked at ten times in that second.
        governor.ran(ID, 10_000, now);
        for _ in 0..10 {
            now += SECOND / 10;
            assert_eq!(governor.order(ID, now), Order::On);
        }
        // Who never ceases is found out: 8 ms a tenth of a second.
        let mut orders = Vec::new();
        for _ in 0..2 {
            governor.ran(ID, 8_000, now);
            now += SECOND / 10;
            orders.push(governor.order(ID, now));
        }
        assert_eq!(orders, [Order::On, Order::Off]);
    }

    #[test]
    fn a_storm_does_not_wait_for_the_next_order_and_a_burst_is_borne() {
        let mut governor = Governor::new(0.01, GOROUTINE_COST);
        let start = Instant::now();
        assert!(!governor.is_urgent(ID, start));
        governor.order(ID, start);
        // 1 % of a second is 10 ms: 10,000 runs of 1 µs, however fast they come.
        governor.ran(ID, 10_000, start);
        assert!(!governor.is_urgent(ID, start + SECOND / 10));
        governor.ran(ID, 1, start);
        assert!(governor.is_urgent(ID, start + SECOND / 10));
        assert!(!governor.is_urgent(ID, start + 2 * SECOND));
        assert_eq!(governor.order(ID, start + SECOND / 10), Order::Off);
        // Off already: nothing more is urgent.
        governor.ran(ID, 1_000_000, start + SECOND);
        assert!(!governor.is_urgent(ID, start + SECOND));
    }
}
