//! Timers of which it is not known who waits for them. Pure.
//!
//! Whoever waits for a timer was polled when it was set. So one that was not there at some look is not that of a task that
//! had not been polled since before that look; one that was there at all looks may be anybody's.

use std::collections::HashMap;

use super::protocol::Timers;

/// What is remembered of a process's timers between looks.
#[derive(Debug, Default)]
pub struct Timed {
    /// By number: CLOCK_MONOTONIC ns, as all times here, at which each was not there; 0 when it always was.
    unknown: HashMap<u64, u64>,
    /// When it was last looked at all of them.
    last: u64,
    /// Whether all of them were read at the last look.
    pub is_whole: bool,
}

impl Timed {
    /// Takes in a look. `at`: when it was begun.
    pub fn look(&mut self, timers: &Timers, at: u64) {
        self.is_whole = timers.is_whole;
        if !timers.is_whole {
            return;
        }
        let (before, last) = (std::mem::take(&mut self.unknown), self.last);
        let absent = |number: &u64| (*number, before.get(number).copied().unwrap_or(last));
        self.unknown = timers.unknown.iter().map(absent).collect();
        self.last = at;
    }

    pub fn known(&self) -> Known {
        Known {
            looked: self.last,
            unknown: self.unknown.values().min().copied(),
        }
    }
}

/// What is known of the timers of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    /// When it was last looked at all of them.
    looked: u64,
    /// Of those of which it is not known who waits for them: until when one of them was not there.
    unknown: Option<u64>,
}

impl Known {
    /// Whether a task that waited for none at the last look waits for none. `since`: it was watched since then and not polled;
    /// `None` of one that is not watched now, and may have been polled.
    pub fn is_untimed(self, since: Option<u64>) -> bool {
        match since {
            Some(since) => since <= self.unknown.unwrap_or(self.looked).min(self.looked),
            None => self.unknown.is_none(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timers(unknown: &[u64]) -> Timers {
        Timers {
            is_last: true,
            is_whole: true,
            tasks: Vec::new(),
            world: None,
            unknown: unknown.to_vec(),
        }
    }

    /// The latest time since when a task must not have been polled.
    fn latest(timed: &Timed) -> Option<u64> {
        (0..1_000)
            .rev()
            .find(|since| timed.known().is_untimed(Some(*since)))
    }

    #[test]
    fn a_timer_that_was_always_there_may_be_anybodys() {
        let mut timed = Timed::default();
        timed.look(&timers(&[7]), 100);
        assert_eq!((latest(&timed), timed.known().is_untimed(None)), (Some(0), false));
        timed.look(&timers(&[7]), 200);
        assert_eq!((latest(&timed), timed.known().is_untimed(None)), (Some(0), false));
        timed.look(&timers(&[]), 300);
        assert_eq!(
            (latest(&timed), timed.known().is_untimed(None)),
            (Some(300), true)
        );
    }

    #[test]
    fn a_new_one_is_of_somebody_who_was_polled_after_the_look_before() {
        let mut timed = Timed::default();
        timed.look(&timers(&[]), 100);
        timed.look(&timers(&[7]), 200);
        assert_eq!(latest(&timed), Some(100));
        timed.look(&timers(&[7, 8]), 300);
        assert_eq!(latest(&timed), Some(100));
        timed.look(&timers(&[8]), 400);
        assert_eq!(
            (latest(&timed), timed.known().is_untimed(None)),
            (Some(200), false)
        );
    }

    #[test]
    fn a_look_that_did_not_see_all_says_nothing() {
        let mut timed = Timed::default();
        timed.look(&timers(&[7]), 100);
        let part = Timers {
            is_whole: false,
            ..timers(&[])
        };
        timed.look(&part, 200);
        assert_eq!((timed.is_whole, latest(&timed)), (false, Some(0)));
        timed.look(&timers(&[7, 8]), 300);
        assert_eq!((timed.is_whole, latest(&timed)), (true, Some(0)));
        timed.look(&timers(&[8]), 400);
        assert_eq!(latest(&timed), Some(100));
        timed.look(&timers(&[]), 500);
        timed.look(&part, 600);
        assert_eq!(latest(&timed), Some(500));
    }
}
