//! Holds probes that slow their targets to a budget.
//!
//! The rate of a probe is measured per process. Over the budget (a share of one core) it is to be taken off, and
//! tried again later: after a minute, then after twice as long each time, up to an hour.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use crate::model::ProcessId;

/// What one run of a probe takes from its target: the trap, the program, and copying the creator's stack.
/// `cargo xtask bench` measures it.
const COST: Duration = Duration::from_micros(8);
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
    runs: u64,
    since: Instant,
    /// Off until then.
    paused_until: Option<Instant>,
    next_pause: Duration,
}

/// Decides by process.
pub struct Governor {
    /// Share of a core.
    budget: f64,
    processes: HashMap<ProcessId, Record>,
}

impl Governor {
    /// `budget`: share of one core that the probes may take from a process.
    pub fn new(budget: f64) -> Self {
        Self {
            budget,
            processes: HashMap::new(),
        }
    }

    /// The probe ran once more.
    pub fn ran(&mut self, process: ProcessId, now: Instant) {
        self.record(process, now).runs += 1;
    }

    /// What is to be done with the process's probes, by what they did since the last call for it.
    pub fn order(&mut self, process: ProcessId, now: Instant) -> Order {
        let budget = self.budget;
        let record = self.record(process, now);
        let (runs, elapsed) = (record.runs, now.saturating_duration_since(record.since));
        (record.runs, record.since) = (0, now);
        match record.paused_until {
            Some(until) if now < until => return Order::Off,
            Some(_) => {
                record.paused_until = None;
                return Order::On;
            }
            None => {}
        }
        let taken = COST.as_secs_f64() * runs as f64;
        if taken <= budget * elapsed.as_secs_f64() {
            // A quiet time makes the next pause a short one again.
            if runs == 0 {
                record.next_pause = FIRST_PAUSE;
            }
            return Order::On;
        }
        record.paused_until = Some(now + record.next_pause);
        record.next_pause = (record.next_pause * 2).min(LONGEST_PAUSE);
        Order::Off
    }

    /// Forgets processes that are gone.
    pub fn retain(&mut self, is_alive: impl Fn(&ProcessId) -> bool) {
        self.processes.retain(|id, _| is_alive(id));
    }

    fn record(&mut self, process: ProcessId, now: Instant) -> &mut Record {
        self.processes.entry(process).or_insert(Record {
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
            for _ in 0..*runs {
                governor.ran(ID, now);
            }
            now += SECOND;
            orders.push(governor.order(ID, now));
        }
        orders
    }

    #[test]
    fn probes_stay_on_within_the_budget() {
        // 1 % of a core is 10 ms a second: 1,250 runs of 8 µs.
        let mut governor = Governor::new(0.01);
        assert_eq!(
            orders(&mut governor, Instant::now(), &[0, 100, 1_200]),
            [Order::On; 3]
        );
    }

    #[test]
    fn over_the_budget_they_go_off_and_are_tried_again() {
        let mut governor = Governor::new(0.01);
        let start = Instant::now();
        assert_eq!(orders(&mut governor, start, &[1_300]), [Order::Off]);
        assert_eq!(governor.order(ID, start + 60 * SECOND), Order::Off);
        assert_eq!(governor.order(ID, start + 61 * SECOND), Order::On);
    }

    #[test]
    fn each_pause_is_twice_as_long_until_it_was_quiet() {
        let mut governor = Governor::new(0.01);
        let mut now = Instant::now();
        governor.order(ID, now);
        let burst = |governor: &mut Governor, now: &mut Instant| {
            (0..2_000).for_each(|_| governor.ran(ID, *now));
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
}
