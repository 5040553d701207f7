//! The monitor's memory of one process's tasks, and what a look at them says.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use super::{
    protocol::{Births, Chain, Timers},
    spawning::Told,
    task::Status,
    timed::{Known, Timed},
    tracker::{Awaited, Entry, Tracker, World},
};
use crate::model::{Cause, Facts, Frame, Kind, Made, Reason, Site, Stack, State, Task, WaitClass};

/// Futures of one process that are told apart.
const MAX_FUTURES: usize = 64 << 10;
/// Chains of one process that are told apart.
const MAX_CHAINS: usize = 20_000;

/// What a look at a process's tasks said.
#[derive(Debug, Default)]
pub struct View {
    /// Whether a look has come to its end.
    pub is_known: bool,
    pub tasks: Vec<Task>,
    /// Whether all is told of all tasks.
    pub is_whole: bool,
    /// Those that wait for what need not come.
    pub suspects: Vec<Suspect>,
    /// Tasks that have ended since the last look and are kept: who awaits them may just not have come to it.
    pub passing: HashSet<u64>,
    /// The file that probes go into.
    pub file: PathBuf,
    /// Where the tasks lie, in their order.
    pub addresses: Vec<u64>,
    /// Of who makes them.
    pub told: Told,
    pub incomplete: BTreeSet<Cause>,
}

/// Where a probe goes; nowhere when none can be put in safely.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Point {
    pub offset: Option<u64>,
}

/// A task that may be stuck: it waits for what need not come, and has not changed.
#[derive(Clone, Debug)]
pub struct Suspect {
    /// Among the tasks of its look.
    pub index: usize,
    pub id: u64,
    pub address: u64,
    /// CLOCK_MONOTONIC ns: it has not changed since then.
    pub since: u64,
    pub reason: Reason,
    pub class: WaitClass,
    pub stack: Arc<Stack>,
    pub joins: Option<u64>,
    pub point: Point,
    /// Nobody knew of it before, so it cannot have been watched.
    pub is_new: bool,
    /// Of one of which the timers have to tell whether it waits for one.
    pub timers: Option<Known>,
}

/// A future, by its vtable.
#[derive(Debug)]
struct Future {
    vtable: u64,
    site: Option<Arc<Site>>,
    point: Point,
}

impl Future {
    /// What is known of where its tasks await: in this future, or in one within it.
    fn alone(&self) -> Arc<Stack> {
        let site = self.site.as_ref();
        let frame = site.map(|site| Frame {
            function: Some(site.function.clone()),
            file: site.file.clone(),
            line: site.line,
            inlined: false,
            module: String::new(),
            offset: 0,
            guessed: false,
        });
        Arc::new(Stack {
            frames: frame.into_iter().collect(),
            truncated: true,
            block_site: site.cloned(),
            entry: None,
        })
    }
}

/// What is awaited, and where.
#[derive(Debug)]
struct Kept {
    stack: Arc<Stack>,
    /// `None` when the wait ends by itself.
    waits: Option<(Reason, WaitClass)>,
}

/// What tells chains apart.
type Content = (Arc<Stack>, Option<(Reason, WaitClass)>);

/// What is remembered of a process between looks.
#[derive(Debug, Default)]
pub struct Memory {
    pub tracker: Tracker,
    /// By vtable.
    numbers: HashMap<u64, u32>,
    futures: Vec<Future>,
    /// How many of them have been named, and of how many the place of the probe is known.
    named: usize,
    pointed: usize,
    pub file: PathBuf,
    chains: Vec<Kept>,
    by_content: HashMap<Content, u32>,
    interned: HashSet<Arc<Site>>,
    /// Whether the program's debug information tells of types; `None`: that is not known yet.
    pub has_types: Option<bool>,
    /// Where the probes on births go; `None`: that was not asked yet.
    pub births: Option<Option<Arc<Births>>>,
    /// What the next view is to tell of who makes tasks.
    pub told: Told,
    timed: Timed,
}

impl Memory {
    /// Whether there are tasks of which only the timers can tell whether they are blocked.
    pub fn is_any_unknown(&self) -> bool {
        let mut entries = self.tracker.entries().iter();
        entries.any(|entry| matches!(entry.awaited(), Awaited::Unknown | Awaited::Untimed(_)))
    }

    /// Takes in who waits for a timer. `at`: when it was begun to look, CLOCK_MONOTONIC ns.
    pub fn take_timers(&mut self, timers: &Timers, at: u64) {
        self.timed.look(timers, at);
        if !timers.is_whole {
            return;
        }
        let timed: HashSet<u64> = timers.tasks.iter().copied().collect();
        let world = timers.world.as_ref();
        let world: Option<HashSet<u64>> = world.map(|tasks| tasks.iter().copied().collect());
        for entry in self.tracker.entries_mut() {
            let before = match entry.awaited() {
                Awaited::Untimed(world) => world,
                Awaited::Unknown => World::Maybe,
                Awaited::Number(_) | Awaited::Unasked => continue,
            };
            let waits = match &world {
                Some(world) if world.contains(&entry.address) => World::Yes,
                Some(_) => World::No,
                None => before,
            };
            entry.set_awaited(if timed.contains(&entry.address) {
                Awaited::Unknown
            } else {
                Awaited::Untimed(waits)
            });
        }
    }

    /// The number of a future, by its vtable.
    pub fn future(&mut self, vtable: u64) -> u32 {
        if self.futures.len() >= MAX_FUTURES && !self.numbers.contains_key(&vtable) {
            return u32::MAX;
        }
        let next = self.futures.len() as u32;
        let number = *self.numbers.entry(vtable).or_insert(next);
        if number == next {
            self.futures.push(Future {
                vtable,
                site: None,
                point: Point::default(),
            });
        }
        number
    }

    /// Some futures that have no name yet, by their vtables.
    pub fn unnamed(&self, count: usize) -> Vec<u64> {
        let unnamed = self.futures[self.named..].iter();
        unnamed.take(count).map(|future| future.vtable).collect()
    }

    /// Their names, in the order in which [`Self::unnamed`] told them.
    pub fn name(&mut self, names: Vec<Option<Site>>) {
        for name in names {
            let site = name.map(|site| self.intern(site));
            if let Some(future) = self.futures.get_mut(self.named) {
                future.site = site;
                self.named += 1;
            }
        }
    }

    /// Some futures whose probes' places are not known.
    pub fn unpointed(&self, count: usize) -> Vec<u64> {
        let unpointed = self.futures[self.pointed..].iter();
        unpointed.take(count).map(|future| future.vtable).collect()
    }

    pub fn point(&mut self, file: PathBuf, offsets: Vec<Option<u64>>) {
        self.file = file;
        for offset in offsets {
            if let Some(future) = self.futures.get_mut(self.pointed) {
                future.point = Point { offset };
                self.pointed += 1;
            }
        }
    }

    /// Indices of tasks of which it is to be asked what they await: they wait, and seem to go on waiting; or all that
    /// wait.
    pub fn unasked(&self, all: bool) -> Vec<usize> {
        let is_first = all || !self.tracker.has_looked;
        let entries = self.tracker.entries().iter().enumerate();
        entries
            .filter(|(_, entry)| {
                entry.status == Status::Idle
                    && entry.awaited() == Awaited::Unasked
                    && (is_first || entry.is_still)
            })
            .map(|(index, _)| index)
            .collect()
    }

    /// Number of a chain; `None` when there are too many.
    pub fn chain(&mut self, chain: Chain) -> Option<u32> {
        let waits = chain.waits.map(|(reason, class)| (Reason::from(reason), class));
        let stack = Arc::new(Stack {
            frames: chain.frames,
            truncated: chain.truncated,
            block_site: chain.block_site.map(|site| self.intern(site)),
            entry: None,
        });
        let key = (stack, waits);
        if let Some(number) = self.by_content.get(&key) {
            return Some(*number);
        }
        if self.chains.len() >= MAX_CHAINS {
            return None;
        }
        let number = self.chains.len() as u32;
        let (stack, waits) = key.clone();
        self.by_content.insert(key, number);
        self.chains.push(Kept { stack, waits });
        Some(number)
    }

    fn intern(&mut self, site: Site) -> Arc<Site> {
        match self.interned.get(&site) {
            Some(known) => Arc::clone(known),
            None => {
                let site = Arc::new(site);
                self.interned.insert(Arc::clone(&site));
                site
            }
        }
    }

    /// The tasks of the last look; `whole`: all that is known of each.
    pub fn view(
        &mut self,
        threshold: Duration,
        now: u64,
        mut incomplete: BTreeSet<Cause>,
        whole: bool,
    ) -> View {
        let entries = self.tracker.entries();
        let mut tasks = Vec::with_capacity(entries.len());
        let mut suspects = Vec::new();
        let mut stacks: HashMap<u32, Arc<Stack>> = HashMap::new();
        let mut passing = HashSet::new();
        for entry in entries {
            let future = self.futures.get(entry.future as usize);
            let chain = match entry.awaited() {
                Awaited::Number(number) => self.chains.get(number as usize),
                Awaited::Unknown | Awaited::Untimed(_) | Awaited::Unasked => None,
            };
            if let Some(future) = future
                && let Awaited::Untimed(world) = entry.awaited()
                && entry.status == Status::Idle
            {
                let (reason, class) = untold(world);
                suspects.push(Suspect {
                    index: tasks.len(),
                    id: entry.id,
                    address: entry.address,
                    since: entry.since,
                    reason,
                    class,
                    stack: Arc::clone(stacks.entry(entry.future).or_insert_with(|| future.alone())),
                    joins: None,
                    point: future.point,
                    is_new: !entry.was_known,
                    timers: Some(self.timed.known()),
                });
            }
            if let Some(Kept {
                stack,
                waits: Some((reason, class)),
            }) = chain
            {
                suspects.push(Suspect {
                    index: tasks.len(),
                    id: entry.id,
                    address: entry.address,
                    since: entry.since,
                    reason: reason.clone(),
                    class: *class,
                    stack: Arc::clone(stack),
                    joins: Some(entry.joins).filter(|joins| *joins != 0),
                    point: future.map(|future| future.point).unwrap_or_default(),
                    is_new: !entry.was_known,
                    timers: None,
                });
            }
            if entry.status == Status::Kept && !entry.is_still {
                passing.insert(entry.id);
            }
            let is_long = now.saturating_sub(entry.since) >= threshold.as_nanos() as u64;
            if is_long && matches!(entry.awaited(), Awaited::Unknown | Awaited::Untimed(_)) {
                incomplete.insert(Cause::TokioTypes);
                if entry.status == Status::Idle && !self.timed.is_whole {
                    incomplete.insert(Cause::TokioTimers);
                }
            }
            tasks.push(Task {
                kind: Kind::Tokio,
                id: entry.id,
                start: u64::from(entry.status == Status::Kept),
                wait: None,
                name: None,
                stack: chain.filter(|_| whole).map(|chain| Arc::clone(&chain.stack)),
                entry: future.and_then(|future| future.site.clone()),
                spawn_site: None,
                is_kept: entry.status == Status::Kept,
                waits_for: None,
                facts: whole.then(|| Box::new(facts(entry, chain, now))),
            });
        }
        View {
            is_known: true,
            tasks,
            is_whole: whole,
            suspects,
            passing,
            file: self.file.clone(),
            addresses: entries.iter().map(|entry| entry.address).collect(),
            told: std::mem::take(&mut self.told),
            incomplete,
        }
    }
}

/// What tasks wait for of which it is known that it is no timer. What may be the world is not held against them.
const fn untold(world: World) -> (Reason, WaitClass) {
    match world {
        World::Yes => (Reason::Static("io"), WaitClass::External),
        World::No => (Reason::Static("await"), WaitClass::Internal),
        World::Maybe => (Reason::Static("await"), WaitClass::External),
    }
}

fn facts(entry: &Entry, chain: Option<&Kept>, now: u64) -> Facts {
    let state = match entry.status {
        Status::Running => State::Running,
        Status::Notified => State::Runnable,
        Status::Idle => State::Waiting,
        Status::Complete | Status::Kept => State::Complete,
    };
    let waits = chain.and_then(|chain| chain.waits.as_ref());
    Facts {
        state,
        reason: waits.map(|(reason, _)| reason.clone()),
        // Of one that was seen once only nothing is known.
        age: entry
            .is_still
            .then(|| Duration::from_nanos(now.saturating_sub(entry.since))),
        anchor: None,
        // Whose birth was seen the probe's books tell.
        made: entry.was_seen_before().then(|| Made {
            ago: Duration::from_nanos(now.saturating_sub(entry.first)),
            is_exact: false,
        }),
        made_by: None,
        references: Some(entry.references),
        trace: None,
    }
}
