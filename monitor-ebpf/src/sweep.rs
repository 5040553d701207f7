//! The sweep: `iter/task` (kernel 5.8 on; `bpf_task_pt_regs` 5.15 on) writes one [`TaskRecord`] a thread.
//!
//! It walks the PID namespace of the process that opened it. aya-ebpf 0.2 has no macro for iterators, so the
//! section is named by hand and the context is declared here (`struct bpf_iter__task`, include/linux/bpf.h).

use aya_ebpf::{
    bindings::{pt_regs, seq_file, task_struct},
    helpers::{
        bpf_ktime_get_ns, bpf_probe_read_kernel,
        generated::{bpf_seq_write, bpf_task_pt_regs},
    },
};
use monitor_common::{Counter, EXITED, FutexWait, TaskRecord, record_flags, task_flags, task_state};

use crate::{
    futex::{Request, ticks},
    maps::{FUTEX_PROBES, OWN, OWN_TGID, PROCESSES, SCRATCH, WAITS, add_wait, count, is_watched},
    task::{Kernel, offset},
};

#[repr(C)]
pub struct IterMeta {
    seq: *mut seq_file,
    session_id: u64,
    seq_num: u64,
}

#[repr(C)]
pub struct IterTask {
    meta: *mut IterMeta,
    task: *mut task_struct,
}

/// `TS_COMPAT` of arch/x86/include/asm/thread_info.h.
const TS_COMPAT: u32 = 2;

#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task")]
pub fn sweep(ctx: *mut IterTask) -> i32 {
    // SAFETY: the verifier knows the context's type; the last call has a null task.
    let (seq, task) = unsafe { ((*(*ctx).meta).seq, (*ctx).task) };
    if task.is_null() {
        return 0;
    }
    let kernel = Kernel::new(task.cast());
    let flags: u32 = kernel.read(offset!(flags));
    if flags & (task_flags::KTHREAD | task_flags::IO_WORKER | task_flags::USER_WORKER) != 0 {
        return 0;
    }
    let host_tid: u32 = kernel.read(offset!(pid));
    let host_tgid: u32 = kernel.read(offset!(tgid));
    let reader = Kernel::current();
    let level = reader.pid_level();
    let leader = kernel.follow(offset!(group_leader));
    let tgid = leader.tid_at(level);
    if tgid == OWN_TGID.load() {
        OWN.remember(host_tgid, level);
        return 0;
    }
    // SAFETY: read in place; a removal meanwhile at worst gives another process's counts for one sweep.
    let entry = unsafe { PROCESSES.get(host_tgid) };
    let is_selected = is_watched(host_tgid);
    let is_leader = host_tid == host_tgid;
    if !is_selected && !is_leader {
        return 0;
    }
    let Some(record) = SCRATCH.get_ptr_mut(0) else {
        count(Counter::RecordLost);
        return 0;
    };
    // SAFETY: this CPU's scratch; one sweep runs at a time, and it does not migrate while the program runs.
    let record = unsafe { &mut *record };
    record.tid = kernel.tid_at(level);
    record.tgid = tgid;
    record.host_tid = host_tid;
    record.host_tgid = host_tgid;
    record.flags = flags;
    record.record_flags = if is_selected { record_flags::SELECTED } else { 0 };
    record.start_boottime = kernel.read(offset!(start_boottime));
    record.leader_start_boottime = leader.read(offset!(start_boottime));
    record.exec_id = kernel.read(offset!(self_exec_id));
    record.comm = kernel.read(offset!(comm));
    record.exec_comm = [0; _];
    record.exited_waits = 0;
    if let (true, Some(entry)) = (is_leader, entry) {
        record.exec_comm = entry.exec_comm;
        record.exited_waits = entry.exited_waits;
    }
    scheduling(record, kernel, reader);
    registers(record, task, kernel);
    record.futex = FutexWait::default();
    if FUTEX_PROBES.load() != 0 && is_selected && record.exit_state & EXITED == 0 {
        futex(record);
    }
    // SAFETY: the record is initialised map memory of the size given.
    let written = unsafe { bpf_seq_write(seq, (&raw const *record).cast(), size_of::<TaskRecord>() as u32) };
    // A full buffer is not a loss: the kernel shows this task again in the next read (bpf_seq_read).
    let _ = written;
    0
}

#[inline(always)]
fn scheduling(record: &mut TaskRecord, task: Kernel, reader: Kernel) {
    record.state = task.read(offset!(state));
    record.exit_state = task.read(offset!(exit_state));
    record.jobctl = task.read(offset!(jobctl));
    record.on_cpu = task.read(offset!(on_cpu));
    record.policy = task.read(offset!(policy));
    record.switches = task.read::<u64>(offset!(nvcsw)) + task.read::<u64>(offset!(nivcsw));
    record.last_arrival = task.read(offset!(last_arrival));
    record.last_run = task
        .read::<u64>(offset!(sum_exec_runtime))
        .wrapping_sub(task.read(offset!(prev_sum_exec_runtime)));
    record.restart_fn = task.read(offset!(restart_fn));
    record.thread_pointer = task.read(offset!(fsbase));
    record.reader_arrival = reader.read(offset!(last_arrival));
    // SAFETY: a helper without arguments.
    record.sampled_at = unsafe { bpf_ktime_get_ns() };
    record.sampled_tick = ticks();
}

/// The user registers that the kernel saved when the thread came in, as the arguments of its system call.
#[inline(always)]
fn registers(record: &mut TaskRecord, task: *mut task_struct, kernel: Kernel) {
    record.syscall = -1;
    record.args = [0; 6];
    (record.ip, record.sp, record.bp) = (0, 0, 0);
    // SAFETY: the pointer is the one that the iterator handed over.
    let saved = unsafe { bpf_task_pt_regs(task) } as *const pt_regs;
    // SAFETY: the helper checks the address.
    let Ok(regs) = (unsafe { bpf_probe_read_kernel(saved) }) else {
        record.record_flags |= record_flags::NO_REGISTERS;
        return;
    };
    record.syscall = regs.orig_rax as i64;
    (record.ip, record.sp, record.bp) = (regs.rip, regs.rsp, regs.rbp);
    record.args = if kernel.read::<u32>(offset!(thread_status)) & TS_COMPAT != 0 {
        record.record_flags |= record_flags::COMPAT;
        // A 32-bit call's number is 32 bits wide too.
        record.syscall = i64::from(regs.orig_rax as i32);
        [regs.rbx, regs.rcx, regs.rdx, regs.rsi, regs.rdi, regs.rbp].map(|register| register as u32 as u64)
    } else {
        [regs.rdi, regs.rsi, regs.rdx, regs.r10, regs.r8, regs.r9]
    };
}

/// Adds what the futex probes know. A thread without an entry gets one now: when it waits already, with an
/// unknown start, so that a signal that interrupts this wait later does not make it look new.
#[inline(always)]
fn futex(record: &mut TaskRecord) {
    // SAFETY: read in place while its owner sleeps; a torn copy is caught by the address and switch count.
    if let Some(wait) = unsafe { WAITS.get(record.host_tid) } {
        record.futex = *wait;
        record.record_flags |= record_flags::FUTEX_WAIT;
        return;
    }
    let sleeps = record.state & (task_state::INTERRUPTIBLE | task_state::UNINTERRUPTIBLE) != 0;
    let is_native = record.record_flags & record_flags::COMPAT == 0;
    let wait = if sleeps && record.on_cpu == 0 && is_native {
        Request::of_syscall(record.syscall, &record.args).map(|request| request.begun_at(0))
    } else {
        None
    }
    .unwrap_or_default();
    // Not over an entry that was made this very moment, when the thread was born.
    if add_wait(record.host_tid, &wait).is_ok() {
        record.futex = wait;
        record.record_flags |= record_flags::FUTEX_WAIT;
    }
}
