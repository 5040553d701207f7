//! Whether a thread sleeps, runs, or is held.

use monitor_common::EXITED;

use crate::{
    model::Cause,
    observe::bpf::{TaskRecord, task_state},
};

/// `JOBCTL_TRAP_FREEZE` of include/linux/sched/jobctl.h: the cgroup v2 freezer holds it, though its state says
/// that it sleeps, or even that it runs.
const JOBCTL_TRAP_FREEZE: u64 = 1 << 23;
/// `PF_FROZEN` until 6.0, where [`task_state::FROZEN`] took its place (kernel threads reuse the bit later).
const PF_FROZEN: u32 = 0x0001_0000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Runs or could run, or has only just gone to sleep.
    Active,
    Sleeping,
    /// Not judged, and its ages stand still.
    Held(Cause),
    /// No thread any more: a leader that left before the others, or one that nobody has reaped.
    Gone,
}

pub fn of(record: &TaskRecord) -> State {
    if record.exit_state & EXITED != 0 {
        return State::Gone;
    }
    if record.jobctl & JOBCTL_TRAP_FREEZE != 0
        || record.state & task_state::FROZEN != 0
        || record.flags & PF_FROZEN != 0
    {
        return State::Held(Cause::Frozen);
    }
    if record.state & task_state::STOPPED != 0 {
        return State::Held(Cause::Stopped);
    }
    if record.state & task_state::TRACED != 0 {
        return State::Held(Cause::Traced);
    }
    // A running thread's saved registers are stale, and its switch count may stand still.
    let sleeps = record.state & (task_state::INTERRUPTIBLE | task_state::UNINTERRUPTIBLE) != 0;
    if sleeps && record.on_cpu == 0 {
        State::Sleeping
    } else {
        State::Active
    }
}
