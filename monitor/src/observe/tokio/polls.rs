//! Whether tasks that seem to be stuck are polled: the strong evidence that one is not. Those are watched that wait for what
//! need not come; the kernel tells which of them were polled all the same. Only of a task that was watched all the time is it
//! said that it is blocked, and for no longer than it was watched.

use std::{
    collections::{HashMap, HashSet},
    path::{Path, PathBuf},
    time::Instant,
};

use super::view::{Point, Suspect};
use crate::{
    model::ProcessId,
    observe::{
        bpf::{MAX_TOKIO_PROCESSES, Probes, TokioProbe, TokioTask},
        governor::{Governor, Order, POLL_COST},
        monotonic,
    },
};

/// Functions of one process that are probed.
const MAX_PROBES: usize = 512;
/// Tasks of one process that are watched; of others it is not said that they are blocked.
const MAX_WATCHED: usize = 256 << 10;

/// A process with tasks that seem to be stuck.
struct Process {
    /// What the kernel side knows it by.
    number: u32,
    file: PathBuf,
    /// By the place in the file.
    probes: HashMap<u64, TokioProbe>,
    /// What could not be attached is not tried again.
    refused: HashSet<u64>,
    /// By address: the task's number, and since when it was not polled (CLOCK_MONOTONIC ns).
    tasks: HashMap<u64, (u64, u64)>,
    /// How often its probes had run when the governor was last told.
    runs: u64,
}

/// The probes of all processes that run tokio.
pub struct Polls {
    governor: Governor,
    processes: HashMap<ProcessId, Process>,
    by_number: HashMap<u32, ProcessId>,
    /// Numbers that were given back, and the first that was never given.
    free: Vec<u32>,
    next: u32,
    lost: u64,
}

impl Polls {
    /// `budget`: share of a core that the probes may take from a process.
    pub fn new(budget: f64) -> Self {
        Self {
            governor: Governor::new(budget, POLL_COST),
            processes: HashMap::new(),
            by_number: HashMap::new(),
            free: Vec::new(),
            next: 0,
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
            let process = process.and_then(|id| self.processes.get_mut(id));
            if let Some((_, since)) = process.and_then(|process| process.tasks.get_mut(&task.header)) {
                *since = polled_at.max(*since);
            }
        }
        let lost = probes.lost_tokio_polls();
        if lost != self.lost {
            // Nobody knows whose polls these were.
            self.lost = lost;
            for process in self.processes.values_mut() {
                process.forget_tasks(probes);
            }
        }
    }

    /// Since when a task was watched and not polled (CLOCK_MONOTONIC ns).
    pub fn since(&self, process: ProcessId, suspect: &Suspect) -> Option<u64> {
        let (id, since) = self.processes.get(&process)?.tasks.get(&suspect.address)?;
        (*id == suspect.id).then_some(*since)
    }

    /// These are watched from now on, and no others of the process.
    pub fn watch(&mut self, id: ProcessId, suspects: &[Suspect], file: &Path, probes: &mut Probes) {
        if suspects.is_empty() && !self.processes.contains_key(&id) {
            return;
        }
        let now = Instant::now();
        let Some(number) = self.number_of(id) else { return };
        let process = self.processes.entry(id).or_insert_with(|| Process {
            number,
            file: file.to_owned(),
            probes: HashMap::new(),
            refused: HashSet::new(),
            tasks: HashMap::new(),
            runs: probes.tokio_runs(number),
        });
        process.tell(id, probes, &mut self.governor, now);
        if self.governor.order(id, now) == Order::Off {
            process.rest(id, probes);
            return;
        }
        let wanted: HashMap<u64, &Suspect> = suspects
            .iter()
            .take(MAX_WATCHED)
            .map(|suspect| (suspect.address, suspect))
            .collect();
        let number = process.number;
        process.tasks.retain(|address, (id, _)| {
            let stays = wanted.get(address).is_some_and(|suspect| suspect.id == *id);
            if !stays {
                probes.unwatch_tokio(task(number, *address));
            }
            stays
        });
        for (address, suspect) in wanted {
            if process.tasks.contains_key(&address) || !process.attach(id, suspect.point, probes) {
                continue;
            }
            if probes.watch_tokio(task(number, address)) {
                process.tasks.insert(address, (suspect.id, monotonic()));
            }
        }
    }

    /// Takes probes off that are far over their budget.
    pub fn hold(&mut self, probes: &mut Probes) {
        let now = Instant::now();
        for (id, process) in &mut self.processes {
            if process.probes.is_empty() {
                continue;
            }
            process.tell(*id, probes, &mut self.governor, now);
            if self.governor.is_urgent(*id, now) && self.governor.order(*id, now) == Order::Off {
                process.rest(*id, probes);
            }
        }
    }

    /// Whether [`Self::hold`] has anything to do.
    pub fn is_any_attached(&self) -> bool {
        self.processes.values().any(|process| !process.probes.is_empty())
    }

    /// Forgets processes that are gone.
    pub fn retain(&mut self, probes: &mut Probes, is_alive: impl Fn(&ProcessId) -> bool) {
        self.governor.retain(&is_alive);
        let gone: Vec<ProcessId> = self
            .processes
            .keys()
            .filter(|id| !is_alive(id))
            .copied()
            .collect();
        for id in gone {
            if let Some(mut process) = self.processes.remove(&id) {
                process.forget_tasks(probes);
                process.detach(probes);
                self.by_number.remove(&process.number);
                self.free.push(process.number);
            }
        }
    }

    fn number_of(&mut self, id: ProcessId) -> Option<u32> {
        if let Some(process) = self.processes.get(&id) {
            return Some(process.number);
        }
        let number = self.free.pop().or_else(|| {
            let next = Some(self.next).filter(|next| *next < MAX_TOKIO_PROCESSES)?;
            self.next += 1;
            Some(next)
        })?;
        self.by_number.insert(number, id);
        Some(number)
    }
}

impl Process {
    /// Tells the governor what the probes have done since it was last told.
    fn tell(&mut self, id: ProcessId, probes: &mut Probes, governor: &mut Governor, now: Instant) {
        let runs = probes.tokio_runs(self.number);
        governor.ran(id, runs.saturating_sub(self.runs), now);
        self.runs = runs;
    }

    /// Whether a function is probed.
    fn attach(&mut self, id: ProcessId, point: Point, probes: &mut Probes) -> bool {
        let Some(offset) = point.offset else { return false };
        if self.probes.contains_key(&offset) {
            return true;
        }
        if self.refused.contains(&offset) || self.probes.len() >= MAX_PROBES {
            return false;
        }
        match probes.attach_tokio(id.pid, self.number, &self.file, offset) {
            Ok(probe) => {
                self.probes.insert(offset, probe);
                true
            }
            Err(cause) => {
                if self.refused.is_empty() {
                    tracing::debug!(
                        "process {}: polls of its tokio tasks are not seen: {cause}",
                        id.pid
                    );
                }
                self.refused.insert(offset);
                false
            }
        }
    }

    fn rest(&mut self, id: ProcessId, probes: &mut Probes) {
        if !self.probes.is_empty() {
            tracing::warn!(
                "process {}: the probes that see its tokio tasks polled are over their budget and taken off for a while",
                id.pid
            );
        }
        self.forget_tasks(probes);
        self.detach(probes);
    }

    fn forget_tasks(&mut self, probes: &mut Probes) {
        for (address, _) in self.tasks.drain() {
            probes.unwatch_tokio(task(self.number, address));
        }
    }

    fn detach(&mut self, probes: &mut Probes) {
        for (_, probe) in self.probes.drain() {
            probes.detach_tokio(probe);
        }
    }
}

const fn task(process: u32, header: u64) -> TokioTask {
    TokioTask {
        process,
        _pad: 0,
        header,
    }
}
