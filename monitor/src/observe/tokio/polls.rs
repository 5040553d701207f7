//! Whether tasks that seem to be stuck are polled: the strong evidence that one is not. Those are watched that wait for what
//! need not come; the kernel tells which of them were polled all the same. Only of a task that was watched all the time is it
//! said that it is blocked, and for no longer than it was watched.
//!
//! A function that polls too often is left alone for a while, and nothing is said of its tasks; those of others are watched
//! on.

use std::{
    collections::{HashMap, HashSet},
    path::{Path, PathBuf},
    time::Instant,
};

use super::view::{Point, Suspect};
use crate::{
    model::ProcessId,
    observe::{
        bpf::{MAX_TOKIO_PLACES, Probes, TokioProbe, TokioTask},
        governor::{Governor, Order, POLL_COST},
        monotonic,
    },
};

/// Functions of one process that are probed.
const MAX_PROBES: usize = 512;
/// Tasks of one process that are watched; of others it is not said that they are blocked.
const MAX_WATCHED: usize = 256 << 10;
/// What one function may take of what a process's probes may take together.
const SHARE: f64 = 0.25;
/// Passes after which a probe is taken off that no watched task needs.
const KEPT: u32 = 8;

/// A process with tasks that seem to be stuck.
struct Process {
    /// What the kernel side knows it by.
    number: u32,
    file: PathBuf,
    /// By the place in the file.
    probes: HashMap<u64, Probed>,
    /// What could not be attached is not tried again.
    refused: HashSet<u64>,
    /// By address.
    tasks: HashMap<u64, Watched>,
}

/// A function with a probe in it.
struct Probed {
    probe: TokioProbe,
    /// What the kernel side knows it by.
    place: u32,
    /// How often it had run when the functions' governor was last told, and what of that the processes' does not know.
    runs: u64,
    untold: u64,
    /// Passes for which no task needed it.
    idle: u32,
}

struct Watched {
    id: u64,
    /// CLOCK_MONOTONIC ns: it was not polled since then.
    since: u64,
    /// The place of its poll function in the file.
    offset: u64,
}

/// Numbers that are given back, and the first that was never given.
#[derive(Default)]
struct Numbers {
    free: Vec<u32>,
    next: u32,
}

impl Numbers {
    fn take(&mut self, limit: u32) -> Option<u32> {
        self.free.pop().or_else(|| {
            let next = Some(self.next).filter(|next| *next < limit)?;
            self.next += 1;
            Some(next)
        })
    }
}

/// What is held to the budget: functions each for itself, and processes.
struct Governors {
    processes: Governor,
    functions: Governor<(ProcessId, u64)>,
    places: Numbers,
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
    /// `budget`: share of a core that the probes may take from a process.
    pub fn new(budget: f64) -> Self {
        Self {
            governors: Governors {
                processes: Governor::new(budget, POLL_COST),
                functions: Governor::new(budget * SHARE, POLL_COST),
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
            let process = process.and_then(|id| self.processes.get_mut(id));
            if let Some(watched) = process.and_then(|process| process.tasks.get_mut(&task.header)) {
                watched.since = watched.since.max(polled_at);
            }
        }
        let lost = probes.lost_tokio_polls();
        if lost != self.lost {
            // Nobody knows whose polls these were.
            self.lost = lost;
            for process in self.processes.values_mut() {
                process.forget_tasks(probes, |_| true);
            }
        }
    }

    /// Since when a task was watched and not polled (CLOCK_MONOTONIC ns).
    pub fn since(&self, process: ProcessId, suspect: &Suspect) -> Option<u64> {
        let watched = self.processes.get(&process)?.tasks.get(&suspect.address)?;
        (watched.id == suspect.id).then_some(watched.since)
    }

    /// These are watched from now on, and no others of the process.
    pub fn watch(&mut self, id: ProcessId, suspects: &[Suspect], file: &Path, probes: &mut Probes) {
        if suspects.is_empty() && !self.processes.contains_key(&id) {
            return;
        }
        let now = Instant::now();
        let Some(number) = self.number_of(id) else { return };
        let governors = &mut self.governors;
        let process = self.processes.entry(id).or_insert_with(|| Process {
            number,
            file: file.to_owned(),
            probes: HashMap::new(),
            refused: HashSet::new(),
            tasks: HashMap::new(),
        });
        process.tell(id, probes, governors, now);
        process.rest(id, probes, governors, now, |_| true);
        process.tell_rest(id, governors, now);
        if governors.processes.order(id, now) == Order::Off {
            process.rest_all(id, probes, governors);
            return;
        }
        let wanted: HashMap<u64, &Suspect> = suspects
            .iter()
            .take(MAX_WATCHED)
            .map(|suspect| (suspect.address, suspect))
            .collect();
        let stays = |address: &u64, watched: &Watched| {
            wanted
                .get(address)
                .is_some_and(|suspect| suspect.id == watched.id)
        };
        let number = process.number;
        process.tasks.retain(|address, watched| {
            let stays = stays(address, watched);
            if !stays {
                probes.unwatch_tokio(task(number, *address));
            }
            stays
        });
        for (address, suspect) in wanted {
            if process.tasks.contains_key(&address) {
                continue;
            }
            let Some(offset) = process.attach(id, suspect.point, probes, governors, now) else {
                continue;
            };
            if probes.watch_tokio(task(number, address)) {
                let watched = Watched {
                    id: suspect.id,
                    since: monotonic(),
                    offset,
                };
                process.tasks.insert(address, watched);
            }
        }
        process.tidy(probes, governors);
    }

    /// Takes probes off that are far over their budget.
    pub fn hold(&mut self, probes: &mut Probes) {
        let now = Instant::now();
        for (id, process) in &mut self.processes {
            if process.probes.is_empty() {
                continue;
            }
            let governors = &mut self.governors;
            process.tell(*id, probes, governors, now);
            let urgent: HashSet<u64> = process
                .probes
                .keys()
                .filter(|offset| governors.functions.is_urgent((*id, **offset), now))
                .copied()
                .collect();
            process.rest(*id, probes, governors, now, |offset| urgent.contains(&offset));
            process.tell_rest(*id, governors, now);
            if governors.processes.is_urgent(*id, now) && governors.processes.order(*id, now) == Order::Off {
                process.rest_all(*id, probes, governors);
            }
        }
    }

    /// Whether [`Self::hold`] has anything to do.
    pub fn is_any_attached(&self) -> bool {
        self.processes.values().any(|process| !process.probes.is_empty())
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
                process.forget_tasks(probes, |_| true);
                process.detach(probes, &mut self.governors, |_, _| true);
                self.by_number.remove(&process.number);
                self.numbers.free.push(process.number);
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

impl Process {
    /// Tells the functions' governor what the probes have done since it was last told.
    fn tell(&mut self, id: ProcessId, probes: &mut Probes, governors: &mut Governors, now: Instant) {
        for (offset, probed) in &mut self.probes {
            let runs = probes.tokio_runs(probed.place);
            let more = runs.saturating_sub(probed.runs);
            probed.runs = runs;
            probed.untold += more;
            governors.functions.ran((id, *offset), more, now);
        }
    }

    /// Tells the processes' governor the same of those probes that are still on.
    fn tell_rest(&mut self, id: ProcessId, governors: &mut Governors, now: Instant) {
        for probed in self.probes.values_mut() {
            governors
                .processes
                .ran(id, std::mem::take(&mut probed.untold), now);
        }
    }

    /// The place of a function that is probed; `None` when it cannot be, or is not to be for now.
    fn attach(
        &mut self,
        id: ProcessId,
        point: Point,
        probes: &mut Probes,
        governors: &mut Governors,
        now: Instant,
    ) -> Option<u64> {
        let offset = point.offset?;
        if self.probes.contains_key(&offset) {
            return Some(offset);
        }
        if self.refused.contains(&offset)
            || self.probes.len() >= MAX_PROBES
            || governors.functions.order((id, offset), now) == Order::Off
        {
            return None;
        }
        let place = governors.places.take(MAX_TOKIO_PLACES)?;
        match probes.attach_tokio(id.pid, self.number, place, &self.file, offset) {
            Ok(probe) => {
                let probed = Probed {
                    probe,
                    place,
                    runs: probes.tokio_runs(place),
                    untold: 0,
                    idle: 0,
                };
                self.probes.insert(offset, probed);
                Some(offset)
            }
            Err(cause) => {
                if self.refused.is_empty() {
                    tracing::debug!(
                        "process {}: polls of its tokio tasks are not seen: {cause}",
                        id.pid
                    );
                }
                governors.places.free.push(place);
                self.refused.insert(offset);
                None
            }
        }
    }

    /// Takes the probes off those functions that are over their share.
    fn rest(
        &mut self,
        id: ProcessId,
        probes: &mut Probes,
        governors: &mut Governors,
        now: Instant,
        is_asked: impl Fn(u64) -> bool,
    ) {
        let over: HashSet<u64> = self
            .probes
            .keys()
            .filter(|offset| is_asked(**offset))
            .filter(|offset| governors.functions.order((id, **offset), now) == Order::Off)
            .copied()
            .collect();
        if over.is_empty() {
            return;
        }
        tracing::debug!(
            "process {}: {} functions poll so often that their tasks are not watched for a while",
            id.pid,
            over.len()
        );
        self.forget_tasks(probes, |watched| over.contains(&watched.offset));
        self.detach(probes, governors, |offset, _| over.contains(&offset));
    }

    fn rest_all(&mut self, id: ProcessId, probes: &mut Probes, governors: &mut Governors) {
        if !self.probes.is_empty() {
            tracing::warn!(
                "process {}: the probes that see its tokio tasks polled are over their budget and taken off for a while",
                id.pid
            );
        }
        self.forget_tasks(probes, |_| true);
        self.detach(probes, governors, |_, _| true);
    }

    /// Takes off what no task has needed for some time.
    fn tidy(&mut self, probes: &mut Probes, governors: &mut Governors) {
        let needed: HashSet<u64> = self.tasks.values().map(|watched| watched.offset).collect();
        for (offset, probed) in &mut self.probes {
            probed.idle = if needed.contains(offset) {
                0
            } else {
                probed.idle + 1
            };
        }
        self.detach(probes, governors, |_, probed| probed.idle > KEPT);
    }

    fn forget_tasks(&mut self, probes: &mut Probes, which: impl Fn(&Watched) -> bool) {
        let number = self.number;
        self.tasks.retain(|address, watched| {
            let is_forgotten = which(watched);
            if is_forgotten {
                probes.unwatch_tokio(task(number, *address));
            }
            !is_forgotten
        });
    }

    fn detach(
        &mut self,
        probes: &mut Probes,
        governors: &mut Governors,
        which: impl Fn(u64, &Probed) -> bool,
    ) {
        let taken: Vec<u64> = self
            .probes
            .iter()
            .filter(|(offset, probed)| which(**offset, probed))
            .map(|(offset, _)| *offset)
            .collect();
        for offset in taken {
            if let Some(probed) = self.probes.remove(&offset) {
                governors.places.free.push(probed.place);
                probes.detach_tokio(probed.probe);
            }
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
