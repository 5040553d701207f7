//! `taskleak check`: a gate for tests.

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use clap::{Args, ValueEnum};
use regex::Regex;
use serde::Deserialize;

use super::{
    Failure, permissions,
    snapshot::{print, require_pids},
};
use crate::{
    config::{Span, Watch},
    detect::leftover::{Allowed, Leftover, leftovers},
    export::leftover::{github, junit, text},
    model::{Kind, Snapshot},
    pipeline::Monitor,
};

/// How long the stacks of all blocked tasks may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// Between the first two looks; each later gap is twice as long, up to the last.
const FIRST_GAP: Duration = Duration::from_millis(250);
const LAST_GAP: Duration = Duration::from_secs(2);
/// All ids are wanted: those of the baseline are left out one by one.
const ALL_IDS: u32 = 1_000_000;

/// Fail (exit 1) when a program has blocked tasks left behind
#[derive(Args)]
#[command(
    after_help = "Left behind is what is blocked in its own program (locks, channels, joins) and was not there at the \
                  baseline. Waits for the world (accept, epoll, read) count only where --deny names them.\nExample: \
                  taskleak snapshot --pid 7 --format json --max-ids 1000000 > before.json; run the tests; \
                  taskleak check --pid 7 --baseline before.json"
)]
pub struct CheckCommand {
    /// Processes to look at; several with commas or several flags
    #[arg(long, value_name = "PID", value_delimiter = ',', required = true,
          value_parser = clap::value_parser!(u32).range(1..))]
    pid: Vec<u32>,
    /// How long tasks may take to go; ends early when nothing is left behind
    #[arg(long, value_name = "DURATION", default_value = "5s")]
    settle: Span,
    /// A task is blocked when it has waited this long without a timeout
    #[arg(long, value_name = "DURATION", default_value = "1s")]
    blocked_after: Span,
    /// Tasks in this file are no fault: JSON of `taskleak snapshot --format json --max-ids 1000000`
    #[arg(long, value_name = "FILE")]
    baseline: Option<PathBuf>,
    /// Fail only on tasks that have a function like this on their stack, as their entry, or where they were made
    #[arg(long, value_name = "RE")]
    deny: Vec<String>,
    /// Tasks that have a function like this there are no fault
    #[arg(long, value_name = "RE")]
    allow: Vec<String>,
    /// Tasks that were made by a function like this are no fault
    #[arg(long, value_name = "RE")]
    allow_created_by: Vec<String>,
    /// Look at tasks of this kind only
    #[arg(long, value_enum, value_name = "KIND")]
    kind: Vec<KindName>,
    /// Tasks that may be left behind
    #[arg(long, value_name = "N", default_value_t = 0)]
    max: usize,
    /// Write JUnit XML to this file
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

#[derive(Clone, Copy, ValueEnum)]
enum KindName {
    Thread,
    Goroutine,
    Tokio,
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    /// For people
    Text,
    /// Workflow commands of GitHub Actions, which show as annotations
    Github,
}

impl CheckCommand {
    pub fn execute(&self) -> Result<ExitCode> {
        let allowed = self.allowed().map_err(Failure::Usage)?;
        let watch = Watch {
            pid: self.pid.clone(),
            blocked_after: Some(self.blocked_after),
            max_ids: Some(ALL_IDS),
            no_spawn_probes: Some(true),
            ..Watch::default()
        };
        let options = watch
            .check(self.blocked_after.0, PATIENCE, false)
            .map_err(Failure::from)?;
        permissions::check()?;
        let begun = Instant::now();
        let mut monitor = Monitor::start(options).map_err(Failure::from)?;
        let found = self.settled(&mut monitor, &allowed)?;
        let left: usize = found.iter().map(|leftover| leftover.group.count).sum();
        let failed = left > self.max;
        if let Some(path) = &self.report {
            let faults = if failed { found.as_slice() } else { &[] };
            let pids: Vec<String> = self.pid.iter().map(u32::to_string).collect();
            let name = format!("no task left behind in {}", pids.join(", "));
            std::fs::write(path, junit(&name, begun.elapsed().as_secs_f64(), faults))
                .with_context(|| format!("the report {} cannot be written", path.display()))?;
        }
        if !failed {
            return print(&format!(
                "Nothing is left behind ({left} tasks, {} allowed).\n",
                self.max
            ));
        }
        print(&match self.format {
            Format::Text => text(&found),
            Format::Github => github(&found),
        })?;
        Ok(ExitCode::from(1))
    }

    /// Looks until nothing is left behind, or time is up.
    fn settled(&self, monitor: &mut Monitor, allowed: &Allowed) -> Result<Vec<Leftover>> {
        // A goroutine's wait is dated by the first look, and confirmed by one more.
        let least = self.blocked_after.0 * 2 + FIRST_GAP;
        let until = Instant::now() + self.settle.0.max(least);
        let mut gap = FIRST_GAP;
        loop {
            let snapshot = monitor.pass().context("a sweep failed")?;
            require_pids(monitor, &snapshot)?;
            let found = leftovers(&snapshot, allowed);
            let left: usize = found.iter().map(|leftover| leftover.group.count).sum();
            let is_known = snapshot.observed >= least && !is_pending(&snapshot);
            if (left <= self.max && is_known) || Instant::now() >= until {
                return Ok(found);
            }
            monitor
                .wait(gap.min(until.saturating_duration_since(Instant::now())), None)
                .context("waiting failed")?;
            gap = (gap * 2).min(LAST_GAP);
        }
    }

    fn allowed(&self) -> Result<Allowed, String> {
        let parse = |texts: &[String]| {
            let one = |text: &String| {
                Regex::new(text).map_err(|error| format!("`{text}` is not a regular expression: {error}"))
            };
            texts.iter().map(one).collect::<Result<Vec<Regex>, _>>()
        };
        Ok(Allowed {
            kinds: self
                .kind
                .iter()
                .map(|kind| match kind {
                    KindName::Thread => Kind::Thread,
                    KindName::Goroutine => Kind::Goroutine,
                    KindName::Tokio => Kind::Tokio,
                })
                .collect(),
            deny: parse(&self.deny)?,
            allow: parse(&self.allow)?,
            allow_created_by: parse(&self.allow_created_by)?,
            before: self
                .baseline
                .as_deref()
                .map(baseline)
                .transpose()?
                .unwrap_or_default(),
        })
    }
}

/// Whether something of a process is still being read.
fn is_pending(snapshot: &Snapshot) -> bool {
    snapshot
        .processes
        .iter()
        .flat_map(|report| &report.incomplete)
        .any(|cause| cause.passes())
}

#[derive(Deserialize)]
struct Document {
    schema: u32,
    processes: Vec<BaselineProcess>,
}

#[derive(Deserialize)]
struct BaselineProcess {
    pid: u32,
    groups: Vec<BaselineGroup>,
}

#[derive(Deserialize)]
struct BaselineGroup {
    kind: Kind,
    ids: Vec<u64>,
    ids_truncated: bool,
}

/// Tasks of a snapshot's JSON.
fn baseline(path: &Path) -> Result<HashSet<(u32, Kind, u64)>, String> {
    let wrong = |cause: String| format!("the baseline {}: {cause}", path.display());
    let text = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
    let document: Document = serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))?;
    if document.schema != 1 {
        return Err(wrong(format!("it is of schema {}, not 1", document.schema)));
    }
    let mut before = HashSet::new();
    for process in document.processes {
        for group in process.groups {
            if group.ids_truncated {
                return Err(wrong(
                    "not all ids are in it: take it with `taskleak snapshot --max-ids 1000000`".to_owned(),
                ));
            }
            before.extend(group.ids.into_iter().map(|id| (process.pid, group.kind, id)));
        }
    }
    Ok(before)
}
