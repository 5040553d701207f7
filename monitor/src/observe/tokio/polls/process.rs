//! The probes in one process, and the tasks that they watch.

use std::{
    collections::{HashMap, HashSet},
    path::PathBuf,
    time::Instant,
};

use super::{Governors, watched::Watched};
use crate::{
    model::ProcessId,
    observe::{
        bpf::{MAX_TOKIO_PLACES, Probes, TokioProbe, TokioTask},
        governor::Order,
        monotonic,
        tokio::view::{Point, Suspect},
    },
};

/// Functions of one process that are probed.
const MAX_PROBES: usize = 512;
/// Passes after which a probe is taken off that no watched task needs.
const KEPT: u32 = 8;

/// A process with tasks that seem to be stuck.
pub struct Process {
    id: ProcessId,
    /// What the kernel side knows it by.
    pub number: u32,
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

impl Process {
    pub fn new(id: ProcessId, number: u32, file: PathBuf) -> Self {
        Self {
            id,
            number,
            file,
            probes: HashMap::new(),
            refused: HashSet::new(),
            tasks: HashMap::new(),
        }
    }

    pub fn is_probed(&self) -> bool {
        !self.probes.is_empty()
    }

    /// Places of the functions that are probed.
    pub fn offsets(&self) -> impl Iterator<Item = u64> {
        self.probes.keys().copied()
    }

    pub fn task(&self, suspect: &Suspect) -> Option<&Watched> {
        self.tasks
            .get(&suspect.address)
            .filter(|watched| watched.id == suspect.id)
    }

    /// A task that is watched was polled.
    pub fn polled(&mut self, address: u64, at: u64) {
        if let Some(watched) = self.tasks.get_mut(&address) {
            watched.polled(at);
        }
    }

    /// Asks for the polls of each task that is watched.
    pub fn ask_all(&mut self, probes: &mut Probes) {
        for (address, watched) in self.tasks.iter_mut().filter(|(_, watched)| watched.is_watched()) {
            if let Some(at) = probes.polled_tokio_at(task(self.number, *address)) {
                watched.polled(at);
            }
        }
    }

    /// Watches a task, if its function can be probed and is not left alone.
    pub fn watch(&mut self, suspect: &Suspect, probes: &mut Probes, governors: &mut Governors, now: Instant) {
        if self.task(suspect).is_some_and(Watched::is_watched) {
            return;
        }
        let Some(offset) = self.attach(suspect.point, probes, governors, now) else {
            return;
        };
        if probes.watch_tokio(task(self.number, suspect.address)) {
            let now = monotonic();
            self.tasks
                .entry(suspect.address)
                .and_modify(|watched| watched.resume(offset, now))
                .or_insert_with(|| Watched::new(suspect.id, offset, now));
        }
    }

    /// Forgets tasks.
    pub fn forget(&mut self, probes: &mut Probes, which: impl Fn(u64, &Watched) -> bool) {
        let number = self.number;
        self.tasks.retain(|address, watched| {
            let is_forgotten = which(*address, watched);
            if is_forgotten && watched.is_watched() {
                probes.unwatch_tokio(task(number, *address));
            }
            !is_forgotten
        });
    }

    /// Takes all of its probes off for good.
    pub fn end(&mut self, probes: &mut Probes, governors: &mut Governors) {
        self.forget(probes, |_, _| true);
        self.detach(probes, governors, |_, _| true);
    }

    /// Tells the functions' governor what the probes have done since it was last told.
    pub fn tell(&mut self, probes: &mut Probes, governors: &mut Governors, now: Instant) {
        for (offset, probed) in &mut self.probes {
            let runs = probes.tokio_runs(probed.place);
            let more = runs.saturating_sub(probed.runs);
            probed.runs = runs;
            probed.untold += more;
            governors.functions.ran((self.id, *offset), more, now);
        }
    }

    /// Tells the processes' governor the same of those probes that are still on.
    pub fn tell_rest(&mut self, governors: &mut Governors, now: Instant) {
        for probed in self.probes.values_mut() {
            governors
                .processes
                .ran(self.id, std::mem::take(&mut probed.untold), now);
        }
    }

    /// The place of a function that is probed; `None` when it cannot be, or is not to be for now.
    fn attach(
        &mut self,
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
            || governors.functions.order((self.id, offset), now) == Order::Off
        {
            return None;
        }
        let place = governors.places.take(MAX_TOKIO_PLACES)?;
        match probes.attach_tokio(self.id.pid, self.number, place, &self.file, offset) {
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
                        self.id.pid
                    );
                }
                governors.places.give_back(place);
                self.refused.insert(offset);
                None
            }
        }
    }

    /// Takes the probes off those functions that are over their share.
    pub fn rest(
        &mut self,
        probes: &mut Probes,
        governors: &mut Governors,
        now: Instant,
        is_asked: impl Fn(u64) -> bool,
    ) {
        let over: HashSet<u64> = self
            .probes
            .keys()
            .filter(|offset| is_asked(**offset))
            .filter(|offset| governors.functions.order((self.id, **offset), now) == Order::Off)
            .copied()
            .collect();
        if over.is_empty() {
            return;
        }
        tracing::debug!(
            "process {}: {} functions poll so often that their tasks are not watched for a while",
            self.id.pid,
            over.len()
        );
        self.park(probes, |offset| over.contains(&offset));
        self.detach(probes, governors, |offset, _| over.contains(&offset));
    }

    pub fn rest_all(&mut self, probes: &mut Probes, governors: &mut Governors) {
        if !self.probes.is_empty() {
            tracing::warn!(
                "process {}: the probes that see its tokio tasks polled are over their budget and taken off for a while",
                self.id.pid
            );
        }
        self.park(probes, |_| true);
        self.detach(probes, governors, |_, _| true);
    }

    /// Takes off what no task has needed for some time.
    pub fn tidy(&mut self, probes: &mut Probes, governors: &mut Governors) {
        let needed: HashSet<u64> = self.tasks.values().filter_map(Watched::offset).collect();
        for (offset, probed) in &mut self.probes {
            probed.idle = if needed.contains(offset) {
                0
            } else {
                probed.idle + 1
            };
        }
        self.detach(probes, governors, |_, probed| probed.idle > KEPT);
    }

    /// Watches the tasks of some functions no more, and keeps what is known of them.
    fn park(&mut self, probes: &mut Probes, which: impl Fn(u64) -> bool) {
        let now = monotonic();
        for (address, watched) in &mut self.tasks {
            if watched.offset().is_some_and(&which) {
                let task = task(self.number, *address);
                if let Some(at) = probes.polled_tokio_at(task) {
                    watched.polled(at);
                }
                watched.rest(now);
                probes.unwatch_tokio(task);
            }
        }
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
                governors.places.give_back(probed.place);
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
