//! What `judge` prints of a series.

use std::{
    fmt::Write as _,
    time::{Duration, UNIX_EPOCH},
};

use serde::Serialize;

use super::{evidence, text::plain};
use crate::{
    detect::series::Change,
    model::{Growth, Verdict},
};

/// Columns of a plot, and its rows.
const WIDTH: usize = 72;
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// A series that has been judged.
#[derive(Clone, Debug)]
pub struct Judged {
    pub name: String,
    pub samples: Vec<(f64, f64)>,
    pub changes: Vec<Change>,
    /// Samples that came too late, and that were no numbers.
    pub out_of_order: usize,
    pub not_numbers: usize,
}

#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Serialize)]
struct JudgedJson<'a> {
    series: &'a str,
    samples: usize,
    out_of_order: usize,
    not_numbers: usize,
    verdict: Verdict,
    changes: Vec<ChangeJson>,
}

#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Serialize)]
struct ChangeJson {
    at: String,
    unix_seconds: f64,
    verdict: Verdict,
    growth: Option<Growth>,
}

/// For people: each change with its grounds, and a plot.
pub fn text(judged: &[Judged]) -> String {
    let mut text = String::new();
    for one in judged {
        let _ = writeln!(text, "{}: {} samples", plain(&one.name), one.samples.len());
        if one.out_of_order + one.not_numbers > 0 {
            let _ = writeln!(
                text,
                "  left out: {} out of order, {} that are no numbers",
                one.out_of_order, one.not_numbers
            );
        }
        for change in &one.changes {
            let grounds = change.growth.map(evidence::grown).unwrap_or_default();
            let colon = if grounds.is_empty() { "" } else { ": " };
            let _ = writeln!(
                text,
                "  {}  {}{colon}{grounds}",
                time(change.at),
                change.verdict.label()
            );
        }
        plot(&mut text, one);
        text.push('\n');
    }
    text
}

/// One document for all.
///
/// # Errors
/// Never in practice: every value has a JSON form.
pub fn json(judged: &[Judged]) -> serde_json::Result<String> {
    let documents: Vec<JudgedJson<'_>> = judged
        .iter()
        .map(|one| JudgedJson {
            series: &one.name,
            samples: one.samples.len(),
            out_of_order: one.out_of_order,
            not_numbers: one.not_numbers,
            verdict: one
                .changes
                .last()
                .map_or(Verdict::Unknown, |change| change.verdict),
            changes: one
                .changes
                .iter()
                .map(|change| ChangeJson {
                    at: time(change.at),
                    unix_seconds: change.at,
                    verdict: change.verdict,
                    growth: change.growth,
                })
                .collect(),
        })
        .collect();
    serde_json::to_string_pretty(&documents)
}

fn time(unix_seconds: f64) -> String {
    let since = Duration::try_from_secs_f64(unix_seconds).unwrap_or_default();
    // What humantime cannot write (beyond the year 9999) is told as seconds.
    match UNIX_EPOCH.checked_add(since) {
        Some(time) if unix_seconds < 253_402_300_799.0 => humantime::format_rfc3339_seconds(time).to_string(),
        _ => format!("{unix_seconds}"),
    }
}

/// A row of bars (the highest sample of each stretch of time), and one that marks when it was growing.
fn plot(text: &mut String, judged: &Judged) {
    let numbers = || judged.samples.iter().filter(|(_, value)| value.is_finite());
    let (Some(first), Some(last)) = (judged.samples.first(), judged.samples.last()) else {
        return;
    };
    let low = numbers().map(|(_, value)| *value).fold(f64::INFINITY, f64::min);
    let high = numbers()
        .map(|(_, value)| *value)
        .fold(f64::NEG_INFINITY, f64::max);
    let span = last.0 - first.0;
    if !(low.is_finite() && high.is_finite() && span > 0.0) {
        return;
    }
    let column = |at: f64| (((at - first.0) / span * WIDTH as f64) as usize).min(WIDTH - 1);
    let mut highest = [None::<f64>; WIDTH];
    for (at, value) in numbers() {
        let bar = &mut highest[column(*at)];
        *bar = Some(bar.map_or(*value, |known| known.max(*value)));
    }
    let bars: String = highest
        .iter()
        .map(|value| match value {
            None => ' ',
            Some(_) if high <= low => BARS[0],
            Some(value) => BARS[(((value - low) / (high - low)) * 7.0).round().clamp(0.0, 7.0) as usize],
        })
        .collect();
    let mut marks = [' '; WIDTH];
    let ends = judged
        .changes
        .iter()
        .skip(1)
        .map(|change| change.at)
        .chain([last.0]);
    for (change, end) in judged.changes.iter().zip(ends) {
        if change.verdict.is_alarm() {
            marks[column(change.at)..=column(end)].fill('^');
        }
    }
    let marks: String = marks.iter().collect();
    let _ = writeln!(text, "  {bars}  {low} to {high}");
    if !marks.trim().is_empty() {
        let _ = writeln!(text, "  {}  growing", marks.trim_end());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_is_documented() {
        crate::export::schema::check::<Vec<JudgedJson<'static>>>("judge");
    }

    #[test]
    fn a_plot_shows_where_it_grew() {
        let judged = Judged {
            name: "a\u{7}".to_owned(),
            samples: (0..72).map(|x| (f64::from(x), f64::from(x / 9))).collect(),
            changes: vec![
                Change {
                    at: 0.0,
                    verdict: Verdict::Stable,
                    growth: None,
                },
                Change {
                    at: 36.0,
                    verdict: Verdict::Growing,
                    growth: None,
                },
            ],
            out_of_order: 1,
            not_numbers: 0,
        };
        let text = text(&[judged]);
        assert!(text.contains("a\\u{7}: 72 samples"), "{text}");
        assert!(text.contains("1 out of order"), "{text}");
        let bars = text.lines().find(|line| line.contains('▁')).unwrap();
        assert!(bars.contains("▁▂") && bars.contains("█  0 to 7"), "{bars}");
        let marks = text.lines().find(|line| line.contains('^')).unwrap();
        assert_eq!(marks.find('^'), Some(2 + 36), "{marks}");
        assert!(text.contains("1970-01-01T00:00:36Z  growing"), "{text}");
    }

    #[test]
    fn what_has_no_plot_has_none() {
        let judged = |samples: Vec<(f64, f64)>| Judged {
            name: "a".to_owned(),
            samples,
            changes: Vec::new(),
            out_of_order: 0,
            not_numbers: 0,
        };
        for samples in [vec![], vec![(1.0, 1.0)], vec![(1.0, f64::NAN), (2.0, f64::NAN)]] {
            assert_eq!(text(&[judged(samples)]).lines().count(), 2);
        }
    }
}
