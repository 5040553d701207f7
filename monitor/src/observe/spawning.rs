//! Keeps the probes that count the births and deaths of a runtime's tasks attached where they are wanted, within their
//! budget, and their books.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    books::{Books, Place},
    bpf::{Probes, SpawnCount, SpawnPlace},
    governor::{Budget, Governor, Order},
    numbers::Numbers,
    thread::spawns::Origin,
};
use crate::model::{Kind, ProcessId, SpawnReport};

/// Places of one process that are counted; a large program has some hundreds. One that claims to have more would take the
/// others' room: nothing of it is counted any more.
const MAX_PLACES: usize = 4_096;

/// The probes of one runtime.
pub trait Counted {
    const KIND: Kind;
    /// What its tasks are called in messages.
    const TASKS: &'static str;
    /// What one run of a probe takes.
    const COST: Duration;
    /// Processes whose tasks are counted at once; each has a number below.
    const MAX_PROCESSES: u32;
    /// Where the probes of a process go.
    type Points;
    /// Its attached probes.
    type Attached;

    /// Puts them in.
    ///
    /// # Errors
    /// Cause in one line; then none is attached.
    fn attach(
        probes: &mut Probes,
        pid: u32,
        number: u32,
        points: &Self::Points,
    ) -> Result<Self::Attached, String>;

    /// Takes them off.
    fn detach(probes: &mut Probes, number: u32, attached: Self::Attached);

    /// How often the probes of a process have run; from any number on, but never fewer while they are attached.
    fn runs(probes: &mut Probes, number: u32) -> u64;

    /// What was counted, of all processes.
    fn counts(probes: &mut Probes) -> Vec<(SpawnPlace, SpawnCount)>;

    /// Makes room: these are not wanted any more.
    fn forget(probes: &mut Probes, places: &[SpawnPlace]);

    /// Makes room: these processes are gone.
    fn gone(probes: &mut Probes, numbers: &HashSet<u32>);
}

/// A process that has the runtime.
struct Watched<R: Counted> {
    /// What the kernel side knows it by.
    number: u32,
    /// `None`: not known, or there are none that are safe.
    points: Option<Arc<R::Points>>,
    probes: Option<R::Attached>,
    is_refused: bool,
    /// Why they could not be attached, as it was last said.
    failure: Option<String>,
    /// How often its probes had run when the governor was last told.
    runs: u64,
    books: Books,
}

/// The probes of all processes that have the runtime.
pub struct Spawning<R: Counted> {
    governor: Governor,
    watched: HashMap<ProcessId, Watched<R>>,
    numbers: Numbers,
}

impl<R: Counted> Spawning<R> {
    /// `budget`: what probes may take from a process.
    pub fn new(budget: &Budget) -> Self {
        Self {
            governor: Governor::new(budget, R::COST),
            watched: HashMap::new(),
            numbers: Numbers::default(),
        }
    }

    /// A look at a process has come back.
    pub fn meet(&mut self, process: ProcessId, points: Option<Arc<R::Points>>, named: Vec<(Place, Origin)>) {
        if !self.watched.contains_key(&process) {
            let Some(number) = self.numbers.take(R::MAX_PROCESSES) else {
                return;
            };
            let watched = Watched {
                number,
                points: None,
                probes: None,
                is_refused: false,
                failure: None,
                runs: 0,
                books: Books::default(),
            };
            self.watched.insert(process, watched);
        }
        if let Some(watched) = self.watched.get_mut(&process) {
            watched.points = points.or(watched.points.take());
            watched.books.name(named);
        }
    }

    /// What the kernel side knows a process by while its probes are attached.
    pub fn attached(&self, process: ProcessId) -> Option<u32> {
        let watched = self.watched.get(&process)?;
        watched.probes.as_ref().map(|_| watched.number)
    }

    /// What the kernel side knows a process by, whether its probes are attached or not.
    pub fn number(&self, process: ProcessId) -> Option<u32> {
        self.watched.get(&process).map(|watched| watched.number)
    }

    /// Places that the next look at the process is to name.
    pub fn unnamed(&self, process: ProcessId) -> Vec<Place> {
        self.watched
            .get(&process)
            .map(|watched| watched.books.unnamed())
            .unwrap_or_default()
    }

    /// What is known of the tasks that were made at a place.
    pub fn origin(&self, process: ProcessId, pc: u64) -> Option<&Origin> {
        self.watched.get(&process)?.books.origin(pc)
    }

    /// Attaches and detaches, and takes in what was counted; once a pass, with the processes that are alive.
    pub fn tend(&mut self, probes: &mut Probes, is_alive: impl Fn(&ProcessId) -> bool) {
        self.governor.retain(&is_alive);
        let gone: Vec<ProcessId> = self.watched.keys().filter(|id| !is_alive(id)).copied().collect();
        let gone: Vec<Watched<R>> = gone.iter().filter_map(|id| self.watched.remove(id)).collect();
        let mut numbers = HashSet::with_capacity(gone.len());
        for watched in gone {
            numbers.insert(watched.number);
            if let Some(attached) = watched.probes {
                R::detach(probes, watched.number, attached);
            }
        }
        if self.watched.is_empty() && numbers.is_empty() {
            return;
        }
        self.count(probes, &numbers);
        if !numbers.is_empty() {
            R::gone(probes, &numbers);
        }
        // What they counted is removed by now.
        for number in numbers {
            self.numbers.give_back(number);
        }
        let now = Instant::now();
        for (id, watched) in &mut self.watched {
            watched.tell(*id, probes, &mut self.governor, now);
            match self.governor.order(*id, now) {
                Order::On if watched.probes.is_none() => watched.attach(probes, *id),
                Order::Off => watched.detach(probes, *id),
                Order::On => {}
            }
        }
    }

    /// Detaches where it cannot wait until the next pass; several times a second.
    pub fn hold(&mut self, probes: &mut Probes) {
        let now = Instant::now();
        for (id, watched) in &mut self.watched {
            if watched.probes.is_none() {
                continue;
            }
            watched.tell(*id, probes, &mut self.governor, now);
            if self.governor.is_urgent(*id, now) && self.governor.order(*id, now) == Order::Off {
                watched.detach(probes, *id);
            }
        }
    }

    /// Whether [`Self::hold`] has anything to do.
    pub fn is_any_attached(&self) -> bool {
        self.watched.values().any(|watched| watched.probes.is_some())
    }

    /// Takes in what was counted; what is of the numbers `gone` is removed.
    fn count(&mut self, probes: &mut Probes, gone: &HashSet<u32>) {
        let mut by_number: HashMap<u32, Vec<(u64, SpawnCount)>> = HashMap::new();
        let mut forgotten: Vec<SpawnPlace> = Vec::new();
        for (place, count) in R::counts(probes) {
            if gone.contains(&place.process) {
                forgotten.push(place);
            } else {
                by_number
                    .entry(place.process)
                    .or_default()
                    .push((place.pc, count));
            }
        }
        for (id, watched) in &mut self.watched {
            let Some(counts) = by_number.remove(&watched.number) else {
                continue;
            };
            if counts.len() <= MAX_PLACES {
                watched.books.count(counts);
                continue;
            }
            if let Some(attached) = watched.probes.take() {
                tracing::warn!(
                    "process {}: it makes {} at more than {MAX_PLACES} places, and they are not counted",
                    id.pid,
                    R::TASKS
                );
                R::detach(probes, watched.number, attached);
            }
            watched.is_refused = true;
            forgotten.extend(counts.iter().map(|(pc, _)| SpawnPlace {
                process: watched.number,
                _pad: 0,
                pc: *pc,
            }));
        }
        R::forget(probes, &forgotten);
    }

    /// `None` of a process that does not have the runtime.
    pub fn report(&self, process: ProcessId) -> Option<SpawnReport> {
        let watched = self.watched.get(&process)?;
        Some(SpawnReport {
            kind: R::KIND,
            active: watched.probes.is_some(),
            totals: watched.books.totals(),
        })
    }
}

impl<R: Counted> Watched<R> {
    /// Tells the governor what the probes have done since it was last told.
    fn tell(&mut self, id: ProcessId, probes: &mut Probes, governor: &mut Governor, now: Instant) {
        if self.probes.is_some() {
            let runs = R::runs(probes, self.number);
            governor.ran(id, runs.saturating_sub(self.runs), now);
            self.runs = runs;
        }
    }

    fn attach(&mut self, probes: &mut Probes, id: ProcessId) {
        let Some(points) = self.points.as_ref().filter(|_| !self.is_refused) else {
            return;
        };
        match R::attach(probes, id.pid, self.number, points) {
            Ok(attached) => {
                self.probes = Some(attached);
                self.failure = None;
                self.runs = R::runs(probes, self.number);
            }
            Err(cause) => {
                if self.failure.as_ref() != Some(&cause) {
                    tracing::debug!("process {}: no probes count its {}: {cause}", id.pid, R::TASKS);
                    self.failure = Some(cause);
                }
            }
        }
    }

    fn detach(&mut self, probes: &mut Probes, id: ProcessId) {
        if let Some(attached) = self.probes.take() {
            tracing::warn!(
                "process {}: the probes that count its {} are over their budget and taken off for a while",
                id.pid,
                R::TASKS
            );
            R::detach(probes, self.number, attached);
        }
    }
}
