//! A verdict's grounds as a sentence: the one that the person who was woken up wants to read.

use std::time::Duration;

use super::text::duration;
use crate::model::{Group, Growth, LiveTasks, Usual, Verdict};

/// `12 → 41 in 29m 30s, 60 an hour (p 0.0003); …`. Empty where there is nothing to say.
pub fn of_group(group: &Group) -> String {
    let growth = group.growth.filter(|_| group.verdict.is_alarm()).map(grown);
    let usual = group.usual.map(lasting);
    [growth, usual]
        .into_iter()
        .flatten()
        .collect::<Vec<_>>()
        .join("; ")
}

/// The same of what never is long in one wait.
pub fn of_live(tasks: &LiveTasks) -> String {
    let growth = tasks.growth.filter(|_| tasks.verdict.is_alarm());
    growth.map(grown).unwrap_or_default()
}

/// What live tasks do, before and behind what they run.
pub const fn in_words(tasks: &LiveTasks) -> (&'static str, &'static str) {
    if tasks.is_kept {
        (
            "have run",
            "have ended, and are kept: nobody awaits or drops their handles",
        )
    } else {
        ("run", "never long in one wait")
    }
}

/// Of a growth alone.
pub fn grown(growth: Growth) -> String {
    format!(
        "{} → {} in {}, {} an hour (p {})",
        growth.from,
        growth.to,
        seconds(growth.over_seconds),
        three_digits(growth.per_hour),
        three_digits(growth.p),
    )
}

fn lasting(usual: Usual) -> String {
    let within = seconds(usual.within_seconds);
    let ended = format!(
        "of the waits that end, {} in 100 end within {within}",
        usual.share * 100.0
    );
    match usual.beyond {
        0 => ended,
        1 => format!("{ended}: 1 has lasted longer"),
        beyond => format!("{ended}: {beyond} have lasted longer"),
    }
}

fn seconds(seconds: f64) -> String {
    duration(Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX))
}

fn three_digits(value: f64) -> String {
    if value == 0.0 || !value.is_finite() {
        return "0".to_owned();
    }
    let digits = (2 - value.abs().log10().floor() as i32).clamp(0, 12);
    let text = format!("{value:.*}", digits as usize);
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}

/// A cycle of holders: `7 → 8 → 7`.
pub fn ring(ids: &[u64]) -> String {
    let ids: Vec<String> = ids.iter().chain(ids.first()).map(u64::to_string).collect();
    ids.join(" → ")
}

/// What somebody should look at first.
pub fn rank(verdict: Verdict) -> u8 {
    match verdict {
        Verdict::Proven => 0,
        Verdict::Leaking => 1,
        Verdict::Growing => 2,
        Verdict::Unknown => 3,
        Verdict::Stable => 4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits_that_count() {
        let cases = [
            (0.000_312_4, "0.000312"),
            (60.0, "60"),
            (61.26, "61.3"),
            (123_456.7, "123457"),
            (0.0, "0"),
            (f64::NAN, "0"),
            (0.5, "0.5"),
        ];
        for (value, text) in cases {
            assert_eq!(three_digits(value), text);
        }
    }

    #[test]
    fn what_has_outlived_the_usual_is_said() {
        let usual = Usual {
            share: 0.99,
            within_seconds: 190.0,
            beyond: 40,
            survive: 0.2,
        };
        assert_eq!(
            lasting(usual),
            "of the waits that end, 99 in 100 end within 3m 10s: 40 have lasted longer"
        );
    }

    #[test]
    fn a_growth_tells_from_where_to_where() {
        let growth = Growth {
            from: 12.0,
            to: 41.0,
            over_seconds: 1770.0,
            p: 0.000_3,
            per_hour: 60.2,
        };
        assert_eq!(grown(growth), "12 → 41 in 29m 30s, 60.2 an hour (p 0.0003)");
    }
}
