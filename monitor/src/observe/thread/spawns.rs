//! Who made the threads: what the spawn probe saw, counted by what they run and where they were made.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use crate::model::{ProcessId, Site, SpawnTotals};

/// Threads whose birth has been told, but not yet named, that may have died meanwhile.
const MAX_EARLY_DEATHS: usize = 4_096;

/// Origins that a process's threads are counted by; the rest are summed under `other`.
pub const MAX_ORIGINS: usize = 50;

/// A thread: tid and CLOCK_BOOTTIME ns of its start.
pub type ThreadId = (u32, u64);

/// What a thread runs and where it was made, as far as it could be named.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Origin {
    pub entry: Option<Arc<Site>>,
    pub spawn_site: Option<Arc<Site>>,
}

impl Origin {
    /// What is summed.
    pub fn other() -> Self {
        let site = Site {
            function: "other".to_owned(),
            file: None,
            line: None,
        };
        Self {
            entry: None,
            spawn_site: Some(Arc::new(site)),
        }
    }
}

/// Origins of the live threads of a process, and totals of all.
#[derive(Default)]
struct Family {
    alive: HashMap<ThreadId, Origin>,
    early_deaths: Vec<ThreadId>,
    totals: BTreeMap<Origin, (u64, u64)>,
}

/// The books of every watched process.
#[derive(Default)]
pub struct Spawns {
    families: HashMap<ProcessId, Family>,
}

impl Spawns {
    /// A birth has been named.
    pub fn born(&mut self, process: ProcessId, thread: ThreadId, origin: Origin) {
        let family = self.families.entry(process).or_default();
        let origin = if family.totals.len() < MAX_ORIGINS || family.totals.contains_key(&origin) {
            origin
        } else {
            Origin::other()
        };
        let totals = family.totals.entry(origin.clone()).or_default();
        totals.0 += 1;
        match family.early_deaths.iter().position(|dead| *dead == thread) {
            Some(at) => {
                family.early_deaths.swap_remove(at);
                totals.1 += 1;
            }
            None => {
                family.alive.insert(thread, origin);
            }
        }
    }

    /// A thread has ended. Nothing is counted of one whose birth was not seen.
    pub fn died(&mut self, process: ProcessId, thread: ThreadId, birth_is_being_named: bool) {
        let Some(family) = self.families.get_mut(&process) else {
            if birth_is_being_named {
                self.families
                    .entry(process)
                    .or_default()
                    .early_deaths
                    .push(thread);
            }
            return;
        };
        match family.alive.remove(&thread) {
            Some(origin) => family.totals.entry(origin).or_default().1 += 1,
            None if birth_is_being_named && family.early_deaths.len() < MAX_EARLY_DEATHS => {
                family.early_deaths.push(thread);
            }
            None => {}
        }
    }

    /// Where a live thread was made and what it runs; `None` when its birth was not seen.
    pub fn origin(&self, process: ProcessId, thread: ThreadId) -> Option<&Origin> {
        self.families.get(&process)?.alive.get(&thread)
    }

    /// Births and deaths since the probe was attached.
    pub fn totals(&self, process: ProcessId) -> Vec<SpawnTotals> {
        let totals = self.families.get(&process).map(|family| &family.totals);
        let one = |(origin, (spawned, exited)): (&Origin, &(u64, u64))| SpawnTotals {
            entry: origin.entry.clone(),
            spawn_site: origin.spawn_site.clone(),
            spawned: *spawned,
            exited: *exited,
        };
        totals.into_iter().flatten().map(one).collect()
    }

    /// Forgets processes that are gone.
    pub fn retain(&mut self, is_alive: impl Fn(&ProcessId) -> bool) {
        self.families.retain(|id, _| is_alive(id));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: ProcessId = ProcessId {
        pid: 7,
        start_boottime: 1,
        exec_id: 1,
    };

    fn origin(name: &str) -> Origin {
        let site = Site {
            function: name.to_owned(),
            file: None,
            line: None,
        };
        Origin {
            entry: Some(Arc::new(site)),
            spawn_site: None,
        }
    }

    fn totals(spawns: &Spawns) -> Vec<(String, u64, u64)> {
        let name = |totals: SpawnTotals| {
            (
                totals.entry.unwrap().function.clone(),
                totals.spawned,
                totals.exited,
            )
        };
        spawns.totals(ID).into_iter().map(name).collect()
    }

    #[test]
    fn births_and_deaths_are_counted_by_origin() {
        let mut spawns = Spawns::default();
        for tid in 1..=3 {
            spawns.born(ID, (tid, 10), origin("worker"));
        }
        spawns.born(ID, (4, 10), origin("reader"));
        spawns.died(ID, (2, 10), false);
        assert_eq!(
            totals(&spawns),
            [("reader".to_owned(), 1, 0), ("worker".to_owned(), 3, 1)]
        );
        assert!(spawns.origin(ID, (2, 10)).is_none());
        assert_eq!(spawns.origin(ID, (3, 10)), Some(&origin("worker")));
    }

    #[test]
    fn a_death_may_come_before_the_birth_has_a_name() {
        let mut spawns = Spawns::default();
        spawns.died(ID, (1, 10), true);
        spawns.born(ID, (1, 10), origin("worker"));
        assert_eq!(totals(&spawns), [("worker".to_owned(), 1, 1)]);
        assert!(spawns.origin(ID, (1, 10)).is_none());
    }

    #[test]
    fn origins_are_bounded_and_the_rest_summed() {
        let mut spawns = Spawns::default();
        for tid in 0..200 {
            spawns.born(ID, (tid, 10), origin(&format!("worker{tid:03}")));
            spawns.died(ID, (tid, 10), false);
        }
        let totals = spawns.totals(ID);
        assert_eq!(totals.len(), MAX_ORIGINS + 1);
        let other = totals.iter().find(|totals| totals.entry.is_none()).unwrap();
        assert_eq!((other.spawned, other.exited), (150, 150));
    }

    #[test]
    fn a_death_without_a_birth_is_not_counted() {
        let mut spawns = Spawns::default();
        spawns.died(ID, (1, 10), false);
        spawns.born(ID, (2, 10), origin("worker"));
        spawns.died(ID, (1, 11), false);
        assert_eq!(totals(&spawns), [("worker".to_owned(), 1, 0)]);
    }
}
