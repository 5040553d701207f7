//! Life of threads and processes: `task:task_newtask`, `sched:sched_process_exec`, `sched:sched_process_exit`
//! as BTF tracepoints (5.5 on), which need no tracefs.

use aya_ebpf::{helpers::bpf_get_current_pid_tgid, macros::btf_tracepoint, programs::BtfTracePointContext};
use aya_log_ebpf::warn;
use monitor_common::{Counter, ExecEvent, Filter, FutexWait, ProcessEntry, selected};

use crate::{
    maps::{
        EVENTS, FILTER, FUTEX_PROBES, OWN, PROCESSES, SPAWN_PROBES, WAITS, add, add_wait, count, is_watched,
        put_process, remove_process, remove_wait,
    },
    spawn,
    task::{Kernel, offset},
};

/// `CLONE_THREAD` of include/uapi/linux/sched.h.
const CLONE_THREAD: u64 = 0x0001_0000;

/// `task_newtask(task, clone_flags)`, in the creator's context: a thread of a watched process, or a fork of one
/// that is watched with its forks, is watched from its first instruction on.
#[btf_tracepoint(function = "task_newtask")]
pub fn new_task(ctx: BtfTracePointContext) -> i32 {
    let (task, clone_flags): (*const u8, u64) = (ctx.arg(0), ctx.arg(1));
    let creator = (bpf_get_current_pid_tgid() >> 32) as u32;
    if !is_watched(creator) {
        return 0;
    }
    let task = Kernel::new(task);
    if clone_flags & CLONE_THREAD == 0 && FILTER.load() == Filter::Selected as u32 {
        // SAFETY: one word, read in place.
        let inherits = unsafe { PROCESSES.get(creator) }.is_some_and(|e| e.selected == selected::WITH_FORKS);
        let entry = ProcessEntry {
            selected: selected::WITH_FORKS,
            ..ProcessEntry::default()
        };
        let child: u32 = task.read(offset!(tgid));
        if !inherits {
            return 0;
        }
        if put_process(child, &entry).is_err() {
            warn!(&ctx, "no room for host process {}", child);
            return 0;
        }
    }
    watch_thread(&ctx, task.read(offset!(pid)));
    if clone_flags & CLONE_THREAD != 0 && SPAWN_PROBES.load() != 0 {
        spawn::tell_birth(task);
    }
    0
}

#[inline(always)]
fn watch_thread(ctx: &BtfTracePointContext, host_tid: u32) {
    if FUTEX_PROBES.load() != 0 && add_wait(host_tid, &FutexWait::default()).is_err() {
        warn!(ctx, "no room for the futex waits of host tid {}", host_tid);
    }
}

/// `sched_process_exec(task, old_pid, bprm)`: the process is another program from here on. `old_pid` is the
/// tid of the thread that called exec; it has the leader's by now (de_thread, fs/exec.c).
#[btf_tracepoint(function = "sched_process_exec")]
pub fn process_exec(ctx: BtfTracePointContext) -> i32 {
    let (task, old_tid): (*const u8, u32) = (ctx.arg(0), ctx.arg(1));
    let task = Kernel::new(task);
    let host_tgid: u32 = task.read(offset!(tgid));
    remove_wait(old_tid);
    remove_wait(host_tgid);
    // A process that was selected stays so until user space has looked at what it is now.
    // SAFETY: one word, read in place.
    let selected = unsafe { PROCESSES.get(host_tgid) }.map_or(selected::NO, |entry| entry.selected);
    let entry = ProcessEntry {
        selected,
        exec_comm: task.read(offset!(comm)),
        ..ProcessEntry::default()
    };
    if put_process(host_tgid, &entry).is_err() {
        warn!(&ctx, "no room for host process {}", host_tgid);
    }
    if is_watched(host_tgid) {
        watch_thread(&ctx, host_tgid);
    }
    let level = OWN.pid_level();
    let tgid = task.tid_at(level);
    // With `Filter::All` there is nothing to decide; a process of another PID namespace is not ours to see.
    if FILTER.load() == Filter::Selected as u32
        && tgid != 0
        && EVENTS
            .output::<ExecEvent>(ExecEvent { tgid, host_tgid }, 0)
            .is_err()
    {
        count(Counter::EventsFull);
    }
    0
}

/// `sched_process_exit(task, …)`, in the context of the thread that ends.
#[btf_tracepoint(function = "sched_process_exit")]
pub fn task_exit(ctx: BtfTracePointContext) -> i32 {
    let id = bpf_get_current_pid_tgid();
    let (tgid, tid) = ((id >> 32) as u32, id as u32);
    let task: *const u8 = ctx.arg(0);
    let is_last = Kernel::new(task)
        .follow(offset!(signal))
        .read::<u32>(offset!(signal_live))
        == 0;
    // SAFETY: the entry is this thread's own.
    let waits = unsafe { WAITS.get(tid) }.map_or(0, |wait| wait.waits);
    remove_wait(tid);
    if SPAWN_PROBES.load() != 0 && is_watched(tgid) {
        spawn::tell_death(Kernel::new(task));
    }
    if is_last {
        remove_process(tgid);
    } else if waits != 0 {
        add_waits(&ctx, tgid, waits);
    }
    0
}

#[inline(always)]
fn add_waits(ctx: &BtfTracePointContext, tgid: u32, waits: u64) {
    // Two threads may both find none and put one in: then the waits of the first are lost, nothing else.
    if PROCESSES.get_ptr(tgid).is_none() && put_process(tgid, &ProcessEntry::default()).is_err() {
        warn!(ctx, "no room for host process {}", tgid);
        return;
    }
    let Some(entry) = PROCESSES.get_ptr_mut(tgid) else {
        return;
    };
    // SAFETY: the pointer was just looked up.
    add(unsafe { &raw mut (*entry).exited_waits }, waits);
}
