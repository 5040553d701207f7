//! The rules that people write by hand, over counts alone.

use std::collections::VecDeque;

#[derive(Clone, Copy, Debug)]
pub enum Rule {
    /// `count > N`
    Above(f64),
    /// `deriv(count[window]) > D` tasks a second: least squares.
    Slope(f64, f64),
    /// The count has grown in so many windows (seconds) in a row.
    Rises(u32, f64),
}

impl Rule {
    pub fn all() -> Vec<Self> {
        let mut rules: Vec<Self> = [5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0]
            .map(Self::Above)
            .to_vec();
        for window in [600.0, 1800.0, 7200.0] {
            rules.extend([0.0, 1e-4, 1e-3, 1e-2, 0.1].map(|slope| Self::Slope(slope, window)));
        }
        for window in [60.0, 300.0, 1800.0] {
            rules.extend([3, 5, 8].map(|rises| Self::Rises(rises, window)));
        }
        rules
    }

    pub fn label(self) -> String {
        match self {
            Self::Above(limit) => format!("count > {limit}"),
            Self::Slope(slope, window) => format!("deriv[{}m] > {slope}/s", window / 60.0),
            Self::Rises(rises, window) => format!("growth in {rises} windows of {}m", window / 60.0),
        }
    }
}

/// A rule at work on one series.
pub struct Watcher {
    rule: Rule,
    samples: VecDeque<(f64, f64)>,
    window_ends: f64,
    before: f64,
    rises: u32,
}

impl Watcher {
    pub fn new(rule: Rule) -> Self {
        Self {
            rule,
            samples: VecDeque::new(),
            window_ends: 0.0,
            before: f64::INFINITY,
            rises: 0,
        }
    }

    /// Whether the rule holds.
    pub fn sample(&mut self, now: f64, count: f64) -> bool {
        match self.rule {
            Rule::Above(limit) => count > limit,
            Rule::Slope(slope, window) => {
                // One a minute is enough for a slope over ten.
                if self.samples.back().is_none_or(|(last, _)| now - last >= 55.0) {
                    self.samples.push_back((now, count));
                }
                while self
                    .samples
                    .front()
                    .is_some_and(|(first, _)| now - first > window)
                {
                    self.samples.pop_front();
                }
                self.samples.len() > 3 && least_squares(&self.samples) > slope
            }
            Rule::Rises(wanted, window) => {
                if now >= self.window_ends {
                    self.rises = if count > self.before { self.rises + 1 } else { 0 };
                    self.before = count;
                    self.window_ends = now + window;
                }
                self.rises >= wanted
            }
        }
    }
}

fn least_squares(samples: &VecDeque<(f64, f64)>) -> f64 {
    let n = samples.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| samples.iter().map(of).sum::<f64>() / n;
    let (time, value) = (mean(|sample| sample.0), mean(|sample| sample.1));
    let (mut above, mut below) = (0.0, 0.0);
    for (at, count) in samples {
        above += (at - time) * (count - value);
        below += (at - time).powi(2);
    }
    if below > 0.0 { above / below } else { 0.0 }
}
