//! Where a `LocalSet` keeps its tasks: while its thread waits nobody but that thread's stack leads there
//! (tokio/src/task/local.rs: `LocalSet`, an `Rc` of its context, and the context's `Arc` of what is shared, which has the
//! list).

use std::{collections::HashSet, ops::Range};

use super::lists::{List, Search, is_pointer};
use crate::observe::memory::space::word;

/// Stacks that are looked through, and how much of each, from its top.
const MAX_STACKS: usize = 64;
const MAX_STACK: u64 = 64 << 10;
/// Things that stacks point to, and what those point to.
const MAX_POINTERS: usize = 8 << 10;
/// Of each of them.
const LENGTH: u64 = 256;

impl Search<'_> {
    /// The lists of the `LocalSet`s that threads run. `stacks`: the threads' stack pointers.
    pub fn locals_on(&mut self, stacks: &[u64]) -> Vec<List> {
        let mut pointers = HashSet::new();
        for top in stacks.iter().take(MAX_STACKS) {
            let top = top & !7;
            self.memory.parts(top..top.saturating_add(MAX_STACK), |_, bytes| {
                collect(bytes, &mut pointers);
            });
        }
        let mut lists = Vec::new();
        let inner = self.look_behind(&pointers, &mut lists);
        let inner: HashSet<u64> = inner.difference(&pointers).copied().collect();
        self.look_behind(&inner, &mut lists);
        lists
    }

    /// Adds the lists that lie behind these pointers, and tells what else is pointed to there.
    fn look_behind(&mut self, pointers: &HashSet<u64>, lists: &mut Vec<List>) -> HashSet<u64> {
        let mut pointers: Vec<u64> = pointers.iter().copied().collect();
        pointers.sort_unstable();
        let place = |address: &u64| *address..address.saturating_add(LENGTH);
        let places: Vec<Range<u64>> = pointers.iter().map(place).collect();
        let gathered = self.memory.gather(&places, 0);
        let mut inner = HashSet::new();
        for (number, address) in pointers.iter().enumerate() {
            let Some(bytes) = gathered.get(number) else {
                continue;
            };
            if let Some(list) = self.local(*address, bytes)
                && !lists.contains(&list)
            {
                lists.push(list);
            }
            collect(bytes, &mut inner);
        }
        inner
    }
}

fn collect(bytes: &[u8], pointers: &mut HashSet<u64>) {
    let words = (0..bytes.len()).step_by(8).filter_map(|at| word(bytes, at));
    for value in words.filter(|value| is_pointer(*value)) {
        if pointers.len() < MAX_POINTERS {
            pointers.insert(value);
        }
    }
}
