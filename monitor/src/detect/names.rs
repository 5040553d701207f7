//! Which groups have series of their own. Once named, a group keeps its name until its process ends, so that a
//! counter of it never falls; what comes when all names are taken is summed under `other`.

use std::collections::{HashMap, HashSet};

use crate::model::{GroupKey, ProcessId};

/// The named groups of every process.
pub struct Names {
    max_groups: usize,
    named: HashMap<ProcessId, Vec<GroupKey>>,
}

impl Names {
    /// `max_groups`: names that one process may have.
    pub fn new(max_groups: usize) -> Self {
        Self {
            max_groups,
            named: HashMap::new(),
        }
    }

    /// Gives the group a name if it has none and one is free. Whether it has one.
    pub fn take(&mut self, process: ProcessId, key: &GroupKey) -> bool {
        let named = self.named.entry(process).or_default();
        if named.contains(key) {
            return true;
        }
        let is_free = named.len() < self.max_groups;
        if is_free {
            named.push(key.clone());
        }
        is_free
    }

    /// The named groups of a process.
    pub fn of(&self, process: ProcessId) -> impl Iterator<Item = &GroupKey> {
        self.named.get(&process).into_iter().flatten()
    }

    /// Forgets processes that are gone.
    pub fn retain(&mut self, alive: &HashSet<ProcessId>) {
        self.named.retain(|id, _| alive.contains(id));
    }
}
