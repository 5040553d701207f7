//! Tasks of tokio, read from the runtime's own structures from outside: nothing is stopped, and nothing is asked of the
//! program. From tokio 1.28 on, of programs that have it in their executable.
//!
//! In the helper process: `program` (the vtables of a program's futures), `lists` and `stacks` (where its runtimes keep
//! their tasks), `task`, `cell`, `blocks`, `walk` (reads of the process), `futures` and `names` (what the futures are),
//! `types` (its debug information), `awaits`, `chain` and `reasons` (what tasks await), `points` and `births` (where probes
//! go), `creators` (who makes tasks), `locations` (places in the sources that a program keeps), `wheels`, `timers` and
//! `wakers` (who waits for a timer), `world` (who waits for a socket), `links` (lists of tokio's), `inspector` (answers). In the
//! monitor: `worker` (asks), `tracker` (since when), `timed` (whose timers are not known), `polls` (who is polled all the
//! same), `spawning` (who makes tasks), `view` (tasks).

mod awaits;
mod births;
mod blocks;
mod cell;
mod chain;
mod creators;
mod futures;
mod inspector;
mod links;
mod lists;
mod locations;
mod names;
mod points;
mod polls;
mod program;
pub mod protocol;
mod reasons;
mod spawning;
mod stacks;
pub mod task;
mod timed;
mod timers;
mod tracker;
mod types;
mod view;
mod wakers;
mod walk;
mod wheels;
mod worker;
mod world;

use std::{
    collections::{HashMap, HashSet},
    io,
    sync::Arc,
    time::Duration,
};

pub use inspector::Inspector;
pub use protocol::{Answer, Question};

use polls::Polls;
use spawning::{Creators, Wanted};
use view::View;
use worker::{Threads, Tokio};

use crate::{
    model::{Cause, Observation, ProcessId, SpawnReport, Wait},
    observe::{
        bpf::{Probes, TaskRecord},
        governor::Budget,
        helper::HelperOptions,
        lookout::Lookout,
        monotonic,
        thread::Records,
    },
};

/// Threads of a runtime are called so, unless the program names them: `tokio-runtime-worker`, cut by the kernel, and
/// `tokio-rt-worker` from 1.48 on.
const WORKERS: [&[u8]; 2] = [b"tokio-runtime-w", b"tokio-rt-worker"];

/// Tasks of all processes that run tokio.
pub struct Tasks {
    lookout: Lookout<Tokio>,
    running: HashSet<ProcessId>,
    threshold: Duration,
    /// Without probes there is none.
    polls: Option<Polls>,
    creators: Option<Creators>,
}

impl Tasks {
    /// `options`: how stacks are read; `None`: they are not. `budget`: what probes may take from a process;
    /// `None`: there are none.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start(
        options: Option<HelperOptions>,
        threshold: Duration,
        budget: Option<&Budget>,
    ) -> io::Result<Self> {
        let budget = budget.filter(|_| options.is_some());
        let tokio = Tokio {
            threshold,
            reads_stacks: options.is_some(),
            wants_points: budget.is_some(),
        };
        Ok(Self {
            lookout: Lookout::start(tokio, options.unwrap_or_default())?,
            running: HashSet::new(),
            threshold,
            polls: budget.map(Polls::new),
            creators: budget.map(Creators::new),
        })
    }

    /// Pid of the helper process while one runs.
    pub fn helper_pid(&self) -> Option<u32> {
        self.lookout.helper_pid()
    }

    /// Orders a look at each process that may run tokio, or at one alone.
    pub fn look(
        &mut self,
        observations: &[Observation],
        records: &Records,
        only: Option<ProcessId>,
        probes: &mut Probes,
    ) {
        let mut creators = self.creators.as_mut();
        if let Some(creators) = &mut creators {
            creators.take_ended(probes);
        }
        self.lookout.look(observations, only, |process| {
            let wanted = creators.as_mut().map(|it| it.wanted(process));
            let Wanted { places, steps, ended } = wanted.unwrap_or_default();
            let records = records.get(&process).map(Vec::as_slice).unwrap_or_default();
            Threads {
                pointers: records
                    .iter()
                    .map(|record| record.thread_pointer)
                    .filter(|pointer| *pointer != 0)
                    .collect(),
                stacks: records
                    .iter()
                    .filter(|record| record.on_cpu == 0)
                    .map(|record| record.sp)
                    .filter(|sp| *sp != 0)
                    .collect(),
                has_workers: records.iter().any(is_worker),
                whole: only.is_some(),
                unnamed: places,
                steps,
                ended,
            }
        });
        let lookout = &self.lookout;
        self.running.retain(|process| lookout.is_watched(*process));
    }

    /// Adds to each observation the tasks of its process, and waits for the looks that are not done for `patience` at
    /// most. What comes later is added to the next pass's. Then sees to it that those are watched that may be stuck.
    pub fn attach(&mut self, observations: &mut [Observation], patience: Duration, probes: &mut Probes) {
        let Self {
            lookout,
            running,
            threshold,
            polls,
            creators,
        } = self;
        let mut views = Vec::new();
        lookout.attach(
            observations,
            patience,
            |process, view| {
                if view.is_known {
                    running.insert(process);
                }
            },
            |observation, view| views.push((observation.process.id, view)),
        );
        if let Some(polls) = polls {
            polls.take(probes);
        }
        let now = monotonic();
        let mut views: HashMap<ProcessId, View> = views.into_iter().collect();
        for observation in observations {
            let process = observation.process.id;
            let Some(view) = views.remove(&process) else {
                continue;
            };
            let View {
                is_known,
                mut tasks,
                is_whole,
                suspects,
                passing,
                file,
                addresses,
                told,
                incomplete,
            } = view;
            observation.incomplete.extend(incomplete);
            for suspect in &suspects {
                let seen = polls.as_ref().and_then(|polls| polls.seen(process, suspect, now));
                let same = now.saturating_sub(suspect.since);
                let is_long = same >= threshold.as_nanos() as u64;
                if is_long && !is_whole && !suspect.is_new && seen.is_none_or(|seen| !seen.is_watched) {
                    observation.incomplete.insert(Cause::TokioPolls);
                }
                // Where all is told nothing is judged.
                let age = seen.map(|seen| seen.unpolled.min(same));
                let Some(age) = age.or(is_whole.then_some(same)) else {
                    continue;
                };
                let since = seen.and_then(|seen| seen.since);
                let is_untimed = suspect.timers.is_none_or(|timers| timers.is_untimed(since));
                if !is_whole && !is_untimed {
                    if age >= threshold.as_nanos() as u64 {
                        observation.incomplete.insert(Cause::TokioTimers);
                    }
                    continue;
                }
                if let Some(task) = tasks.get_mut(suspect.index) {
                    task.wait = Some(Wait {
                        reason: suspect.reason.clone(),
                        class: suspect.class,
                        age: Duration::from_nanos(age),
                        anchor: None,
                    });
                    task.stack = Some(Arc::clone(&suspect.stack));
                    task.waits_for = suspect.joins.map(|joins| Arc::new(vec![joins]));
                }
            }
            if let Some(creators) = creators
                && is_known
            {
                creators.meet(process, told, &mut tasks, &addresses, probes);
            }
            if let Some(polls) = polls
                && is_known
            {
                polls.watch(process, &suspects, &file, probes);
            }
            if !passing.is_empty() {
                tasks.retain(|task| !passing.contains(&task.id));
            }
            // The many are not moved for the few.
            tasks.append(&mut observation.tasks);
            observation.tasks = tasks;
        }
        if let Some(polls) = polls {
            polls.retain(probes, |process| lookout.is_watched(*process));
        }
        if let Some(creators) = creators {
            creators.tend(probes, |process| lookout.is_watched(*process));
        }
    }

    /// Takes probes off that are far over their budget.
    pub fn hold_probes(&mut self, probes: &mut Probes) {
        if let Some(polls) = &mut self.polls {
            polls.hold(probes);
        }
        if let Some(creators) = &mut self.creators {
            creators.hold(probes);
        }
    }

    /// Whether probes are to be looked after between two passes.
    pub fn has_probes(&self) -> bool {
        self.polls.as_ref().is_some_and(Polls::is_any_attached)
            || self.creators.as_ref().is_some_and(Creators::is_any_attached)
    }

    /// Tasks that were made and have ended; `None` of a process that does not run tokio.
    pub fn spawns(&self, process: ProcessId) -> Option<SpawnReport> {
        self.creators.as_ref()?.report(process)
    }

    /// Whether a process runs tokio.
    pub fn runs_in(&self, process: ProcessId) -> bool {
        self.running.contains(&process)
    }
}

fn is_worker(record: &TaskRecord) -> bool {
    WORKERS.iter().any(|name| record.comm.starts_with(name))
}
