//! musl's locks and threads, 1.2 (1.2.3 was tried), of 64 bits (src/internal/pthread_impl.h).
//!
//! Its plain mutex has no owner, nor has its read-write lock; recursive, error-checking and robust mutexes have.

use super::{Evidence, Holder, MAX_THREADS, OWNER_DIED, TID_MASK, View, WAIT, WAITERS, Wait, Words};

pub fn holder(wait: &Wait, view: &mut impl View) -> Option<Holder> {
    if wait.command != WAIT || !wait.is_private || wait.compat {
        return None;
    }
    match wait.value {
        JOINABLE => join(wait, view),
        value if value & WAITERS != 0 => mutex(wait, view),
        _ => None,
    }
}

/// Bits of `_m_type`.
const TYPE: u32 = 3;
const RECURSIVE: u32 = 1;
const ERRORCHECK: u32 = 2;
const ROBUST: u32 = 4;

/// A mutex that has its owner's number in the word. A read-write lock's word looks alike (readers, [`WAITERS`]);
/// but a mutex with an owner is in that one's list, and the list leads back to it.
fn mutex(wait: &Wait, view: &mut impl View) -> Option<Holder> {
    const LOCK: u64 = 4;
    const NEXT: u64 = 32;
    let tid = wait.value & TID_MASK;
    if wait.value & OWNER_DIED != 0 || !wait.may_wait_for(tid, true, view) {
        return None;
    }
    let start = wait.address.checked_sub(LOCK)?;
    wait.is_aligned(start).then_some(())?;
    let words = Words::read(view, start, 40)?;
    let kind = words.u32(0)?;
    let owns_once = matches!(kind & TYPE, RECURSIVE | ERRORCHECK);
    let fits = words.u32(4)? == wait.value
        && (owns_once || kind == ROBUST)
        && kind & !(TYPE | ROBUST) == 0
        && (1..=MAX_THREADS).contains(&words.u32(8)?)
        && words.u64(NEXT as usize)? != 0
        && (tid != wait.tid || !owns_once);
    let previous = words.u64(24)?;
    if !fits || previous == 0 {
        return None;
    }
    let back = Words::read(view, previous, 8)?.u64(0)?;
    (Some(back) == start.checked_add(NEXT)).then_some(Holder {
        tid,
        evidence: Evidence::MutexOwner,
    })
}

/// `DT_JOINABLE`: the state of a thread that has not begun to exit.
const JOINABLE: u32 = 2;

/// `pthread_join` waits at `detach_state`; the number is beside it, and the descriptor begins with its own address.
fn join(wait: &Wait, view: &mut impl View) -> Option<Holder> {
    const DETACH_STATE: usize = 56;
    let descriptor = wait.address.checked_sub(DETACH_STATE as u64)?;
    let words = Words::read(view, descriptor, DETACH_STATE + 4)?;
    // Threads are a ring: neither link is ever empty.
    let is_descriptor = words.u64(0)? == descriptor && words.u64(16)? != 0 && words.u64(24)? != 0;
    let tid = words.u32(48)?;
    let is_so =
        is_descriptor && words.u32(DETACH_STATE)? == wait.value && wait.may_wait_for(tid, false, view);
    is_so.then_some(Holder {
        tid,
        evidence: Evidence::Join,
    })
}
