//! `taskleak check -- CMD`: runs it, and judges it just before it would end.

use std::{
    fs,
    os::{fd::AsFd as _, unix::process::ExitStatusExt as _},
    process::{Command, ExitCode, ExitStatus},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use rustix::process::{Pid, Signal, kill_process};
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM},
    iterator::{SignalsInfo, exfiltrator::WithOrigin},
    low_level::siginfo::Cause,
};

use super::CheckCommand;
use crate::{
    cli::Failure,
    detect::leftover::{Allowed, Leftover},
    launch::{Event, LaunchError, Launched},
    model::Kind,
    pipeline::Monitor,
};

/// Between two looks while the command runs: so that since when its tasks wait is known at its end.
const GAP: Duration = Duration::from_secs(1);

/// What came of it.
enum Seen {
    /// It was held, and judged.
    Judged(Vec<Leftover>),
    /// It has ended before it could be.
    Not,
}

pub fn check(options: &CheckCommand, mut allowed: Allowed) -> Result<ExitCode> {
    let (Some(name), args) = (options.command.first(), options.command.iter().skip(1)) else {
        return Err(Failure::Usage("which command?".to_owned()).into());
    };
    let mut command = Command::new(name);
    command.args(args);
    let begun = Instant::now();
    // Before it runs: no signal is to end us, and leave it behind.
    let signals = SignalsInfo::<WithOrigin>::new([SIGHUP, SIGINT, SIGTERM])?;
    let launched = Launched::start(command).map_err(Failure::from)?;
    pass_on(signals, launched.pid())?;
    let watched = watch(options, &launched, &mut allowed);
    if watched.is_err() {
        launched.kill();
    }
    let (seen, status) = watched?;
    match launched.hand_over() {
        Ok(true) => eprintln!("taskleak: the command has left processes behind that still run"),
        Ok(false) => {}
        Err(error) => eprintln!("taskleak: what the command has left running will crash at its end: {error}"),
    }
    let failed = match seen {
        Seen::Judged(found) => options.report(&name.to_string_lossy(), begun, found)?,
        Seen::Not => {
            let why = match status.signal() {
                Some(signal) => format!("signal {signal} has ended it"),
                None => "its last thread has ended by itself".to_owned(),
            };
            eprintln!("taskleak: the command was not judged: {why}, and not an exit of its own");
            false
        }
    };
    Ok(exit_code(status, failed))
}

/// The command's own exit code; that of a leak when it has succeeded.
fn exit_code(status: ExitStatus, failed: bool) -> ExitCode {
    // As shells tell it.
    let own = status
        .code()
        .or_else(|| status.signal().map(|signal| 128 + signal))
        .unwrap_or(0);
    match u8::try_from(own).unwrap_or(u8::MAX) {
        0 => ExitCode::from(u8::from(failed)),
        own => ExitCode::from(own),
    }
}

/// Looks at it until it has ended.
fn watch(options: &CheckCommand, launched: &Launched, allowed: &mut Allowed) -> Result<(Seen, ExitStatus)> {
    let mut monitor = options.monitor(&[launched.pid()])?;
    let known_at = Instant::now() + options.least();
    loop {
        monitor.pass().context("a sweep failed")?;
        monitor
            .wait(GAP, Some(launched.woken().as_fd()))
            .context("waiting failed")?;
        match launched.event() {
            Some(Event::AtExit(tid)) => {
                let seen = judge(options, &mut monitor, (launched.pid(), tid), known_at, allowed);
                launched.let_go();
                let status = ended(launched)?;
                return Ok(match (seen, status.signal()) {
                    (Ok(found), None) => (Seen::Judged(found), status),
                    // It was killed while it was held.
                    (_, Some(_)) => (Seen::Not, status),
                    (Err(error), None) => return Err(error),
                });
            }
            Some(Event::Ended(status)) => return Ok((Seen::Not, status)),
            None => {}
        }
    }
}

fn judge(
    options: &CheckCommand,
    monitor: &mut Monitor,
    (pid, held): (u32, u32),
    known_at: Instant,
    allowed: &mut Allowed,
) -> Result<Vec<Leftover>> {
    // It waits for us.
    allowed.before.insert((pid, Kind::Thread, held.into()));
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).map(Iterator::count);
    // What is nothing but the thread that ends it leaves no thread behind.
    let now = Instant::now();
    let times = match tasks {
        Ok(1) => (now, now),
        _ => (known_at, known_at.max(now + options.settle.0)),
    };
    options.settled(monitor, &[pid], allowed, times)
}

fn ended(launched: &Launched) -> Result<ExitStatus> {
    loop {
        match launched
            .wait()
            .context("nobody knows how the command has ended")?
        {
            Event::Ended(status) => return Ok(status),
            Event::AtExit(_) => {}
        }
    }
}

/// Passes on to the command what somebody sends to us. What a terminal sends it has got itself.
fn pass_on(mut signals: SignalsInfo<WithOrigin>, pid: u32) -> Result<()> {
    let forward = move || {
        for origin in signals.forever() {
            let signal = Signal::from_named_raw(origin.signal);
            if let (Cause::Sent(_), Some(signal), Some(pid)) =
                (origin.cause, signal, Pid::from_raw(pid.cast_signed()))
            {
                // It may just have ended.
                let _ = kill_process(pid, signal);
            }
        }
    };
    thread::Builder::new().name("signals".to_owned()).spawn(forward)?;
    Ok(())
}

impl From<LaunchError> for Failure {
    fn from(error: LaunchError) -> Self {
        match error {
            LaunchError::Start { .. } => Self::Usage(error.to_string()),
            LaunchError::Filter(_) | LaunchError::Other(_) => Self::NotPermitted(error.to_string()),
        }
    }
}
