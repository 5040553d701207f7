//! Futex probes: `syscalls:sys_enter_*` and `sys_exit_*` of `futex`, `futex_waitv` (5.16) and `futex_wait`
//! (6.7).
//!
//! A wait costs one lookup and a few stores on the way in, and one comparison on the way out. The lookup is the
//! filter as well: only threads of watched processes have an entry, made when the thread is born
//! ([`crate::life`]) or first met by the sweep. Nothing needs to be said when a wait ends, because the sweep sees
//! for itself who still sleeps and where. Only a wait that ends with a restart code (a signal or a stop
//! interrupted it, and the kernel will make the call again) is noted, so that the repeated call keeps its start.

use aya_ebpf::{
    EbpfContext,
    helpers::{bpf_get_current_pid_tgid, generated::bpf_jiffies64},
    macros::tracepoint,
    programs::TracePointContext,
};
use monitor_common::{FutexCall, FutexWait};

use crate::maps::WAITS;

/// Offsets in the records of `syscalls:sys_enter_*`: the arguments follow the common header and the number,
/// 8 bytes each (kernel/trace/trace_syscalls.c).
const ENTER_ARGS: usize = 16;
/// Offset of `ret` in `syscalls:sys_exit_*`.
const EXIT_RET: usize = 16;

/// `FUTEX_CMD_MASK`: without `FUTEX_PRIVATE_FLAG` and `FUTEX_CLOCK_REALTIME` (include/uapi/linux/futex.h).
const CMD_MASK: u32 = 0x7f;
/// Commands that wait: WAIT 0, LOCK_PI 6, WAIT_BITSET 9, WAIT_REQUEUE_PI 11, LOCK_PI2 13.
const WAITING: u32 = 1 | 1 << 6 | 1 << 9 | 1 << 11 | 1 << 13;

const SYS_FUTEX: i64 = 202;
const SYS_FUTEX_WAITV: i64 = 449;
const SYS_FUTEX_WAIT: i64 = 455;

/// Kernel-internal codes of a call that is to be made again: ERESTARTSYS, ERESTARTNOINTR, ERESTARTNOHAND,
/// ERESTART_RESTARTBLOCK (include/linux/errno.h), with the unused 515 between them.
const RESTART_CODES: core::ops::RangeInclusive<i64> = -516..=-512;

/// A futex call that waits.
#[derive(Clone, Copy)]
pub struct Request {
    address: u64,
    op: u32,
    val: u32,
    call: FutexCall,
    timed: bool,
}

impl Request {
    /// `None` for calls that do not wait (wake, requeue, …).
    #[inline(always)]
    pub fn of_syscall(number: i64, args: &[u64; 6]) -> Option<Self> {
        let (call, op, val, timeout) = match number {
            SYS_FUTEX => (FutexCall::Futex, args[1], args[2], args[3]),
            SYS_FUTEX_WAITV => (FutexCall::Waitv, args[2], args[1], args[3]),
            SYS_FUTEX_WAIT => (FutexCall::Wait2, args[3], args[1], args[4]),
            _ => return None,
        };
        Self::new(call, args[0], op as u32, val as u32, timeout)
    }

    #[inline(always)]
    fn new(call: FutexCall, address: u64, op: u32, val: u32, timeout: u64) -> Option<Self> {
        let cmd = op & CMD_MASK;
        let waits = call as u32 != FutexCall::Futex as u32 || (cmd < 32 && WAITING >> cmd & 1 == 1);
        waits.then_some(Self {
            address,
            op,
            val,
            call,
            timed: timeout != 0,
        })
    }

    #[inline(always)]
    pub fn begun_at(self, start: u64) -> FutexWait {
        let Self {
            address,
            op,
            val,
            call,
            timed,
        } = self;
        FutexWait {
            start,
            paused: 0,
            interrupted_at: 0,
            address,
            waits: 0,
            op,
            val,
            call: call as u32,
            timed: u32::from(timed),
        }
    }

    #[inline(always)]
    fn repeats(&self, wait: &FutexWait) -> bool {
        wait.address == self.address
            && wait.op == self.op
            && wait.val == self.val
            && wait.call == self.call as u32
    }
}

#[tracepoint]
pub fn futex_enter(ctx: TracePointContext) -> u32 {
    // The operation first: half of all futex calls wake.
    let op = argument(&ctx, 1) as u32;
    let cmd = op & CMD_MASK;
    if cmd < 32 && WAITING >> cmd & 1 == 1 {
        let (address, val, timeout) = (argument(&ctx, 0), argument(&ctx, 2) as u32, argument(&ctx, 3));
        enter(Request {
            address,
            op,
            val,
            call: FutexCall::Futex,
            timed: timeout != 0,
        });
    }
    0
}

#[tracepoint]
pub fn futex_waitv_enter(ctx: TracePointContext) -> u32 {
    let (address, count, flags) = (
        argument(&ctx, 0),
        argument(&ctx, 1) as u32,
        argument(&ctx, 2) as u32,
    );
    let timed = argument(&ctx, 3) != 0;
    enter(Request {
        address,
        op: flags,
        val: count,
        call: FutexCall::Waitv,
        timed,
    });
    0
}

#[tracepoint]
pub fn futex_wait_enter(ctx: TracePointContext) -> u32 {
    let (address, val, flags) = (
        argument(&ctx, 0),
        argument(&ctx, 1) as u32,
        argument(&ctx, 3) as u32,
    );
    let timed = argument(&ctx, 4) != 0;
    enter(Request {
        address,
        op: flags,
        val,
        call: FutexCall::Wait2,
        timed,
    });
    0
}

/// One program for the three exits: they differ in nothing that it reads.
#[tracepoint]
pub fn futex_exit(ctx: TracePointContext) -> u32 {
    // SAFETY: inside the record; the verifier checks it against the tracepoint's size.
    let ret = unsafe { ctx.as_ptr().add(EXIT_RET).cast::<i64>().read() };
    if RESTART_CODES.contains(&ret) {
        interrupted();
    }
    0
}

#[inline(always)]
fn argument(ctx: &TracePointContext, index: usize) -> u64 {
    // SAFETY: inside the record; the verifier checks it against the tracepoint's size.
    unsafe { ctx.as_ptr().add(ENTER_ARGS + index * 8).cast::<u64>().read() }
}

#[inline(always)]
fn enter(request: Request) {
    let Some(wait) = WAITS.get_ptr_mut(bpf_get_current_pid_tgid() as u32) else {
        return;
    };
    // SAFETY: the entry is this thread's own; the sweep only reads it, and it goes when the thread ends.
    let wait = unsafe { &mut *wait };
    if wait.interrupted_at != 0 {
        let gap = ticks().wrapping_sub(wait.interrupted_at);
        wait.interrupted_at = 0;
        if request.repeats(wait) {
            wait.paused += gap;
            return;
        }
    }
    let waits = wait.waits + 1;
    *wait = request.begun_at(ticks());
    wait.waits = waits;
}

#[inline(never)]
fn interrupted() {
    if let Some(wait) = WAITS.get_ptr_mut(bpf_get_current_pid_tgid() as u32) {
        // SAFETY: the entry is this thread's own.
        unsafe { (*wait).interrupted_at = ticks() }
    }
}

/// The tick count: waits are judged in seconds, and the exact time would be a third of what a wait costs here.
/// The verifier turns this helper (5.6) into one load.
#[inline(always)]
pub fn ticks() -> u64 {
    // SAFETY: a helper without arguments.
    unsafe { bpf_jiffies64() }
}
