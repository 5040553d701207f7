//! Which processes are left alone for a while, because they kept the helper waiting.
//!
//! Each look at one that does not answer costs a deadline, in which nobody else's questions are answered.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use crate::model::ProcessId;

/// A process is left alone for so many times the deadline that it cost (a machine that is too busy makes anybody late
/// once), and for ten times as long the next time.
const FACTOR: u32 = 5;
const GROWTH: u32 = 10;
/// Never longer than this.
const LONGEST: Duration = Duration::from_secs(600);
/// More are not remembered; those that come back first make room.
const MAX_PROCESSES: usize = 10_000;

struct Strike {
    until: Instant,
    length: Duration,
}

/// The processes that did not answer in time.
#[derive(Default)]
pub struct Patience {
    strikes: HashMap<ProcessId, Strike>,
}

impl Patience {
    pub fn is_left_alone(&self, process: ProcessId, now: Instant) -> bool {
        self.strikes
            .get(&process)
            .is_some_and(|strike| now < strike.until)
    }

    /// The process has not answered within this deadline. For how long it is left alone.
    pub fn lose(&mut self, process: ProcessId, deadline: Duration, now: Instant) -> Duration {
        if self.strikes.len() == MAX_PROCESSES {
            // One that comes back after its time is as a new one.
            self.strikes.retain(|_, strike| now < strike.until);
        }
        if self.strikes.len() == MAX_PROCESSES
            && let Some(first) = self.first_back()
        {
            self.strikes.remove(&first);
        }
        let before = self.strikes.get(&process).map(|strike| strike.length);
        let length = before
            .map_or(deadline * FACTOR, |before| before * GROWTH)
            .min(LONGEST);
        self.strikes.insert(
            process,
            Strike {
                until: now + length,
                length,
            },
        );
        length
    }

    fn first_back(&self) -> Option<ProcessId> {
        let first = self.strikes.iter().min_by_key(|(_, strike)| strike.until);
        first.map(|(process, _)| *process)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(pid: u32) -> ProcessId {
        ProcessId {
            pid,
            start_boottime: 1,
            exec_id: 1,
        }
    }

    #[test]
    fn who_does_not_answer_is_left_alone_for_longer_each_time() {
        let mut patience = Patience::default();
        let deadline = Duration::from_millis(200);
        let mut now = Instant::now();
        let mut lengths = Vec::new();
        for _ in 0..5 {
            assert!(!patience.is_left_alone(process(1), now));
            let length = patience.lose(process(1), deadline, now);
            assert!(patience.is_left_alone(process(1), now + length - Duration::from_millis(1)));
            assert!(!patience.is_left_alone(process(2), now));
            lengths.push(length.as_secs());
            now += length;
        }
        assert_eq!(lengths, [1, 10, 100, 600, 600]);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut patience = Patience::default();
        let now = Instant::now();
        for pid in 0..MAX_PROCESSES as u32 + 100 {
            patience.lose(
                process(pid),
                Duration::from_millis(200),
                now + Duration::from_micros(pid.into()),
            );
        }
        assert_eq!(patience.strikes.len(), MAX_PROCESSES);
        assert!(
            !patience.is_left_alone(process(0), now),
            "the first one has made room"
        );
        assert!(patience.is_left_alone(process(MAX_PROCESSES as u32 + 99), now));
    }
}
