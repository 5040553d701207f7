//! One pass: target → observe → detect. The only place that knows the order.

mod health;
mod holding;
mod state_file;
mod sweeps;
mod tasks;
mod waiting;

use std::{
    collections::HashSet,
    io,
    os::fd::OwnedFd,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use monitor_common::Filter;

use self::holding::Holding;
use crate::{
    detect::{Detector, Limits, Settings},
    identify::{Identifier, New},
    model::{Kind, Observation, ProcessId, Snapshot, SpawnReport},
    observe::{
        bpf::{ExecEvents, LoadError, LoadOptions, Probes, enable_run_stats},
        go::Goroutines,
        governor::Budget,
        helper::{Helper, HelperOptions},
        thread::{Records, Threads, spawning::Spawning},
        tokio,
    },
    rights,
    target::{PodSources, Selector, Targets},
};

/// What a [`Monitor`] is to do.
#[derive(Clone, Debug)]
pub struct Options {
    pub selector: Selector,
    /// Where names of pods are found.
    pub pods: PodSources,
    pub threshold: Duration,
    pub futex_probes: bool,
    pub max_threads: u32,
    pub max_groups: usize,
    pub max_ids: usize,
    /// How counts are judged.
    pub judging: Settings,
    /// Level of the kernel side's messages.
    pub bpf_log: log::LevelFilter,
    /// Whether to report the programs' run time.
    pub bpf_stats: bool,
    /// How stacks are read; `None`: they are not.
    pub stacks: Option<HelperOptions>,
    /// Share of a core that probes in a process may take from it; `None`: there are none.
    pub spawn_budget: Option<f64>,
    /// How long a pass may wait for stacks that are being read.
    pub patience: Duration,
}

/// The loaded probes and all that is remembered between passes.
pub struct Monitor {
    probes: Probes,
    helper: Helper,
    identifier: Option<Identifier>,
    goroutines: Goroutines,
    tokio: tokio::Tasks,
    /// Spawn probes; they need the identifier.
    spawning: Option<Spawning>,
    targets: Targets,
    threads: Threads,
    holding: Holding,
    detector: Detector,
    options: Options,
    /// Not read when every process is watched: there is nothing to decide.
    exec_events: Option<ExecEvents>,
    /// Keeps the kernel's `bpf_stats` on.
    _run_stats: Option<OwnedFd>,
    first_sweep: Option<Instant>,
    /// When the last sweep began: what ages are told of.
    swept_at: SystemTime,
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
        let budget = options.spawn_budget.map(Budget::new);
        // Births of threads are named by the helper that reads stacks.
        let thread_budget = budget.as_ref().filter(|_| options.stacks.is_some());
        let mut probes = Probes::load(&LoadOptions {
            filter,
            futex_probes: options.futex_probes,
            spawn_probes: thread_budget.is_some(),
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
        // Before there are other threads.
        if options.spawn_budget.is_none() {
            give_up_attaching(&mut probes);
        }
        let identifier = match &options.stacks {
            Some(helper) => Some(Identifier::start(helper.clone()).map_err(LoadError::Thread)?),
            None => None,
        };
        let goroutines = Goroutines::start(options.stacks.clone(), options.threshold, budget.as_ref())
            .map_err(LoadError::Thread)?;
        let tokio = tokio::Tasks::start(options.stacks.clone(), options.threshold, budget.as_ref())
            .map_err(LoadError::Thread)?;
        let spawning = thread_budget.and_then(|budget| Some(Spawning::new(probes.spawn_events()?, budget)));
        Ok(Self {
            probes,
            helper: Helper::default(),
            identifier,
            goroutines,
            tokio,
            spawning,
            targets: Targets::new(options.selector.clone(), options.pods.clone()),
            threads: Threads::new(options.threshold, options.futex_probes),
            holding: Holding::default(),
            detector: Detector::new(
                Limits {
                    threshold: options.threshold,
                    max_groups: options.max_groups,
                    max_ids: options.max_ids,
                },
                options.judging,
            ),
            options,
            exec_events,
            _run_stats: run_stats,
            first_sweep: None,
            swept_at: UNIX_EPOCH,
        })
    }

    /// Observes once.
    ///
    /// # Errors
    /// When the sweep cannot be read.
    pub fn pass(&mut self) -> io::Result<Snapshot> {
        let begun = Instant::now();
        let first_sweep = *self.first_sweep.get_or_insert(begun);
        let (observations, records) = self.observe()?;
        // They are read while the threads' stacks are.
        self.goroutines.look(&observations, None);
        self.tokio.look(&observations, &records, None, &mut self.probes);
        let (mut observations, records, _) = self.read_stacks(observations, records)?;
        self.tend_spawn_probes(&mut observations);
        self.tell_entries(&mut observations, &records);
        self.goroutines.attach(&mut observations, self.options.patience);
        self.tokio
            .attach(&mut observations, self.options.patience, &mut self.probes);
        self.goroutines.tend_spawn_probes(&mut self.probes);
        self.probes.flush_log();
        let alive: HashSet<ProcessId> = observations.iter().map(|o| o.process.id).collect();
        self.detector.retain(&alive);
        let now = now();
        let mut processes: Vec<_> = observations
            .iter()
            .map(|observation| {
                self.detector
                    .report(now, &observation.process, std::slice::from_ref(observation))
            })
            .collect();
        for report in &mut processes {
            let process = report.process.id;
            report.go_version = self.goroutines.version(process).map(str::to_owned);
            let runtimes = [
                (report.go_version.is_some(), "go"),
                (self.tokio.runs_in(process), "tokio"),
            ];
            report.runtimes = runtimes
                .into_iter()
                .filter_map(|(runs, name)| runs.then_some(name))
                .collect();
            let threads = self.spawning.as_ref().map(|spawning| SpawnReport {
                kind: Kind::Thread,
                active: spawning.is_active(process),
                totals: spawning.totals(process),
            });
            report.spawns = threads
                .into_iter()
                .chain(self.goroutines.spawns(process))
                .chain(self.tokio.spawns(process))
                .collect();
        }
        processes.sort_by_key(|report| report.process.id);
        let taken_at = self.swept_at;
        Ok(Snapshot {
            taken_at,
            observed: begun.duration_since(first_sweep),
            processes,
            health: self.health(begun.elapsed(), taken_at),
        })
    }

    /// Reads the stacks and the holders of what is blocked, and sweeps again for what was read: whether it did.
    fn read_stacks(
        &mut self,
        mut observations: Vec<Observation>,
        records: Records,
    ) -> io::Result<(Vec<Observation>, Records, bool)> {
        let threshold = self.options.threshold;
        let new = match &mut self.identifier {
            Some(identifier) => {
                identifier.attach(&mut observations, &records, threshold, self.options.patience)
            }
            None => New::default(),
        };
        let any_edges = self
            .holding
            .look(&observations, &records, threshold, &mut self.helper);
        // What was read while its thread ran is wrong: only the same wait, seen again, confirms it.
        let is_any_new = any_edges || !new.is_empty();
        let (mut observations, records) = if is_any_new {
            let (mut later, after) = self.observe()?;
            if let Some(identifier) = &mut self.identifier {
                identifier.confirm(&mut later, &after, &new, threshold);
            }
            self.holding.confirm(&mut later, &records, &after);
            (later, after)
        } else {
            (observations, records)
        };
        self.holding.mark(&mut observations);
        Ok((observations, records, is_any_new))
    }

    /// Attaches and detaches spawn probes, and says of tasks where they were made.
    fn tend_spawn_probes(&mut self, observations: &mut [Observation]) {
        self.drain_spawns();
        let (Some(spawning), Some(identifier)) = (&mut self.spawning, &mut self.identifier) else {
            return;
        };
        let alive: Vec<ProcessId> = observations
            .iter()
            .map(|observation| observation.process.id)
            .collect();
        spawning.tend(&mut self.probes, identifier, &alive);
        for observation in observations {
            for task in &mut observation.tasks {
                let anchor = task.wait.as_ref().and_then(|wait| wait.anchor.as_deref());
                let origin = anchor.and_then(|anchor| {
                    spawning.origin(observation.process.id, anchor.tid, anchor.start_boottime)
                });
                task.spawn_site = origin.and_then(|origin| origin.spawn_site.clone());
            }
        }
    }

    /// Says of tasks what they run.
    fn tell_entries(&mut self, observations: &mut [Observation], records: &Records) {
        let Some(identifier) = &mut self.identifier else {
            return;
        };
        let spawning = self.spawning.as_ref();
        identifier.tell_entries(observations, records, |(process, tid, start_boottime)| {
            let origin = spawning?.origin(process, tid, start_boottime)?;
            origin.entry.clone()
        });
    }

    fn drain_spawns(&mut self) {
        if let (Some(spawning), Some(identifier)) = (&mut self.spawning, &mut self.identifier) {
            spawning.drain(identifier, |pid| self.targets.watched(pid));
        }
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
}

/// Of this thread and all that it will start.
fn give_up_attaching(probes: &mut Probes) {
    match rights::give_up_attaching(|| probes.sweep(|_| ()).is_ok()) {
        Ok(true) => {}
        Ok(false) => {
            tracing::debug!("the rights to attach are kept: this kernel asks for them at each sweep")
        }
        Err(error) => tracing::debug!("the rights to attach cannot be given up: {error}"),
    }
}

/// Seconds since the machine was started, time asleep included: no clock that anybody sets.
fn now() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
}
