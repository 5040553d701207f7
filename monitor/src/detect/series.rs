//! The verdict on a recorded series: growth only, for a series has no members.

use super::{
    case::{Case, Finding, Settings, growth_of},
    history::{History, SAMPLES, Window},
    trend::{is_rising, trend},
};
use crate::model::{Growth, Verdict};

/// A trend without evidence of single moves (a noisy series) must be this significant, ...
const SIGNIFICANT: f64 = 1e-4;
/// ... and is one as long as it is no less than this.
const STILL_SIGNIFICANT: f64 = 1e-2;
/// It is looked for so many times in a window.
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
        Self {
            settings,
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
        self.look(now, settings);
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
                    .is_some_and(|window| begins_to_rise(history, &window, settings))
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
fn begins_to_rise(history: &History, window: &Window, settings: &Settings) -> bool {
    let samples = &window.samples;
    if samples.len() < SAMPLES || !is_rising(samples, SIGNIFICANT) {
        return false;
    }
    let third = SAMPLES / 3;
    let mean = |part: &[f64]| part.iter().sum::<f64>() / part.len() as f64;
    let goes_on = mean(&samples[2 * third..]) > mean(&samples[third..2 * third]);
    let lowest = samples[5 * SAMPLES / 6..]
        .iter()
        .copied()
        .fold(f64::INFINITY, f64::min);
    let is_new = history
        .peak_before(window.seconds())
        .is_some_and(|peak| lowest > peak);
    if !goes_on || !is_new {
        return false;
    }
    trend(samples).is_some_and(|trend| {
        let growth = growth_of(window, trend);
        trend.slope * SAMPLES as f64 >= settings.min_growth && growth.per_hour > 0.0
    })
}
