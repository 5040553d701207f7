//! Whether a series rises, and how fast: Mann–Kendall for significance, Theil–Sen for the slope.

mod mann_kendall;
mod theil_sen;

use mann_kendall::mann_kendall;
use theil_sen::theil_sen;

/// A series at even distances in time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Trend {
    /// Of one-sided Mann–Kendall, with Hamed and Rao's correction for autocorrelation.
    pub p: f64,
    /// Theil–Sen, per sample.
    pub slope: f64,
}

/// `None`: fewer than 4 samples.
pub fn trend(series: &[f64]) -> Option<Trend> {
    if series.len() < 4 {
        return None;
    }
    let slope = theil_sen(series);
    Some(Trend {
        p: mann_kendall(series, slope).p,
        slope,
    })
}
