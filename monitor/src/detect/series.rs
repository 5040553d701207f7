//! The verdict on a recorded series: growth only, for a series has no members.

use super::{
    case::{Case, Finding, Settings},
    history::{History, SAMPLES, Window},
    trend::{is_rising, trend},
};
use crate::model::{Growth, Verdict};

/// A trend without evidence of single moves (a noisy series) must be this significant, ...
const SIGNIFICANT: f64 = 1e-4;
/// ... and is one as long as it is no less than this.
const STILL_SIGNIFICANT: f64 = 1e-2;
/// Index of the longest window.
const LONGEST: usize = 2;
/// It is looked for only once the days' ups and downs are known, ...
const KNOWN: f64 = 86_400.0;
/// ... so many times in a window.
const LOOKS: f64 = 20.0;
/// Samples further apart than this (seconds) have a gap between them, as for Prometheus.
pub const STALENESS: f64 = 300.0;

/// What is thought of a sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    Yes,
    /// Not later than the one before it.
    OutOfOrder,
    /// NaN (a series that has ended, to Prometheus) or infinite.
    NotANumber,
}

/// One series on trial.
pub struct SeriesJudge {
    settings: Settings,
    state: Option<State>,
}

struct State {
    case: Case,
    began: f64,
    latest: f64,
    value: f64,
    /// When each window is looked at again.
    next_looks: [f64; 3],
    /// Window that rises.
    rising: Option<usize>,
    verdict: Verdict,
}

/// A change of verdict.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// Unix seconds.
    pub at: f64,
    pub verdict: Verdict,
    pub growth: Option<Growth>,
}

impl SeriesJudge {
    pub fn new(settings: Settings) -> Self {
        // Counts alone: a random walk has as many rises in a row as a leak every now and then.
        Self {
            settings: settings.for_series(),
            state: None,
        }
    }

    /// The next sample: unix seconds and value. The change that it makes, if any.
    pub fn sample(&mut self, at: f64, value: f64) -> (Taken, Option<Change>) {
        if !value.is_finite() || !at.is_finite() {
            return (Taken::NotANumber, None);
        }
        let settings = self.settings;
        let state = self.state.get_or_insert_with(|| State {
            case: Case::new(&settings, 0.0),
            began: at,
            latest: f64::NEG_INFINITY,
            value,
            next_looks: [0.0; 3],
            rising: None,
            verdict: Verdict::Unknown,
        });
        if at <= state.latest {
            return (Taken::OutOfOrder, None);
        }
        (Taken::Yes, state.sample(at, value, &settings))
    }
}

impl State {
    fn sample(&mut self, at: f64, value: f64, settings: &Settings) -> Option<Change> {
        let now = at - self.began;
        let move_by = value - self.value;
        // Away from zero: a small move is one, too.
        let net = (move_by.abs().ceil() * move_by.signum()) as i64;
        let came = usize::try_from(net).unwrap_or(0);
        self.case.evidence.add(now, came, net, settings.block());
        self.case.history.push(now, value);
        (self.latest, self.value) = (at, value);
        // Nothing is known of when the process was started.
        let Finding { verdict, .. } = self.case.judge(settings, f64::NEG_INFINITY, false, false);
        if verdict != Verdict::Growing {
            self.look(now, settings);
        }
        let verdict = match verdict {
            Verdict::Stable if self.rising.is_some() => Verdict::Growing,
            // A daily wave rises, too.
            Verdict::Growing if self.verdict != Verdict::Growing && !self.is_new(now) => Verdict::Stable,
            verdict => verdict,
        };
        if verdict == self.verdict {
            return None;
        }
        self.verdict = verdict;
        Some(Change {
            at,
            verdict,
            growth: self.case.growth(settings),
        })
    }

    /// Whether growth has led where the series has not been in the days before it, as far as they are known.
    fn is_new(&self, now: f64) -> bool {
        let since = self.case.evidence.run().map_or(now, |run| run.since);
        let peak = self.case.history.peak_before(now - since);
        peak.is_none_or(|peak| self.value > peak)
    }

    /// Looks for a trend that single moves do not show.
    fn look(&mut self, now: f64, settings: &Settings) {
        for index in 0..self.next_looks.len() {
            if now < self.next_looks[index] {
                continue;
            }
            let history = &self.case.history;
            self.next_looks[index] = now + history.span(index) / LOOKS;
            let rises = if self.rising == Some(index) {
                history
                    .window(index)
                    .is_some_and(|window| is_rising(&window.samples, STILL_SIGNIFICANT))
            } else {
                history
                    .window(index)
                    .is_some_and(|window| begins_to_rise(history, &window, index == LONGEST, settings))
            };
            match self.rising {
                None if rises => self.rising = Some(index),
                Some(known) if known == index && !rises => self.rising = None,
                _ => {}
            }
        }
    }
}

/// A full window with a trend beyond doubt, enough of it, that goes on, and that leads where the series has not been in
/// all the days that are known.
fn begins_to_rise(history: &History, window: &Window, is_longest: bool, settings: &Settings) -> bool {
    let samples = &window.samples;
    let is_known = history.latest - history.began >= KNOWN;
    if !is_known || samples.len() < SAMPLES {
        return false;
    }
    let sixth = SAMPLES / 6;
    let mean = |part: &[f64]| part.iter().sum::<f64>() / part.len() as f64;
    let lowest = samples[5 * sixth..].iter().copied().fold(f64::INFINITY, f64::min);
    let is_new = history
        .peak_before(window.seconds())
        // Of the longest window there is no before; it is longer than any wave.
        .map_or(is_longest, |peak| lowest > peak);
    // The costly question last.
    if !is_new || !is_rising(samples, SIGNIFICANT) {
        return false;
    }
    let lately = mean(&samples[5 * sixth..]) - mean(&samples[4 * sixth..5 * sixth]);
    trend(samples).is_some_and(|trend| {
        let goes_on = lately >= 0.5 * trend.slope * sixth as f64;
        goes_on && trend.p < settings.significant && trend.slope * SAMPLES as f64 >= settings.min_growth
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: f64 = 86_400.0;

    fn changes(series: impl IntoIterator<Item = (f64, f64)>) -> Vec<(f64, Verdict)> {
        let mut judge = SeriesJudge::new(Settings::DEFAULT);
        let changes = series
            .into_iter()
            .filter_map(|(at, value)| judge.sample(at, value).1);
        changes.map(|change| (change.at, change.verdict)).collect()
    }

    fn every_half_minute(days: f64, value: impl FnMut(f64) -> f64) -> Vec<(f64, f64)> {
        let mut value = value;
        let samples = (days * DAY / 30.0) as u32;
        (0..samples)
            .map(|index| f64::from(index) * 30.0)
            .map(|at| (at, value(at)))
            .collect()
    }

    fn alarms(changes: &[(f64, Verdict)]) -> usize {
        changes.iter().filter(|(_, verdict)| verdict.is_alarm()).count()
    }

    #[test]
    fn a_leak_of_one_a_minute_is_found_within_half_an_hour() {
        let leak = every_half_minute(0.5, |at| 20.0 + ((at - 7200.0) / 60.0).floor().max(0.0));
        let changes = changes(leak);
        assert_eq!(changes[0].1, Verdict::Stable);
        assert_eq!(changes[1].1, Verdict::Growing);
        assert!((7200.0..7200.0 + 1800.0).contains(&changes[1].0), "{changes:?}");
        assert_eq!(changes.len(), 2);
    }

    #[test]
    fn the_verdict_comes_down_when_growth_is_over() {
        let leak = every_half_minute(1.0, |at| (at.min(20_000.0) / 60.0).floor());
        let verdicts: Vec<Verdict> = changes(leak).into_iter().map(|(_, verdict)| verdict).collect();
        assert_eq!(verdicts, [Verdict::Stable, Verdict::Growing, Verdict::Stable]);
    }

    #[test]
    fn a_slow_leak_in_noise_is_found_after_a_day() {
        let mut random = fastrand::Rng::with_seed(2);
        let leak = every_half_minute(4.0, |at| 100.0 + at / 600.0 + 6.0 * random.f64());
        assert!(alarms(&changes(leak)) >= 1);
    }

    #[test]
    fn what_does_not_grow_is_stable_for_days() {
        let mut random = fastrand::Rng::with_seed(4);
        let noise = every_half_minute(7.0, |_| 100.0 + (20.0 * random.f64()).floor());
        assert_eq!(alarms(&changes(noise)), 0);
        let mut value = 50.0_f64;
        let walk = every_half_minute(7.0, |_| {
            value = (value + if random.bool() { 1.0 } else { -1.0 }).clamp(0.0, 30.0);
            value
        });
        assert_eq!(alarms(&changes(walk)), 0);
        assert_eq!(alarms(&changes(every_half_minute(7.0, |_| 3.0))), 0);
    }

    #[test]
    fn a_daily_wave_is_no_leak_once_a_day_is_known() {
        let mut random = fastrand::Rng::with_seed(6);
        let wave = every_half_minute(8.0, |at| {
            let load = 0.55 + 0.45 * (at / DAY * std::f64::consts::TAU).sin();
            (100.0 * load + 5.0 * random.f64()).floor()
        });
        let changes = changes(wave);
        let late = changes
            .iter()
            .filter(|(at, verdict)| *at > DAY && verdict.is_alarm());
        assert_eq!(late.count(), 0, "{changes:?}");
    }

    #[test]
    fn restarts_are_no_growth() {
        // Each rises to 20 within two minutes of its start.
        let sawtooth = every_half_minute(3.0, |at| ((at % 7200.0) / 6.0).min(20.0).floor());
        assert_eq!(alarms(&changes(sawtooth)), 0);
    }

    #[test]
    fn samples_that_prometheus_would_drop_are_dropped() {
        let mut judge = SeriesJudge::new(Settings::DEFAULT);
        assert_eq!(judge.sample(f64::NAN, 1.0).0, Taken::NotANumber);
        assert_eq!(judge.sample(10.0, 1.0).0, Taken::Yes);
        assert_eq!(judge.sample(10.0, 2.0).0, Taken::OutOfOrder);
        assert_eq!(judge.sample(5.0, 2.0).0, Taken::OutOfOrder);
        assert_eq!(judge.sample(20.0, f64::INFINITY).0, Taken::NotANumber);
        assert_eq!(judge.sample(20.0, 2.0).0, Taken::Yes);
    }

    proptest::proptest! {
        #[test]
        fn any_samples_are_survived(samples: Vec<(f64, f64)>) {
            for (_, change) in samples.iter().map({
                let mut judge = SeriesJudge::new(Settings::DEFAULT);
                move |(at, value)| judge.sample(*at, *value)
            }) {
                if let Some(Growth { from, to, over_seconds, p, per_hour }) = change.and_then(|change| change.growth) {
                    proptest::prop_assert!([from, to, over_seconds, p, per_hour].iter().all(|number| !number.is_nan()));
                }
            }
        }
    }
}
