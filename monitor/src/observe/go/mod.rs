//! Goroutines, read from the Go runtime's own structures from outside: nothing is stopped, and nothing is asked of
//! the program.
//!
//! In the helper process: `image` and `buildinfo` (the file), `pclntab` (its table of functions), `program` (where
//! the runtime has what), `memory`, `reads`, `goroutine`, `stack`, `poll` (reads of the process), `frames`, `wrapper`,
//! `sites` (names), `points` (where probes go), `inspector` (answers). In the monitor: `worker` (asks), `tracker` (since
//! when), `reasons`, `view` (tasks), `spawning` and `books` (who makes goroutines).
//! What must be added for a new version of Go is one entry in `offsets`.

mod books;
mod buildinfo;
mod frames;
pub mod goroutine;
mod image;
mod inspector;
mod memory;
pub mod offsets;
mod pclntab;
mod points;
mod poll;
mod program;
pub mod protocol;
mod reads;
mod reasons;
mod sites;
mod space;
mod spawning;
mod stack;
mod tracker;
mod view;
mod worker;
mod wrapper;

use std::{
    collections::{HashMap, HashSet},
    io,
    time::{Duration, Instant},
};

pub use inspector::Inspector;
pub use protocol::{Answer, Question};

use spawning::Spawning;
use view::View;
use worker::{Look, Worker};

use crate::{
    model::{Cause, Kind, Observation, ProcessId, SpawnReport, Stack, Task, WaitClass},
    observe::{bpf::Probes, helper::HelperOptions},
    target::pidns::Numbers,
};

/// Goroutines of all processes that run Go.
pub struct Goroutines {
    worker: Worker,
    processes: HashMap<ProcessId, State>,
    /// Without spawn probes there is none.
    spawning: Option<Spawning>,
}

enum State {
    /// It runs no Go.
    Other,
    Go {
        version: String,
        /// A look was ordered and is not done.
        is_pending: bool,
        /// What was not fetched yet.
        view: Option<View>,
    },
}

impl Goroutines {
    /// `options`: how stacks are read; `None`: they are not. `spawn_budget`: share of a core that the spawn probes may
    /// take from a process; `None`: there are none.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start(
        options: Option<HelperOptions>,
        threshold: Duration,
        spawn_budget: Option<f64>,
    ) -> io::Result<Self> {
        Ok(Self {
            worker: Worker::start(options, threshold, spawn_budget.is_some())?,
            processes: HashMap::new(),
            spawning: spawn_budget.map(Spawning::new),
        })
    }

    /// Pid of the helper process while one runs.
    pub fn helper_pid(&self) -> Option<u32> {
        self.worker.helper_pid()
    }

    /// Orders a look at each process that may run Go; with `whole` at that one alone, of which all is to be told then.
    pub fn look(&mut self, observations: &[Observation], whole: Option<ProcessId>) {
        let alive: HashSet<ProcessId> = observations.iter().map(|it| it.process.id).collect();
        if self.processes.keys().any(|id| !alive.contains(id)) {
            self.processes.retain(|id, _| alive.contains(id));
            self.worker.retain(alive);
        }
        for observation in observations {
            let process = observation.process.id;
            if whole.is_some_and(|whole| whole != process) {
                continue;
            }
            let Some(thread) = observation.tasks.iter().find(|task| task.kind == Kind::Thread) else {
                continue;
            };
            let state = self.processes.entry(process).or_insert_with(|| State::Go {
                version: String::new(),
                is_pending: false,
                view: None,
            });
            if let State::Go { is_pending, .. } = state
                && !*is_pending
            {
                let spawning = self.spawning.as_ref();
                *is_pending = self.worker.look(Look {
                    process,
                    tid: thread.id as u32,
                    unnamed: spawning.map(|it| it.unnamed(process)).unwrap_or_default(),
                    whole: whole.is_some(),
                });
            }
        }
    }

    /// Adds to each observation the goroutines of its process, and waits for the looks that are not done for
    /// `patience` at most. What comes later is added to the next pass's.
    pub fn attach(&mut self, observations: &mut [Observation], patience: Duration) {
        let until = Instant::now() + patience;
        let is_pending = |state: &State| matches!(state, State::Go { is_pending: true, .. });
        while self.processes.values().any(is_pending) {
            let Some((process, view)) = self.worker.looked(until) else {
                break;
            };
            let Some(state) = self.processes.get_mut(&process) else {
                continue;
            };
            *state = match view {
                None => State::Other,
                Some(mut view) => {
                    if let Some(spawning) = &mut self.spawning
                        && !view.version.is_empty()
                    {
                        spawning.meet(process, view.points.take(), std::mem::take(&mut view.named));
                    }
                    State::Go {
                        version: view.version.clone(),
                        is_pending: false,
                        view: Some(view),
                    }
                }
            };
        }
        for observation in observations {
            match self.processes.get_mut(&observation.process.id) {
                Some(State::Go { view, .. }) => match view.take() {
                    Some(view) => add(observation, view),
                    // It may not even be known yet whether it runs Go.
                    None => {
                        observation.incomplete.insert(Cause::GoroutinesPending);
                    }
                },
                Some(State::Other) | None => {}
            }
        }
    }

    /// Attaches and detaches spawn probes, and takes in what they have counted.
    pub fn tend_spawn_probes(&mut self, probes: &mut Probes) {
        if let Some(spawning) = &mut self.spawning {
            let is_go = |id: &ProcessId| matches!(self.processes.get(id), Some(State::Go { .. }));
            spawning.tend(probes, is_go);
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
        match self.processes.get(&process)? {
            State::Go { version, .. } if !version.is_empty() => Some(version),
            _ => None,
        }
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
