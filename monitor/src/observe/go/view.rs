//! The monitor's memory of one process's goroutines, and what a look at them says: tasks.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use super::{
    goroutine::Status,
    protocol::{Named, Pcs, Points, Record},
    reasons::{Nature, nature},
    sites::{is_runtime, runs_finalizers},
    tracker::{Entry, Stacked, Tracker},
};
use crate::{
    model::{Cause, Kind, Reason, Site, Stack, Task, Wait, WaitClass},
    observe::{books::Place, sites::Sites, thread::spawns::Origin},
};

/// Stacks of a process that are told apart; goroutines with others have none.
const MAX_STACKS: usize = 20_000;

/// What a look at a process's goroutines said.
#[derive(Debug, Default)]
pub struct View {
    /// `go1.27.3`.
    pub version: String,
    pub tasks: Vec<Task>,
    pub incomplete: BTreeSet<Cause>,
    /// Of those in system calls, their index among the tasks and their thread.
    pub in_calls: Vec<(usize, u32)>,
    /// Where the probes go that count its goroutines.
    pub points: Option<Arc<Points>>,
    /// What was asked to be named besides.
    pub named: Vec<(Place, Origin)>,
}

/// What is remembered of a process between looks.
#[derive(Debug, Default)]
pub struct Memory {
    pub tracker: Tracker,
    pub made_at: Sites,
    pub runs: Sites,
    reasons: Vec<(Reason, Nature)>,
    numbers: HashMap<Pcs, u32>,
    stacks: Vec<Option<Arc<Stack>>>,
    /// The same site has many addresses.
    interned: HashSet<Arc<Site>>,
}

impl Memory {
    pub fn set_reasons(&mut self, reasons: Vec<String>) {
        let same = |(known, new): (&(Reason, Nature), &String)| *known.0 == **new;
        if self.reasons.len() == reasons.len() && self.reasons.iter().zip(&reasons).all(same) {
            return;
        }
        let one = |reason: String| {
            let nature = nature(&reason);
            (Reason::from(reason), nature)
        };
        self.reasons = reasons.into_iter().map(one).collect();
    }

    /// A record as it is kept.
    pub fn entry(&mut self, record: &Record, began: u64, ended: u64) -> Entry {
        let (made_at, runs) = (self.made_at.number(record.gopc), self.runs.number(record.startpc));
        Entry::new(record, began, ended, made_at, runs)
    }

    /// The runtime's text of that number.
    pub fn text(&self, reason: u8) -> &str {
        self.reasons
            .get(usize::from(reason))
            .map_or("", |(reason, _)| reason)
    }

    /// What the runtime says that it waits for, and what that means.
    pub fn wait_of(&self, entry: &Entry) -> (Reason, Nature) {
        let unknown = || (Reason::Static("waiting"), Nature::Open(WaitClass::Internal));
        let told = match entry.status {
            Status::Running | Status::Runnable => return (Reason::Static(""), Nature::Passing),
            Status::Syscall => (Reason::Static("syscall"), Nature::Open(WaitClass::External)),
            Status::Waiting => self
                .reasons
                .get(usize::from(entry.reason))
                .cloned()
                .unwrap_or_else(unknown),
        };
        let runs = self
            .runs
            .site(entry.runs)
            .map_or("", |site| site.function.as_str());
        match told {
            // A finalizer that blocks is the program's.
            (reason, Nature::Open(_))
                if is_runtime(runs) && !(runs_finalizers(runs) && entry.status == Status::Waiting) =>
            {
                (reason, Nature::Passing)
            }
            told => told,
        }
    }

    /// Indices of goroutines that are blocked, it seems, and whose stacks were not asked for.
    pub fn unasked(&self, threshold: Duration) -> Vec<usize> {
        let is_wanted = |entry: &Entry| {
            entry.stack() == Stacked::Unasked
                && self.tracker.age(entry).is_some_and(|age| age >= threshold)
                && self.wait_of(entry).1 != Nature::Passing
        };
        let entries = self.tracker.entries().iter().enumerate();
        entries
            .filter(|(_, entry)| is_wanted(entry))
            .map(|(index, _)| index)
            .collect()
    }

    /// Number of a stack; `None` when there are too many.
    pub fn stack(&mut self, pcs: Pcs) -> Option<u32> {
        if let Some(number) = self.numbers.get(&pcs) {
            return Some(*number);
        }
        if self.numbers.len() >= MAX_STACKS {
            self.forget_unused_stacks();
        }
        if self.numbers.len() >= MAX_STACKS {
            return None;
        }
        let free = self.stacks.len() as u32;
        self.stacks.push(None);
        self.numbers.insert(pcs, free);
        Some(free)
    }

    /// Some stacks that have no names yet.
    pub fn unnamed_stacks(&self) -> Vec<(Pcs, u32)> {
        let unnamed =
            |(_, number): &(&Pcs, &u32)| self.stacks.get(**number as usize).is_some_and(Option::is_none);
        let numbers = self.numbers.iter().filter(unnamed);
        numbers.map(|(pcs, number)| (pcs.clone(), *number)).collect()
    }

    /// Whether the runtime itself would not show it: it is its own, and runs nothing of the program just now.
    pub fn is_runtimes(&self, entry: &Entry, nature: Nature) -> bool {
        let runs = self
            .runs
            .site(entry.runs)
            .map_or("", |site| site.function.as_str());
        let is_at_work = runs_finalizers(runs) && (entry.status.is_active() || nature != Nature::Passing);
        is_runtime(runs) && !is_at_work
    }

    /// A stack with names.
    pub fn stack_of(&mut self, named: Named, truncated: bool) -> Stack {
        Stack {
            block_site: named.block_site.map(|site| self.intern(site)),
            frames: named.frames,
            truncated: named.truncated || truncated,
            entry: None,
        }
    }

    pub fn name_stack(&mut self, number: u32, named: Named, truncated: bool) {
        let stack = self.stack_of(named, truncated);
        if let Some(place) = self.stacks.get_mut(number as usize) {
            *place = Some(Arc::new(stack));
        }
    }

    pub fn intern(&mut self, site: Site) -> Arc<Site> {
        match self.interned.get(&site) {
            Some(known) => Arc::clone(known),
            None => {
                let site = Arc::new(site);
                self.interned.insert(Arc::clone(&site));
                site
            }
        }
    }

    /// Stacks that no goroutine has any more make room.
    fn forget_unused_stacks(&mut self) {
        let used: HashSet<u32> = self
            .tracker
            .entries()
            .iter()
            .filter_map(|entry| match entry.stack() {
                Stacked::Number(number) => Some(number),
                _ => None,
            })
            .collect();
        self.numbers.retain(|_, number| used.contains(number));
        let mut moved = HashMap::new();
        let mut stacks = Vec::with_capacity(self.numbers.len());
        for number in self.numbers.values_mut() {
            let next = stacks.len() as u32;
            stacks.push(self.stacks.get(*number as usize).cloned().flatten());
            moved.insert(*number, next);
            *number = next;
        }
        self.stacks = stacks;
        for entry in self.tracker.entries_mut() {
            if let Stacked::Number(number) = entry.stack() {
                entry.set_stack(
                    moved
                        .get(&number)
                        .map_or(Stacked::Unasked, |number| Stacked::Number(*number)),
                );
            }
        }
    }

    /// The tasks of the last look. `threshold`: from which age on a task is to have a stack; `None`: none is to.
    pub fn view(&self, version: &str, threshold: Option<Duration>, mut incomplete: BTreeSet<Cause>) -> View {
        let entries = self.tracker.entries();
        let mut tasks = Vec::with_capacity(entries.len());
        let mut in_calls = Vec::new();
        for entry in entries {
            let (reason, nature) = self.wait_of(entry);
            let class = match nature {
                Nature::Open(class) => Some(class),
                Nature::Network => Some(WaitClass::External),
                Nature::Passing => None,
            };
            let mut wait = class.zip(self.tracker.age(entry)).map(|(class, age)| Wait {
                reason,
                class,
                age,
                anchor: None,
            });
            let age = wait.as_ref().map(|wait| wait.age);
            let is_old = age
                .zip(threshold)
                .is_some_and(|(age, threshold)| age >= threshold);
            let mut stack = None;
            match entry.stack() {
                Stacked::Passing => wait = None,
                Stacked::Number(number) => {
                    stack = self.stacks.get(number as usize).cloned().flatten();
                }
                Stacked::Unreadable if is_old => {
                    incomplete.insert(Cause::StackUnreadable);
                }
                Stacked::Unasked if is_old => {
                    incomplete.insert(Cause::StackPending);
                }
                Stacked::Unreadable | Stacked::Unasked => {}
            }
            if entry.status == Status::Syscall && wait.is_some() {
                in_calls.push((tasks.len(), entry.thread));
            }
            tasks.push(Task {
                kind: Kind::Goroutine,
                id: entry.id,
                start: 0,
                wait,
                name: None,
                stack,
                entry: self.runs.site(entry.runs).cloned(),
                spawn_site: self.made_at.site(entry.made_at).cloned(),
                is_kept: false,
                waits_for: None,
                facts: None,
            });
        }
        View {
            version: version.to_owned(),
            tasks,
            incomplete,
            in_calls,
            points: None,
            named: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests;
