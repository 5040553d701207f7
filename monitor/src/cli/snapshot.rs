//! `taskleak snapshot`: once.

use std::{process::ExitCode, time::Duration};

use anyhow::{Context as _, Result};
use clap::{Args, ValueEnum};

use super::{Failure, permissions};
use crate::{
    config::{Span, Watch},
    export::{
        json::{self, Detail},
        prometheus, text,
    },
    model::Snapshot,
    pipeline::Monitor,
};

/// How long the stacks of all blocked threads may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// Look once, and print the groups of blocked threads
#[derive(Args)]
pub struct SnapshotCommand {
    #[command(flatten)]
    watch: Watch,
    /// Time between the two sweeps of a snapshot
    #[arg(long, env = "TASKLEAK_OBSERVE", value_name = "DURATION", default_value = "3s")]
    observe: Span,
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// In the text, show also what waits for the world (epoll, accept, read, …)
    #[arg(long)]
    all_groups: bool,
    /// In the text, show the stack of one thread of each group
    #[arg(long)]
    stacks: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    /// For people
    Text,
    /// Schema 1, see the README
    Json,
    /// The metrics that `run` would export
    Prometheus,
}

impl SnapshotCommand {
    pub fn execute(&self) -> Result<ExitCode> {
        let options = self
            .watch
            .check(Duration::from_secs(1), PATIENCE, false)
            .map_err(Failure::from)?;
        permissions::check()?;
        let mut monitor = Monitor::start(options).map_err(Failure::from)?;
        let first = monitor.pass().context("the first sweep failed")?;
        require_pids(&monitor, &first)?;
        monitor
            .wait(self.observe.0, None)
            .context("waiting between the sweeps failed")?;
        let snapshot = monitor.pass().context("the second sweep failed")?;
        require_pids(&monitor, &snapshot)?;
        print(&self.render(&snapshot)?)
    }

    fn render(&self, snapshot: &Snapshot) -> Result<String> {
        Ok(match self.format {
            Format::Text => text::render(
                snapshot,
                text::Style {
                    all_groups: self.all_groups,
                    stacks: self.stacks,
                },
            ),
            Format::Json => json::render_pretty(snapshot, Detail::Stacks)? + "\n",
            Format::Prometheus => prometheus::render(snapshot)?,
        })
    }
}

/// # Errors
/// When a process that was asked for by its pid does not exist.
pub fn require_pids(monitor: &Monitor, snapshot: &Snapshot) -> Result<(), Failure> {
    let missing = monitor.missing_pids(snapshot);
    if missing.is_empty() {
        return Ok(());
    }
    Err(no_process(&missing))
}

/// Processes that were asked for by their pids, and are not there.
pub fn no_process(pids: &[u32]) -> Failure {
    let pids: Vec<String> = pids.iter().map(u32::to_string).collect();
    Failure::TargetGone(format!(
        "no process with pid {} in this PID namespace (it may have ended; pids are those that `ps` shows here)",
        pids.join(", ")
    ))
}

/// A reader that has left (`| head`) is no failure.
pub(super) fn print(text: &str) -> Result<ExitCode> {
    use std::io::Write as _;
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(ExitCode::SUCCESS),
    }
}
