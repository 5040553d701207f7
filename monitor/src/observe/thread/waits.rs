//! Since when each thread waits, from one sweep to the next.
//!
//! Sources of "since", best first: the futex probes; the scheduler (`sched_info.last_arrival` is when the
//! thread last came *onto* a CPU, so the length of that stay is added: `se.sum_exec_runtime −
//! prev_sum_exec_runtime`, kept for fair tasks only); the first sweep that saw this switch count. Time spent
//! stopped or frozen is taken out.

use std::collections::HashMap;

use monitor_common::record_flags;

use super::{
    syscalls::{self, Call},
    timeout::{self, Bound, Clocks, InMemory},
};
use crate::observe::{bpf::TaskRecord, helper::HelperError};

/// `SCHED_NORMAL`, `SCHED_BATCH`, `SCHED_IDLE` of include/uapi/linux/sched.h.
const FAIR: [u32; 3] = [0, 3, 5];
/// Pointers to pointers that are followed to a timeout.
const MAX_HOPS: u32 = 2;

/// What makes a wait the same wait when it is seen again.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Shape {
    args: [u64; 6],
    ip: u64,
    sp: u64,
}

impl Shape {
    fn of(record: &TaskRecord) -> Self {
        Self {
            args: record.args,
            ip: record.ip,
            sp: record.sp,
        }
    }
}

struct Thread {
    start_boottime: u64,
    switches: u64,
    number: i64,
    compat: bool,
    shape: Shape,
    /// CLOCK_MONOTONIC ns when the wait began, without what was excluded.
    began: u64,
    /// ns of it that do not count: outside the call because of a signal or a stop, and frozen.
    excluded: u64,
    /// The part of `excluded` that it was frozen where it slept, without having run.
    frozen: u64,
    /// When the first sweep saw it asleep with this switch count.
    first_seen: u64,
    held: Option<Hold>,
    /// Whether the wait is without an end of its own; `None`: not asked yet.
    unbounded: Option<bool>,
    seen_in: u32,
}

#[derive(Clone, Copy)]
struct Hold {
    since: u64,
    /// How long the wait had lasted by then.
    age: u64,
    /// Switches when it was first seen held.
    switches_before: u64,
}

/// Since when a thread waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Since {
    /// CLOCK_MONOTONIC ns when the wait began: the same for as long as the wait lasts.
    pub began: u64,
    /// The same with the time that does not count taken out: what its age is counted from.
    pub counted: u64,
}

/// The waits of every watched thread, by host tid.
pub struct Waits {
    threads: HashMap<u32, Thread>,
    pass: u32,
    /// ns of a tick.
    tick: u64,
}

impl Waits {
    /// `tick`: ns between two ticks of this kernel.
    pub fn new(tick: u64) -> Self {
        Self {
            threads: HashMap::new(),
            pass: 0,
            tick,
        }
    }

    /// A thread that runs or could run.
    pub fn active(&mut self, record: &TaskRecord) {
        // On its way out of a stop or a thaw it may be met between the two: its wait is remembered.
        match self.threads.get_mut(&record.host_tid) {
            Some(thread) if thread.held.is_some() => thread.seen_in = self.pass,
            _ => {
                self.threads.remove(&record.host_tid);
            }
        }
    }

    /// A stopped or frozen thread: the wait that it was in before, at the age that it had then.
    pub fn held(&mut self, record: &TaskRecord, clock_offset: i64) -> Option<(Call, Since)> {
        let pass = self.pass;
        let thread = self.known(record)?;
        thread.seen_in = pass;
        let hold = *thread.held.get_or_insert_with(|| {
            // Without a switch it was frozen where it slept (kernel/freezer.c), some time since the last sweep.
            let since = if thread.switches == record.switches {
                record.sampled_at
            } else {
                left_cpu(record, clock_offset).unwrap_or(record.sampled_at)
            };
            let age = since.saturating_sub(thread.began + thread.excluded);
            Hold {
                since,
                age,
                switches_before: thread.switches,
            }
        });
        let call = syscalls::lookup(thread.number, thread.compat);
        let since = Since {
            began: thread.began,
            counted: record.sampled_at.saturating_sub(hold.age),
        };
        (thread.unbounded == Some(true)).then_some((call, since))
    }

    /// A sleeping thread in the given call.
    pub fn sleeping(&mut self, record: &TaskRecord, number: i64, call: &Call, clock_offset: i64) -> Since {
        let pass = self.pass;
        let shape = Shape::of(record);
        let tick = self.tick;
        let before = self
            .known(record)
            .map(|thread| &*thread)
            .filter(|thread| thread.shape == shape && thread.number == number);
        let same_switches = before
            .as_ref()
            .filter(|thread| thread.switches == record.switches);
        let first_seen = same_switches.map_or(record.sampled_at, |thread| thread.first_seen);
        let left_cpu = left_cpu(record, clock_offset).unwrap_or(first_seen);
        let (began, paused, frozen) = match (probed(record, call, tick), before) {
            (Some((start, paused)), before) if start != 0 => {
                let same = before.filter(|thread| thread.began.abs_diff(start) <= 2 * tick);
                let start = same.map_or(start, |thread| thread.began);
                (start, paused, same.map_or(0, |thread| thread.frozen_by(record)))
            }
            // From before the probes, and they have not seen it end.
            (Some((_, paused)), Some(thread)) => (thread.began, paused, thread.frozen_by(record)),
            (None, Some(thread)) if thread.switches == record.switches => {
                (thread.began, 0, thread.frozen_by(record))
            }
            (None, Some(Thread { held: Some(hold), .. })) => (left_cpu.saturating_sub(hold.age), 0, 0),
            _ => (left_cpu, 0, 0),
        };
        let excluded = paused + frozen;
        let unbounded = self
            .known(record)
            .filter(|thread| thread.shape == shape && thread.began == began)
            .and_then(|t| t.unbounded);
        let thread = Thread {
            start_boottime: record.start_boottime,
            switches: record.switches,
            number,
            compat: record.record_flags & record_flags::COMPAT != 0,
            shape,
            began,
            excluded,
            frozen,
            first_seen,
            held: None,
            unbounded,
            seen_in: pass,
        };
        self.threads.insert(record.host_tid, thread);
        Since {
            began,
            counted: began + excluded,
        }
    }

    /// Number of the call that a thread was in when it was last seen, if it still is in the same one under the
    /// number of `restart_syscall`.
    pub fn number_before_restart(&mut self, record: &TaskRecord) -> Option<i64> {
        let shape = Shape::of(record);
        self.known(record)
            .filter(|thread| thread.shape == shape)
            .map(|thread| thread.number)
    }

    /// Whether the wait (taken in by [`Self::sleeping`] just now) does not end by itself. `look` says whether it
    /// is worth a look into the target's memory; without one a timeout there counts as a short one, this time.
    ///
    /// # Errors
    /// When the timeout could not be read.
    pub fn is_unbounded(
        &mut self,
        record: &TaskRecord,
        call: &Call,
        clocks: &Clocks,
        look: bool,
        mut read: impl FnMut(u64, usize) -> Result<Vec<u8>, HelperError>,
    ) -> Result<bool, HelperError> {
        let Some(thread) = self.threads.get_mut(&record.host_tid) else {
            return Ok(false);
        };
        if let Some(known) = thread.unbounded {
            return Ok(known);
        }
        let mut bound = timeout::bound(call, &record.args);
        for _ in 0..MAX_HOPS {
            let Bound::InMemory(memory) = bound else { break };
            if !look {
                return Ok(false);
            }
            bound = follow(&memory, clocks, &mut read)?;
        }
        let unbounded = bound == Bound::Unbounded;
        thread.unbounded = Some(unbounded);
        Ok(unbounded)
    }

    /// Forgets threads that were not met in this pass.
    pub fn end_pass(&mut self) {
        let pass = self.pass;
        self.threads.retain(|_, thread| thread.seen_in == pass);
        self.pass = pass.wrapping_add(1);
    }

    fn known(&mut self, record: &TaskRecord) -> Option<&mut Thread> {
        self.threads
            .get_mut(&record.host_tid)
            .filter(|thread| thread.start_boottime == record.start_boottime)
    }
}

impl Thread {
    /// ns that it has been frozen where it slept, with a freeze that this sweep sees to have ended.
    fn frozen_by(&self, record: &TaskRecord) -> u64 {
        match self.held {
            Some(hold) if hold.switches_before == record.switches => {
                self.frozen + record.sampled_at.saturating_sub(hold.since)
            }
            _ => self.frozen,
        }
    }
}

fn follow(
    memory: &InMemory,
    clocks: &Clocks,
    read: &mut impl FnMut(u64, usize) -> Result<Vec<u8>, HelperError>,
) -> Result<Bound, HelperError> {
    let bytes = read(memory.address, memory.length())?;
    memory.bound(&bytes, clocks).ok_or(HelperError::Absent)
}

/// What the futex probes know of the wait that this record shows: CLOCK_MONOTONIC ns of its start (0: from before
/// them) and the ns spent outside the call. `None` when it is not the wait that they saw last.
fn probed(record: &TaskRecord, call: &Call, tick: u64) -> Option<(u64, u64)> {
    let futex = &record.futex;
    let same = record.record_flags & record_flags::FUTEX_WAIT != 0
        && call.reason.starts_with("futex")
        && futex.address == record.args[0]
        && futex.interrupted_at == 0;
    let start = || match futex.start {
        0 => 0,
        start => {
            let age = record.sampled_tick.saturating_sub(start).saturating_mul(tick);
            record.sampled_at.saturating_sub(age).max(1)
        }
    };
    same.then(|| (start(), futex.paused.saturating_mul(tick)))
}

/// When it last left the CPU, CLOCK_MONOTONIC ns. `None` where the scheduler does not keep it.
fn left_cpu(record: &TaskRecord, clock_offset: i64) -> Option<u64> {
    if !FAIR.contains(&record.policy) {
        return None;
    }
    let left = record
        .last_arrival
        .checked_add(record.last_run)?
        .checked_add_signed(clock_offset)?;
    // A scheduler class that does not keep `prev_sum_exec_runtime` (sched_ext under SCHED_NORMAL) gives a time
    // that has not come yet.
    (left <= record.sampled_at + CLOCK_SLACK).then(|| left.min(record.sampled_at))
}

/// ns by which the two clocks' distance may be misjudged in one sweep.
const CLOCK_SLACK: u64 = 10_000_000;

#[cfg(test)]
mod tests;
