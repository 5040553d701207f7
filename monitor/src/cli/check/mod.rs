//! `taskleak check`: a gate for tests.

mod baseline;
mod command;

use std::{
    ffi::OsString,
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use clap::{Args, ValueEnum};

use super::{
    Failure, patterns, permissions,
    snapshot::{no_process, print},
};
use crate::{
    config::{Span, Watch},
    detect::leftover::{Allowed, Leftover, leftovers, sort},
    export::leftover::{Outcome, github, json, junit, text},
    model::Kind,
    pipeline::Monitor,
};

/// How long the stacks of all blocked tasks may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// Between the first two looks; each later gap is twice as long, up to the last.
const FIRST_GAP: Duration = Duration::from_millis(250);
const LAST_GAP: Duration = Duration::from_secs(2);

/// Fail (exit 1) when a program, or a command that it runs, has blocked tasks left behind
#[derive(Args)]
#[command(
    after_help = "Left behind is what is blocked in its own program (locks, channels, joins) and was not there at the \
                  baseline. With --deny it is whatever has such a function and still lives, blocked or not.\nA command is held \
                  when it wants to end, with all its threads alive, and let go at once after the look; its output and its exit \
                  code stay its own (1 when it succeeds and something is left behind). One that a signal ends is not judged.\n\
                  Examples:\n  taskleak check -- ./integration-tests\n  taskleak snapshot --pid 7 --format json --max-ids \
                  1000000 > before.json; run the tests; taskleak check --pid 7 --baseline before.json"
)]
pub struct CheckCommand {
    /// Processes to look at; several with commas or several flags
    #[arg(long, value_name = "PID", value_delimiter = ',', required_unless_present = "command",
          conflicts_with = "command", value_parser = clap::value_parser!(u32).range(1..))]
    pid: Vec<u32>,
    /// Command to run and to look at, with its arguments
    #[arg(last = true, value_name = "CMD")]
    command: Vec<OsString>,
    /// How long tasks may take to go; ends early when nothing is left behind
    #[arg(long, value_name = "DURATION", default_value = "5s")]
    settle: Span,
    /// A task is blocked when it has waited this long without a timeout
    #[arg(long, value_name = "DURATION", default_value = "1s")]
    blocked_after: Span,
    /// Tasks in this file are no fault: JSON of `taskleak stacks --format json`, or of `taskleak snapshot --format json
    /// --max-ids 1000000`
    #[arg(long, value_name = "FILE")]
    baseline: Option<PathBuf>,
    /// Fail only on tasks that have a function like this on their stack, as their entry, or where they were made, whatever
    /// they do
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
    kind: Vec<Kind>,
    /// Tasks that may be left behind
    #[arg(long, value_name = "N", default_value_t = 0)]
    max: usize,
    /// Write JUnit XML to this file
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// Write what is found to this file, and not to standard output (of a command: to standard error)
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    /// For people
    Text,
    /// Schema 1, see docs/check.schema.json
    Json,
    /// Workflow commands of GitHub Actions, which show as annotations
    Github,
}

impl CheckCommand {
    pub fn execute(&self) -> Result<ExitCode> {
        let allowed = self.allowed()?;
        permissions::check()?;
        if !self.command.is_empty() {
            return command::check(self, allowed);
        }
        let begun = Instant::now();
        let mut monitor = self.monitor(&self.pid)?;
        let until = begun + self.settle.0.max(self.least());
        let found = self.settled(&mut monitor, &self.pid, &allowed, (begun + self.least(), until))?;
        let pids: Vec<String> = self.pid.iter().map(u32::to_string).collect();
        let failed = self.report(&pids.join(", "), begun, found)?;
        Ok(ExitCode::from(u8::from(failed)))
    }

    fn monitor(&self, pids: &[u32]) -> Result<Monitor> {
        let watch = Watch {
            pid: pids.to_vec(),
            blocked_after: Some(self.blocked_after),
            // Who made a task is of interest to nobody else.
            no_spawn_probes: Some(self.allow_created_by.is_empty()),
            ..Watch::default()
        };
        let options = watch
            .check(self.blocked_after.0, PATIENCE, false)
            .map_err(Failure::from)?;
        Ok(Monitor::start(options).map_err(Failure::from)?)
    }

    /// Says what was found, to people and to machines. Whether it is too much.
    fn report(&self, of: &str, begun: Instant, found: Vec<Leftover>) -> Result<bool> {
        let left: usize = found.iter().map(|leftover| leftover.group.count).sum();
        let outcome = Outcome {
            name: format!("no task left behind in {of}"),
            took: begun.elapsed(),
            max: self.max,
            failed: left > self.max,
            left,
            found,
        };
        if let Some(path) = &self.report {
            std::fs::write(path, junit(&outcome)?)
                .with_context(|| format!("the report {} cannot be written", path.display()))?;
        }
        let said = match self.format {
            Format::Text => text(&outcome),
            Format::Json => json(&outcome)?,
            Format::Github => github(&outcome),
        };
        match &self.output {
            Some(path) => {
                std::fs::write(path, said).with_context(|| format!("{} cannot be written", path.display()))?
            }
            // Its output is the command's.
            None if !self.command.is_empty() => eprint!("{said}"),
            None => {
                print(&said)?;
            }
        }
        Ok(outcome.failed)
    }

    /// How long a process must have been looked at: a goroutine's wait is dated by the first look, and confirmed by one
    /// more.
    fn least(&self) -> Duration {
        self.blocked_after.0 * 2 + FIRST_GAP
    }

    /// Looks until nothing is left behind, or time is up.
    ///
    /// `known_at`, `until`: from when on what is not seen is not there, and for how long tasks may take to go.
    fn settled(
        &self,
        monitor: &mut Monitor,
        pids: &[u32],
        allowed: &Allowed,
        (known_at, until): (Instant, Instant),
    ) -> Result<Vec<Leftover>> {
        let mut gap = FIRST_GAP;
        loop {
            let looked_at = Instant::now();
            let (mut found, mut is_pending) = (Vec::new(), false);
            for pid in pids {
                let told = monitor.tasks(*pid).context("a sweep failed")?;
                let told = told
                    .filter(|told| !told.is_gone)
                    .ok_or_else(|| no_process(&[*pid]))?;
                is_pending |= told.incomplete.iter().any(|cause| cause.passes());
                found.extend(leftovers(&told, self.blocked_after.0, allowed));
            }
            sort(&mut found);
            let left: usize = found.iter().map(|leftover| leftover.group.count).sum();
            let is_known = looked_at >= known_at && !is_pending;
            if (left <= self.max && is_known) || looked_at >= until {
                return Ok(found);
            }
            monitor
                .wait(gap.min(until.saturating_duration_since(Instant::now())), None)
                .context("waiting failed")?;
            gap = (gap * 2).min(LAST_GAP);
        }
    }

    fn allowed(&self) -> Result<Allowed, Failure> {
        Ok(Allowed {
            kinds: self.kind.clone(),
            deny: patterns(&self.deny)?,
            allow: patterns(&self.allow)?,
            allow_created_by: patterns(&self.allow_created_by)?,
            before: self
                .baseline
                .as_deref()
                .map(baseline::read)
                .transpose()
                .map_err(Failure::Usage)?
                .unwrap_or_default(),
        })
    }
}
