//! All tasks of one process, blocked or not, each with its stack where it has one.

use std::{io, time::Duration};

use super::Monitor;
use crate::model::{Kind, Observation, Process, ProcessTasks};

/// How long all stacks of one process may take, where a pass has less patience.
const PATIENCE: Duration = Duration::from_secs(5);
/// Looks at threads that are never caught in the same wait twice.
const LOOKS: u32 = 3;

impl Monitor {
    /// All tasks of the process with this pid, as they are now; `None` when it is not watched. Nothing is judged.
    ///
    /// # Errors
    /// When the sweep cannot be read.
    pub fn tasks(&mut self, pid: u32) -> io::Result<Option<ProcessTasks>> {
        let patience = self.options.patience;
        self.options.patience = patience.max(PATIENCE);
        self.threads.tell_all_of(Some(pid));
        let told = self.try_tasks(pid);
        self.threads.tell_all_of(None);
        self.options.patience = patience;
        told
    }

    fn try_tasks(&mut self, pid: u32) -> io::Result<Option<ProcessTasks>> {
        let (mut observations, mut records) = self.observe()?;
        let Some(mut seen) = of_pid(&observations, pid) else {
            return Ok(None);
        };
        let taken_at = self.swept_at;
        // One that was ordered for the last pass is not what is asked for.
        let before = &mut [seen.clone()];
        self.goroutines.attach(before, self.options.patience);
        self.tokio.attach(before, self.options.patience, &mut self.probes);
        self.goroutines.look(&observations, Some(seen.process.id));
        let only = Some(seen.process.id);
        self.tokio.look(&observations, &records, only, &mut self.probes);
        let mut is_gone = false;
        for _ in 0..LOOKS {
            let is_any_new;
            (observations, records, is_any_new) = self.read_stacks(observations, records)?;
            match of_pid(&observations, pid).filter(|now| now.process.id == seen.process.id) {
                Some(now) => seen = now,
                None => {
                    is_gone = true;
                    break;
                }
            }
            if !is_any_new || !is_any_missing(&seen) {
                break;
            }
        }
        // Of what is missing the reason may be that it is no more, without anything new to be confirmed.
        if !is_gone && !seen.incomplete.is_empty() {
            let (later, _) = self.observe()?;
            is_gone = of_pid(&later, pid).is_none_or(|now| now.process.id != seen.process.id);
        }
        let mut told = [seen];
        self.tend_spawn_probes(&mut observations);
        self.tell_entries(&mut told, &records);
        self.goroutines.attach(&mut told, self.options.patience);
        self.tokio
            .attach(&mut told, self.options.patience, &mut self.probes);
        let [seen] = told;
        Ok(Some(ProcessTasks {
            taken_at,
            go_version: self.goroutines.version(seen.process.id).map(str::to_owned),
            is_gone: is_gone || is_pending(&seen) && !exists(&seen.process),
            process: seen.process,
            tasks: seen.tasks,
            incomplete: seen.incomplete,
            modules: Vec::new(),
        }))
    }

    /// Says of the process's tasks which files its code is from: what a profile needs besides.
    pub fn tell_modules(&mut self, told: &mut ProcessTasks) {
        let mut threads = told.tasks.iter().filter(|task| task.kind == Kind::Thread);
        let Some(thread) = threads.next() else { return };
        match self.helper.modules(told.process.id, thread.id as u32) {
            Ok(modules) => told.modules = modules,
            Err(error) => tracing::debug!("modules of process {}: {error}", told.process.id.pid),
        }
    }
}

/// Whether a thread sleeps of which there is no stack, and it is not known why.
fn is_any_missing(observation: &Observation) -> bool {
    let is_missing = |task: &crate::model::Task| {
        let anchor = task.facts.as_ref().and_then(|facts| facts.anchor);
        anchor.is_some() && task.stack.is_none()
    };
    observation.tasks.iter().any(is_missing)
}

fn of_pid(observations: &[Observation], pid: u32) -> Option<Observation> {
    let found = observations
        .iter()
        .find(|observation| observation.process.id.pid == pid);
    found.cloned()
}

fn is_pending(observation: &Observation) -> bool {
    observation.incomplete.iter().any(|cause| cause.passes())
}

fn exists(process: &Process) -> bool {
    std::path::Path::new(&format!("/proc/{}", process.id.pid)).exists()
}
