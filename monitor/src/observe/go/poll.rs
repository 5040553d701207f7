//! Whether a wait for a connection has a deadline.
//!
//! The runtime's `pollDesc` (runtime/netpoll.go) of a connection says who waits on it (`rg`, `wg`) and until when
//! (`rd`, `wd`, CLOCK_MONOTONIC ns; 0 is for ever). The waiting goroutine has the `pollDesc`'s address on its stack: it is the
//! one of the words there at which a `pollDesc` points back at the goroutine.

use std::ops::Range;

use super::{goroutine::Goroutine, offsets::Offsets};
use crate::observe::memory::{Memory, gather::NEAR, space::word};

/// The reason of such waits.
pub const REASON: &str = "IO wait";
/// Of the stack, where the calls that wait are: some ten frames.
const SEARCHED: usize = 1024;
/// Addresses that are looked at at once.
const AT_ONCE: usize = 16 << 10;

/// Of goroutines that wait for that reason, each a number with the stack from its stack pointer upwards, the numbers of those
/// whose wait ends by itself.
pub fn have_deadlines(
    offsets: &Offsets,
    memory: &mut Memory,
    waits: &[(usize, &Goroutine, &[u8])],
) -> Vec<usize> {
    let length = (offsets.poll_wd + 8) as u64;
    // Addresses that may be that of a `pollDesc`, and whose.
    let mut found: Vec<(u64, usize)> = Vec::new();
    for (at, (_, goroutine, stack)) in waits.iter().enumerate() {
        let is_elsewhere = |address: &u64| {
            *address >= 1 << 16
                && address.is_multiple_of(8)
                && *address >> 47 == 0
                && !goroutine.stack.contains(address)
        };
        let searched = stack.len().min(SEARCHED) / 8;
        let words = (0..searched).filter_map(|number| word(stack, 8 * number));
        found.extend(words.filter(is_elsewhere).map(|address| (address, at)));
    }
    found.sort_unstable();
    found.dedup();
    let mut limited = Vec::new();
    for some in found.chunks(AT_ONCE) {
        let places: Vec<Range<u64>> = some
            .iter()
            .map(|(address, _)| *address..address.saturating_add(length))
            .collect();
        let gathered = memory.gather(&places, NEAR);
        for (place, (_, at)) in some.iter().enumerate() {
            let (number, goroutine, _) = waits[*at];
            let ends = |bytes: &[u8], waits: usize, until: usize| {
                word(bytes, waits) == Some(goroutine.address)
                    && word(bytes, until).is_some_and(|until| until != 0)
            };
            if gathered.get(place).is_some_and(|bytes| {
                ends(bytes, offsets.poll_rg, offsets.poll_rd) || ends(bytes, offsets.poll_wg, offsets.poll_wd)
            }) {
                limited.push(number);
            }
        }
    }
    limited
}
