//! Whether a wait for channels ends by itself: one of them is a timer's.
//!
//! A goroutine that receives or selects has a list of `sudog`s, one a channel (`g.waiting`, runtime/runtime2.go). From Go
//! 1.23 on the channel of a timer or a ticker names its `timer` (`hchan.timer`, runtime/chan.go), and that says when it
//! goes off next (`when`, CLOCK_MONOTONIC ns; 0 when it was stopped). Of older versions, and of programs that ask for their
//! timers (`asynctimerchan=1`, a go.mod of before 1.23), such channels are like any other.

use std::ops::Range;

use super::offsets::Offsets;
use crate::observe::memory::{Memory, space::word};

/// Cases of a `select` that are looked at.
const MAX_CASES: usize = 64;
/// What takes longer counts as no end.
const FOR_EVER: u64 = 24 * 3600 * 1_000_000_000;

/// Whether what waits for this reason may wait for a timer.
pub fn may_end(reason: &str) -> bool {
    matches!(reason, "chan receive" | "select")
}

/// Of each list of `sudog`s, given by its first one, whether it has a timer that goes off. `now`: CLOCK_MONOTONIC ns.
pub fn end_by_themselves(offsets: &Offsets, memory: &mut Memory, lists: &[u64], now: u64) -> Vec<bool> {
    let mut ends = vec![false; lists.len()];
    if offsets.chan_timer == 0 {
        return ends;
    }
    let mut left: Vec<(u64, usize)> = lists.iter().copied().zip(0..).collect();
    for _ in 0..MAX_CASES {
        left.retain(|(sudog, list)| *sudog != 0 && !ends[*list]);
        if left.is_empty() {
            break;
        }
        // Neighbours are read together.
        left.sort_unstable();
        let cases = words(memory, &left, [offsets.sudog_chan, offsets.sudog_next]);
        let channels: Vec<(u64, usize)> = cases
            .iter()
            .map(|([channel, _], list)| (*channel, *list))
            .collect();
        let timers: Vec<(u64, usize)> = words(memory, &channels, [offsets.chan_timer])
            .into_iter()
            .map(|([timer], list)| (timer, list))
            .filter(|(timer, _)| *timer != 0)
            .collect();
        for ([when], list) in words(memory, &timers, [offsets.timer_when]) {
            ends[list] |= when != 0 && when < now.saturating_add(FOR_EVER);
        }
        left = cases.into_iter().map(|([_, next], list)| (next, list)).collect();
    }
    ends
}

/// Some words of structures, as far as they can be read.
fn words<const N: usize>(
    memory: &mut Memory,
    structures: &[(u64, usize)],
    offsets: [usize; N],
) -> Vec<([u64; N], usize)> {
    let length = offsets.iter().max().map_or(0, |last| last + 8) as u64;
    let places: Vec<Range<u64>> = structures
        .iter()
        .map(|(address, _)| *address..address.saturating_add(length))
        .collect();
    let gathered = memory.gather(&places, 0);
    let read = |(number, (_, list)): (usize, &(u64, usize))| {
        let bytes = gathered.get(number)?;
        let mut words = [0; N];
        for (place, offset) in words.iter_mut().zip(offsets) {
            *place = word(bytes, offset)?;
        }
        Some((words, *list))
    };
    structures.iter().enumerate().filter_map(read).collect()
}
