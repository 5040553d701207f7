//! Births of threads: a uprobe on `pthread_create` says by whom and with what, `task:task_newtask` in the same
//! thread says which thread that made. No uretprobe: those crash programs that move their stacks.

use aya_ebpf::{
    bindings::BPF_RB_NO_WAKEUP,
    helpers::{bpf_get_current_pid_tgid, bpf_probe_read_user, bpf_probe_read_user_buf},
    macros::uprobe,
    programs::ProbeContext,
};
use monitor_common::{Counter, ExitEvent, SPAWN_STACK, SpawnCall, SpawnEvent, spawn_kind};

use crate::{
    maps::{OWN, SPAWNING, SPAWNS, count, is_watched},
    task::{Kernel, offset},
};

/// User space looks by itself, several times a second: to wake it for each thread would cost the thread's creator
/// more than the probe does.
const QUIETLY: u64 = BPF_RB_NO_WAKEUP as u64;

/// `pthread_create(thread, attr, start_routine, argument)`, glibc and musl.
#[uprobe]
pub fn pthread_create(ctx: ProbeContext) -> u32 {
    let id = bpf_get_current_pid_tgid();
    let (tgid, tid) = ((id >> 32) as u32, id as u32);
    if !is_watched(tgid) {
        return 0;
    }
    // SAFETY: the context of a uprobe is the registers; the verifier checks the access.
    let regs = unsafe { &*ctx.regs };
    let argument = regs.rcx;
    // SAFETY: the helper checks the address, which may be no pointer at all.
    let words = unsafe { bpf_probe_read_user(argument as *const [u64; 3]) }.unwrap_or_default();
    let call = SpawnCall {
        start_routine: regs.rdx,
        argument,
        ip: regs.rip,
        sp: regs.rsp,
        bp: regs.rbp,
        argument_words: words,
    };
    // The map makes room by itself.
    let _ = SPAWNING.insert(tid, call, 0);
    0
}

/// In the creator's context, when the kernel has made the thread.
#[inline(always)]
pub fn tell_birth(task: Kernel) {
    let creator = bpf_get_current_pid_tgid() as u32;
    // SAFETY: the entry is this thread's own.
    let call = unsafe { SPAWNING.get(creator) }.copied().unwrap_or_default();
    let _ = SPAWNING.remove(creator);
    let Some(mut entry) = SPAWNS.reserve::<SpawnEvent>(0) else {
        count(Counter::SpawnsFull);
        return;
    };
    let level = OWN.pid_level();
    let tgid = task.follow(offset!(group_leader)).tid_at(level);
    let start_boottime = task.read(offset!(start_boottime));
    let event = entry.as_mut_ptr();
    // SAFETY: the reserved memory is of the event's size; every field is written before it is submitted, but for
    // the stack beyond `stack_length`, which may hold what was there before.
    unsafe {
        (*event).kind = spawn_kind::SPAWN;
        (*event).tgid = tgid;
        (*event).creator = Kernel::current().tid_at(level);
        (*event).tid = task.tid_at(level);
        (*event).start_boottime = start_boottime;
        (*event).call = call;
        (*event).stack_length = read_stack(call.sp, &raw mut (*event).stack);
    }
    entry.submit(QUIETLY);
}

/// As much of the stack as there is above the stack pointer, in three tries.
#[inline(always)]
fn read_stack(sp: u64, stack: *mut [u8; SPAWN_STACK]) -> u64 {
    if sp == 0 {
        return 0;
    }
    // SAFETY: reserved memory of the ring buffer, of the size that its type says.
    let stack = unsafe { &mut *stack };
    for length in [SPAWN_STACK, SPAWN_STACK / 4, SPAWN_STACK / 16] {
        // SAFETY: the helper checks the address.
        if unsafe { bpf_probe_read_user_buf(sp as *const u8, &mut stack[..length]) }.is_ok() {
            return length as u64;
        }
    }
    0
}

/// In the context of the thread that ends.
#[inline(always)]
pub fn tell_death(task: Kernel) {
    let level = OWN.pid_level();
    let event = ExitEvent {
        kind: spawn_kind::EXIT,
        tgid: task.follow(offset!(group_leader)).tid_at(level),
        tid: task.tid_at(level),
        _pad: 0,
        start_boottime: task.read(offset!(start_boottime)),
    };
    if SPAWNS.output::<ExitEvent>(event, QUIETLY).is_err() {
        count(Counter::SpawnsFull);
    }
}
