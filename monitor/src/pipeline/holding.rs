//! Holders of the locks that blocked threads wait for, and deadlocks.
//!
//! A word in memory is looked at twice: an edge holds only when its waiter was in the same wait in the sweep before
//! and in the sweep after it was read.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use crate::{
    detect::holders::Holders,
    model::{Anchor, Cause, Observation, ProcessId},
    observe::{bpf::TaskRecord, helper::Helper, thread::holders::Edges},
};

/// Holders behind holders that are told of a waiter.
const MAX_CHAIN: usize = 8;
/// Waiters that are asked about in one pass.
const MAX_ASKED: usize = 2_000;

/// A wait that no holder was found for: it is asked about again after one pass, two, four, …
struct Asked {
    passes: u32,
    seen_in: u64,
}

/// What is remembered between passes, and the edges of this one.
#[derive(Default)]
pub struct Holding {
    asked: HashMap<(ProcessId, Anchor), Asked>,
    edges: HashMap<ProcessId, Edges>,
    /// Processes that could not be looked at to the end.
    cut: HashSet<ProcessId>,
    pass: u64,
}

impl Holding {
    /// Reads the holders of tasks that have waited long enough. `records`: those of the sweep that the observations
    /// were made from. Whether there are any: then a second sweep is to confirm them ([`Self::confirm`]).
    pub fn look(
        &mut self,
        observations: &[Observation],
        records: &HashMap<ProcessId, Vec<TaskRecord>>,
        threshold: Duration,
        helper: &mut Helper,
    ) -> bool {
        self.pass += 1;
        self.edges.clear();
        self.cut.clear();
        let mut left = MAX_ASKED;
        for observation in observations {
            let id = observation.process.id;
            let Some(records) = records.get(&id) else { continue };
            let wanted = self.wanted(observation, threshold, &mut left);
            if wanted.is_empty() {
                continue;
            }
            let edges = Edges::of(records, |record| wanted.contains_key(&record.tid), helper);
            if edges.is_cut {
                self.cut.insert(id);
            }
            for edge in &edges.edges {
                if let Some(anchor) = wanted.get(&edge.waiter) {
                    self.asked.remove(&(id, *anchor));
                }
            }
            if !edges.edges.is_empty() {
                self.edges.insert(id, edges);
            }
        }
        let pass = self.pass;
        self.asked.retain(|_, asked| asked.seen_in == pass);
        !self.edges.is_empty()
    }

    /// Keeps the edges whose waiters are in the same wait still, and says of tasks whom they wait for.
    pub fn confirm(
        &mut self,
        observations: &mut [Observation],
        before: &HashMap<ProcessId, Vec<TaskRecord>>,
        after: &HashMap<ProcessId, Vec<TaskRecord>>,
    ) {
        for observation in observations {
            let id = observation.process.id;
            let Some(mut edges) = self.edges.remove(&id) else {
                continue;
            };
            let (Some(before), Some(after)) = (before.get(&id), after.get(&id)) else {
                continue;
            };
            edges.retain_lasting(before, after);
            let pairs = edges
                .edges
                .iter()
                .map(|edge| (u64::from(edge.waiter), u64::from(edge.holder)));
            let holders = Holders::new(pairs);
            observation.deadlocks = holders.cycles();
            for task in observation.tasks.iter_mut().filter(|task| task.wait.is_some()) {
                let chain = holders.chain(task.id, MAX_CHAIN).ids;
                task.waits_for = (!chain.is_empty()).then(|| Arc::new(chain));
            }
        }
    }

    /// Says of processes that their holders are not all known.
    pub fn mark(&self, observations: &mut [Observation]) {
        for observation in observations
            .iter_mut()
            .filter(|o| self.cut.contains(&o.process.id))
        {
            observation.incomplete.insert(Cause::Holders);
        }
    }

    /// Threads whose holders are to be asked for now.
    fn wanted(
        &mut self,
        observation: &Observation,
        threshold: Duration,
        left: &mut usize,
    ) -> HashMap<u32, Anchor> {
        let mut wanted = HashMap::new();
        for wait in observation.tasks.iter().filter_map(|task| task.wait.as_ref()) {
            let Some(anchor) = wait
                .anchor
                .as_deref()
                .copied()
                .filter(|_| wait.age >= threshold && wait.reason.starts_with("futex"))
            else {
                continue;
            };
            let asked = self
                .asked
                .entry((observation.process.id, anchor))
                .or_insert(Asked {
                    passes: 0,
                    seen_in: 0,
                });
            asked.seen_in = self.pass;
            asked.passes += 1;
            if asked.passes.is_power_of_two() && *left > 0 {
                *left -= 1;
                wanted.insert(anchor.tid, anchor);
            }
        }
        wanted
    }
}
