//! `taskleak judge`: the verdict on recorded series, as it would have been.

use std::{io::IsTerminal as _, path::PathBuf, process::ExitCode, time::Duration};

use anyhow::Result;
use clap::{ArgGroup, Args, ValueEnum};

use super::{Failure, snapshot::print};
use crate::{
    config::{JudgeOptions, Span},
    detect::{
        Settings,
        series::{SeriesJudge, Taken},
    },
    export::judgement::{self, Judged},
    series::{Range, Series, SeriesError, query_range, read_file},
};

/// Judge recorded series: what the alert would have said, and when
#[derive(Args)]
#[command(group = ArgGroup::new("source").required(true).args(["series", "prometheus"]))]
#[command(
    after_help = "A series has no members, so growth is all that can be told of it: `growing`, never `leaking`. It works on \
                  any gauge (go_goroutines, process_open_fds, …).\nExample: taskleak judge --prometheus \
                  http://localhost:9090 --query 'go_goroutines{job=\"api\"}' --since 30d"
)]
pub struct JudgeCommand {
    /// File with series: Prometheus' query_range JSON, or CSV (unix seconds, then a column of values for each
    /// series); `-` is standard input
    #[arg(long, value_name = "FILE")]
    series: Option<PathBuf>,
    /// Prometheus server to ask
    #[arg(long, value_name = "URL", requires = "query")]
    prometheus: Option<String>,
    /// What to ask it for
    #[arg(long, value_name = "PROMQL", requires = "prometheus")]
    query: Option<String>,
    /// How far back to ask for
    #[arg(long, value_name = "DURATION", default_value = "30d", requires = "prometheus")]
    since: Span,
    /// Time between the samples to ask for
    #[arg(long, value_name = "DURATION", default_value = "30s", requires = "prometheus")]
    step: Span,
    #[command(flatten)]
    options: JudgeOptions,
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    /// Each change of verdict with its grounds, and a plot
    Text,
    /// An array with an object for each series
    Json,
}

impl JudgeCommand {
    pub fn execute(&self) -> Result<ExitCode> {
        let settings = self.options.check(Duration::ZERO).map_err(Failure::from)?;
        let series = self.read().map_err(Failure::from)?;
        if series.is_empty() {
            return Err(Failure::Usage("there is no series: the query has no result".to_owned()).into());
        }
        let judged: Vec<Judged> = series.into_iter().map(|one| judge(one, settings)).collect();
        print(&match self.format {
            Format::Text => judgement::text(&judged),
            Format::Json => judgement::json(&judged)? + "\n",
        })
    }

    fn read(&self) -> Result<Vec<Series>, SeriesError> {
        if let Some(path) = &self.series {
            return read_file(path);
        }
        let range = Range {
            server: self.prometheus.clone().unwrap_or_default(),
            query: self.query.clone().unwrap_or_default(),
            since: self.since.0,
            step: self.step.0.max(Duration::from_secs(1)),
        };
        let shows = std::io::stderr().is_terminal();
        let series = query_range(&range, |part, parts| {
            if shows && parts > 1 {
                eprint!("\rasking for part {part} of {parts} ");
            }
        });
        if shows {
            eprintln!();
        }
        series
    }
}

fn judge(series: Series, settings: Settings) -> Judged {
    let mut judge = SeriesJudge::new(settings);
    let (mut changes, mut out_of_order, mut not_numbers) = (Vec::new(), 0, 0);
    for (at, value) in &series.samples {
        let (taken, change) = judge.sample(*at, *value);
        match taken {
            Taken::Yes => {}
            Taken::OutOfOrder => out_of_order += 1,
            Taken::NotANumber => not_numbers += 1,
        }
        changes.extend(change);
    }
    Judged {
        name: series.name,
        samples: series.samples,
        changes,
        out_of_order,
        not_numbers,
    }
}
