//! What a count has been: three rings of the same length, each over a longer time with wider steps.

use serde::{Deserialize, Serialize};

/// Samples that a ring keeps.
pub const SAMPLES: usize = 60;

/// The last sample of each step of time, as many as [`SAMPLES`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Ring {
    /// Seconds.
    step: f64,
    /// Number of the step that the last sample is of.
    last: i64,
    /// Oldest first.
    samples: Vec<f32>,
}

impl Ring {
    fn new(span: f64) -> Self {
        Self {
            step: span / SAMPLES as f64,
            last: i64::MIN,
            samples: Vec::new(),
        }
    }

    fn window(&self) -> Window {
        Window {
            step: self.step,
            samples: self.samples.iter().copied().map(f64::from).collect(),
        }
    }

    fn push(&mut self, now: f64, value: f64) {
        let at = (now / self.step).floor() as i64;
        // No sum or difference of such numbers is infinite.
        let value = value.clamp(-1e30, 1e30) as f32;
        match self.samples.last_mut() {
            Some(last) if at <= self.last => *last = value,
            Some(&mut before) => {
                // What was not sampled was as before.
                let missed = usize::try_from(at.saturating_sub(self.last).saturating_sub(1))
                    .unwrap_or(0)
                    .min(SAMPLES);
                self.samples.extend(std::iter::repeat_n(before, missed));
                self.samples.push(value);
            }
            None => self.samples.push(value),
        }
        self.last = self.last.max(at);
        let surplus = self.samples.len().saturating_sub(SAMPLES);
        self.samples.drain(..surplus);
    }
}

/// A window of time that a trend is looked for in.
#[derive(Clone, Debug, PartialEq)]
pub struct Window {
    /// Seconds between samples.
    pub step: f64,
    /// Oldest first.
    pub samples: Vec<f64>,
}

impl Window {
    /// From its first sample to its last, seconds.
    pub fn seconds(&self) -> f64 {
        self.step * self.samples.len().saturating_sub(1) as f64
    }
}

/// The history of one count. Bounded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct History {
    rings: [Ring; 3],
    /// When it began, seconds.
    pub began: f64,
    /// Of its last sample, seconds.
    pub latest: f64,
    /// When the count last changed, seconds.
    pub changed: f64,
    value: f64,
}

impl History {
    /// `window` and `long`: seconds. The third ring is 12 times as long as the second: three days to 6 hours.
    pub fn new(window: f64, long: f64, now: f64) -> Self {
        Self {
            rings: [Ring::new(window), Ring::new(long), Ring::new(12.0 * long)],
            began: now,
            latest: now,
            changed: now,
            value: 0.0,
        }
    }

    /// Times must not fall; what comes from earlier than the last sample is taken for the same moment.
    pub fn push(&mut self, now: f64, value: f64) {
        let now = now.max(self.latest);
        if value != self.value {
            self.changed = now;
            self.value = value;
        }
        self.latest = now;
        for ring in &mut self.rings {
            ring.push(now, value);
        }
    }

    /// The last count.
    pub fn value(&self) -> f64 {
        self.value
    }

    /// The shortest first.
    pub fn windows(&self) -> impl Iterator<Item = Window> {
        self.rings.iter().map(Ring::window)
    }

    /// One of the three.
    pub fn window(&self, index: usize) -> Option<Window> {
        self.rings.get(index).map(Ring::window)
    }

    /// How long one of the three is when it is full, seconds.
    pub fn span(&self, index: usize) -> f64 {
        self.rings
            .get(index)
            .map_or(f64::INFINITY, |ring| ring.step * SAMPLES as f64)
    }

    /// Samples of the shortest window, oldest first.
    pub fn recent(&self) -> &[f32] {
        &self.rings[0].samples
    }

    /// Highest sample that is known from before the last `seconds`, in the longest ring.
    pub fn peak_before(&self, seconds: f64) -> Option<f64> {
        let ring = &self.rings[2];
        let recent = (seconds / ring.step).ceil() as usize + 1;
        let before = ring.samples.len().checked_sub(recent)?;
        ring.samples[..before]
            .iter()
            .copied()
            .map(f64::from)
            .reduce(f64::max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(history: &History) -> Vec<Vec<f64>> {
        history.windows().map(|window| window.samples).collect()
    }

    #[test]
    fn a_step_keeps_its_last_sample() {
        let mut history = History::new(60.0, 600.0, 0.0);
        for second in 0..5 {
            history.push(f64::from(second) + 0.1, f64::from(second));
            history.push(f64::from(second) + 0.9, f64::from(second) + 0.5);
        }
        assert_eq!(samples(&history)[0], [0.5, 1.5, 2.5, 3.5, 4.5]);
        assert_eq!(samples(&history)[1], [4.5]);
    }

    #[test]
    fn rings_are_bounded_and_the_longer_ones_reach_further_back() {
        let mut history = History::new(60.0, 600.0, 0.0);
        for second in 0..7200 {
            history.push(f64::from(second), f64::from(second));
        }
        let windows: Vec<Window> = history.windows().collect();
        for (window, first) in windows.iter().zip([7140.0, 6609.0, 119.0]) {
            assert_eq!((window.samples.len(), window.samples[0]), (SAMPLES, first));
        }
    }

    #[test]
    fn what_was_missed_is_as_before() {
        let mut history = History::new(60.0, 600.0, 0.0);
        history.push(0.0, 3.0);
        history.push(4.0, 5.0);
        assert_eq!(samples(&history)[0], [3.0, 3.0, 3.0, 3.0, 5.0]);
        history.push(1e9, 7.0);
        assert_eq!(history.recent().len(), SAMPLES);
        assert_eq!(history.recent()[..2], [5.0, 5.0]);
        assert_eq!(history.value(), 7.0);
    }

    #[test]
    fn time_does_not_run_backwards() {
        let mut history = History::new(60.0, 600.0, 100.0);
        history.push(100.0, 3.0);
        history.push(50.0, 4.0);
        assert_eq!(
            (samples(&history)[0].as_slice(), history.latest),
            ([4.0].as_slice(), 100.0)
        );
    }
}
