//! Runs one command to its end, and ends it when we are told to end.

use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Command, ExitCode, ExitStatus};

use anyhow::{Context as _, Result};
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::workspace;

/// Holds signals back from its making on, so that none is lost between two starts.
pub struct Supervisor {
    signals: Signals,
}

impl Supervisor {
    pub fn new() -> Result<Self> {
        let signals = Signals::new([SIGINT, SIGTERM, SIGHUP, SIGCHLD]).context("cannot take over signals")?;
        Ok(Self { signals })
    }

    /// Runs the command; SIGINT, SIGTERM and SIGHUP reach it as SIGTERM. Gives back its exit code.
    pub fn run(mut self, command: &mut Command) -> Result<ExitCode> {
        // In a group of its own a Ctrl-C of the terminal reaches it once, through us, and not twice.
        command.process_group(0);
        // SAFETY: prctl is async-signal-safe, and touches no memory here.
        unsafe {
            command.pre_exec(|| {
                // A kill -9 of us must not leave it behind.
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM);
                Ok(())
            });
        }
        let mut child = command
            .spawn()
            .with_context(|| format!("cannot start {}", workspace::name(command)))?;
        for signal in self.signals.forever() {
            if let Some(status) = child.try_wait().context("cannot wait for what was started")? {
                return Ok(code(status));
            }
            if signal != SIGCHLD
                && let Ok(pid) = libc::pid_t::try_from(child.id())
            {
                // SAFETY: kill touches no memory; the child is not reaped yet, so the pid is its own.
                unsafe { libc::kill(pid, libc::SIGTERM) };
            }
        }
        // The iterator ends only when its handle is closed, which nobody does.
        child.wait().map(code).context("cannot wait for what was started")
    }
}

/// As a shell reports it.
fn code(status: ExitStatus) -> ExitCode {
    let code = status
        .code()
        .unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
    u8::try_from(code).map_or(ExitCode::FAILURE, ExitCode::from)
}
