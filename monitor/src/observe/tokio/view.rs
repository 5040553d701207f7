//! The monitor's memory of one process's tasks, and what a look at them says.

mod untyped;

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use super::{
    protocol::{Births, Chain, Record},
    spawning::Told,
    task::Status,
    timed::{Known, Timed},
    tracker::{Awaited, Entry, Tracker},
};
use crate::{
    model::{Cause, Facts, Kind, Made, Reason, Site, Stack, State, Task, WaitClass},
    observe::sites::Sites,
};

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
    /// Where tasks were spawned, as far as the program keeps that itself.
    pub made_at: Sites,
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
    /// A record as it is kept; `now`: when it was read, CLOCK_MONOTONIC ns.
    pub fn entry(&mut self, record: &Record, now: u64) -> Entry {
        let made_at = match record.made_at {
            0 => u32::MAX,
            place => self.made_at.number(place),
        };
        Entry::new(record, self.future(record.vtable), made_at, now)
    }

    /// The number of a future, by its vtable.
    fn future(&mut self, vtable: u64) -> u32 {
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
        // It goes through all timers.
        let timers = self.timed.known();
        for entry in entries {
            let future = self.futures.get(entry.future as usize);
            let chain = match entry.awaited() {
                Awaited::Number(number) => self.chains.get(number as usize),
                Awaited::Unknown | Awaited::Timed | Awaited::Untimed(_) | Awaited::Unasked => None,
            };
            let waits = match (entry.awaited(), chain) {
                (Awaited::Untimed(world), _) if entry.status == Status::Idle => future.map(|future| {
                    let stack = stacks.entry(entry.future).or_insert_with(|| future.alone());
                    (untyped::waits(world), &*stack, Some(timers))
                }),
                (_, Some(Kept { stack, waits })) => waits.clone().map(|waits| (waits, stack, None)),
                _ => None,
            };
            if let Some(((reason, class), stack, timers)) = waits {
                suspects.push(Suspect {
                    index: tasks.len(),
                    id: entry.id,
                    address: entry.address,
                    since: entry.since,
                    reason,
                    class,
                    stack: Arc::clone(stack),
                    joins: Some(entry.joins).filter(|joins| *joins != 0),
                    point: future.map(|future| future.point).unwrap_or_default(),
                    is_new: !entry.was_known,
                    timers,
                });
            }
            if entry.status == Status::Kept && !entry.is_still {
                passing.insert(entry.id);
            }
            let is_long = now.saturating_sub(entry.since) >= threshold.as_nanos() as u64;
            if is_long && entry.awaited().is_without_types() {
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
                spawn_site: self.made_at.site(entry.made_at).cloned(),
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
