//! Where a runtime keeps its timers: a wheel of six levels of 64 slots (tokio/src/runtime/time/wheel/level.rs), behind its
//! handle. Nothing else has the numbers from 0 to 5 at these distances.
//!
//! Up to 1.37 and from 1.45 on the handle has the wheel, and that the address of its levels; between them the handle has
//! the address of several wheels, each behind a lock of its own.

use std::{collections::HashSet, ops::Range};

use super::lists::{List, Search, handle_words, is_pointer};
use crate::observe::memory::{
    Memory,
    space::{Space as _, SpaceExt as _, word},
};

/// Where in a handle the list of its tasks is.
const LISTS: u64 = 1_024;
const LEVELS: u64 = 6;
const SLOTS: u64 = 64;
/// The number of a level, which of its slots are in use, and the ends of each slot's list.
const LEVEL: u64 = 16 + 16 * SLOTS;
/// A lock, the address of its levels, the time that has passed, and two ends of a list.
const SHARD: u64 = 40;
/// Wheels of one runtime: it has one for each of its threads.
const MAX_SHARDS: u64 = 4_096;
/// Runtimes of one process.
const MAX_RUNTIMES: usize = 1_024;
/// Slots of all wheels of a process, as many as of that many wheels.
const MAX_WHEELS: usize = 8_192;

/// Where in a level its number stands: behind its slots, or before them. The compiler orders the parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    SlotsFirst,
    SlotsLast,
}

impl Order {
    const ALL: [Self; 2] = [Self::SlotsFirst, Self::SlotsLast];

    const fn number(self) -> u64 {
        match self {
            Self::SlotsFirst => LEVEL - 16,
            Self::SlotsLast => 0,
        }
    }

    const fn slots(self) -> u64 {
        match self {
            Self::SlotsFirst => 0,
            Self::SlotsLast => 16,
        }
    }
}

/// The wheels of one runtime.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wheels {
    handle: u64,
    /// Where the levels of each are.
    levels: Vec<(u64, Order)>,
}

impl Wheels {
    pub const fn handle(&self) -> u64 {
        self.handle
    }

    /// Where the ends of the slots' lists stand, of the lowest level first.
    pub fn levels(&self) -> impl Iterator<Item = Range<u64>> {
        let slots = |(levels, order): (u64, Order)| {
            (0..LEVELS).map(move |number| {
                let start = levels + LEVEL * number + order.slots();
                start..start + 16 * SLOTS
            })
        };
        self.levels.iter().copied().flat_map(slots)
    }

    /// Whether these are the same wheels, whosever they are.
    pub fn is_same(&self, other: &Self) -> bool {
        self.levels == other.levels
    }

    /// Whether a list is that of the tasks of the same runtime.
    pub fn are_of(&self, list: &List) -> bool {
        (self.handle..self.handle.saturating_add(LISTS)).contains(&list.at())
    }
}

/// The wheels of all runtimes that threads are in, and those of `known` that are still there. `pointers` and `everywhere`
/// are those of [`Search::lists`].
pub fn find(search: &mut Search<'_>, known: &[Wheels], pointers: &[u64], everywhere: bool) -> Vec<Wheels> {
    let mut found: Vec<Wheels> = known
        .iter()
        .filter(|wheels| behind(search.memory, wheels.handle).as_ref() == Some(*wheels))
        .cloned()
        .collect();
    let mut handles: HashSet<u64> = found.iter().map(|wheels| wheels.handle).collect();
    for (handle, _) in search.locals(pointers, everywhere) {
        let count: usize = found.iter().map(|wheels| wheels.levels.len()).sum();
        if found.len() >= MAX_RUNTIMES || count >= MAX_WHEELS {
            break;
        }
        if handles.insert(handle) {
            found.extend(behind(search.memory, handle));
        }
    }
    found
}

/// The wheels in these handles.
#[cfg(test)]
pub fn behind_all(search: &mut Search<'_>, handles: &[u64]) -> Vec<Wheels> {
    let found = handles.iter().filter_map(|handle| behind(search.memory, *handle));
    found.collect()
}

/// The wheels in a handle.
fn behind(memory: &mut Memory, handle: u64) -> Option<Wheels> {
    let words = handle_words(memory, handle);
    let mut candidates: Vec<u64> = words.iter().copied().filter(|word| is_pointer(*word)).collect();
    candidates.sort_unstable();
    candidates.dedup();
    let mut levels = levels_among(memory, &candidates);
    if levels.is_empty() {
        for pair in words.windows(2) {
            if let [address, count] = *pair
                && is_pointer(address)
                && (1..=MAX_SHARDS).contains(&count)
            {
                levels.extend(shards(memory, address, count).unwrap_or_default());
            }
        }
    }
    // Another runtime's handle may lie soon behind: no harm is done when its wheel is read as well.
    (!levels.is_empty()).then_some(Wheels { handle, levels })
}

/// Those of these addresses at which the levels of a wheel are.
fn levels_among(memory: &mut Memory, candidates: &[u64]) -> Vec<(u64, Order)> {
    let mut found = Vec::new();
    for order in Order::ALL {
        // The second level tells that most are none.
        let second = |at: &u64| {
            let at = at.saturating_add(LEVEL + order.number());
            at..at.saturating_add(8)
        };
        let places: Vec<_> = candidates.iter().map(second).collect();
        let gathered = memory.gather(&places, 0);
        for (number, at) in candidates.iter().enumerate() {
            let second = gathered.get(number).and_then(|bytes| word(bytes, 0));
            if second == Some(1) && are_levels(memory, *at, order) {
                found.push((*at, order));
            }
        }
    }
    found
}

fn are_levels(memory: &Memory, address: u64, order: Order) -> bool {
    let mut bytes = vec![0; (LEVELS * LEVEL) as usize];
    memory.fill(address, &mut bytes)
        && bytes
            .chunks_exact(LEVEL as usize)
            .zip(0..)
            .all(|(level, number)| {
                let link = |link| link == 0 || is_pointer(link);
                let slots = level.get(order.slots() as usize..).unwrap_or_default();
                word(level, order.number() as usize) == Some(number)
                    && slots
                        .chunks_exact(8)
                        .take(2 * SLOTS as usize)
                        .all(|slot| word(slot, 0).is_some_and(link))
            })
}

/// The levels of so many wheels side by side.
fn shards(memory: &mut Memory, address: u64, count: u64) -> Option<Vec<(u64, Order)>> {
    let bytes = memory.some(address, SHARD as usize, SHARD as usize);
    let (place, order) = (0..bytes.len()).step_by(8).find_map(|at| {
        let levels = word(&bytes, at).filter(|levels| is_pointer(*levels))?;
        let (_, order) = levels_among(memory, &[levels]).pop()?;
        Some((at, order))
    })?;
    let mut bytes = vec![0; (SHARD * count) as usize];
    memory.fill(address, &mut bytes).then_some(())?;
    let shards = bytes.chunks_exact(SHARD as usize);
    shards
        .map(|shard| {
            let levels = word(shard, place).filter(|levels| is_pointer(*levels))?;
            are_levels(memory, levels, order).then_some((levels, order))
        })
        .collect()
}
