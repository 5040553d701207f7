//! A small picture of what a count has been.

use std::fmt::Write as _;

const WIDTH: f64 = 120.0;
const HEIGHT: f64 = 20.0;
/// Between the line and the edge: half of its width.
const MARGIN: f64 = 1.0;

/// Samples at even distances in time, oldest first. Nothing of fewer than two.
pub fn line(page: &mut String, samples: &[f32]) {
    if samples.len() < 2 {
        return;
    }
    let low = samples.iter().copied().fold(f32::INFINITY, f32::min);
    let high = samples.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    // From 0 on: what is a tenth more shall look so.
    let top = f64::from(high).max(1.0);
    let _ = write!(
        page,
        "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"from {} to {}, between {low} and {high}\">\
         <polyline points=\"",
        samples[0],
        samples[samples.len() - 1],
    );
    let step = (WIDTH - 2.0 * MARGIN) / (samples.len() - 1) as f64;
    for (index, value) in samples.iter().enumerate() {
        let x = MARGIN + step * index as f64;
        let y = HEIGHT - MARGIN - (HEIGHT - 2.0 * MARGIN) * f64::from(*value) / top;
        let _ = write!(page, "{x:.1},{y:.1} ");
    }
    page.push_str("\"/></svg>");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_is_at_the_top_and_zero_at_the_bottom() {
        let mut page = String::new();
        line(&mut page, &[0.0, 5.0, 10.0]);
        assert!(
            page.contains("points=\"1.0,19.0 60.0,10.0 119.0,1.0 \""),
            "{page}"
        );
        assert!(
            page.contains("aria-label=\"from 0 to 10, between 0 and 10\""),
            "{page}"
        );
    }

    #[test]
    fn one_sample_is_no_line() {
        let mut page = String::new();
        line(&mut page, &[3.0]);
        assert_eq!(page, "");
    }
}
