//! Whether a wait for a connection has a deadline.
//!
//! The runtime's `pollDesc` (runtime/netpoll.go) of a connection says who waits on it (`rg`, `wg`) and until when
//! (`rd`, `wd`, CLOCK_MONOTONIC ns; 0 is for ever). The waiting goroutine has the `pollDesc`'s address on its stack: it is the
//! one of the words there at which a `pollDesc` points back at the goroutine.

use std::ops::Range;

use super::{goroutine::Goroutine, offsets::Offsets};
use crate::observe::memory::{Memory, space::word};

/// The reason of such waits.
pub const REASON: &str = "IO wait";
/// Of the stack, where the calls that wait are: some ten frames.
const SEARCHED: usize = 1024;

/// `stack`: the goroutine's, from its stack pointer upwards.
pub fn has_deadline(offsets: &Offsets, memory: &mut Memory, goroutine: &Goroutine, stack: &[u8]) -> bool {
    let length = (offsets.poll_wd + 8) as u64;
    let is_elsewhere = |address: &u64| {
        *address >= 1 << 16
            && address.is_multiple_of(8)
            && *address >> 47 == 0
            && !goroutine.stack.contains(address)
    };
    let searched = stack.len().min(SEARCHED) / 8;
    let mut addresses: Vec<u64> = (0..searched)
        .filter_map(|number| word(stack, 8 * number))
        .filter(is_elsewhere)
        .collect();
    addresses.sort_unstable();
    addresses.dedup();
    let places: Vec<Range<u64>> = addresses
        .iter()
        .map(|at| *at..at.saturating_add(length))
        .collect();
    let gathered = memory.gather(&places, 0);
    (0..places.len()).any(|number| {
        let Some(bytes) = gathered.get(number) else {
            return false;
        };
        let ends = |waits: usize, until: usize| {
            word(bytes, waits) == Some(goroutine.address)
                && word(bytes, until).is_some_and(|until| until != 0)
        };
        ends(offsets.poll_rg, offsets.poll_rd) || ends(offsets.poll_wg, offsets.poll_wd)
    })
}
