//! How long waits at one place last, by Kaplan and Meier's estimate over those that have ended and those that
//! still run (censored). Waits are known from the threshold on only, and older ones may be met late: each counts as
//! at risk from the age at which it was first seen.

use serde::{Deserialize, Serialize};

/// Ages are told apart by a quarter of themselves: 96 bins reach from a tenth of a second to six years.
const BINS: usize = 96;
const SMALLEST: f64 = 0.1;
const RATIO: f64 = 1.25;
/// So many endings weigh no more than half of that many new ones: what a program did last week is forgotten.
const MOST_ENDINGS: f32 = 5000.0;

/// Waits by age. Bounded, whatever their number.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Survival {
    /// By age when first seen, and by age at the end. Empty until one has ended.
    met: Vec<f32>,
    ended: Vec<f32>,
}

impl Survival {
    /// A wait that was first seen at one age and has ended at another (seconds).
    pub fn end(&mut self, met: f64, ended: f64) {
        if self.ended.is_empty() {
            self.met = vec![0.0; BINS];
            self.ended = vec![0.0; BINS];
        }
        self.met[bin(met)] += 1.0;
        self.ended[bin(ended.max(met))] += 1.0;
        if self.ended.iter().sum::<f32>() > MOST_ENDINGS {
            for count in self.met.iter_mut().chain(&mut self.ended) {
                *count /= 2.0;
            }
        }
    }

    /// Endings that are remembered.
    pub fn endings(&self) -> f64 {
        self.ended.iter().copied().map(f64::from).sum()
    }

    /// The age before which this share of the waits that *did* end had ended, seconds. `None` without any.
    pub fn ended_within(&self, share: f64) -> Option<f64> {
        let all = self.endings();
        if all <= 0.0 {
            return None;
        }
        let mut sum = 0.0;
        let reached = self.ended.iter().position(|count| {
            sum += f64::from(*count);
            sum >= share * all
        });
        Some(upper_edge(reached.unwrap_or(BINS - 1)))
    }

    /// Kaplan–Meier: of the waits that reach the threshold, the share that reaches this age (seconds). `running`:
    /// ages of the running ones when they were first seen and now.
    pub fn survivors(&self, age: f64, running: impl IntoIterator<Item = (f64, f64)>) -> f64 {
        let mut entered = [0.0_f64; BINS];
        let mut left = [0.0_f64; BINS];
        let mut ended = [0.0_f64; BINS];
        for (index, (met, gone)) in self.met.iter().zip(&self.ended).enumerate() {
            entered[index] += f64::from(*met);
            left[index] += f64::from(*gone);
            ended[index] += f64::from(*gone);
        }
        for (met, now) in running {
            entered[bin(met)] += 1.0;
            left[bin(now.max(met))] += 1.0;
        }
        let mut at_risk = 0.0;
        let mut share = 1.0;
        for index in 0..=bin(age) {
            at_risk += entered[index];
            if at_risk > 0.0 {
                share *= 1.0 - (ended[index] / at_risk).min(1.0);
            }
            at_risk -= left[index];
        }
        share
    }
}

fn bin(age: f64) -> usize {
    if age <= SMALLEST {
        return 0;
    }
    (((age / SMALLEST).ln() / RATIO.ln()).floor() as usize).min(BINS - 1)
}

fn upper_edge(bin: usize) -> f64 {
    SMALLEST * RATIO.powi(i32::try_from(bin + 1).unwrap_or(i32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_an_end_everything_survives() {
        let survival = Survival::default();
        assert_eq!(survival.survivors(3600.0, [(60.0, 7200.0)]), 1.0);
        assert_eq!(survival.ended_within(0.99), None);
    }

    #[test]
    fn of_ten_waits_three_that_ended_early_leave_seven_tenths() {
        let mut survival = Survival::default();
        for _ in 0..3 {
            survival.end(60.0, 120.0);
        }
        let running = [(60.0, 3600.0); 7];
        assert!((survival.survivors(50.0, running) - 1.0).abs() < 1e-9);
        assert!((survival.survivors(600.0, running) - 0.7).abs() < 1e-6);
    }

    #[test]
    fn those_that_are_still_young_say_nothing_of_the_old() {
        // Half of the two that came to 1,000 s ended there; ten that are younger are censored.
        let mut survival = Survival::default();
        survival.end(60.0, 1000.0);
        let running = [(60.0, 2000.0)].into_iter().chain([(60.0, 100.0); 10]);
        assert!((survival.survivors(1500.0, running) - 0.5).abs() < 1e-6);
    }

    #[test]
    fn one_that_was_met_late_was_at_risk_only_from_then_on() {
        // One ended at 100 s; the other was first seen when it was 1,000 s old: it does not make the first one's end
        // a chance of a half.
        let mut survival = Survival::default();
        survival.end(60.0, 100.0);
        assert!(survival.survivors(500.0, [(1000.0, 2000.0)]) < 1e-6);
    }

    #[test]
    fn ages_are_told_within_a_quarter() {
        let mut survival = Survival::default();
        for age in 1..=100 {
            survival.end(f64::from(age), f64::from(age));
        }
        let within = survival.ended_within(0.9).unwrap();
        assert!((90.0..=90.0 * 1.26).contains(&within), "{within}");
    }

    #[test]
    fn old_endings_are_forgotten_by_and_by() {
        let mut survival = Survival::default();
        for _ in 0..20_000 {
            survival.end(60.0, 60.0);
        }
        assert!(survival.endings() <= f64::from(MOST_ENDINGS));
        for _ in 0..20_000 {
            survival.end(1.0, 1.0);
        }
        assert!(survival.ended_within(0.9).unwrap() < 2.0);
    }

    #[test]
    fn any_age_has_a_bin() {
        let mut survival = Survival::default();
        for age in [0.0, -1.0, f64::MAX, f64::INFINITY, f64::NAN] {
            survival.end(age, age);
            assert!(survival.survivors(age, []).is_finite());
        }
    }
}
