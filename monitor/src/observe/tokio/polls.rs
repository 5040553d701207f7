//! Whether tasks that seem to be stuck are polled: the strong evidence that one is not. Those are watched that wait for what
//! need not come; the kernel tells which of them were polled all the same. Only of a task that was watched is it said that it
//! is blocked, and for no longer than it was watched.
//!
//! A function that polls too often is left alone for a while: its tasks are as they were last seen, and of new ones nothing
//! is said; those of others are watched on.

mod process;
mod watched;

use std::{
    collections::{HashMap, HashSet},
    path::Path,
    time::Instant,
};

use process::Process;

use super::view::Suspect;
use crate::{
    model::ProcessId,
    observe::{
        bpf::Probes,
        governor::{Budget, Governor, Order, POLL_COST},
        numbers::Numbers,
    },
};

/// Tasks of one process that are watched; of others it is not said that they are blocked.
const MAX_WATCHED: usize = 256 << 10;
/// What one function may take of what a process's probes may take together.
const SHARE: f64 = 0.25;

/// What is held to the budget: functions each for itself, and processes.
struct Governors {
    processes: Governor,
    functions: Governor<(ProcessId, u64)>,
    places: Numbers,
}

/// What is known of a task's polls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// ns for which it was watched and not polled.
    pub unpolled: u64,
    /// Whether it is watched now.
    pub is_watched: bool,
    /// CLOCK_MONOTONIC ns: it is watched since then, and was not polled. `None` when it is not watched now.
    pub since: Option<u64>,
}

/// The probes of all processes that run tokio.
pub struct Polls {
    governors: Governors,
    processes: HashMap<ProcessId, Process>,
    by_number: HashMap<u32, ProcessId>,
    numbers: Numbers,
    lost: u64,
}

impl Polls {
    /// `budget`: what probes may take from a process.
    pub fn new(budget: &Budget) -> Self {
        Self {
            governors: Governors {
                processes: Governor::new(budget, POLL_COST),
                functions: Governor::new(&budget.part(SHARE), POLL_COST),
                places: Numbers::default(),
            },
            processes: HashMap::new(),
            by_number: HashMap::new(),
            numbers: Numbers::default(),
            lost: 0,
        }
    }

    /// Takes in who was polled. To be called before it is asked since when tasks were not.
    pub fn take(&mut self, probes: &mut Probes) {
        if self.processes.is_empty() {
            return;
        }
        for (task, polled_at) in probes.take_polled_tokio() {
            let process = self.by_number.get(&task.process);
            if let Some(process) = process.and_then(|id| self.processes.get_mut(id)) {
                process.polled(task.header, polled_at);
            }
        }
        let lost = probes.lost_tokio_polls();
        if lost != self.lost {
            // Which they were, the map of those that are watched knows.
            self.lost = lost;
            for process in self.processes.values_mut() {
                process.ask_all(probes);
            }
        }
    }

    /// What is known of a task's polls. `now`: CLOCK_MONOTONIC ns.
    pub fn seen(&self, process: ProcessId, suspect: &Suspect, now: u64) -> Option<Seen> {
        let watched = self.processes.get(&process)?.task(suspect)?;
        Some(Seen {
            unpolled: watched.unpolled(suspect.since, now)?,
            is_watched: watched.is_watched(),
            since: watched.since(),
        })
    }

    /// These are watched from now on, and no others of the process.
    pub fn watch(&mut self, id: ProcessId, suspects: &[Suspect], file: &Path, probes: &mut Probes) {
        if suspects.is_empty() && !self.processes.contains_key(&id) {
            return;
        }
        let now = Instant::now();
        let Some(number) = self.number_of(id) else { return };
        let governors = &mut self.governors;
        let process = self
            .processes
            .entry(id)
            .or_insert_with(|| Process::new(id, number, file.to_owned()));
        process.tell(probes, governors, now);
        process.rest(probes, governors, now, |_| true);
        process.tell_rest(governors, now);
        let wanted: HashMap<u64, &Suspect> = suspects
            .iter()
            .take(MAX_WATCHED)
            .map(|suspect| (suspect.address, suspect))
            .collect();
        process.forget(probes, |address, watched| {
            wanted
                .get(&address)
                .is_none_or(|suspect| suspect.id != watched.id)
        });
        if governors.processes.order(id, now) == Order::Off {
            process.rest_all(probes, governors);
            return;
        }
        for suspect in wanted.values() {
            process.watch(suspect, probes, governors, now);
        }
        process.tidy(probes, governors);
    }

    /// Takes probes off that are far over their budget.
    pub fn hold(&mut self, probes: &mut Probes) {
        let now = Instant::now();
        for (id, process) in &mut self.processes {
            if !process.is_probed() {
                continue;
            }
            let governors = &mut self.governors;
            process.tell(probes, governors, now);
            let urgent: HashSet<u64> = process
                .offsets()
                .filter(|offset| governors.functions.is_urgent((*id, *offset), now))
                .collect();
            process.rest(probes, governors, now, |offset| urgent.contains(&offset));
            process.tell_rest(governors, now);
            if governors.processes.is_urgent(*id, now) && governors.processes.order(*id, now) == Order::Off {
                process.rest_all(probes, governors);
            }
        }
    }

    /// Whether [`Self::hold`] has anything to do.
    pub fn is_any_attached(&self) -> bool {
        self.processes.values().any(Process::is_probed)
    }

    /// Forgets processes that are gone.
    pub fn retain(&mut self, probes: &mut Probes, is_alive: impl Fn(&ProcessId) -> bool) {
        self.governors.processes.retain(&is_alive);
        self.governors.functions.retain(|(id, _)| is_alive(id));
        let gone: Vec<ProcessId> = self
            .processes
            .keys()
            .filter(|id| !is_alive(id))
            .copied()
            .collect();
        for id in gone {
            if let Some(mut process) = self.processes.remove(&id) {
                process.end(probes, &mut self.governors);
                self.by_number.remove(&process.number);
                self.numbers.give_back(process.number);
            }
        }
    }

    fn number_of(&mut self, id: ProcessId) -> Option<u32> {
        if let Some(process) = self.processes.get(&id) {
            return Some(process.number);
        }
        let number = self.numbers.take(u32::MAX)?;
        self.by_number.insert(number, id);
        Some(number)
    }
}
