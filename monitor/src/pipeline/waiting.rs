//! What happens between two passes: programs that start are selected, births of threads are taken in.

use std::{
    io,
    os::fd::{AsFd as _, BorrowedFd},
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
};

use super::Monitor;
use crate::observe::{bpf::ExecEvents, thread::spawning::DRAIN_EVERY};

/// How long programs that start may gather before their threads are swept.
const SETTLE: Duration = Duration::from_millis(250);

/// Why [`Monitor::poll`] came back.
enum Woken {
    Timeout,
    Stop,
    Execs,
}

impl Monitor {
    /// Waits until the timeout, or until `stop` is readable (then the answer is `true`), and meanwhile selects
    /// programs as they start.
    ///
    /// # Errors
    /// When poll fails, or a sweep over a new program's threads.
    pub fn wait(&mut self, timeout: Duration, stop: Option<BorrowedFd<'_>>) -> io::Result<bool> {
        let until = Instant::now() + timeout;
        let mut sweep_at = None;
        loop {
            let now = Instant::now();
            if sweep_at.is_some_and(|at| at <= now) {
                sweep_at = None;
                self.meet_new_threads()?;
            }
            if now >= until {
                return Ok(false);
            }
            let mut wake_at = sweep_at.map_or(until, |at: Instant| at.min(until));
            if self.spawning.is_some() || self.goroutines.has_spawn_probes() || self.tokio.has_probes() {
                wake_at = wake_at.min(now + DRAIN_EVERY);
            }
            let left = wake_at.saturating_duration_since(now);
            let woken = self.poll(left, stop)?;
            self.drain_spawns();
            self.goroutines.hold_spawn_probes(&mut self.probes);
            self.tokio.hold_probes(&mut self.probes);
            match woken {
                Woken::Stop => return Ok(true),
                Woken::Execs if self.decide_on_execs() => {
                    sweep_at = sweep_at.or(Some(Instant::now() + SETTLE));
                }
                Woken::Execs | Woken::Timeout => {}
            }
        }
    }

    fn poll(&self, timeout: Duration, stop: Option<BorrowedFd<'_>>) -> io::Result<Woken> {
        let timeout = Timespec {
            tv_sec: timeout.as_secs() as i64,
            tv_nsec: timeout.subsec_nanos().into(),
        };
        let mut files = Vec::new();
        if let Some(stop) = stop {
            files.push(PollFd::from_borrowed_fd(stop, PollFlags::IN));
        }
        if let Some(events) = &self.exec_events {
            files.push(PollFd::from_borrowed_fd(events.as_fd(), PollFlags::IN));
        }
        match poll(&mut files, Some(&timeout)) {
            Ok(0) | Err(Errno::INTR) => Ok(Woken::Timeout),
            Ok(_) if stop.is_some() && !files[0].revents().is_empty() => Ok(Woken::Stop),
            Ok(_) => Ok(Woken::Execs),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether a program has started that is watched.
    fn decide_on_execs(&mut self) -> bool {
        let mut any = false;
        while let Some(event) = self.exec_events.as_mut().and_then(ExecEvents::pop) {
            let watched = self.targets.would_watch(event.tgid);
            self.select(event.host_tgid, self.selection(watched));
            any |= watched;
        }
        any
    }

    /// A sweep that nobody is told of: threads that a program made before it was selected get their entries, and
    /// their waits are remembered.
    fn meet_new_threads(&mut self) -> io::Result<()> {
        self.sweep()?;
        self.threads.end();
        self.targets.end_pass();
        Ok(())
    }
}
