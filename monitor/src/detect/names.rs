//! Which counts have series of their own. Once named, one keeps its name until its process ends, so that a counter of it
//! never falls; what comes when all names are taken is summed under `other`.

use std::{
    collections::{HashMap, HashSet},
    hash::Hash,
};

use crate::model::ProcessId;

/// The named keys of every process.
pub struct Names<K> {
    max: usize,
    named: HashMap<ProcessId, Named<K>>,
}

/// In the order in which they were named, and for a quick look.
struct Named<K> {
    order: Vec<K>,
    all: HashSet<K>,
}

impl<K: Clone + Eq + Hash> Names<K> {
    /// `max`: names that one process may have.
    pub fn new(max: usize) -> Self {
        Self {
            max,
            named: HashMap::new(),
        }
    }

    /// Gives the key a name if it has none and one is free. Whether it has one.
    pub fn take(&mut self, process: ProcessId, key: &K) -> bool {
        let named = self.named.entry(process).or_insert_with(|| Named {
            order: Vec::new(),
            all: HashSet::new(),
        });
        if named.all.contains(key) {
            return true;
        }
        let is_free = named.order.len() < self.max;
        if is_free {
            named.order.push(key.clone());
            named.all.insert(key.clone());
        }
        is_free
    }

    /// The named keys of a process, in the order in which they were named.
    pub fn of(&self, process: ProcessId) -> impl Iterator<Item = &K> {
        self.named
            .get(&process)
            .into_iter()
            .flat_map(|named| &named.order)
    }

    /// All names, in the order in which they were given.
    pub fn saved(&self) -> Vec<(ProcessId, Vec<K>)> {
        self.named
            .iter()
            .map(|(process, named)| (*process, named.order.clone()))
            .collect()
    }

    /// Gives names that were saved.
    pub fn restore(&mut self, saved: Vec<(ProcessId, Vec<K>)>) {
        for (process, keys) in saved {
            for key in keys {
                self.take(process, &key);
            }
        }
    }

    /// Forgets processes that are gone.
    pub fn retain(&mut self, alive: &HashSet<ProcessId>) {
        self.named.retain(|id, _| alive.contains(id));
    }
}
