//! Whether a series rises, and how fast: Mann–Kendall for significance, Theil–Sen for the slope.

mod mann_kendall;
mod theil_sen;

use mann_kendall::{mann_kendall, mann_kendall_uncorrected};
use theil_sen::theil_sen;

/// A series at even distances in time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Trend {
    /// Of one-sided Mann–Kendall, with Hamed and Rao's correction for autocorrelation at its most careful.
    pub p: f64,
    /// Theil–Sen, per sample.
    pub slope: f64,
}

/// Whether a series rises with this significance, noise or not; a random walk may. Quick where it does not.
pub fn is_rising(series: &[f64], p: f64) -> bool {
    mann_kendall_uncorrected(series).p < p && mann_kendall(series, theil_sen(series)).p < p
}

/// `None`: fewer than 4 samples.
pub fn trend(series: &[f64]) -> Option<Trend> {
    if series.len() < 4 {
        return None;
    }
    let slope = theil_sen(series);
    Some(Trend {
        p: mann_kendall(series, 0.0).p,
        slope,
    })
}
