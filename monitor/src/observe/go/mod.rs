//! Goroutines, read from the Go runtime's own structures from outside: nothing is stopped, and nothing is asked of
//! the program.
//!
//! In the helper process: `buildinfo` (the version), `table` and `pclntab` (its functions), `program` and `code` (where the
//! runtime has what), `reading` (a walk, ahead of its decoding), `reads`, `goroutine`, `stack`, `shapes` (what is known of
//! stacks), `poll`, `timers`, `labels` (reads of the process), `frames`, `wrapper`, `sites` (names), `points` (where probes go),
//! `inspector` (answers). In the monitor: `worker` (asks), `tracker` (since when), `reasons`, `view` (tasks), `spawning` (who
//! makes goroutines).
//! What must be added for a new version of Go is one entry in `offsets`.

mod buildinfo;
mod code;
mod frames;
pub mod goroutine;
mod inspector;
mod labels;
pub mod offsets;
mod pclntab;
mod points;
mod poll;
mod program;
pub mod protocol;
mod reading;
mod reads;
mod reasons;
mod shapes;
mod sites;
mod spawning;
mod stack;
pub mod table;
mod timers;
mod tracker;
mod view;
mod worker;
mod wrapper;

use std::{collections::HashMap, io, time::Duration};

pub use inspector::Inspector;
pub use pclntab::Pclntab;
pub use protocol::{Answer, Question};

use spawning::Goroutine;
use view::View;
use worker::{Go, Wanted};

use crate::{
    model::{Observation, ProcessId, SpawnReport, Stack, Task, WaitClass},
    observe::{bpf::Probes, governor::Budget, helper::HelperOptions, lookout::Lookout, spawning::Spawning},
    target::pidns::Numbers,
};

/// Goroutines of all processes that run Go.
pub struct Goroutines {
    lookout: Lookout<Go>,
    versions: HashMap<ProcessId, String>,
    /// Without spawn probes there is none.
    spawning: Option<Spawning<Goroutine>>,
}

impl Goroutines {
    /// `options`: how stacks are read; `None`: they are not. `budget`: what probes may take from a
    /// process; `None`: there are none.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start(
        options: Option<HelperOptions>,
        threshold: Duration,
        budget: Option<&Budget>,
    ) -> io::Result<Self> {
        let go = Go {
            reads_stacks: options.is_some(),
            wants_points: budget.is_some(),
            threshold,
        };
        Ok(Self {
            lookout: Lookout::start(go, options.unwrap_or_default())?,
            versions: HashMap::new(),
            spawning: budget.map(Spawning::new),
        })
    }

    /// Pid of the helper process while one runs.
    pub fn helper_pid(&self) -> Option<u32> {
        self.lookout.helper_pid()
    }

    /// Orders a look at each process that may run Go; with `whole` at that one alone, of which all is to be told then.
    pub fn look(&mut self, observations: &[Observation], whole: Option<ProcessId>) {
        let spawning = self.spawning.as_ref();
        self.lookout.look(observations, whole, |process| Wanted {
            unnamed: spawning.map(|it| it.unnamed(process)).unwrap_or_default(),
            whole: whole.is_some(),
        });
        let lookout = &self.lookout;
        self.versions.retain(|process, _| lookout.is_watched(*process));
    }

    /// Adds to each observation the goroutines of its process, and waits for the looks that are not done for
    /// `patience` at most. What comes later is added to the next pass's.
    pub fn attach(&mut self, observations: &mut [Observation], patience: Duration) {
        let (spawning, versions) = (&mut self.spawning, &mut self.versions);
        let met = |process, view: &mut View| {
            if view.version.is_empty() {
                return;
            }
            if let Some(spawning) = spawning {
                spawning.meet(process, view.points.take(), std::mem::take(&mut view.named));
            }
            versions.insert(process, view.version.clone());
        };
        self.lookout.attach(observations, patience, met, add);
    }

    /// Attaches and detaches spawn probes, and takes in what they have counted.
    pub fn tend_spawn_probes(&mut self, probes: &mut Probes) {
        if let Some(spawning) = &mut self.spawning {
            let lookout = &self.lookout;
            spawning.tend(probes, |id| lookout.is_watched(*id));
        }
    }

    /// Takes spawn probes off that are far over their budget.
    pub fn hold_spawn_probes(&mut self, probes: &mut Probes) {
        if let Some(spawning) = &mut self.spawning {
            spawning.hold(probes);
        }
    }

    /// Whether spawn probes are to be looked after between two passes.
    pub fn has_spawn_probes(&self) -> bool {
        self.spawning.as_ref().is_some_and(Spawning::is_any_attached)
    }

    /// Goroutines that were made and have ended; `None` of a process that does not run Go.
    pub fn spawns(&self, process: ProcessId) -> Option<SpawnReport> {
        self.spawning.as_ref()?.report(process)
    }

    /// The version of Go that a process runs, as far as it is known.
    pub fn version(&self, process: ProcessId) -> Option<&str> {
        self.versions.get(&process).map(String::as_str)
    }
}

fn add(observation: &mut Observation, view: View) {
    let View {
        mut tasks,
        incomplete,
        in_calls,
        ..
    } = view;
    if !in_calls.is_empty() {
        let threads: HashMap<u32, &Task> = observation
            .tasks
            .iter()
            .map(|task| (task.id as u32, task))
            .collect();
        // The runtime knows its threads by their numbers in the innermost namespace.
        let numbers = Numbers::of(observation.process.id.pid, threads.keys().copied());
        for (index, inner) in in_calls {
            let outer = numbers.as_ref().ok().and_then(|numbers| numbers.outer(inner));
            if let Some(thread) = outer.and_then(|outer| threads.get(&outer))
                && let Some(task) = tasks.get_mut(index)
            {
                wait_of_thread(task, thread);
                tell_of_thread(task, thread);
            }
        }
    }
    observation.incomplete.extend(incomplete);
    // The many are not moved for the few.
    tasks.append(&mut observation.tasks);
    observation.tasks = tasks;
}

/// A goroutine in a system call waits for what its thread waits for.
fn wait_of_thread(task: &mut Task, thread: &Task) {
    let Some(wait) = &mut task.wait else { return };
    match &thread.wait {
        Some(call) => {
            wait.reason = call.reason.clone();
            wait.class = if awaits_signals(task.stack.as_deref()) {
                WaitClass::External
            } else {
                call.class
            };
            wait.age = wait.age.min(call.age);
        }
        // It runs, or the call has a timeout.
        None => task.wait = None,
    }
}

/// Of one whose wait ends by itself there is still something to tell.
fn tell_of_thread(task: &mut Task, thread: &Task) {
    if let (Some(facts), Some(told)) = (&mut task.facts, &thread.facts) {
        facts.state = told.state;
        facts.reason = told.reason.clone().or_else(|| facts.reason.take());
    }
}

/// The goroutine that hands signals on: it sleeps on a futex until one comes (os/signal/signal_unix.go).
fn awaits_signals(stack: Option<&Stack>) -> bool {
    let innermost = stack.and_then(|stack| stack.frames.first());
    innermost.is_some_and(|frame| frame.function.as_deref() == Some("os/signal.signal_recv"))
}
