//! The monitor's memory of one process's tasks, and what a look at them says.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use super::tracker::Tracker;
use crate::model::{Cause, Kind, Site, Task};

/// Futures of one process that are told apart.
const MAX_FUTURES: usize = 64 << 10;

/// What a look at a process's tasks said.
#[derive(Debug, Default)]
pub struct View {
    /// Whether a look has come to its end.
    pub is_known: bool,
    pub tasks: Vec<Task>,
    pub incomplete: BTreeSet<Cause>,
}

/// What is remembered of a process between looks.
#[derive(Debug, Default)]
pub struct Memory {
    pub tracker: Tracker,
    /// By vtable.
    numbers: HashMap<u64, u32>,
    futures: Vec<(u64, Option<Arc<Site>>)>,
    /// How many of them have been named.
    named: usize,
    interned: HashSet<Arc<Site>>,
}

impl Memory {
    /// The number of a future, by its vtable.
    pub fn future(&mut self, vtable: u64) -> u32 {
        if self.futures.len() >= MAX_FUTURES && !self.numbers.contains_key(&vtable) {
            return u32::MAX;
        }
        let next = self.futures.len() as u32;
        let number = *self.numbers.entry(vtable).or_insert(next);
        if number == next {
            self.futures.push((vtable, None));
        }
        number
    }

    /// Some futures that have no name yet, by their vtables.
    pub fn unnamed(&self, count: usize) -> Vec<u64> {
        self.futures[self.named..]
            .iter()
            .take(count)
            .map(|(vtable, _)| *vtable)
            .collect()
    }

    /// Their names, in the order in which [`Self::unnamed`] told them.
    pub fn name(&mut self, names: Vec<Option<Site>>) {
        for name in names {
            let site = name.map(|site| self.intern(site));
            if let Some((_, known)) = self.futures.get_mut(self.named) {
                *known = site;
                self.named += 1;
            }
        }
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

    /// The tasks of the last look.
    pub fn view(&self, incomplete: BTreeSet<Cause>) -> View {
        let tasks = self.tracker.entries().iter().map(|entry| Task {
            kind: Kind::Tokio,
            id: entry.id,
            start: 0,
            wait: None,
            name: None,
            stack: None,
            entry: self
                .futures
                .get(entry.future as usize)
                .and_then(|(_, site)| site.clone()),
            spawn_site: None,
            waits_for: None,
            facts: None,
        });
        View {
            is_known: true,
            tasks: tasks.collect(),
            incomplete,
        }
    }
}
