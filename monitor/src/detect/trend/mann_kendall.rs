//! The Mann–Kendall test for a monotonic trend, with ties, and with the correction of its variance for
//! autocorrelated samples by Hamed and Rao (Journal of Hydrology 204, 1998, pages 182–196).

/// What the test says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MannKendall {
    /// Rising pairs less falling ones.
    pub s: i64,
    /// Variance of `s` if there is no trend, after the correction.
    pub variance: f64,
    /// One-sided: how likely so much of a rise is without a trend.
    pub p: f64,
}

/// Autocorrelations beyond this many standard deviations are taken for real (95 %, two-sided).
const SIGNIFICANT: f64 = 1.96;

/// For independent samples.
pub fn mann_kendall_uncorrected(series: &[f64]) -> MannKendall {
    told(rises(series), untied_variance(series))
}

/// `slope` (per sample) is taken out before autocorrelation is looked for. With the trend's own slope the test finds
/// weak trends in noise, but believes in one of five bounded random walks; with 0 the trend itself counts as
/// autocorrelation, and it believes in next to none of them, but still in whatever rises step by step.
pub fn mann_kendall(series: &[f64], slope: f64) -> MannKendall {
    let uncorrected = mann_kendall_uncorrected(series);
    if uncorrected.p >= 1.0 {
        return uncorrected;
    }
    told(uncorrected.s, uncorrected.variance * inflation(series, slope))
}

fn told(s: i64, variance: f64) -> MannKendall {
    if s <= 0 || variance <= 0.0 {
        return MannKendall { s, variance, p: 1.0 };
    }
    // Continuity: s moves in steps of two.
    let z = (s - 1) as f64 / variance.sqrt();
    MannKendall {
        s,
        variance,
        p: upper_tail(z),
    }
}

fn rises(series: &[f64]) -> i64 {
    let mut s = 0;
    for (index, earlier) in series.iter().enumerate() {
        let pairs = series[index + 1..].iter();
        let of_one: i32 = pairs
            .map(|later| i32::from(later > earlier) - i32::from(later < earlier))
            .sum();
        s += i64::from(of_one);
    }
    s
}

/// Of independent samples, ties taken out.
fn untied_variance(series: &[f64]) -> f64 {
    let term = |n: f64| n * (n - 1.0) * (2.0 * n + 5.0);
    let mut sorted = series.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let ties = sorted.chunk_by(|a, b| a == b).map(|tied| term(tied.len() as f64));
    (term(series.len() as f64) - ties.sum::<f64>()) / 18.0
}

/// n / n*: by how much the variance of autocorrelated samples is larger. Never below 1: negative autocorrelation
/// would make the test bolder than the samples are many.
fn inflation(series: &[f64], slope: f64) -> f64 {
    let n = series.len();
    let detrended: Vec<f64> = series
        .iter()
        .enumerate()
        .map(|(index, value)| value - slope * index as f64)
        .collect();
    let ranks = centred_ranks(&detrended);
    let power: f64 = ranks.iter().map(|rank| rank * rank).sum();
    if power <= 0.0 {
        return 1.0;
    }
    let n_f = n as f64;
    let bound = SIGNIFICANT / n_f.sqrt();
    let mut sum = 0.0;
    for lag in 1..n.saturating_sub(2) {
        let products = ranks.iter().zip(&ranks[lag..]).map(|(a, b)| a * b);
        let correlation = products.sum::<f64>() / power;
        if correlation.abs() > bound {
            let left = (n - lag) as f64;
            sum += left * (left - 1.0) * (left - 2.0) * correlation;
        }
    }
    (1.0 + 2.0 * sum / (n_f * (n_f - 1.0) * (n_f - 2.0))).max(1.0)
}

/// Ranks less their mean; tied samples share theirs.
fn centred_ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_unstable_by(|a, b| values[*a].total_cmp(&values[*b]));
    let mut ranks = vec![0.0; values.len()];
    let mean = (values.len() as f64 - 1.0) / 2.0;
    let mut at = 0;
    for tied in order.chunk_by(|a, b| values[*a] == values[*b]) {
        let shared = at as f64 + (tied.len() as f64 - 1.0) / 2.0 - mean;
        for index in tied {
            ranks[*index] = shared;
        }
        at += tied.len();
    }
    ranks
}

/// P(Z > z) of a standard normal: Abramowitz and Stegun 7.1.26 for small z, a continued fraction beyond.
fn upper_tail(z: f64) -> f64 {
    let x = z.abs();
    let density = (-0.5 * x * x).exp() / (2.0 * std::f64::consts::PI).sqrt();
    let tail = if x < 3.0 {
        let t = 1.0 / (1.0 + 0.231_641_9 * x);
        let series = t
            * (0.319_381_530
                + t * (-0.356_563_782 + t * (1.781_477_937 + t * (-1.821_255_978 + t * 1.330_274_429))));
        density * series
    } else {
        let fraction = (1..=40).rev().fold(x, |below, k| x + f64::from(k) / below);
        density / fraction
    };
    if z >= 0.0 { tail } else { 1.0 - tail }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_normal_tail_is_right() {
        // From tables.
        for (z, tail) in [
            (0.0, 0.5),
            (1.0, 0.158_655_25),
            (1.96, 0.024_997_9),
            (3.0, 1.349_898e-3),
            (5.0, 2.866_516e-7),
            (-1.0, 0.841_344_75),
        ] {
            assert!(
                (upper_tail(z) / tail - 1.0).abs() < 1e-4,
                "{z}: {}",
                upper_tail(z)
            );
        }
    }

    #[test]
    fn s_and_its_variance_by_hand() {
        // Gilbert, Statistical Methods for Environmental Pollution Monitoring (1987), 16.4.1: pairs counted by
        // hand. 1 2 2 3: rises 5, falls 0, one tie of two: (4·3·13 − 2·1·9) / 18.
        let told = mann_kendall(&[1.0, 2.0, 2.0, 3.0], 0.0);
        assert_eq!(told.s, 5);
        assert!((untied_variance(&[1.0, 2.0, 2.0, 3.0]) - (156.0 - 18.0) / 18.0).abs() < 1e-12);
    }

    #[test]
    fn a_constant_and_a_falling_series_do_not_rise() {
        assert_eq!(mann_kendall(&[5.0; 30], 0.0).p, 1.0);
        let falling: Vec<f64> = (0..30).map(|x| -f64::from(x)).collect();
        assert_eq!(mann_kendall(&falling, -1.0).p, 1.0);
    }

    #[test]
    fn a_line_with_noise_rises() {
        let mut random = fastrand::Rng::with_seed(1);
        let line: Vec<f64> = (0..60).map(|x| 0.5 * f64::from(x) + 3.0 * random.f64()).collect();
        assert!(mann_kendall(&line, 0.5).p < 1e-9);
    }

    /// Shares of 2,000 series without a trend that the test calls rising at a level, with the correction and without.
    fn called(level: f64, mut one: impl FnMut(&mut fastrand::Rng) -> Vec<f64>) -> (f64, f64) {
        let mut random = fastrand::Rng::with_seed(7);
        let (mut corrected, mut plain) = (0, 0);
        for _ in 0..2000 {
            let series = one(&mut random);
            corrected += i32::from(mann_kendall(&series, 0.0).p < level);
            plain += i32::from(mann_kendall_uncorrected(&series).p < level);
        }
        (f64::from(corrected) / 2000.0, f64::from(plain) / 2000.0)
    }

    #[test]
    fn of_independent_samples_five_in_a_hundred_are_called_rising_at_five_percent() {
        let (corrected, plain) = called(0.05, |random| (0..60).map(|_| random.f64()).collect());
        assert!((0.03..0.07).contains(&plain), "{plain}");
        assert!(corrected < 0.07, "{corrected}");
    }

    #[test]
    fn autocorrelated_samples_are_called_rising_far_less_often_than_without_the_correction() {
        let (corrected, plain) = called(0.05, |random| {
            let mut value = 0.0;
            let mut next = || {
                value = 0.8 * value + random.f64() - 0.5;
                value
            };
            (0..60).map(|_| next()).collect()
        });
        assert!(plain > 0.15, "{plain}");
        assert!(corrected < plain / 2.0, "{corrected} beside {plain}");
    }

    #[test]
    fn bounded_random_walks_are_seldom_called_rising() {
        let (corrected, plain) = called(0.005, |random| {
            let mut value = random.u32(0..30);
            let mut next = || {
                value = if random.bool() {
                    (value + 1).min(30)
                } else {
                    value.saturating_sub(1)
                };
                f64::from(value)
            };
            (0..60).map(|_| next()).collect()
        });
        assert!(plain > 0.2, "{plain}");
        assert!(corrected < 0.05, "{corrected} beside {plain}");
    }
}
