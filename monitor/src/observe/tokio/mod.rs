//! Tasks of tokio, read from the runtime's own structures from outside: nothing is stopped, and nothing is asked of the
//! program. From tokio 1.28 on, of programs that have it in their executable.
//!
//! In the helper process: `program` (the vtables of a program's futures), `lists` (where its runtimes keep their tasks),
//! `task`, `blocks`, `walk` (reads of the process), `futures` and `names` (what the futures are), `inspector` (answers). In
//! the monitor: `worker` (asks), `tracker` (since when), `view` (tasks).

mod blocks;
mod futures;
mod inspector;
mod lists;
mod names;
mod program;
pub mod protocol;
pub mod task;
mod tracker;
mod view;
mod walk;
mod worker;

use std::{collections::HashSet, io, time::Duration};

pub use inspector::Inspector;
pub use protocol::{Answer, Question};

use monitor_common::TaskRecord;
use worker::{Threads, Tokio};

use crate::{
    model::{Observation, ProcessId},
    observe::{helper::HelperOptions, lookout::Lookout, thread::Records},
};

/// Threads of a runtime are called so, unless the program names them: `tokio-runtime-worker`, cut by the kernel, and
/// `tokio-rt-worker` from 1.48 on.
const WORKERS: [&[u8]; 2] = [b"tokio-runtime-w", b"tokio-rt-worker"];

/// Tasks of all processes that run tokio.
pub struct Tasks {
    lookout: Lookout<Tokio>,
    running: HashSet<ProcessId>,
}

impl Tasks {
    /// `options`: how symbols and debug information are read.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start(options: Option<HelperOptions>) -> io::Result<Self> {
        Ok(Self {
            lookout: Lookout::start(Tokio, options.unwrap_or_default())?,
            running: HashSet::new(),
        })
    }

    /// Pid of the helper process while one runs.
    pub fn helper_pid(&self) -> Option<u32> {
        self.lookout.helper_pid()
    }

    /// Orders a look at each process that may run tokio, or at one alone.
    pub fn look(&mut self, observations: &[Observation], records: &Records, only: Option<ProcessId>) {
        self.lookout.look(observations, only, |process| {
            let records = records.get(&process).map(Vec::as_slice).unwrap_or_default();
            Threads {
                pointers: records
                    .iter()
                    .map(|record| record.thread_pointer)
                    .filter(|pointer| *pointer != 0)
                    .collect(),
                has_workers: records.iter().any(is_worker),
            }
        });
        let lookout = &self.lookout;
        self.running.retain(|process| lookout.is_watched(*process));
    }

    /// Adds to each observation the tasks of its process, and waits for the looks that are not done for `patience` at
    /// most. What comes later is added to the next pass's.
    pub fn attach(&mut self, observations: &mut [Observation], patience: Duration) {
        let running = &mut self.running;
        self.lookout.attach(
            observations,
            patience,
            |process, view| {
                if view.is_known {
                    running.insert(process);
                }
            },
            |observation, mut view| {
                observation.incomplete.extend(view.incomplete);
                // The many are not moved for the few.
                view.tasks.append(&mut observation.tasks);
                observation.tasks = view.tasks;
            },
        );
    }

    /// Whether a process runs tokio.
    pub fn runs_in(&self, process: ProcessId) -> bool {
        self.running.contains(&process)
    }
}

fn is_worker(record: &TaskRecord) -> bool {
    WORKERS.iter().any(|name| record.comm.starts_with(name))
}
