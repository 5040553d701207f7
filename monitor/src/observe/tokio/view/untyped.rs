//! Tasks of which the debug information does not tell what they await: whether they wait for a timer, or for the world.

use std::{collections::HashSet, sync::Arc};

use super::{Future, Memory};
use crate::{
    model::{Frame, Reason, Stack, WaitClass},
    observe::tokio::{
        protocol::Timers,
        tracker::{Awaited, World},
    },
};

impl Memory {
    /// Whether there are tasks of which only the timers can tell whether they are blocked.
    pub fn is_any_unknown(&self) -> bool {
        let mut entries = self.tracker.entries().iter();
        entries.any(|entry| entry.awaited().is_without_types())
    }

    /// Takes in who waits for a timer. `at`: when it was begun to look, CLOCK_MONOTONIC ns.
    pub fn take_timers(&mut self, timers: &Timers, at: u64) {
        self.timed.look(timers, at);
        if !timers.is_whole {
            return;
        }
        let timed: HashSet<u64> = timers.tasks.iter().copied().collect();
        let world = timers.world.as_ref();
        let world: Option<HashSet<u64>> = world.map(|tasks| tasks.iter().copied().collect());
        for entry in self.tracker.entries_mut() {
            let before = match entry.awaited() {
                Awaited::Untimed(world) => world,
                Awaited::Unknown | Awaited::Timed => World::Maybe,
                Awaited::Number(_) | Awaited::Unasked => continue,
            };
            let was_timed = entry.awaited() == Awaited::Timed;
            let waits = match &world {
                Some(world) if world.contains(&entry.address) => World::Yes,
                Some(_) => World::No,
                None => before,
            };
            entry.set_awaited(if timed.contains(&entry.address) {
                Awaited::Timed
            } else if was_timed {
                // Its timer may have ended just now, and who is to wake it not have come to that.
                Awaited::Unknown
            } else {
                Awaited::Untimed(waits)
            });
        }
    }
}

impl Future {
    /// What is known of where its tasks await: in this future, or in one within it.
    pub(super) fn alone(&self) -> Arc<Stack> {
        let site = self.site.as_ref();
        let frame = site.map(|site| Frame {
            function: Some(site.function.clone()),
            file: site.file.clone(),
            line: site.line,
            inlined: false,
            module: String::new(),
            offset: 0,
            guessed: false,
        });
        Arc::new(Stack {
            frames: frame.into_iter().collect(),
            truncated: true,
            block_site: site.cloned(),
            entry: None,
        })
    }
}

/// What tasks wait for of which it is known that it is no timer. What may be the world is not held against them.
pub const fn waits(world: World) -> (Reason, WaitClass) {
    match world {
        World::Yes => (Reason::Static("io"), WaitClass::External),
        World::No => (Reason::Static("await"), WaitClass::Internal),
        World::Maybe => (Reason::Static("await"), WaitClass::External),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::tokio::{protocol::Record, task::Status};

    #[test]
    fn whose_timer_has_just_gone_is_not_said_to_have_none() {
        let mut memory = Memory::default();
        let record = |id| Record {
            address: 128 * id,
            id,
            vtable: 1,
            status: Status::Idle,
            references: 1,
            sum: 0,
            made_at: 0,
        };
        // The first has a timer at two looks, the second none ever.
        let looks = [true, true, false, false].map(|is_timed| {
            let entries = [1, 2].map(|id| memory.entry(&record(id), 10));
            memory.tracker.look(entries.to_vec());
            for entry in memory.tracker.entries_mut() {
                if entry.awaited() == Awaited::Unasked {
                    entry.set_awaited(Awaited::Unknown);
                }
            }
            let timers = Timers {
                is_last: true,
                is_whole: true,
                tasks: is_timed.then_some(128).into_iter().collect(),
                world: Some(Vec::new()),
                unknown: Vec::new(),
            };
            memory.take_timers(&timers, 10);
            [0, 1].map(|index| memory.tracker.entries()[index].awaited())
        });
        let none = Awaited::Untimed(World::No);
        let expected = [Awaited::Timed, Awaited::Timed, Awaited::Unknown, none];
        assert_eq!(looks, expected.map(|first| [first, none]));
    }
}
