//! Whether a wait for channels ends by itself: one of them is a timer's.
//!
//! A goroutine that receives or selects has a list of `sudog`s, one a channel (`g.waiting`, runtime/runtime2.go). From Go
//! 1.23 on the channel of a timer or a ticker names its `timer` (`hchan.timer`, runtime/chan.go), and that says when it
//! goes off next (`when`, CLOCK_MONOTONIC ns; 0 when it was stopped). Of older versions, and of programs that ask for their
//! timers (`asynctimerchan=1`, a go.mod of before 1.23; up to Go 1.26), such channels are like any other: they are what
//! the timers that are set are to send to (`timer.arg`, a channel for those of package time). Those timers are in heaps, one
//! a processor (`p.timers`, runtime/time.go).

use std::{collections::HashSet, ops::Range};

use super::{offsets::Offsets, program::Program};
use crate::observe::memory::{
    Memory,
    gather::NEAR,
    space::{Space as _, SpaceExt as _, half, word},
};

/// Cases of a `select` that are looked at.
const MAX_CASES: usize = 64;
/// Processors (`GOMAXPROCS`), timers of all of them, and how many of these are read at once.
const MAX_PROCESSORS: u64 = 4096;
const MAX_TIMERS: u64 = 1 << 20;
const AT_ONCE: usize = 16 << 10;
/// A heap is in disorder while it is changed: what is missed once is met the next time.
const TIMES: usize = 2;
/// `timerNoStatus`, `timerDeleted`, `timerRemoving`, `timerRemoved` (runtime/time.go, up to Go 1.22): they do not go off.
const STOPPED: [u32; 4] = [0, 3, 4, 5];
/// What takes longer counts as no end.
const FOR_EVER: u64 = 24 * 3600 * 1_000_000_000;

/// Whether what waits for this reason may wait for a timer.
pub fn may_end(reason: &str) -> bool {
    matches!(reason, "chan receive" | "select")
}

/// Whether channels of timers do not name these.
pub fn are_hidden(program: &Program, bias: u64, memory: &Memory) -> bool {
    let switch = program.switches.async_timers;
    program.offsets.chan_timer == 0
        || switch.and_then(|address| memory.u32(address.wrapping_add(bias))) == Some(1)
}

/// What timers that go off are to do it to: among that the channels that they send to. `None` when there are too many
/// to tell, or they cannot be read.
pub fn set(program: &Program, bias: u64, memory: &mut Memory, now: u64) -> Option<HashSet<u64>> {
    let offsets = program.offsets;
    let processors = program.processors?.wrapping_add(bias);
    let (list, count) = (memory.u64(processors)?, memory.u64(processors.checked_add(8)?)?);
    if count > MAX_PROCESSORS {
        return None;
    }
    let mut processors = vec![0; 8 * count as usize];
    memory.fill(list, &mut processors).then_some(())?;
    let processors: Vec<(u64, usize)> = (0..count as usize)
        .filter_map(|number| Some((word(&processors, 8 * number)?, number)))
        .collect();
    let heap = offsets.p_timers + offsets.timers_heap;
    let mut set = HashSet::new();
    for _ in 0..TIMES {
        let mut timers = Vec::new();
        for ([heap, count], _) in words(memory, &processors, [heap, heap + 8]) {
            // From Go 1.23 on each stands beside its time.
            let step = if offsets.timers_heap == 0 { 8 } else { 16 };
            if timers.len() as u64 + count > MAX_TIMERS {
                return None;
            }
            memory.parts(heap..heap.saturating_add(step * count), |_, bytes| {
                timers.extend(
                    (0..bytes.len() / step as usize).filter_map(|at| word(bytes, step as usize * at)),
                );
            });
        }
        timers.sort_unstable();
        for some in timers.chunks(AT_ONCE) {
            goes_off_to(offsets, memory, some, now, &mut set);
        }
    }
    Some(set)
}

fn goes_off_to(offsets: &Offsets, memory: &mut Memory, timers: &[u64], now: u64, set: &mut HashSet<u64>) {
    // An interface: its type, and what it is about.
    let (when, what) = (offsets.timer_when, offsets.timer_arg + 8);
    let length = (when.max(what) + 8).max(offsets.timer_status + 4) as u64;
    let places: Vec<Range<u64>> = timers
        .iter()
        .map(|timer| *timer..timer.saturating_add(length))
        .collect();
    let gathered = memory.gather(&places, 0);
    for bytes in (0..places.len()).filter_map(|number| gathered.get(number)) {
        let is_stopped = offsets.timer_status != 0
            && half(bytes, offsets.timer_status).is_none_or(|status| STOPPED.contains(&status));
        if let (Some(when), Some(what)) = (word(bytes, when), word(bytes, what))
            && !is_stopped
            && goes_off(when, now)
        {
            set.insert(what);
        }
    }
}

fn goes_off(when: u64, now: u64) -> bool {
    when != 0 && when < now.saturating_add(FOR_EVER)
}

/// Of each list of `sudog`s, given by its first one, whether it has a timer that goes off. `hidden`: the channels of such as
/// are not named by them; `now`: CLOCK_MONOTONIC ns.
pub fn end_by_themselves(
    offsets: &Offsets,
    memory: &mut Memory,
    lists: &[u64],
    hidden: &HashSet<u64>,
    now: u64,
) -> Vec<bool> {
    let mut ends = vec![false; lists.len()];
    let mut left: Vec<(u64, usize)> = lists.iter().copied().zip(0..).collect();
    for _ in 0..MAX_CASES {
        left.retain(|(sudog, list)| *sudog != 0 && !ends[*list]);
        if left.is_empty() {
            break;
        }
        let cases = words(memory, &left, [offsets.sudog_chan, offsets.sudog_next]);
        let channels: Vec<(u64, usize)> = cases
            .iter()
            .map(|([channel, _], list)| (*channel, *list))
            .collect();
        for (channel, list) in &channels {
            ends[*list] |= hidden.contains(channel);
        }
        if offsets.chan_timer != 0 {
            let timers: Vec<(u64, usize)> = words(memory, &channels, [offsets.chan_timer])
                .into_iter()
                .map(|([timer], list)| (timer, list))
                .filter(|(timer, _)| *timer != 0)
                .collect();
            for ([when], list) in words(memory, &timers, [offsets.timer_when]) {
                ends[list] |= goes_off(when, now);
            }
        }
        left = cases.into_iter().map(|([_, next], list)| (next, list)).collect();
    }
    ends
}

/// Some words of structures, as far as they can be read; in no order.
fn words<const N: usize>(
    memory: &mut Memory,
    structures: &[(u64, usize)],
    offsets: [usize; N],
) -> Vec<([u64; N], usize)> {
    // As they lie in memory: many goroutines wait for the same channel.
    let mut structures = structures.to_vec();
    structures.sort_unstable();
    let length = offsets.iter().max().map_or(0, |last| last + 8) as u64;
    let places: Vec<Range<u64>> = structures
        .iter()
        .map(|(address, _)| *address..address.saturating_add(length))
        .collect();
    let gathered = memory.gather(&places, NEAR);
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
