//! The goroutines of a walk, and their stacks, read on a thread of their own while those that were read before are decoded:
//! most of the time is the kernel's, which copies what no processor has in its cache.

use std::{
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread,
};

use super::{
    goroutine::{Decoded, Goroutine, Status},
    offsets::Offsets,
    protocol::MAX_STACKS,
    reads,
};
use crate::observe::{
    memory::{Memory, gather::Gathered},
    monotonic,
};

/// Goroutines that are read at once: 8 MiB of them.
const BATCH: usize = 16 << 10;
/// Parts that wait for being decoded.
const AHEAD: usize = 1;

/// Some goroutines of a walk.
pub struct Part {
    /// CLOCK_MONOTONIC ns before and after they were read.
    pub began: u64,
    pub ended: u64,
    pub goroutines: Vec<Goroutine>,
    /// Of each its place in the runtime's list.
    pub places: Vec<u32>,
    /// Not in memory, or no goroutines.
    pub unreadable: u64,
    pub stacks: Option<Stacks>,
    pub is_last: bool,
}

/// The first stacks of a part.
pub struct Stacks {
    /// Those of the goroutines that have one to read, by their number.
    pub found: Vec<Decoded>,
    /// [`reads::order`].
    pub order: Vec<usize>,
    /// Of how many of these, in this order; and the stacks.
    pub count: usize,
    pub copied: Gathered,
}

impl Stacks {
    pub fn of(memory: &mut Memory, found: Vec<Decoded>) -> Self {
        let order = reads::order(&found);
        let (count, copied) = reads::stacks(memory, &found, &order);
        Self {
            found,
            order,
            count,
            copied,
        }
    }
}

/// Begins to read goroutines, `left` by their addresses in falling order, each with its place in the runtime's list. It ends
/// with the walk: when nobody waits for parts any more.
pub fn begin(
    offsets: &'static Offsets,
    mut memory: Memory,
    mut left: Vec<(u64, u32)>,
    whole: bool,
) -> std::io::Result<Receiver<Part>> {
    let (sender, parts) = sync_channel(AHEAD);
    let read = move || {
        // Stacks are read while the goroutines are still in the processor's cache, which they are looked up in again.
        let length = if whole { MAX_STACKS } else { BATCH };
        loop {
            let from = left.len().saturating_sub(length);
            let mut some = left.split_off(from);
            some.reverse();
            let part = part(offsets, &mut memory, some, whole, left.is_empty());
            if sent_last(&sender, part) {
                return;
            }
        }
    };
    thread::Builder::new().name("reads".to_owned()).spawn(read)?;
    Ok(parts)
}

/// Whether there is nothing more to be read, or nobody who wants it.
fn sent_last(sender: &SyncSender<Part>, part: Part) -> bool {
    let is_last = part.is_last;
    sender.send(part).is_err() || is_last
}

fn part(
    offsets: &'static Offsets,
    memory: &mut Memory,
    some: Vec<(u64, u32)>,
    whole: bool,
    is_last: bool,
) -> Part {
    let began = monotonic();
    let (addresses, orders): (Vec<u64>, Vec<u32>) = some.into_iter().unzip();
    let (mut goroutines, mut places, mut unreadable) = (Vec::with_capacity(addresses.len()), Vec::new(), 0);
    for (decoded, place) in reads::read(offsets, memory, &addresses).into_iter().zip(orders) {
        match decoded {
            Decoded::Live(goroutine) => {
                goroutines.push(goroutine);
                places.push(place);
            }
            Decoded::Dead => {}
            Decoded::Invalid => unreadable += 1,
        }
    }
    let ended = monotonic();
    let stands = |goroutine: &Goroutine| match goroutine.status {
        Status::Running => Decoded::Dead,
        _ => Decoded::Live(goroutine.clone()),
    };
    let stacks = whole.then(|| Stacks::of(memory, goroutines.iter().map(stands).collect()));
    Part {
        began,
        ended,
        goroutines,
        places,
        unreadable,
        stacks,
        is_last,
    }
}
