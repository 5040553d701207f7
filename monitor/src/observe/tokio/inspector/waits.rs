//! What is answered of who waits for a timer, and who for a socket, of programs whose debug information does not tell.

use std::collections::HashSet;

use super::{EVERYWHERE, Inspector, memory};
use crate::observe::{
    helper::Who,
    programs::Unknown,
    tokio::{
        blocks::Blocks,
        lists::{List, Search},
        protocol,
        timers::{self, Timers},
        wakers::Wakers,
        wheels::{self, Wheels},
        world::{self, Sockets},
    },
};

impl Inspector {
    pub(super) fn timers(&mut self, who: Who, threads: &[u64]) -> Result<protocol::Timers, Unknown> {
        let mut timers = match self.timers.take() {
            Some((of, timers)) if of == who => timers,
            _ => self.begin_timers(who, threads)?,
        };
        if timers.advance() {
            self.timers = Some((who, timers));
            return Ok(protocol::Timers::default());
        }
        let placed = self.program(who)?;
        let mut memory = memory(who)?;
        let mut search = Search {
            placed: &placed,
            memory: &mut memory,
        };
        let (mut found, mut unknown) = timers.end();
        if !unknown.is_empty() {
            // A thread that waits for a future itself is woken by what its variables have.
            let own: HashSet<u64> = search
                .locals(threads, true)
                .into_iter()
                .map(|(own, _)| own)
                .collect();
            unknown.retain(|timer| !timer.wakes_owner_of(&own));
        }
        found.unknown = unknown.iter().map(timers::Unknown::number).collect();
        Ok(found)
    }

    /// All wheels of a process; of each runtime whose tasks are known there must be one.
    fn begin_timers(&mut self, who: Who, threads: &[u64]) -> Result<Timers, Unknown> {
        let placed = self.program(who)?;
        let mut memory = memory(who)?;
        let mut search = Search {
            placed: &placed,
            memory: &mut memory,
        };
        let mut is_whole = false;
        let mut all = Vec::new();
        let mut sockets: Option<Vec<Sockets>> = None;
        if let Some(known) = self.known.get(&who.process()) {
            let everywhere = known.wheels.is_empty() || known.looks.is_multiple_of(EVERYWHERE);
            known.wheels = wheels::find(&mut search, &known.wheels, threads, everywhere);
            let has_one = |list: &List| known.wheels.iter().any(|wheels| wheels.are_of(list));
            is_whole = !known.wheels.is_empty()
                && known
                    .lists
                    .iter()
                    .all(|list| known.of_sets.contains(&list.at()) || has_one(list));
            all.clone_from(&known.wheels);
            // What else is counted may have old words of a handle behind it.
            let has_list = |wheels: &Wheels| known.lists.iter().any(|list| wheels.are_of(list));
            let is_twin = |wheels: &Wheels| {
                let mut others = all.iter().filter(|other| other.is_same(wheels));
                !has_list(wheels) && others.any(has_list)
            };
            let of_each = all.iter().filter(|wheels| !is_twin(wheels)).map(|wheels| {
                // What stands in an older handle may look as if there were none.
                let is_old = |list: &List| wheels.are_of(list) && !list.is_sharded();
                let is_old = known.lists.iter().any(is_old);
                let found = world::find(search.memory, who.tid, wheels.handle());
                found.filter(|sockets| !is_old || *sockets != Sockets::None)
            });
            sockets = of_each.collect();
        }
        let wakers = Wakers::new(placed);
        Ok(Timers::new(Blocks::new(memory), wakers, &all, is_whole, sockets))
    }
}
