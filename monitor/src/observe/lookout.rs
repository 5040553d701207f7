//! The processes that have one runtime: who is to be looked at, which looks are still to come, and what they said.

use std::{
    collections::{HashMap, HashSet},
    io,
    time::{Duration, Instant},
};

use super::{
    helper::HelperOptions,
    worker::{Runtime, Worker},
};
use crate::model::{Kind, Observation, ProcessId};

/// A worker, and what is known of each process.
pub struct Lookout<R: Runtime> {
    worker: Worker<R>,
    processes: HashMap<ProcessId, State<R::View>>,
}

enum State<V> {
    /// It does not have this runtime.
    Other,
    Watched {
        /// A look was ordered and is not done.
        is_pending: bool,
        /// What was not fetched yet.
        view: Option<V>,
    },
}

impl<R: Runtime> Lookout<R> {
    /// # Errors
    /// When no thread can be started.
    pub fn start(runtime: R, options: HelperOptions) -> io::Result<Self> {
        Ok(Self {
            worker: Worker::start(runtime, options)?,
            processes: HashMap::new(),
        })
    }

    /// Pid of the helper process while one runs.
    pub fn helper_pid(&self) -> Option<u32> {
        self.worker.helper_pid()
    }

    /// Whether it may have this runtime.
    pub fn is_watched(&self, process: ProcessId) -> bool {
        matches!(self.processes.get(&process), Some(State::Watched { .. }))
    }

    /// Orders a look at each process that may have the runtime, or at one alone.
    pub fn look(
        &mut self,
        observations: &[Observation],
        only: Option<ProcessId>,
        mut order: impl FnMut(ProcessId) -> R::Order,
    ) {
        let alive: HashSet<ProcessId> = observations.iter().map(|it| it.process.id).collect();
        if self.processes.keys().any(|id| !alive.contains(id)) {
            self.processes.retain(|id, _| alive.contains(id));
            self.worker.retain(alive);
        }
        for observation in observations {
            let process = observation.process.id;
            if only.is_some_and(|only| only != process) {
                continue;
            }
            let Some(thread) = observation.tasks.iter().find(|task| task.kind == Kind::Thread) else {
                continue;
            };
            let state = self.processes.entry(process).or_insert(State::Watched {
                is_pending: false,
                view: None,
            });
            if let State::Watched { is_pending, .. } = state
                && !*is_pending
            {
                *is_pending = self.worker.look(process, thread.id as u32, order(process));
            }
        }
    }

    /// Waits for the looks that are not done for `patience` at most, and gives each observation what was seen of its
    /// process; what comes later is given in the next pass. `met`: told of each look as it comes.
    pub fn attach(
        &mut self,
        observations: &mut [Observation],
        patience: Duration,
        mut met: impl FnMut(ProcessId, &mut R::View),
        mut add: impl FnMut(&mut Observation, R::View),
    ) {
        let until = Instant::now() + patience;
        let is_pending = |state: &State<R::View>| matches!(state, State::Watched { is_pending: true, .. });
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
                    met(process, &mut view);
                    State::Watched {
                        is_pending: false,
                        view: Some(view),
                    }
                }
            };
        }
        for observation in observations {
            match self.processes.get_mut(&observation.process.id) {
                Some(State::Watched { view, .. }) => match view.take() {
                    Some(view) => add(observation, view),
                    // It may not even be known yet whether it has the runtime.
                    None => {
                        observation.incomplete.insert(R::CAUSES.pending);
                    }
                },
                Some(State::Other) | None => {}
            }
        }
    }
}
