//! One count on trial: its history, its evidence, and the verdict that follows.

use serde::{Deserialize, Serialize};

use super::{
    evidence::{Evidence, Run},
    history::{History, Window},
    survival::Survival,
    trend::{Trend, trend},
};
use crate::model::{Growth, Verdict};

/// How counts are judged. Times in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// In which a trend is looked for; growth must have gone on for a quarter of it.
    pub window: f64,
    /// The same for slow leaks.
    pub long_window: f64,
    /// Tasks.
    pub min_growth: f64,
    /// What `growing` and `leaking` take of evidence: log2 of how many games without growth would go so far once.
    pub growing: f64,
    pub leaking: f64,
    /// Share of the window for which growth must have gone on.
    pub lasting: f64,
    /// Share of the count by which it grows in a window. Slower growth must have gone on for longer than a day's load
    /// rises.
    pub fast: f64,
    /// p-value of the trend.
    pub significant: f64,
}

impl Settings {
    /// 8 rises in a row without a fall are `growing`, 12 are `leaking` (if their members stay): found by
    /// `cargo xtask bench --only verdict`.
    pub const DEFAULT: Self = Self {
        window: 1800.0,
        long_window: 6.0 * 3600.0,
        min_growth: 5.0,
        growing: 6.7,
        leaking: 10.1,
        lasting: 0.25,
        fast: 0.0,
        significant: 0.05,
    };

    /// Seconds in which what comes and goes is one move.
    pub fn block(&self) -> f64 {
        self.window / 120.0
    }

    /// For live tasks that are never long in one wait: a pool that is busy, and grows with the morning's load, has such
    /// as well. More than three times the evidence, in a whole window, and growth that is too fast for a day's load.
    pub fn for_live(self) -> Self {
        Self {
            fast: STEEPEST_DAY * self.window / DAY,
            growing: 3.7 * self.growing,
            leaking: 3.0 * self.leaking,
            lasting: (4.0 * self.lasting).min(1.0),
            ..self
        }
    }

    /// For counts that say nothing of their members: twice the evidence and more.
    pub fn for_series(self) -> Self {
        Self {
            growing: 2.5 * self.growing,
            leaking: 2.0 * self.leaking,
            ..self
        }
    }
}

/// Seconds.
const DAY: f64 = 86_400.0;
/// A load that rises tenfold from night to noon, as a sine does, grows by this share of itself a day where it is
/// steepest: 2π · 0.45 cos x / (0.55 + 0.45 sin x).
const STEEPEST_DAY: f64 = 9.0;
/// For so long it rises, with some hours to spare.
const MORNING: f64 = DAY * 0.6;
/// A window that has fewer samples says nothing.
const FEWEST_SAMPLES: usize = 12;
/// Growth by more tasks than this need not last as long: twice as many, half as long, ...
const MUCH: f64 = 50.0;
/// ... but this share of it.
const LEAST_LASTING: f64 = 0.2;
/// Growth is over when so many of its usual gaps have passed without more of it, ...
const SILENCE: f64 = 4.0;
/// ... or, for a verdict that stands, so many.
const LONG_SILENCE: f64 = 8.0;
/// Rises that grow rarer than this (standard deviations) near a plateau.
const SLOWING: f64 = -2.5;
/// A process that has just been started warms up: there growth must have lasted so many times longer, ...
const YOUNG_LASTING: f64 = 2.0;
/// ... and may slow down by this much only.
const YOUNG_SLOWING: f64 = -0.5;
/// Of the members of a leak's growth so many must be there still.
const STAYING: f64 = 0.5;

/// A count on trial.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Case {
    pub history: History,
    pub evidence: Evidence,
    /// How long the waits (lives) of members last that end.
    pub survival: Survival,
    /// Of these, the first waits of tasks that were born while we watched.
    pub first_waits: Survival,
    /// Members that have come to stay and are there.
    pub staying: usize,
    /// Waits past the threshold that have ended.
    pub returned: u64,
    standing: Standing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Standing {
    Quiet,
    Growing,
    Leaking,
}

/// What a case comes to.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    pub verdict: Verdict,
    pub growth: Option<Growth>,
}

impl Case {
    pub fn new(settings: &Settings, now: f64) -> Self {
        Self {
            history: History::new(settings.window, settings.long_window, now),
            evidence: Evidence::default(),
            survival: Survival::default(),
            first_waits: Survival::default(),
            staying: 0,
            returned: 0,
            standing: Standing::Quiet,
        }
    }

    /// The verdict as of the last sample. `born`: when what is counted began, on the clock of the samples.
    /// `has_members`: whether [`Self::staying`] is told, without which nothing is called a leak. `explain`: whether
    /// growth is told also of what is no more than moving.
    pub fn judge(&mut self, settings: &Settings, born: f64, has_members: bool, explain: bool) -> Finding {
        let now = self.history.latest;
        let stood = self.standing != Standing::Quiet;
        let run = self.evidence.run().copied();
        let grown = run.filter(|run| {
            let is_young = run.since - born < settings.window;
            now - run.since >= lasting(run, settings, is_young, has_members)
                && (stood || !slows(run, now, is_young) && !self.may_be_a_day(run, settings))
                && goes_on(run, now, settings, stood)
        });
        let strong = grown.is_some() && (stood || self.evidence.doublings() >= settings.growing);
        let shown = if (strong && !stood) || (explain && (strong || self.is_moving())) {
            self.growth(settings)
        } else {
            None
        };
        let confirmed = stood
            || shown
                .as_ref()
                .is_some_and(|growth| growth.p < settings.significant);
        self.standing = match grown {
            Some(run) if strong && confirmed => {
                let stays = has_members && self.staying as f64 >= STAYING * run.growth as f64;
                let is_leak =
                    self.standing == Standing::Leaking || self.evidence.doublings() >= settings.leaking;
                if stays && is_leak {
                    Standing::Leaking
                } else {
                    Standing::Growing
                }
            }
            _ => Standing::Quiet,
        };
        if stood && self.standing == Standing::Quiet {
            // What is called so again must have grown again.
            self.evidence = Evidence::default();
        }
        Finding {
            verdict: match self.standing {
                Standing::Growing => Verdict::Growing,
                Standing::Leaking => Verdict::Leaking,
                // As long as growth must go on to be called so, nothing is known to be without it.
                Standing::Quiet if now - self.history.began < settings.lasting * settings.window => {
                    Verdict::Unknown
                }
                Standing::Quiet => Verdict::Stable,
            },
            growth: shown,
        }
    }

    /// How it has grown, in the window that shows it best.
    pub fn growth(&self, settings: &Settings) -> Option<Growth> {
        let since = self.evidence.run().map_or(self.history.latest, |run| run.since);
        self.shown(since, settings)
    }

    /// Whether a load that rises with the day explains it.
    fn may_be_a_day(&self, run: &Run, settings: &Settings) -> bool {
        let grows_for = self.history.latest - run.since;
        let windows = (grows_for / settings.window).max(1.0);
        grows_for < MORNING && run.growth as f64 / windows < settings.fast * self.history.value()
    }

    fn is_moving(&self) -> bool {
        let recent = self.history.recent();
        recent.windows(2).any(|pair| pair[0] != pair[1])
    }

    /// The window that shows the growth best: the most significant of those that reach back to its beginning, or the
    /// longest there is.
    fn shown(&self, since: f64, settings: &Settings) -> Option<Growth> {
        let reach = self.history.latest - since;
        let mut best: Option<Growth> = None;
        for window in self.history.windows() {
            let Some(trend) = trend_of(&window) else { continue };
            let growth = growth_of(&window, trend);
            if best.is_none_or(|best| growth.p < best.p) {
                best = Some(growth);
            }
            if window.seconds() >= reach && best.is_some_and(|best| best.p < settings.significant) {
                break;
            }
        }
        best
    }
}

/// For how long growth must have gone on, seconds.
fn lasting(run: &Run, settings: &Settings, is_young: bool, has_members: bool) -> f64 {
    let times = if is_young { YOUNG_LASTING } else { 1.0 };
    // Of a series nobody knows what one is: a task, or a byte. And a warm-up is quick and much.
    let haste = if has_members && !is_young {
        (MUCH / run.growth.max(1) as f64).clamp(LEAST_LASTING, 1.0)
    } else {
        1.0
    };
    times * haste * settings.lasting * settings.window
}

/// Whether it nears a plateau.
fn slows(run: &Run, now: f64, is_young: bool) -> bool {
    run.acceleration(now) <= if is_young { YOUNG_SLOWING } else { SLOWING }
}

/// Whether growth is enough, and still goes on.
fn goes_on(run: &Run, now: f64, settings: &Settings, stood: bool) -> bool {
    let silence = if stood { LONG_SILENCE } else { SILENCE };
    let patience = (silence * run.gap()).max(2.0 * settings.block());
    run.growth as f64 >= settings.min_growth && now - run.latest <= patience
}

fn trend_of(window: &Window) -> Option<Trend> {
    (window.samples.len() >= FEWEST_SAMPLES)
        .then(|| trend(&window.samples))
        .flatten()
}

fn growth_of(window: &Window, trend: Trend) -> Growth {
    let at = |index: usize| window.samples.get(index).copied().unwrap_or(0.0);
    Growth {
        from: at(0),
        to: at(window.samples.len().saturating_sub(1)),
        over_seconds: window.seconds(),
        p: trend.p,
        per_hour: trend.slope / window.step * 3600.0,
    }
}
