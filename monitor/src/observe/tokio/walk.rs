//! A walk over the lists of a process's tasks, some at a time.
//!
//! From the last task to the first: new ones are put in front, and those that stay for good gather at the end. The parts of a
//! list are walked side by side, because tasks that were spawned one after the other lie side by side in memory and belong
//! to different parts. A list changes while it is walked: where it breaks, what was read around that place is read anew.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use super::{
    blocks::Blocks,
    cell::{self, Cell},
    lists::{Ends, List},
    program::Program,
    protocol::Record,
};
use crate::observe::{memory::space::word, programs::Placed};

/// Tasks of one process that are walked over.
const MAX_TASKS: usize = 4 << 20;
/// How often one part of a list may break.
const MAX_BREAKS: u32 = 64;
/// How long a step of the walk may take.
const LONGEST: Duration = Duration::from_secs(1);
/// Of tasks that a list has by its own count, so many may be missed: they come and go.
const MISSED: u64 = 64;

/// A list as it is when a walk begins.
pub struct Seen {
    pub list: List,
    /// How many tasks it says that it has, if it does.
    pub count: Option<u64>,
    pub ends: Vec<Ends>,
}

/// One part of a list.
struct Chain {
    list: usize,
    /// Where its ends stand in memory.
    ends: u64,
    /// The task that was read last, nearer to the end; 0 at first.
    before: u64,
    /// The highest number that was met.
    youngest: u64,
    next: u64,
    breaks: u32,
    /// Since it last broke.
    steps: usize,
}

struct Walked {
    list: List,
    found: u64,
    /// How many there were when the walk began.
    count: Option<u64>,
    /// A part of it could not be walked to its end: the highest number of a task that was met in it. What was not met is
    /// younger than some of those that were.
    broken_at: Option<u64>,
}

impl Walked {
    fn is_broken_at(&mut self, youngest: u64) {
        self.broken_at = Some(self.broken_at.map_or(youngest, |known| known.min(youngest)));
    }
}

pub struct Walk {
    placed: Placed<Program>,
    blocks: Blocks,
    lists: Vec<Walked>,
    chains: Vec<Chain>,
    /// Of the chains, the one whose turn it is.
    turn: usize,
    /// Tasks that were found: their addresses and numbers.
    seen: HashMap<u64, u64>,
    /// Those that were found at the last look; `None` when there was none.
    known: Option<HashMap<u64, u64>>,
    /// Of those, the ones that this walk did not reach, once it is clear that it does not reach all.
    left: Option<Vec<(u64, u64)>>,
    /// There are more tasks than are walked over.
    is_cut: bool,
}

enum Step {
    Task(Record, u64),
    /// There is no task where one should be.
    Broken,
}

impl Walk {
    /// `known`: what [`Self::into_seen`] said of the last one.
    pub fn new(
        placed: Placed<Program>,
        blocks: Blocks,
        lists: Vec<Seen>,
        known: Option<HashMap<u64, u64>>,
    ) -> Self {
        let mut walk = Self {
            placed,
            blocks,
            lists: Vec::with_capacity(lists.len()),
            chains: Vec::new(),
            turn: 0,
            seen: HashMap::new(),
            known,
            left: None,
            is_cut: false,
        };
        for (index, Seen { list, count, ends }) in lists.into_iter().enumerate() {
            let full = ends.into_iter().filter(|ends| ends.last != 0);
            walk.chains.extend(full.map(|Ends { at, last, .. }| Chain {
                list: index,
                ends: at,
                before: 0,
                youngest: 0,
                next: last,
                breaks: 0,
                steps: 0,
            }));
            walk.lists.push(Walked {
                list,
                found: 0,
                count,
                broken_at: None,
            });
        }
        walk
    }

    /// The next tasks, so many at most. Whether there may be more.
    pub fn some(&mut self, count: usize, records: &mut Vec<Record>) -> bool {
        let until = Instant::now() + LONGEST;
        while records.len() < count && !self.chains.is_empty() {
            if records.len().is_multiple_of(256) && Instant::now() > until {
                break;
            }
            if self.turn >= self.chains.len() {
                self.turn = 0;
            }
            if self.seen.len() >= MAX_TASKS {
                self.chains.clear();
                self.is_cut = true;
                return false;
            }
            match self.step() {
                Step::Task(record, previous) => {
                    let chain = &mut self.chains[self.turn];
                    chain.steps += 1;
                    chain.youngest = chain.youngest.max(record.id);
                    // What was seen before a break is not told again. That many steps lead in a circle.
                    if self.seen.insert(chain.next, record.id) != Some(record.id) {
                        records.push(record);
                        self.lists[chain.list].found += 1;
                    } else if chain.breaks == 0 || chain.steps > self.seen.len() {
                        self.lists[chain.list].is_broken_at(chain.youngest);
                        self.chains.swap_remove(self.turn);
                        continue;
                    }
                    chain.before = chain.next;
                    chain.next = previous;
                    if previous == 0 {
                        self.chains.swap_remove(self.turn);
                    } else {
                        self.turn += 1;
                    }
                }
                Step::Broken => self.mend(),
            }
        }
        !self.chains.is_empty() || self.look_again(count, until, records)
    }

    /// What was there at the last look and was not reached by way of a list that changes too fast is looked for where it was.
    /// Whether there may be more.
    fn look_again(&mut self, count: usize, until: Instant, records: &mut Vec<Record>) -> bool {
        if !self.lists.iter().any(|walked| walked.broken_at.is_some()) {
            return false;
        }
        let mut left = match self.left.take() {
            Some(left) => left,
            None => {
                self.blocks.clear();
                let known = self.known.iter().flatten();
                let unseen = known.filter(|(address, _)| !self.seen.contains_key(address));
                let mut left: Vec<(u64, u64)> = unseen.map(|(address, id)| (*address, *id)).collect();
                // As they lie in memory, from the end.
                left.sort_unstable_by(|a, b| b.cmp(a));
                left
            }
        };
        while records.len() < count && Instant::now() < until {
            let Some((address, id)) = left.pop() else { break };
            let found = cell::read(&mut self.blocks, &self.placed, address);
            if let Some(cell) = found.filter(|cell| cell.record.id == id) {
                self.seen.insert(address, id);
                records.push(cell.record);
            }
        }
        let is_more = !left.is_empty();
        self.left = Some(left);
        is_more
    }

    /// What was found: addresses and numbers.
    pub fn into_seen(self) -> HashMap<u64, u64> {
        self.seen
    }

    /// Whether some of the tasks were not found. `now`: how many there are now by each list's own count.
    pub fn is_incomplete(&self, now: impl Fn(&List) -> Option<u64>) -> bool {
        // What was there at the last look was looked for where it was. What is younger comes and goes, or is met later: a
        // task that stays is reached once the older ones that did not stay are gone.
        let newest = self
            .known
            .as_ref()
            .map(|known| known.values().max().copied().unwrap_or(0));
        let has_lost = |at: u64| newest.is_none_or(|newest| at <= newest);
        self.is_cut
            || self.lists.iter().any(|walked| {
                let least = walked
                    .count
                    .zip(now(&walked.list))
                    .map(|(then, now)| then.min(now));
                let is_short = least.is_none_or(|least| walked.found + MISSED + least / 64 < least);
                walked.broken_at.is_some_and(has_lost) && is_short
            })
    }

    /// Reads the task whose turn it is, and tells which is before it.
    fn step(&mut self) -> Step {
        let chain = &self.chains[self.turn];
        let (before, next) = (chain.before, chain.next);
        let owner = self.lists[chain.list].list.number;
        match self.task(next, owner) {
            // Of two neighbours each knows the other, unless one of them has just gone.
            Some(cell) if before == 0 || cell.behind == before => Step::Task(cell.record, cell.before),
            _ => Step::Broken,
        }
    }

    /// Goes back to the end that is nearer: to the task before, as it is now, or to the list's end.
    fn mend(&mut self) {
        let chain = &mut self.chains[self.turn];
        chain.breaks += 1;
        chain.steps = 0;
        self.blocks.forget(chain.next);
        self.blocks.forget(chain.before);
        if chain.breaks > MAX_BREAKS {
            self.lists[chain.list].is_broken_at(chain.youngest);
            self.chains.swap_remove(self.turn);
            return;
        }
        let owner = self.lists[chain.list].list.number;
        let (before, ends) = (chain.before, chain.ends);
        let again = (before != 0).then(|| self.task(before, owner)).flatten();
        let (before, next) = match again {
            Some(cell) => (before, cell.before),
            // It is gone as well.
            None => (0, self.last(ends)),
        };
        if next == 0 {
            self.chains.swap_remove(self.turn);
            return;
        }
        self.blocks.forget(next);
        let chain = &mut self.chains[self.turn];
        (chain.before, chain.next) = (before, next);
    }

    /// The last task of a part of a list, as it is now.
    fn last(&mut self, ends: u64) -> u64 {
        self.blocks.forget(ends);
        let mut bytes = [0; 16];
        self.blocks.fill(ends, &mut bytes);
        word(&bytes, 8).unwrap_or(0)
    }

    fn task(&mut self, address: u64, owner: u64) -> Option<Cell> {
        cell::read(&mut self.blocks, &self.placed, address).filter(|cell| cell.owner == owner)
    }
}

#[cfg(test)]
mod tests;
