//! Who makes tasks, in the monitor: the probes that count births and deaths, as `observe::spawning` keeps them, and where each
//! task was made that was born while they were attached.

mod ended;

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use ended::Ended;

use super::protocol::{Births, Holder, Point, Step};
use crate::{
    model::{Kind, Made, ProcessId, SpawnReport, Task},
    observe::{
        books::Place,
        bpf::{
            MAX_TOKIO_PROCESSES, Probes, SpawnCount, SpawnPlace, TOKIO_AMID, TOKIO_INDIRECT, TOKIO_REGISTER,
            TokioBirth, TokioPlaces, TokioSpawnProbes, TokioStep, TokioTask,
        },
        governor::{BIRTH_COST, Budget},
        monotonic,
        spawning::{Counted, Spawning},
        thread::spawns::Origin,
    },
};

/// Places of one process that creators' stacks are followed through; what comes by others has no known creator.
const MAX_STEPS: usize = 16 << 10;

/// Tells [`Spawning`] how tasks are counted.
enum Born {}

impl Counted for Born {
    const KIND: Kind = Kind::Tokio;
    const TASKS: &'static str = "tokio tasks";
    const COST: Duration = BIRTH_COST;
    const MAX_PROCESSES: u32 = MAX_TOKIO_PROCESSES;
    type Points = Births;
    type Attached = TokioSpawnProbes;

    fn attach(
        probes: &mut Probes,
        pid: u32,
        number: u32,
        births: &Births,
    ) -> Result<TokioSpawnProbes, String> {
        if !put(probes, number, births.bias, &births.steps) {
            tracing::debug!("process {pid}: no room for all that leads to those who make its tokio tasks");
        }
        let places = TokioPlaces {
            file: &births.file,
            spawns: &told(&births.spawns),
            exits: &told(&births.exits),
        };
        probes.attach_tokio_spawns(pid, number, places)
    }

    fn detach(probes: &mut Probes, number: u32, attached: TokioSpawnProbes) {
        probes.detach_tokio_spawns(attached);
        // Their ends are not seen any more, and others will lie where they lie.
        probes.forget_tokio_born(&HashSet::from([number]));
    }

    fn runs(probes: &mut Probes, number: u32) -> u64 {
        probes.tokio_spawn_runs(number)
    }

    fn counts(probes: &mut Probes) -> Vec<(SpawnPlace, SpawnCount)> {
        probes.tokio_spawn_counts()
    }

    fn forget(probes: &mut Probes, places: &[SpawnPlace]) {
        probes.forget_tokio_sites(places);
    }

    fn gone(probes: &mut Probes, numbers: &HashSet<u32>) {
        probes.forget_tokio_steps(numbers);
        drop(probes.take_ended_tokio(|task| numbers.contains(&task.process)));
    }
}

/// Places as the kernel side is told of them.
fn told(points: &[Point]) -> Vec<(u64, u64)> {
    let flags = |task: Holder| match task {
        Holder::Argument => 0,
        Holder::Pointee => TOKIO_INDIRECT,
        Holder::Register(number) => TOKIO_AMID | u64::from(number) << TOKIO_REGISTER,
    };
    let told = points.iter().map(|point| (point.offset, flags(point.task)));
    told.collect()
}

/// Tells the kernel side how stacks are followed. Whether there was room.
fn put(probes: &mut Probes, number: u32, bias: u64, steps: &[(u64, Step)]) -> bool {
    steps.iter().all(|(place, step)| {
        let place = SpawnPlace {
            process: number,
            _pad: 0,
            pc: place.wrapping_add(bias),
        };
        let step = TokioStep {
            flags: step.flags,
            cfa: step.cfa,
            bp: step.bp,
            _pad: 0,
        };
        probes.put_tokio_step(place, step)
    })
}

/// What is known of a process.
#[derive(Default)]
struct Known {
    bias: u64,
    /// What the next look is to tell of; places that a call returns to, the process's.
    wanted: Vec<u64>,
    steps: usize,
    /// Tasks with numbers up to this are from before the probes.
    floor: u64,
    /// Of the others that are there: where and when they were made, if that was seen.
    born: HashMap<u64, Option<TokioBirth>>,
    /// Tasks that have ended, and that may be kept.
    ended: Ended,
}

/// What a look is to tell of a process.
#[derive(Debug, Default)]
pub struct Wanted {
    /// Places that are to be named.
    pub places: Vec<Place>,
    /// Places of which the steps are wanted.
    pub steps: Vec<u64>,
    /// Where tasks lay that have ended.
    pub ended: Vec<u64>,
}

/// What a look told of who makes tasks.
#[derive(Debug, Default)]
pub struct Told {
    pub births: Option<Arc<Births>>,
    pub steps: Vec<(u64, Step)>,
    pub named: Vec<(Place, Origin)>,
    /// It was looked whether those that have ended are kept.
    pub knows_kept: bool,
}

/// Who makes the tasks of all processes that run tokio.
pub struct Creators {
    spawning: Spawning<Born>,
    known: HashMap<ProcessId, Known>,
}

impl Creators {
    /// `budget`: what probes may take from a process.
    pub fn new(budget: &Budget) -> Self {
        Self {
            spawning: Spawning::new(budget),
            known: HashMap::new(),
        }
    }

    /// What the next look at a process is to tell.
    pub fn wanted(&mut self, process: ProcessId) -> Wanted {
        let places = self.spawning.unnamed(process);
        let Some(known) = self.known.get_mut(&process) else {
            return Wanted {
                places,
                ..Wanted::default()
            };
        };
        Wanted {
            places,
            steps: known.wanted.clone(),
            ended: known.ended.ask(),
        }
    }

    /// Takes in which tasks have ended.
    pub fn take_ended(&mut self, probes: &mut Probes) {
        let owners: HashMap<u32, ProcessId> = self
            .known
            .iter()
            .filter(|(_, known)| known.ended.has_room())
            .filter_map(|(id, _)| Some((self.spawning.number(*id)?, *id)))
            .collect();
        if owners.is_empty() {
            return;
        }
        for (task, birth) in probes.take_ended_tokio(|task| owners.contains_key(&task.process)) {
            let owner = owners.get(&task.process);
            if let Some(known) = owner.and_then(|owner| self.known.get_mut(owner)) {
                known.ended.insert(task.header, birth);
            }
        }
    }

    /// A look at a process has come back, with these tasks at these addresses. Says of those where and when they were made of
    /// which that was seen.
    pub fn meet(
        &mut self,
        process: ProcessId,
        told: Told,
        tasks: &mut [Task],
        addresses: &[u64],
        probes: &mut Probes,
    ) {
        let known = self.known.entry(process).or_default();
        if let Some(births) = &told.births {
            known.bias = births.bias;
        }
        let Told {
            births,
            steps,
            named,
            knows_kept,
        } = told;
        self.spawning.meet(process, births, named);
        let attached = self.spawning.attached(process);
        if let Some(number) = attached
            && !steps.is_empty()
        {
            let had_room = put(probes, number, known.bias, &steps);
            // What comes by others has no known creator.
            known.steps = if had_room {
                known.steps + steps.len()
            } else {
                MAX_STEPS
            };
            let bias = known.bias;
            let told: HashSet<u64> = steps.iter().map(|(place, _)| place.wrapping_add(bias)).collect();
            known.wanted.retain(|place| !told.contains(place));
        }
        let last = tasks.last().map_or(0, |task| task.id);
        if attached.is_none() {
            // Those that come later may be from before the probes, too: then they are not found.
            known.floor = known.floor.max(last);
        }
        let before = std::mem::take(&mut known.born);
        if attached.is_none() && before.is_empty() && known.ended.is_empty() {
            return;
        }
        let now = monotonic();
        for (task, address) in tasks.iter_mut().zip(addresses) {
            let seen = match before.get(&task.id) {
                Some(Some(birth)) => Some(*birth),
                _ if task.is_kept => known.ended.birth(*address),
                Some(None) => None,
                None if task.id <= known.floor => continue,
                None => attached.and_then(|number| {
                    probes.tokio_born(TokioTask {
                        process: number,
                        _pad: 0,
                        header: *address,
                    })
                }),
            };
            known.born.insert(task.id, seen);
            let Some(birth) = seen else { continue };
            let origin = self.spawning.origin(process, birth.pc);
            let seen = origin.and_then(|origin| origin.spawn_site.clone());
            task.spawn_site = seen.or(task.spawn_site.take());
            if let Some(facts) = &mut task.facts {
                facts.made = Some(Made {
                    ago: Duration::from_nanos(now.saturating_sub(birth.at)),
                    is_exact: true,
                });
            }
        }
        if knows_kept {
            known.ended.answered();
        }
    }

    /// Attaches and detaches, and takes in what was counted; once a pass.
    pub fn tend(&mut self, probes: &mut Probes, is_alive: impl Fn(&ProcessId) -> bool) {
        self.known.retain(|id, _| is_alive(id));
        self.spawning.tend(probes, is_alive);
        if !self.spawning.is_any_attached() {
            return;
        }
        let mut wanted: HashMap<u32, Vec<u64>> = HashMap::new();
        for place in probes.take_wanted_tokio_steps() {
            wanted.entry(place.process).or_default().push(place.pc);
        }
        for (id, known) in &mut self.known {
            let of_it = self
                .spawning
                .attached(*id)
                .and_then(|number| wanted.remove(&number));
            let room = MAX_STEPS.saturating_sub(known.steps + known.wanted.len());
            known.wanted.extend(of_it.into_iter().flatten().take(room));
        }
    }

    /// Takes probes off that are far over their budget.
    pub fn hold(&mut self, probes: &mut Probes) {
        self.spawning.hold(probes);
    }

    /// Whether [`Self::hold`] has anything to do.
    pub fn is_any_attached(&self) -> bool {
        self.spawning.is_any_attached()
    }

    /// Tasks that were made and have ended; `None` of a process that does not run tokio.
    pub fn report(&self, process: ProcessId) -> Option<SpawnReport> {
        self.spawning.report(process)
    }
}
