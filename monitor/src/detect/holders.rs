//! Who waits for whom: chains of holders, and cycles of them, which are deadlocks.
//!
//! An edge leads from a waiter to the one that holds what it waits for; a waiter waits for one thing at a time, so
//! at most one edge leaves each. Ids are tasks' (of one process, or unique among all that are put in together).

use std::collections::{HashMap, HashSet};

/// The edges of one moment.
#[derive(Clone, Debug, Default)]
pub struct Holders {
    holder_of: HashMap<u64, u64>,
}

/// What a waiter waits for, step by step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    /// Its holder, the holder's holder and so on; none twice.
    pub ids: Vec<u64>,
    pub end: ChainEnd,
}

/// Why a chain ends where it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChainEnd {
    /// The last one is not known to wait for anybody. Of an empty chain: nor is the first.
    Free,
    /// The last one waits for one that is in the chain already, or for the waiter itself.
    Cycle,
    /// It goes on, but is as long as was asked for.
    Cut,
}

impl Holders {
    /// Of two edges of one waiter the later one holds.
    pub fn new(edges: impl IntoIterator<Item = (u64, u64)>) -> Self {
        Self {
            holder_of: edges.into_iter().collect(),
        }
    }

    /// Whom a waiter waits for.
    pub fn holder(&self, waiter: u64) -> Option<u64> {
        self.holder_of.get(&waiter).copied()
    }

    /// At most `max` holders, beginning with the waiter's own.
    pub fn chain(&self, waiter: u64, max: usize) -> Chain {
        let mut ids = Vec::new();
        let mut met = HashSet::from([waiter]);
        let mut at = waiter;
        let end = loop {
            match self.holder(at) {
                None => break ChainEnd::Free,
                Some(next) if !met.insert(next) => break ChainEnd::Cycle,
                Some(_) if ids.len() == max => break ChainEnd::Cut,
                Some(next) => {
                    ids.push(next);
                    at = next;
                }
            }
        };
        Chain { ids, end }
    }

    /// Every cycle once: its members in the order in which they wait for each other, from the smallest id on; the
    /// cycles by their smallest ids. Who waits for a member from outside is none itself.
    pub fn cycles(&self) -> Vec<Vec<u64>> {
        let mut cycles = Vec::new();
        // Each waiter with the walk that came by it first: a walk that meets its own trail has found a cycle, one
        // that meets another's has not, so every edge is followed once.
        let mut walked_from: HashMap<u64, u64> = HashMap::with_capacity(self.holder_of.len());
        for &start in self.holder_of.keys() {
            let mut at = start;
            while let Some(next) = self.holder(at) {
                match walked_from.get(&at) {
                    Some(&walk) if walk == start => {
                        cycles.push(self.cycle_through(at));
                        break;
                    }
                    Some(_) => break,
                    None => {
                        walked_from.insert(at, start);
                        at = next;
                    }
                }
            }
        }
        cycles.sort_unstable();
        cycles
    }

    /// The cycle that a member is in.
    fn cycle_through(&self, member: u64) -> Vec<u64> {
        let mut members = vec![member];
        let mut at = member;
        while let Some(next) = self.holder(at).filter(|next| *next != member) {
            members.push(next);
            at = next;
        }
        let smallest = members
            .iter()
            .enumerate()
            .min_by_key(|(_, id)| **id)
            .map_or(0, |(index, _)| index);
        members.rotate_left(smallest);
        members
    }
}

#[cfg(test)]
mod tests;
