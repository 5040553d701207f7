//! `taskleak stacks`: every task of a process with its stack, now.

use std::{
    io::{IsTerminal as _, Write as _},
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context as _, Result};
use clap::{Args, ValueEnum as _};

use super::{Failure, connect::Connect, patterns, permissions, snapshot::no_process};
use crate::{
    config::{Span, Watch},
    export::stacks::{self, Choice, Format},
    model::{Kind, ProcessTasks},
    pipeline::Monitor,
};

/// How long reading all stacks may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Show every task of a process with its stack, blocked or not
#[derive(Args)]
#[command(
    after_help = "A task that runs has no stack to show, and says so. Exit 4: the process is gone; what was seen of it until \
                  then is printed, and says that it is partial.\nExamples:\n  taskleak stacks 7 --blocked-after 1m\n  \
                  taskleak stacks 7 --format debug2 > goroutines.txt\n  taskleak stacks 7 --format pprof --output tasks.pb.gz && \
                  go tool pprof -top tasks.pb.gz"
)]
pub struct StacksCommand {
    /// The process
    #[arg(value_name = "PID", value_parser = clap::value_parser!(u32).range(1..))]
    pid: u32,
    /// Show tasks of this kind only
    #[arg(long, value_enum, value_name = "KIND", value_delimiter = ',')]
    kind: Vec<Kind>,
    /// Show only tasks with a function like this on their stack, as their entry, or where they were made
    #[arg(long, value_name = "RE")]
    site: Vec<String>,
    /// Show only what is blocked for so long; looks twice, this long apart, for what cannot tell since when it waits
    #[arg(long, value_name = "DURATION")]
    blocked_after: Option<Span>,
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// In the text, show each task by itself
    #[arg(long)]
    no_group: bool,
    /// Write to this file instead of standard output
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    connect: Connect,
    /// Folder with separate debug files, searched by build-id and name (/usr/lib/debug always is)
    #[arg(long, env = "TASKLEAK_DEBUG_DIR", value_name = "DIR")]
    debug_dir: Vec<PathBuf>,
}

impl StacksCommand {
    pub fn execute(&self) -> Result<ExitCode> {
        let choice = self.choice()?;
        if self.format == Format::Pprof && self.output.is_none() && std::io::stdout().is_terminal() {
            let help =
                "a profile is nothing for a terminal: give --output FILE, or send it to another program";
            return Err(Failure::Usage(help.to_owned()).into());
        }
        let is_partial = match self.connect.api()? {
            Some(api) => {
                let answer = api.get(&self.question())?;
                self.write(&answer.body)?;
                answer.is_partial
            }
            None => {
                permissions::check()?;
                let told = self.look()?;
                self.write(&stacks::render(&told, &choice, self.format)?)?;
                told.is_gone
            }
        };
        if is_partial {
            return Err(Failure::TargetGone(format!(
                "process {} ended while it was looked at: what is shown is partial",
                self.pid
            ))
            .into());
        }
        Ok(ExitCode::SUCCESS)
    }

    /// The same, as it is asked of a daemon.
    fn question(&self) -> String {
        let mut query = form_urlencoded::Serializer::new("/api/v1/stacks?".to_owned());
        query.append_pair("pid", &self.pid.to_string());
        if let Some(format) = self.format.to_possible_value() {
            query.append_pair("format", format.get_name());
        }
        for kind in &self.kind {
            query.append_pair("kind", kind.label());
        }
        for site in &self.site {
            query.append_pair("site", site);
        }
        if let Some(span) = self.blocked_after {
            query.append_pair("blocked_after", &humantime::format_duration(span.0).to_string());
        }
        if self.no_group {
            query.append_pair("each", "1");
        }
        query.finish()
    }

    fn choice(&self) -> Result<Choice, Failure> {
        Ok(Choice {
            kinds: self.kind.clone(),
            sites: patterns(&self.site)?,
            blocked_after: self.blocked_after.map(|span| span.0),
            each: self.no_group,
        })
    }

    fn look(&self) -> Result<ProcessTasks> {
        let watch = Watch {
            pid: vec![self.pid],
            debug_dir: self.debug_dir.clone(),
            no_spawn_probes: Some(true),
            no_futex_probes: Some(true),
            ..Watch::default()
        };
        let options = watch
            .check(Duration::from_secs(1), PATIENCE, false)
            .map_err(Failure::from)?;
        let mut monitor = Monitor::start(options).map_err(Failure::from)?;
        let first = monitor.tasks(self.pid).context("the sweep failed")?;
        let first = first.ok_or_else(|| no_process(&[self.pid]))?;
        let Some(span) = self.blocked_after.filter(|_| !first.is_gone) else {
            return Ok(first);
        };
        monitor
            .wait(span.0, None)
            .context("waiting between the looks failed")?;
        let second = monitor.tasks(self.pid).context("the second sweep failed")?;
        let gone = || ProcessTasks {
            is_gone: true,
            ..first.clone()
        };
        Ok(second
            .filter(|second| second.process.id == first.process.id)
            .unwrap_or_else(gone))
    }

    fn write(&self, rendered: &[u8]) -> Result<()> {
        match &self.output {
            Some(path) => std::fs::write(path, rendered)
                .map_err(|error| Failure::Usage(format!("{} cannot be written: {error}", path.display())))?,
            // A reader that has left (`| head`) is no failure.
            None => match std::io::stdout().write_all(rendered) {
                Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => return Err(error.into()),
                _ => {}
            },
        }
        Ok(())
    }
}
