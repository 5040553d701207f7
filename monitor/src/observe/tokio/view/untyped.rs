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
        entries.any(|entry| matches!(entry.awaited(), Awaited::Unknown | Awaited::Untimed(_)))
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
                Awaited::Unknown => World::Maybe,
                Awaited::Number(_) | Awaited::Unasked => continue,
            };
            let waits = match &world {
                Some(world) if world.contains(&entry.address) => World::Yes,
                Some(_) => World::No,
                None => before,
            };
            entry.set_awaited(if timed.contains(&entry.address) {
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
