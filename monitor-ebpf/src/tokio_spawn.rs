//! Births and deaths of tokio tasks, counted by the place that made them: uprobes in the functions that put a task into its
//! runtime's list and take it out again. User space puts them on the functions' first instruction, or, where these were put
//! into others, on a branch within them; both are carried out by the kernel itself.
//!
//! The place is the innermost frame of the program's own code on the creator's stack. Between it and the list are frames of
//! libraries; how to get from one to the next user space has read in the program's unwind information. So nothing of the
//! stack is copied, and each birth costs a few lookups, however many there are.

use aya_ebpf::{
    EbpfContext as _,
    bindings::{BPF_NOEXIST, pt_regs},
    helpers::{bpf_get_attach_cookie, bpf_ktime_get_ns, bpf_probe_read_user},
    macros::uprobe,
    programs::ProbeContext,
};
use monitor_common::{
    Counter, SpawnPlace, TOKIO_AMID, TOKIO_INDIRECT, TOKIO_JOIN_INTEREST, TOKIO_REGISTER, TokioBirth,
    TokioStep, TokioTask, tokio_step,
};

use crate::maps::{
    TOKIO_BORN, TOKIO_ENDED, TOKIO_SITES, TOKIO_SPAWN_RUNS, TOKIO_STEPS, TOKIO_STEPS_WANTED, add, count,
    spawn_place,
};

/// Frames that a creator's stack is followed through.
const MAX_FRAMES: usize = 16;
/// Offset of the vtable in a task's header (tokio/src/runtime/task/core.rs).
const VTABLE: u64 = 16;

/// `OwnedTasks::bind_inner(&self, task: Task, notified: Notified)` of tokio/src/runtime/task/list.rs, or
/// `LinkedList::push_front` of tokio/src/util/linked_list.rs, wherever it was put into.
#[uprobe]
pub fn tokio_spawn(ctx: ProbeContext) -> u32 {
    let Some((process, cookie)) = process(&ctx) else {
        return 0;
    };
    // SAFETY: the context of a uprobe is the registers; the verifier checks the access.
    let regs = unsafe { &*ctx.regs };
    let (header, pc) = if cookie & TOKIO_AMID != 0 {
        let here = regs.rip.wrapping_add(1);
        (register(regs, cookie), creator(process, here, regs.rsp, regs.rbp))
    } else {
        // Both are the same task, which is to be run at once.
        if regs.rdx != regs.rsi {
            return 0;
        }
        let Some(returns_to) = word(regs.rsp) else {
            return 0;
        };
        let outside = regs.rsp.wrapping_add(8);
        (regs.rsi, creator(process, returns_to, outside, regs.rbp))
    };
    let task = TokioTask {
        process,
        _pad: 0,
        header,
    };
    let birth = TokioBirth {
        pc,
        // SAFETY: takes nothing, returns a number.
        at: unsafe { bpf_ktime_get_ns() },
    };
    // Its end could not be counted.
    if TOKIO_BORN.insert(task, birth, 0).is_err() {
        count(Counter::TokioBirthsFull);
        return 0;
    }
    let runs = word(header.wrapping_add(VTABLE)).unwrap_or(0);
    if let Some(place) = spawn_place(&TOKIO_SITES, Counter::TokioSitesFull, process, pc, runs) {
        // SAFETY: the pointer was just looked up.
        add(unsafe { &raw mut (*place).spawned }, 1);
    }
    0
}

/// `OwnedTasks::remove(&self, task: &Task)`, or `release` of a scheduler that it was put into, or `LinkedList::remove`,
/// wherever that was put into.
#[uprobe]
pub fn tokio_exit(ctx: ProbeContext) -> u32 {
    let Some((process, cookie)) = process(&ctx) else {
        return 0;
    };
    // SAFETY: as above.
    let regs = unsafe { &*ctx.regs };
    let header = if cookie & TOKIO_AMID != 0 {
        register(regs, cookie)
    } else if cookie & TOKIO_INDIRECT != 0 {
        word(regs.rsi).unwrap_or(0)
    } else {
        regs.rsi
    };
    let task = TokioTask {
        process,
        _pad: 0,
        header,
    };
    // SAFETY: nobody else changes it: a task is made once, and ends once.
    let Some(birth) = (unsafe { TOKIO_BORN.get(task) }).copied() else {
        // Nobody looked when it was made.
        return 0;
    };
    let _ = TOKIO_BORN.remove(task);
    // Who has its handle keeps it, perhaps for good: user space looks whether that is so.
    if word(header).unwrap_or(0) & TOKIO_JOIN_INTEREST != 0 {
        remember(task, birth);
    }
    if let Some(place) = spawn_place(&TOKIO_SITES, Counter::TokioSitesFull, process, birth.pc, 0) {
        // SAFETY: the pointer was just looked up.
        add(unsafe { &raw mut (*place).exited }, 1);
    }
    0
}

/// Of a task that has ended and may be kept.
#[inline(always)]
fn remember(task: TokioTask, birth: TokioBirth) {
    if let Some(known) = TOKIO_ENDED.get_ptr_mut(task) {
        // SAFETY: the pointer was just looked up; of two tasks that lay there the first is gone.
        unsafe { *known = birth };
    } else if TOKIO_ENDED.insert(task, birth, 0).is_err() {
        count(Counter::TokioEndsFull);
    }
}

/// Number of the process, and the cookie that says it. Counts the run.
#[inline(always)]
fn process(ctx: &ProbeContext) -> Option<(u32, u64)> {
    // SAFETY: the context is this program's own.
    let cookie = unsafe { bpf_get_attach_cookie(ctx.as_ptr()) };
    let process = cookie as u32;
    add(TOKIO_SPAWN_RUNS.get_ptr_mut(process)?, 1);
    Some((process, cookie))
}

/// What is in the register that the cookie says.
#[inline(always)]
fn register(regs: &pt_regs, cookie: u64) -> u64 {
    match cookie >> TOKIO_REGISTER & 15 {
        0 => regs.rax,
        1 => regs.rcx,
        2 => regs.rdx,
        3 => regs.rbx,
        5 => regs.rbp,
        6 => regs.rsi,
        7 => regs.rdi,
        8 => regs.r8,
        9 => regs.r9,
        10 => regs.r10,
        11 => regs.r11,
        12 => regs.r12,
        13 => regs.r13,
        14 => regs.r14,
        15 => regs.r15,
        // The stack pointer is none.
        _ => 0,
    }
}

/// The place that is, or has called through libraries, what is at `pc` with these registers; 0 where that is not known.
#[inline(always)]
fn creator(process: u32, pc: u64, sp: u64, bp: u64) -> u64 {
    let (mut pc, mut sp, mut bp) = (pc, sp, bp);
    let mut library = 0;
    for _ in 0..MAX_FRAMES {
        let place = SpawnPlace { process, _pad: 0, pc };
        // SAFETY: user space changes an entry at most for a better one.
        let Some(step) = (unsafe { TOKIO_STEPS.get(place) }) else {
            // It may be there already, and what has no room comes again.
            let _ = TOKIO_STEPS_WANTED.insert(place, 0, u64::from(BPF_NOEXIST));
            return library;
        };
        let TokioStep {
            flags,
            cfa,
            bp: saved,
            ..
        } = *step;
        if flags & tokio_step::SITE != 0 {
            return pc;
        }
        if flags & tokio_step::LIBRARY != 0 && library == 0 {
            library = pc;
        }
        if flags & tokio_step::END != 0 {
            return library;
        }
        let from = if flags & tokio_step::FROM_BP != 0 { bp } else { sp };
        sp = from.wrapping_add(i64::from(cfa) as u64);
        let Some(next) = word(sp.wrapping_sub(8)) else {
            return library;
        };
        pc = next;
        if saved != 0 {
            let Some(outer) = word(sp.wrapping_add(i64::from(saved) as u64)) else {
                return library;
            };
            bp = outer;
        }
    }
    library
}

#[inline(always)]
fn word(address: u64) -> Option<u64> {
    // SAFETY: the helper checks the address.
    unsafe { bpf_probe_read_user(address as *const u64) }.ok()
}
