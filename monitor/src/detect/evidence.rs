//! Evidence that something only grows, which may be asked for at any time.
//!
//! Time is cut into blocks. In a block members came and stayed, or left. If a group does not grow, a block is as
//! likely to end with fewer members as with more: who bets on "more" with a fixed share of their money wins nothing in
//! the long run, so by Ville's inequality they come to have N times what they began with at most once in N such
//! games, however often one looks. Money that falls below the stake begins a new game (an e-detector: Shin, Ramdas and
//! Rinaldo, "E-detectors", 2023), so a leak is found whenever it begins. Money is counted in doublings.

use serde::{Deserialize, Serialize};

/// Share of the money that is staked on "more".
const STAKE: f64 = 0.8;
/// More money than this is not kept: what grew for days must be able to lose it.
const MOST_DOUBLINGS: f64 = 40.0;

/// The game that is being played.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    /// log2 of the money; 0 when no game is on.
    doublings: f64,
    run: Option<Run>,
    /// The block that is not over yet.
    block: Option<Block>,
}

/// Growth since a game began.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// Seconds: when the first of its members had come, and the last.
    pub since: f64,
    pub latest: f64,
    /// Members that came less those that left.
    pub growth: i64,
    /// Blocks that ended with more.
    pub rises: u32,
    /// Sum of the times of the rises from `since` on: where in the run they lie.
    moments: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Block {
    until: f64,
    came: i64,
    net: i64,
}

impl Run {
    /// How far the rises lie from even distribution over the run, in standard deviations (Laplace's test): below 0
    /// when they grow rarer.
    pub fn acceleration(&self, now: f64) -> f64 {
        let span = now - self.since;
        let rises = f64::from(self.rises);
        if span <= 0.0 || rises < 2.0 {
            return 0.0;
        }
        (self.moments / rises / span - 0.5) * (12.0 * rises).sqrt()
    }

    /// Seconds between two rises on the average.
    pub fn gap(&self) -> f64 {
        (self.latest - self.since) / f64::from(self.rises.saturating_sub(1).max(1))
    }
}

impl Evidence {
    /// `came`: members that have come to stay, `net`: those less all that have left, since the last call. `block`:
    /// seconds.
    pub fn add(&mut self, now: f64, came: usize, net: i64, block: f64) {
        if self.block.is_some_and(|block| now >= block.until) {
            self.settle();
        }
        if came > 0 || net != 0 {
            let block = self.block.get_or_insert(Block {
                until: now + block,
                came: 0,
                net: 0,
            });
            block.came = block.came.saturating_add(i64::try_from(came).unwrap_or(i64::MAX));
            block.net = block.net.saturating_add(net);
            if block.came > 0 && block.net > 0 {
                // Time is told by the first sight of a rise, not by the end of its block.
                let run = self.run.get_or_insert(Run {
                    since: now,
                    latest: now,
                    growth: 0,
                    rises: 0,
                    moments: 0.0,
                });
                run.latest = now;
            }
        }
    }

    /// Ends a block: the bet is won, lost, or neither.
    fn settle(&mut self) {
        let Some(block) = self.block.take() else { return };
        let Some(run) = &mut self.run else { return };
        run.growth = run.growth.saturating_add(block.net);
        if block.net > 0 && block.came > 0 {
            self.doublings = (self.doublings + (1.0 + STAKE).log2()).min(MOST_DOUBLINGS);
            run.rises += 1;
            run.moments += run.latest - run.since;
        } else if block.net < 0 {
            self.doublings += (1.0 - STAKE).log2();
        }
        if self.doublings <= 0.0 || run.growth <= 0 {
            self.doublings = 0.0;
            self.run = None;
        }
    }

    /// log2 of how many games without growth would go so far once.
    pub fn doublings(&self) -> f64 {
        self.doublings
    }

    /// `None`: nothing grows.
    pub fn run(&self) -> Option<&Run> {
        self.run.as_ref().filter(|run| run.rises > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_rise_in_a_block_of_its_own_adds_to_the_evidence() {
        let mut evidence = Evidence::default();
        for minute in 0..=10 {
            evidence.add(60.0 * f64::from(minute), 1, 1, 30.0);
        }
        let run = evidence.run().unwrap();
        assert_eq!((run.rises, run.growth, run.since), (10, 10, 0.0));
        assert!((evidence.doublings() - 10.0 * 1.8_f64.log2()).abs() < 1e-9);
    }

    #[test]
    fn what_comes_at_once_is_one_rise() {
        let mut evidence = Evidence::default();
        evidence.add(0.0, 500, 500, 30.0);
        evidence.add(10.0, 100, 100, 30.0);
        evidence.add(40.0, 0, 0, 30.0);
        let run = evidence.run().unwrap();
        assert_eq!((run.rises, run.growth), (1, 600));
    }

    #[test]
    fn who_comes_while_others_leave_is_no_growth() {
        let mut evidence = Evidence::default();
        for minute in 0..100 {
            evidence.add(60.0 * f64::from(minute), 3, 0, 30.0);
        }
        assert_eq!((evidence.doublings(), evidence.run()), (0.0, None));
    }

    #[test]
    fn members_that_had_been_there_before_are_no_growth() {
        let mut evidence = Evidence::default();
        for minute in 0..100 {
            evidence.add(60.0 * f64::from(minute), 0, 3, 30.0);
        }
        assert_eq!(evidence.doublings(), 0.0);
    }

    #[test]
    fn a_burst_that_drains_ends_the_game() {
        let mut evidence = Evidence::default();
        for minute in 0..5 {
            evidence.add(60.0 * f64::from(minute), 1, 1, 30.0);
        }
        evidence.add(600.0, 0, -5, 30.0);
        evidence.add(700.0, 0, 0, 30.0);
        assert_eq!((evidence.doublings(), evidence.run()), (0.0, None));
    }

    /// The bound that the threshold of a verdict rests on.
    #[test]
    fn without_growth_a_thousandfold_is_rarer_than_once_in_a_thousand_moves() {
        let mut random = fastrand::Rng::with_seed(3);
        let mut evidence = Evidence::default();
        let (mut moves, mut alarms) = (0, 0);
        for block in 0..400_000 {
            let up = random.bool();
            evidence.add(
                60.0 * f64::from(block),
                usize::from(up),
                if up { 1 } else { -1 },
                30.0,
            );
            moves += 1;
            if evidence.doublings() > 10.0 {
                alarms += 1;
                evidence = Evidence::default();
            }
        }
        assert!(alarms <= moves / 1024, "{alarms} of {moves}");
    }

    #[test]
    fn rises_that_grow_rarer_are_told_from_steady_ones() {
        let times = |gap: fn(i32) -> f64| {
            let mut evidence = Evidence::default();
            let mut now = 0.0;
            for index in 0..20 {
                evidence.add(now, 1, 1, 1.0);
                now += gap(index);
            }
            evidence.run().unwrap().acceleration(now)
        };
        assert!(times(|_| 60.0).abs() < 1.0);
        assert!(times(|index| 10.0 * 1.3_f64.powi(index)) < -3.0);
    }
}
