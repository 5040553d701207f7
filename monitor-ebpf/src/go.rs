//! Goroutines: uprobes in the runtime's functions that make one and that clear one away. No uretprobe, ever: Go moves
//! its stacks. User space puts them on a jump at the functions' beginning, where the registers still are what they were
//! called with, and which the kernel emulates: an instruction that it has to step over costs twenty times as much.

use aya_ebpf::{
    EbpfContext as _,
    helpers::{bpf_get_attach_cookie, bpf_probe_read_user},
    macros::uprobe,
    programs::ProbeContext,
};
use monitor_common::{Counter, GoProcess};

use crate::maps::{GO_PROCESSES, GO_SITES, add, spawn_place};

/// `runtime.newproc1(fn *funcval, callergp *g, callerpc uintptr, …)` in Go's own calling convention.
#[uprobe]
pub fn go_spawn(ctx: ProbeContext) -> u32 {
    let Some((number, _)) = process(&ctx) else {
        return 0;
    };
    // SAFETY: the context of a uprobe is the registers; the verifier checks the access.
    let regs = unsafe { &*ctx.regs };
    // SAFETY: the helper checks the address. A `funcval` begins with the function's address.
    let startpc = unsafe { bpf_probe_read_user(regs.rax as *const u64) }.unwrap_or(0);
    if let Some(site) = spawn_place(&GO_SITES, Counter::GoSitesFull, number, regs.rcx, startpc) {
        // SAFETY: the pointer was just looked up.
        add(unsafe { &raw mut (*site).spawned }, 1);
    }
    0
}

/// `runtime.gdestroy(gp *g)`, before Go 1.22 `runtime.goexit0(gp *g)`.
#[uprobe]
pub fn go_exit(ctx: ProbeContext) -> u32 {
    let Some((number, gopc)) = process(&ctx) else {
        return 0;
    };
    // SAFETY: as above.
    let g = unsafe { &*ctx.regs }.rax;
    // `gopc`, `ancestors`, `startpc`.
    // SAFETY: the helper checks the address.
    let words = unsafe { bpf_probe_read_user(g.wrapping_add(gopc) as *const [u64; 3]) }.unwrap_or_default();
    if let Some(site) = spawn_place(&GO_SITES, Counter::GoSitesFull, number, words[0], words[2]) {
        // SAFETY: the pointer was just looked up.
        add(unsafe { &raw mut (*site).exited }, 1);
    }
    0
}

/// Number of the process and its offset of `g.gopc`. Counts the run.
#[inline(always)]
fn process(ctx: &ProbeContext) -> Option<(u32, u64)> {
    // SAFETY: the context is this program's own.
    let number = unsafe { bpf_get_attach_cookie(ctx.as_ptr()) } as u32;
    let process: *mut GoProcess = GO_PROCESSES.get_ptr_mut(number)?;
    // SAFETY: the pointer was just looked up.
    let gopc = unsafe { (*process).gopc };
    // SAFETY: as above.
    add(unsafe { &raw mut (*process).runs }, 1);
    Some((number, gopc))
}
