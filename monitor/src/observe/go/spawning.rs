//! Keeps the probes that count goroutines attached where they are wanted, within their budget, and their books.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Instant,
};

use super::{books::Books, protocol::Points};
use crate::{
    model::{Kind, ProcessId, SpawnReport},
    observe::{
        bpf::{GoCount, GoPlaces, GoProbes, GoSite, MAX_GO_PROCESSES, Probes},
        governor::{GOROUTINE_COST, Governor, Order},
        thread::spawns::Origin,
    },
};

/// What is counted by: where a goroutine was made, and what it runs (0: it is not known, or not always the same).
/// Addresses are the process's.
pub type Place = (u64, u64);

/// Places of one process that are counted; a large program has some hundreds. One that claims to have more would take the
/// others' room: nothing of it is counted any more.
const MAX_PLACES: usize = 4_096;

/// A process that runs Go.
struct Watched {
    /// What the kernel side knows it by.
    number: u32,
    /// `None`: not known, or there are none that are safe.
    points: Option<Arc<Points>>,
    probes: Option<GoProbes>,
    is_refused: bool,
    /// Why they could not be attached, as it was last said.
    failure: Option<String>,
    /// How often its probes had run when the governor was last told.
    runs: u64,
    books: Books,
}

/// The probes of all processes that run Go.
pub struct Spawning {
    governor: Governor,
    watched: HashMap<ProcessId, Watched>,
    /// Numbers that were given back, and the first that was never given.
    free: Vec<u32>,
    next: u32,
}

impl Spawning {
    /// `budget`: share of a core that the probes may take from a process.
    pub fn new(budget: f64) -> Self {
        Self {
            governor: Governor::new(budget, GOROUTINE_COST),
            watched: HashMap::new(),
            free: Vec::new(),
            next: 0,
        }
    }

    /// A look at a process has come back.
    pub fn meet(&mut self, process: ProcessId, points: Option<Arc<Points>>, named: Vec<(Place, Origin)>) {
        if !self.watched.contains_key(&process) {
            let Some(number) = self.number() else { return };
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

    fn number(&mut self) -> Option<u32> {
        self.free.pop().or_else(|| {
            let next = Some(self.next).filter(|next| *next < MAX_GO_PROCESSES)?;
            self.next += 1;
            Some(next)
        })
    }

    /// Places that the next look at the process is to name.
    pub fn unnamed(&self, process: ProcessId) -> Vec<Place> {
        self.watched
            .get(&process)
            .map(|watched| watched.books.unnamed())
            .unwrap_or_default()
    }

    /// Attaches and detaches, and takes in what was counted; once a pass, with the processes that are alive.
    pub fn tend(&mut self, probes: &mut Probes, is_alive: impl Fn(&ProcessId) -> bool) {
        self.governor.retain(&is_alive);
        let gone: Vec<ProcessId> = self.watched.keys().filter(|id| !is_alive(id)).copied().collect();
        let gone: Vec<Watched> = gone.iter().filter_map(|id| self.watched.remove(id)).collect();
        let mut numbers = Vec::with_capacity(gone.len());
        for watched in gone {
            numbers.push(watched.number);
            if let Some(attached) = watched.probes {
                probes.detach_go(attached);
            }
        }
        if self.watched.is_empty() && numbers.is_empty() {
            return;
        }
        self.count(probes, &numbers);
        // What they counted is removed by now.
        self.free.extend(numbers);
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
    fn count(&mut self, probes: &mut Probes, gone: &[u32]) {
        let gone: HashSet<u32> = gone.iter().copied().collect();
        let mut by_number: HashMap<u32, Vec<(u64, GoCount)>> = HashMap::new();
        let mut forgotten: Vec<GoSite> = Vec::new();
        for (site, count) in probes.go_counts() {
            if gone.contains(&site.process) {
                forgotten.push(site);
            } else {
                by_number.entry(site.process).or_default().push((site.pc, count));
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
                    "process {}: it makes goroutines at more than {MAX_PLACES} places, and they are not counted",
                    id.pid
                );
                probes.detach_go(attached);
            }
            watched.is_refused = true;
            forgotten.extend(counts.iter().map(|(pc, _)| GoSite {
                process: watched.number,
                _pad: 0,
                pc: *pc,
            }));
        }
        probes.forget_go_sites(&forgotten);
    }

    /// `None` of a process that does not run Go.
    pub fn report(&self, process: ProcessId) -> Option<SpawnReport> {
        let watched = self.watched.get(&process)?;
        Some(SpawnReport {
            kind: Kind::Goroutine,
            active: watched.probes.is_some(),
            totals: watched.books.totals(),
        })
    }
}

impl Watched {
    /// Tells the governor what the probes have done since it was last told.
    fn tell(&mut self, id: ProcessId, probes: &mut Probes, governor: &mut Governor, now: Instant) {
        if self.probes.is_some() {
            let runs = probes.go_runs(self.number);
            governor.ran(id, runs.saturating_sub(self.runs), now);
            self.runs = runs;
        }
    }

    fn attach(&mut self, probes: &mut Probes, id: ProcessId) {
        let Some(points) = self.points.as_ref().filter(|_| !self.is_refused) else {
            return;
        };
        let places = GoPlaces {
            file: &points.file,
            offsets: points.offsets,
            gopc: points.gopc,
        };
        match probes.attach_go(id.pid, self.number, places) {
            Ok(attached) => {
                self.probes = Some(attached);
                self.failure = None;
                self.runs = 0;
            }
            Err(cause) => {
                if self.failure.as_ref() != Some(&cause) {
                    tracing::debug!("process {}: no probes count its goroutines: {cause}", id.pid);
                    self.failure = Some(cause);
                }
            }
        }
    }

    fn detach(&mut self, probes: &mut Probes, id: ProcessId) {
        if let Some(attached) = self.probes.take() {
            tracing::warn!(
                "process {}: the probes that count goroutines are over their budget and taken off for a while",
                id.pid
            );
            probes.detach_go(attached);
        }
    }
}
