//! One pass: target → observe → detect. The only place that knows the order.

use std::{
    collections::HashSet,
    io,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
};

use monitor_common::{Filter, record_flags, selected};

use crate::{
    detect::{Limits, Names, report},
    model::{Health, MapHealth, Observation, ProbeHealth, ProcessId, ProgramHealth, Snapshot},
    observe::{
        bpf::{ExecEvents, LoadError, LoadOptions, Probes, TaskRecord, enable_run_stats},
        memory::Memory,
        thread::Threads,
    },
    target::{Selector, Targets},
};

/// How long programs that start may gather before their threads are swept.
const SETTLE: Duration = Duration::from_millis(250);

/// What a [`Monitor`] is to do.
#[derive(Clone, Debug)]
pub struct Options {
    pub selector: Selector,
    pub threshold: Duration,
    pub futex_probes: bool,
    pub max_threads: u32,
    pub max_groups: usize,
    pub max_ids: usize,
    /// Level of the kernel side's messages.
    pub bpf_log: log::LevelFilter,
    /// Whether to report the programs' run time.
    pub bpf_stats: bool,
}

/// The loaded probes and all that is remembered between passes.
pub struct Monitor {
    probes: Probes,
    memory: Memory,
    targets: Targets,
    threads: Threads,
    names: Names,
    options: Options,
    /// Not read when every process is watched: there is nothing to decide.
    exec_events: Option<ExecEvents>,
    /// Keeps the kernel's `bpf_stats` on.
    _run_stats: Option<OwnedFd>,
    first_sweep: Option<Instant>,
}

impl Monitor {
    /// Loads and attaches.
    ///
    /// # Errors
    /// When nothing could be observed here; the message says why and what helps.
    pub fn start(options: Options) -> Result<Self, LoadError> {
        let filter = if options.selector.is_all() {
            Filter::All
        } else {
            Filter::Selected
        };
        let mut probes = Probes::load(&LoadOptions {
            filter,
            futex_probes: options.futex_probes,
            max_threads: options.max_threads,
            log: options.bpf_log,
        })?;
        for state in probes.states() {
            if let Some(cause) = &state.failure {
                tracing::warn!(
                    "probe {} is not attached: {cause}. Without it: {}",
                    state.spec.name,
                    state.spec.loss
                );
            }
        }
        let run_stats = options.bpf_stats.then(enable_run_stats).and_then(|stats| {
            stats
                .inspect_err(|error| tracing::warn!("bpf_stats cannot be turned on: {error}"))
                .ok()
        });
        let exec_events = if options.selector.is_all() {
            None
        } else {
            probes.exec_events()
        };
        Ok(Self {
            probes,
            memory: Memory::default(),
            targets: Targets::new(options.selector.clone()),
            threads: Threads::new(options.threshold, options.futex_probes),
            names: Names::new(options.max_groups),
            options,
            exec_events,
            _run_stats: run_stats,
            first_sweep: None,
        })
    }

    /// Observes once.
    ///
    /// # Errors
    /// When the sweep cannot be read.
    pub fn pass(&mut self) -> io::Result<Snapshot> {
        let begun = Instant::now();
        let first_sweep = *self.first_sweep.get_or_insert(begun);
        // Of processes that the probes' filter does not know only the leader is told: they are selected, and
        // swept again with all their threads.
        if self.sweep()? {
            self.sweep()?;
        }
        let mut observations = self.threads.end();
        // What has no live thread is a process that nobody has reaped yet.
        observations.retain(|observation| !observation.tasks.is_empty());
        self.targets.end_pass();
        self.probes.flush_log();
        let alive: HashSet<ProcessId> = observations.iter().map(|o| o.process.id).collect();
        self.names.retain(&alive);
        let limits = Limits {
            threshold: self.options.threshold,
            max_ids: self.options.max_ids,
        };
        let one = |observation: &Observation| {
            report(
                &observation.process,
                std::slice::from_ref(observation),
                &mut self.names,
                limits,
            )
        };
        let mut processes: Vec<_> = observations.iter().map(one).collect();
        processes.sort_by_key(|report| report.process.id);
        let taken_at = SystemTime::now();
        Ok(Snapshot {
            taken_at,
            observed: begun.duration_since(first_sweep),
            processes,
            health: self.health(begun.elapsed(), taken_at),
        })
    }

    /// Pids that were asked for by number and are not in the snapshot.
    pub fn missing_pids(&self, snapshot: &Snapshot) -> Vec<u32> {
        let exists = |pid: &u32| {
            snapshot
                .processes
                .iter()
                .any(|report| report.process.id.pid == *pid)
        };
        self.options
            .selector
            .pids
            .iter()
            .copied()
            .filter(|pid| !exists(pid))
            .collect()
    }

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
            let left = sweep_at
                .map_or(until, |at: Instant| at.min(until))
                .saturating_duration_since(now);
            match self.poll(left, stop)? {
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

    /// Walks all threads. Whether processes were met that are watched from now on.
    fn sweep(&mut self) -> io::Result<bool> {
        let Self {
            probes,
            memory,
            targets,
            threads,
            ..
        } = self;
        targets.begin_pass();
        threads.begin();
        let (mut wanted, mut unwanted) = (Vec::new(), Vec::new());
        probes.sweep(|record| {
            if memory.helper_pid() == Some(record.tgid) {
                return;
            }
            let selected = record.record_flags & record_flags::SELECTED != 0;
            match targets.resolve(identity(record), || comm_of(record)) {
                Some(process) => {
                    if !selected {
                        wanted.push(record.host_tgid);
                    }
                    threads.record(record, process, memory);
                }
                // It has called exec and is another program now.
                None if selected && record.is_leader() && !self.options.selector.is_all() => {
                    unwanted.push(record.host_tgid);
                }
                None => {}
            }
        })?;
        for host_tgid in &wanted {
            self.select(*host_tgid, self.selection(true));
        }
        for host_tgid in &unwanted {
            self.select(*host_tgid, self.selection(false));
        }
        Ok(!wanted.is_empty())
    }

    fn selection(&self, watched: bool) -> u32 {
        match watched {
            false => selected::NO,
            true if self.options.selector.includes_forks() => selected::WITH_FORKS,
            true => selected::ALONE,
        }
    }

    fn select(&mut self, host_tgid: u32, selection: u32) {
        if let Err(error) = self.probes.select(host_tgid, selection) {
            tracing::warn!("process {host_tgid} (host pid) cannot be selected: {error}");
        }
    }

    fn health(&self, sweep_duration: Duration, taken_at: SystemTime) -> Health {
        let probes = self.probes.states().iter();
        let maps = self.probes.maps().into_iter();
        let programs = if self.options.bpf_stats {
            self.probes.program_runs()
        } else {
            Vec::new()
        };
        Health {
            sweep_duration,
            swept_at: taken_at.duration_since(UNIX_EPOCH).unwrap_or_default(),
            probes: probes
                .map(|state| ProbeHealth {
                    probe: state.spec.name,
                    attached: state.failure.is_none(),
                })
                .collect(),
            maps: maps
                .map(|map| MapHealth {
                    map: map.map,
                    entries: map.entries,
                    capacity: map.capacity,
                })
                .collect(),
            lost: self.probes.lost(),
            programs: programs
                .into_iter()
                .map(|runs| ProgramHealth {
                    program: runs.program,
                    runs: runs.runs,
                    run_time: runs.run_time,
                })
                .collect(),
        }
    }
}

/// Why [`Monitor::poll`] came back.
enum Woken {
    Timeout,
    Stop,
    Execs,
}

fn identity(record: &TaskRecord) -> ProcessId {
    ProcessId {
        pid: record.tgid,
        start_boottime: record.leader_start_boottime,
        exec_id: record.exec_id,
    }
}

/// The process's name: as at its exec where that was seen, else what its first thread is called now.
fn comm_of(record: &TaskRecord) -> String {
    let name = if record.exec_comm[0] != 0 {
        &record.exec_comm
    } else {
        &record.comm
    };
    let end = name.iter().position(|byte| *byte == 0).unwrap_or(name.len());
    String::from_utf8_lossy(&name[..end]).into_owned()
}
