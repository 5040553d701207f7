//! Keeps the spawn probes attached where they are wanted, within their budget, and the books of what they tell.

use std::{
    collections::{HashMap, HashSet},
    time::{Duration, Instant},
};

use super::spawns::{Origin, Spawns};
use crate::{
    identify::Identifier,
    model::{ProcessId, SpawnTotals},
    observe::{
        boottime,
        bpf::{Probes, SpawnEvent, SpawnEvents, SpawnMessage, SpawnProbe},
        governor::{Budget, Governor, Order, THREAD_COST},
        helper::{NamedBirth, SpawnPoint},
    },
};

/// A process has one `pthread_create`, or two (a static one and a library's).
const MAX_POINTS: usize = 4;

/// Calls of `pthread_create` of a process that are remembered.
const MAX_CALLS: usize = 1_000;
/// Births of a process that are being named at once; what comes beyond is counted without a name.
const MAX_BEING_NAMED: usize = 500;

/// How often [`Spawning::drain`] is to be called: the ring buffer holds some two hundred births.
pub const DRAIN_EVERY: Duration = Duration::from_millis(100);

/// The probes of one process.
#[derive(Default)]
struct Watched {
    /// `None`: asked for.
    points: Option<Vec<SpawnPoint>>,
    attached: Vec<SpawnProbe>,
    /// CLOCK_BOOTTIME ns: before that some of them were not in place yet.
    attached_at: u64,
    /// Births that are being named.
    being_named: usize,
    /// What is known of calls of `pthread_create`, by start routine and return address.
    calls: HashMap<Call, Known>,
}

/// Start routine and return address of a `pthread_create`.
type Call = (u64, u64);

enum Known {
    /// Every birth by it has this origin.
    Plain(Origin),
    /// Each birth by it is to be named by itself.
    Each,
    /// The first one is being named; these wait to hear which.
    Asked(Vec<Box<SpawnEvent>>),
}

/// Spawn probes of all watched processes.
pub struct Spawning {
    events: SpawnEvents,
    governor: Governor,
    spawns: Spawns,
    watched: HashMap<ProcessId, Watched>,
}

impl Spawning {
    /// `budget`: what probes may take from a process.
    pub fn new(events: SpawnEvents, budget: &Budget) -> Self {
        Self {
            events,
            governor: Governor::new(budget, THREAD_COST),
            spawns: Spawns::default(),
            watched: HashMap::new(),
        }
    }

    /// Takes in what the probes have told; `process` finds a watched process by its pid.
    pub fn drain(&mut self, identifier: &mut Identifier, process: impl Fn(u32) -> Option<ProcessId>) {
        let now = Instant::now();
        while let Some(message) = self.events.pop() {
            match message {
                SpawnMessage::Born(event) => {
                    let Some(id) = process(event.tgid) else { continue };
                    // Without its probe a process's totals stand still.
                    let Some(watched) = self.watched.get_mut(&id).filter(|watched| {
                        !watched.attached.is_empty() && event.start_boottime >= watched.attached_at
                    }) else {
                        continue;
                    };
                    self.governor.ran(id, 1, now);
                    if let Some((event, origin)) = watched.take(id, event, identifier) {
                        self.spawns.born(id, (event.tid, event.start_boottime), origin);
                    }
                }
                SpawnMessage::Died(event) => {
                    let Some(id) = process(event.tgid) else { continue };
                    let being_named = self
                        .watched
                        .get(&id)
                        .is_some_and(|watched| watched.being_named > 0);
                    self.spawns
                        .died(id, (event.tid, event.start_boottime), being_named);
                }
            }
        }
        for (id, event, named) in identifier.births() {
            let Some(watched) = self.watched.get_mut(&id) else {
                continue;
            };
            watched.being_named = watched.being_named.saturating_sub(1);
            for (event, origin) in watched.learn(id, event, named, identifier) {
                self.spawns.born(id, (event.tid, event.start_boottime), origin);
            }
        }
    }

    /// Attaches and detaches; once a pass, with the processes that are alive.
    pub fn tend(&mut self, probes: &mut Probes, identifier: &mut Identifier, alive: &[ProcessId]) {
        let all: HashSet<&ProcessId> = alive.iter().collect();
        let is_alive = |id: &ProcessId| all.contains(id);
        self.spawns.retain(is_alive);
        self.governor.retain(is_alive);
        let gone: Vec<ProcessId> = self.watched.keys().filter(|id| !is_alive(id)).copied().collect();
        for watched in gone.iter().filter_map(|id| self.watched.remove(id)) {
            watched
                .attached
                .into_iter()
                .for_each(|probe| probes.detach_spawn(probe));
        }
        for (id, points) in identifier.spawn_points() {
            if let Some(watched) = self.watched.get_mut(&id) {
                watched.points = Some(points);
            }
        }
        let now = Instant::now();
        for id in alive {
            if !self.watched.contains_key(id) && identifier.ask_spawn_points(*id) {
                self.watched.insert(*id, Watched::default());
            }
            let Some(watched) = self.watched.get_mut(id) else {
                continue;
            };
            match self.governor.order(*id, now) {
                Order::On if watched.attached.is_empty() => watched.attach(probes, *id),
                Order::Off if !watched.attached.is_empty() => {
                    tracing::warn!(
                        "process {}: the spawn probe is over its budget and taken off for a while",
                        id.pid
                    );
                    watched
                        .attached
                        .drain(..)
                        .for_each(|probe| probes.detach_spawn(probe));
                }
                Order::On | Order::Off => {}
            }
        }
    }

    /// Whether births in the process are being seen.
    pub fn is_active(&self, process: ProcessId) -> bool {
        self.watched
            .get(&process)
            .is_some_and(|watched| !watched.attached.is_empty())
    }

    /// Births and deaths since the probe was attached.
    pub fn totals(&self, process: ProcessId) -> Vec<SpawnTotals> {
        self.spawns.totals(process)
    }

    /// Where a live thread was made; `None` when its birth was not seen.
    pub fn origin(&self, process: ProcessId, tid: u32, start_boottime: u64) -> Option<&Origin> {
        self.spawns.origin(process, (tid, start_boottime))
    }
}

impl Watched {
    /// Takes a birth in: with its origin when that is known, or when too many are being named already.
    fn take(
        &mut self,
        id: ProcessId,
        event: Box<SpawnEvent>,
        identifier: &mut Identifier,
    ) -> Option<(Box<SpawnEvent>, Origin)> {
        if self.being_named >= MAX_BEING_NAMED {
            return Some((event, Origin::default()));
        }
        if let Some(call) = call_of(&event) {
            let has_room = self.calls.len() < MAX_CALLS;
            match self.calls.get_mut(&call) {
                Some(Known::Plain(origin)) => return Some((event, origin.clone())),
                Some(Known::Asked(waiting)) => {
                    waiting.push(event);
                    self.being_named += 1;
                    return None;
                }
                Some(Known::Each) => {}
                None if has_room => {
                    self.calls.insert(call, Known::Asked(Vec::new()));
                }
                None => {}
            }
        }
        self.being_named += usize::from(identifier.ask_birth(id, event));
        None
    }

    /// Takes the name of a birth in: it, and those that have waited for it, with their origins.
    fn learn(
        &mut self,
        id: ProcessId,
        event: Box<SpawnEvent>,
        named: NamedBirth,
        identifier: &mut Identifier,
    ) -> Vec<(Box<SpawnEvent>, Origin)> {
        let known = call_of(&event).and_then(|call| self.calls.get_mut(&call));
        let mut births = vec![(event, named.origin.clone())];
        if let Some(known @ Known::Asked(_)) = known {
            let now = if named.is_plain {
                Known::Plain(named.origin.clone())
            } else {
                Known::Each
            };
            if let Known::Asked(waiting) = std::mem::replace(known, now) {
                self.being_named = self.being_named.saturating_sub(waiting.len());
                if named.is_plain {
                    births.extend(waiting.into_iter().map(|event| (event, named.origin.clone())));
                } else {
                    for event in waiting {
                        self.being_named += usize::from(identifier.ask_birth(id, event));
                    }
                }
            }
        }
        births
    }

    fn attach(&mut self, probes: &mut Probes, id: ProcessId) {
        for point in self.points.iter().flatten().take(MAX_POINTS) {
            match probes.attach_spawn(id.pid, &point.file, point.offset) {
                Ok(probe) => self.attached.push(probe),
                Err(cause) => tracing::debug!("process {}: no spawn probe: {cause}", id.pid),
            }
        }
        // On a busy machine that may take a while.
        self.attached_at = boottime();
    }
}

/// `None` when it was not seen.
fn call_of(event: &SpawnEvent) -> Option<Call> {
    let seen = event.call.ip != 0 && event.stack_length >= 8;
    let return_address = u64::from_le_bytes(*event.stack.first_chunk()?);
    seen.then_some((event.call.start_routine, return_address))
}
