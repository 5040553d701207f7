//! Who waits for a timer: whom the wakers of all timers in a process's wheels wake (tokio/src/runtime/time/entry.rs:
//! `TimerShared`, which is part of a `Sleep`). A task that waits for a while is among them, whatever it awaits besides.

use std::{
    collections::HashSet,
    ops::Range,
    time::{Duration, Instant},
};

use super::{
    blocks::Blocks,
    links::{self, End},
    protocol,
    wakers::Wakers,
    wheels::Wheels,
    world::{self, Sockets},
};
use crate::observe::{helper::Allowance, memory::space::word};

/// Timers of one process, and those of them of which it is not known whom they wake.
const MAX_TIMERS: usize = 1 << 18;
const MAX_UNKNOWN: usize = 32 << 10;
/// How often all of them are read until no list has changed too fast.
const ROUNDS: u32 = 4;
/// How long a step may take, and all of them.
const STEP: Duration = Duration::from_millis(500);
const LONGEST: Duration = Duration::from_secs(3);
/// Of a timer: its links, its time or two of them, its state, and the waker.
const TIMER: usize = 64;
/// The word at which the state and the waker may begin.
const BEHIND_LINKS: usize = 2;

/// A timer of which it is not known whom it wakes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unknown {
    pub address: u64,
    /// What its waker is given.
    pub data: u64,
}

impl Unknown {
    /// Tells it from every other one, as long as nobody else may wait for it.
    pub const fn number(&self) -> u64 {
        self.address ^ self.data.rotate_left(32)
    }

    /// Whether its waker is given something that has an owner among these: what is counted has its counts before it, and is
    /// aligned.
    pub fn wakes_owner_of(&self, counted: &HashSet<u64>) -> bool {
        let before = |length| counted.contains(&self.data.wrapping_sub(length));
        [16, 32, 64, 128].into_iter().any(before)
    }
}

/// A look at all timers of a process, some at a time.
///
/// A timer whose time comes nearer moves down from level to level: each level is read after those above it. When a list
/// changes too fast all are read again.
pub struct Timers {
    blocks: Blocks,
    wakers: Wakers,
    /// Where the ends of the lists of each level stand, the highest last; and which of them are still to come.
    levels: Vec<Range<u64>>,
    left: Vec<Range<u64>>,
    rounds: u32,
    allowance: Allowance,
    /// The word of a timer at which the table of its waker stands.
    place: Option<usize>,
    /// Timers without a waker that is understood.
    strange: Vec<(u64, [u8; TIMER])>,
    tasks: HashSet<u64>,
    unknown: Vec<Unknown>,
    /// The sockets; `None` where they are not known of all runtimes. And who waits for them.
    sockets: Option<Vec<Sockets>>,
    world: HashSet<u64>,
    /// Timers of this round.
    count: usize,
    is_broken: bool,
    is_whole: bool,
}

impl Timers {
    /// `is_whole`: whether these are all wheels that there are. `sockets`: where the ends of the lists of sockets stand, if
    /// that is known.
    pub fn new(
        blocks: Blocks,
        wakers: Wakers,
        wheels: &[Wheels],
        is_whole: bool,
        sockets: Option<Vec<Sockets>>,
    ) -> Self {
        let levels: Vec<Range<u64>> = wheels.iter().flat_map(Wheels::levels).collect();
        Self {
            blocks,
            wakers,
            left: levels.clone(),
            levels,
            rounds: 0,
            allowance: Allowance::of(LONGEST),
            place: None,
            strange: Vec::new(),
            tasks: HashSet::new(),
            unknown: Vec::new(),
            sockets,
            world: HashSet::new(),
            count: 0,
            is_broken: false,
            is_whole,
        }
    }

    /// Reads some more; whether there are more.
    pub fn advance(&mut self) -> bool {
        let until = Instant::now() + STEP;
        while Instant::now() < until {
            let Some(level) = self.left.pop() else {
                self.rounds += 1;
                if !self.is_broken || self.rounds >= ROUNDS {
                    self.is_whole &= !self.is_broken;
                    self.read_sockets();
                    return false;
                }
                self.blocks.clear();
                self.left.clone_from(&self.levels);
                self.strange.clear();
                self.unknown.clear();
                (self.count, self.is_broken) = (0, false);
                continue;
            };
            self.blocks.forget(level.start);
            self.blocks.forget(level.end);
            for slot in level.step_by(16) {
                self.is_broken |= self.read(slot) == End::Broken;
            }
            let has_room = self.count < MAX_TIMERS && self.unknown.len() + self.strange.len() < MAX_UNKNOWN;
            if !has_room || self.allowance.is_over() {
                self.is_whole = false;
                return false;
            }
        }
        true
    }

    fn read_sockets(&mut self) {
        let Self {
            blocks,
            wakers,
            sockets,
            world,
            ..
        } = self;
        let mut is_whole = |sockets: &Sockets| match sockets {
            Sockets::At(ends) => world::read(blocks, wakers, *ends, world),
            Sockets::None => true,
        };
        if sockets.iter().flatten().any(|sockets| !is_whole(sockets)) {
            self.sockets = None;
        }
    }

    /// Reads the list of a slot.
    fn read(&mut self, slot: u64) -> End {
        let Self {
            blocks,
            wakers,
            place,
            strange,
            tasks,
            unknown,
            count,
            ..
        } = self;
        let left = MAX_TIMERS - (*count).min(MAX_TIMERS);
        links::walk(blocks, slot, left, |blocks, address, timer: &[u8; TIMER]| {
            *count += 1;
            let found = match *place {
                Some(place) => wakers.at(blocks, timer, place).map(|waker| (place, waker)),
                None => wakers.first(blocks, timer, BEHIND_LINKS),
            };
            match found {
                Some((index, waker)) => {
                    *place = Some(index);
                    if let Some(task) = wakers.task(blocks, waker) {
                        tasks.insert(task);
                    } else if unknown.len() < MAX_UNKNOWN {
                        let data = waker.data;
                        unknown.push(Unknown { address, data });
                    }
                }
                None if strange.len() < MAX_UNKNOWN => strange.push((address, *timer)),
                None => {}
            }
        })
    }

    /// What was found, and the timers of which it is not known who waits for them.
    pub fn end(mut self) -> (protocol::Timers, Vec<Unknown>) {
        for (address, timer) in self.strange {
            // One that nobody has waited for yet has no waker.
            let is_idle = self.place.is_some_and(|place| word(&timer, 8 * place) == Some(0));
            if !is_idle {
                self.unknown.push(Unknown { address, data: 0 });
            }
        }
        let found = protocol::Timers {
            is_last: true,
            is_whole: self.is_whole,
            tasks: self.tasks.into_iter().collect(),
            world: self.sockets.map(|_| self.world.into_iter().collect()),
            unknown: Vec::new(),
        };
        (found, self.unknown)
    }
}

#[cfg(test)]
mod tests;
