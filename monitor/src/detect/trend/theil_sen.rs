//! The median of the slopes of all pairs: a third of the samples may be wild without moving it much.

/// Per sample. Of fewer than two samples: 0.
pub fn theil_sen(series: &[f64]) -> f64 {
    let mut slopes = Vec::with_capacity(series.len() * series.len().saturating_sub(1) / 2);
    for (index, earlier) in series.iter().enumerate() {
        let later = series[index + 1..].iter().enumerate();
        slopes.extend(later.map(|(distance, later)| (later - earlier) / (distance + 1) as f64));
    }
    median(&mut slopes)
}

fn median(values: &mut [f64]) -> f64 {
    if values.is_empty() {
        return 0.0;
    }
    let middle = values.len() / 2;
    let is_odd = values.len() % 2 == 1;
    let (below, upper, _) = values.select_nth_unstable_by(middle, f64::total_cmp);
    let upper = *upper;
    if is_odd {
        return upper;
    }
    let lower = below.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    f64::midpoint(lower, upper)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slope_of_a_line() {
        let line: Vec<f64> = (0..20).map(|x| 3.0 + 0.5 * f64::from(x)).collect();
        assert!((theil_sen(&line) - 0.5).abs() < 1e-12);
    }

    #[test]
    fn a_few_wild_samples_do_not_move_it() {
        let mut line: Vec<f64> = (0..21).map(f64::from).collect();
        line[3] = 1e9;
        line[17] = -1e9;
        assert!((theil_sen(&line) - 1.0).abs() < 0.2);
    }

    #[test]
    fn too_short_is_flat() {
        assert_eq!((theil_sen(&[]), theil_sen(&[7.0])), (0.0, 0.0));
    }

    #[test]
    fn of_an_even_number_of_slopes_the_mean_of_the_middle_two() {
        // Slopes of 0, 1, 4, 4: 1, 2, 4/3, 3, 3/2, 0; sorted 0, 1, 4/3, 3/2, 2, 3.
        let expected = f64::midpoint(4.0 / 3.0, 1.5);
        assert!((theil_sen(&[0.0, 1.0, 4.0, 4.0]) - expected).abs() < 1e-12);
    }
}
