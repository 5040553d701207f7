//! Asks a Prometheus server.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use super::{Series, SeriesError, prometheus};

/// Prometheus refuses more samples of a series in one answer (11,000).
const MOST_SAMPLES: f64 = 10_000.0;
const PATIENCE: Duration = Duration::from_secs(60);
const MOST_BYTES: u64 = 1 << 30;

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Range {
    /// `http://host:9090`
    pub server: String,
    pub query: String,
    pub since: Duration,
    pub step: Duration,
}

/// All samples up to now; `progress` is told which part of how many is being asked for.
///
/// # Errors
/// When the server does not answer, or not with series.
pub fn query_range(
    range: &Range,
    mut progress: impl FnMut(usize, usize),
) -> Result<Vec<Series>, SeriesError> {
    let end = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs_f64();
    let step = range.step.as_secs_f64();
    // On the grid of steps, as Prometheus' own pages ask: the same question has the same answer.
    let end = (end / step).floor() * step;
    let begin = end - range.since.as_secs_f64();
    let parts = ((end - begin) / step / MOST_SAMPLES).ceil().max(1.0) as usize;
    let mut all: BTreeMap<String, Vec<(f64, f64)>> = BTreeMap::new();
    for part in 0..parts {
        progress(part + 1, parts);
        let from = begin + part as f64 * MOST_SAMPLES * step;
        let to = (from + (MOST_SAMPLES - 1.0) * step).min(end);
        for series in ask(range, from, to)? {
            all.entry(series.name).or_default().extend(series.samples);
        }
    }
    Ok(all
        .into_iter()
        .map(|(name, samples)| Series { name, samples })
        .collect())
}

fn ask(range: &Range, from: f64, to: f64) -> Result<Vec<Series>, SeriesError> {
    let url = format!("{}/api/v1/query_range", range.server.trim_end_matches('/'));
    let unreachable = |cause: ureq::Error| SeriesError::Unreachable {
        url: url.clone(),
        cause: cause.to_string(),
    };
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .timeout_global(Some(PATIENCE))
        // Prometheus tells what is wrong in the body.
        .http_status_as_error(false)
        .build()
        .into();
    let mut answer = agent
        .get(&url)
        .query("query", &range.query)
        .query("start", format!("{from:.3}"))
        .query("end", format!("{to:.3}"))
        .query("step", format!("{}", range.step.as_secs_f64()))
        .call()
        .map_err(unreachable)?;
    let status = answer.status();
    let text = answer
        .body_mut()
        .with_config()
        .limit(MOST_BYTES)
        .read_to_string()
        .map_err(unreachable)?;
    prometheus::parse(&text).map_err(|(_, cause)| SeriesError::Refused {
        url: url.clone(),
        cause: if status.is_success() {
            cause
        } else {
            format!("{status}, {cause}")
        },
    })
}
