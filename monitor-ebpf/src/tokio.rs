//! Tokio tasks: a uprobe on the functions that poll the futures of tasks that seem to be stuck. It notes those that user
//! space watches and that are polled all the same. User space puts it on an instruction at the function's beginning that the
//! kernel emulates, before which nothing has changed the registers.

use aya_ebpf::{
    EbpfContext as _,
    bindings::BPF_NOEXIST,
    helpers::{bpf_get_attach_cookie, bpf_ktime_get_ns},
    macros::uprobe,
    programs::ProbeContext,
};
use monitor_common::{Counter, TokioTask};

use crate::maps::{TOKIO_POLLED, TOKIO_RUNS, TOKIO_WATCHED, add, count};

/// There is no room.
const E2BIG: i32 = -7;

/// `unsafe fn poll(ptr: NonNull<Header>)` of tokio/src/runtime/task/raw.rs.
#[uprobe]
pub fn tokio_poll(ctx: ProbeContext) -> u32 {
    // SAFETY: the context is this program's own.
    let cookie = unsafe { bpf_get_attach_cookie(ctx.as_ptr()) };
    let (place, process) = ((cookie >> 32) as u32, cookie as u32);
    let Some(runs) = TOKIO_RUNS.get_ptr_mut(place) else {
        return 0;
    };
    add(runs, 1);
    // SAFETY: the context of a uprobe is the registers; the verifier checks the access.
    let header = unsafe { &*ctx.regs }.rdi;
    let task = TokioTask {
        process,
        _pad: 0,
        header,
    };
    let Some(polled_at) = TOKIO_WATCHED.get_ptr_mut(task) else {
        return 0;
    };
    // SAFETY: takes nothing, returns a number.
    let now = unsafe { bpf_ktime_get_ns() };
    // SAFETY: the pointer was just looked up; one word, which but one thread writes: no two poll the same task.
    unsafe { *polled_at = now };
    // It may be there already: then it is told all the same.
    if TOKIO_POLLED.insert(task, 0, u64::from(BPF_NOEXIST)) == Err(E2BIG) {
        // User space begins anew with all of them.
        count(Counter::TokioPollsFull);
    }
    0
}
