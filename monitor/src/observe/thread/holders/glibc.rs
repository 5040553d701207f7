//! glibc's locks and threads, from 2.25 on (the read-write lock was another one before).
//!
//! The public structs (sysdeps/x86/nptl/bits/struct_{mutex,rwlock}.h) cannot change. `struct pthread`
//! (nptl/descr.h) can: where a descriptor is supposed, it must point to itself as the ABI of TLS has it.

use super::{
    Evidence, Holder, MAX_THREADS, OWNER_DIED, TID_MASK, View, WAIT, WAIT_BITSET, WAITERS, Wait, Words,
};

/// Bits of a mutex's `__kind` (nptl/pthreadP.h).
mod kind {
    pub const TYPE: u32 = 3;
    /// `PTHREAD_MUTEX_{RECURSIVE,ERRORCHECK}_NP`: their owner never waits for itself. The others, normal and
    /// adaptive ones, let it.
    pub const RECURSIVE: u32 = 1;
    pub const ERRORCHECK: u32 = 2;
    pub const ROBUST: u32 = 16;
    pub const SHARED: u32 = 128;
    pub const ELISION: u32 = 256 | 512;
}

/// `PTHREAD_MUTEX_INCONSISTENT`: the owner before this one died.
const INCONSISTENT: u32 = i32::MAX as u32;

/// Bits of a read-write lock's `__readers` (nptl/pthread_rwlock_common.c): a writer has it.
const WRPHASE: u32 = 1;
const WRLOCKED: u32 = 2;
const RWAITING: u32 = 4;
const READER_SHIFT: u32 = 3;
/// `1 | PTHREAD_RWLOCK_FUTEX_USED`: the word of those who wait for a writer.
const WAITS_FOR_WRITER: u32 = 3;

pub fn holder(wait: &Wait, view: &mut impl View) -> Option<Holder> {
    if !wait.is_private
        && let Some(holder) = join(wait, view)
    {
        return Some(holder);
    }
    // What is not a plain WAIT has the real-time clock, timeout or not (nptl/futex-internal.c); Rust's has not.
    if wait.command == WAIT_BITSET && !wait.is_realtime {
        return None;
    }
    match wait.value {
        2 => mutex(wait, view),
        WAITS_FOR_WRITER if wait.command == WAIT_BITSET => rwlock(wait, view),
        value if value & WAITERS != 0 && !wait.is_private => robust(wait, view),
        _ => None,
    }
}

/// The fields of a mutex.
struct Mutex {
    lock: u32,
    count: u32,
    owner: u32,
    users: u32,
    kind: u32,
    spins: u16,
    elision: u16,
    /// Of the list of robust mutexes that its owner holds. (A 32-bit mutex has it in the place of the two above.)
    next: u64,
    previous: u64,
}

impl Mutex {
    fn read(wait: &Wait, view: &mut impl View) -> Option<Self> {
        wait.is_aligned(wait.address).then_some(())?;
        let (length, users, kind) = if wait.compat { (24, 16, 12) } else { (40, 12, 16) };
        let words = Words::read(view, wait.address, length)?;
        let (previous, next) = if wait.compat {
            (0, words.u32(20)?.into())
        } else {
            (words.u64(24)?, words.u64(32)?)
        };
        Some(Self {
            lock: words.u32(0)?,
            count: words.u32(4)?,
            owner: words.u32(8)?,
            users: words.u32(users)?,
            kind: words.u32(kind)?,
            spins: words.u16(20)?,
            elision: words.u16(22)?,
            next,
            previous,
        })
    }

    fn is_recursive(&self) -> bool {
        self.kind & kind::TYPE == kind::RECURSIVE
    }

    fn may_lock_twice(&self) -> bool {
        !matches!(self.kind & kind::TYPE, kind::RECURSIVE | kind::ERRORCHECK)
    }

    /// `__nusers`: the owner, and those who wait on condition variables with it.
    fn has_users(&self) -> bool {
        (1..=MAX_THREADS).contains(&self.users)
    }
}

/// A mutex that is neither robust nor of a priority protocol: the word is 2, the owner is beside it.
fn mutex(wait: &Wait, view: &mut impl View) -> Option<Holder> {
    let mutex = Mutex::read(wait, view)?;
    let is_adaptive = mutex.kind & kind::TYPE == kind::TYPE;
    let is_elided = mutex.kind & kind::ELISION != 0;
    let has_no_list = wait.compat || mutex.next == 0 && mutex.previous == 0;
    let fits = mutex.lock == wait.value
        && mutex.kind & !(kind::TYPE | kind::SHARED | kind::ELISION) == 0
        && (mutex.kind & kind::SHARED == 0) == wait.is_private
        && (mutex.count != 0) == mutex.is_recursive()
        && mutex.has_users()
        && (mutex.spins == 0 || is_adaptive)
        && (mutex.elision == 0 || is_elided)
        && has_no_list;
    let is_so = fits && wait.may_wait_for(mutex.owner, mutex.may_lock_twice(), view) && wait.is_ours(view);
    is_so.then_some(Holder {
        tid: mutex.owner,
        evidence: Evidence::MutexOwner,
    })
}

/// A robust mutex: the owner is in the word. Its waits are never private, for the kernel itself wakes them.
fn robust(wait: &Wait, view: &mut impl View) -> Option<Holder> {
    let tid = wait.value & TID_MASK;
    if wait.value & OWNER_DIED != 0 || !wait.may_wait_for(tid, true, view) {
        return None;
    }
    let mutex = Mutex::read(wait, view)?;
    let fits = mutex.lock == wait.value
        && mutex.kind & kind::ROBUST != 0
        && mutex.kind & !(kind::TYPE | kind::ROBUST | kind::SHARED) == 0
        && (mutex.owner == tid || mutex.owner == INCONSISTENT)
        && (tid != wait.tid || mutex.may_lock_twice())
        && mutex.count != 0
        && mutex.has_users()
        && mutex.next != 0
        && (mutex.previous != 0 || wait.compat);
    (fits && wait.is_ours(view)).then_some(Holder {
        tid,
        evidence: Evidence::RobustWord,
    })
}

/// A read-write lock that a writer has: readers wait at one of its words, writers at another, both with the same
/// value. (Who has it for reading is written nowhere. A writer that waits for readers waits with another value.)
fn rwlock(wait: &Wait, view: &mut impl View) -> Option<Holder> {
    const WRPHASE_FUTEX: u64 = 8;
    const WRITERS_FUTEX: u64 = 12;
    [WRPHASE_FUTEX, WRITERS_FUTEX].into_iter().find_map(|futex| {
        let start = wait.address.checked_sub(futex)?;
        wait.is_aligned(start).then_some(())?;
        let lock = Words::read(view, start, if wait.compat { 32 } else { 56 })?;
        let (shared, writer) = writer(&lock, wait.compat)?;
        let readers = lock.u32(0)? >> READER_SHIFT;
        let is_so = lock.u32(futex as usize)? == wait.value
            && (futex == WRITERS_FUTEX || readers != 0)
            && shared != wait.is_private
            && wait.may_wait_for(writer, false, view)
            && wait.is_ours(view);
        is_so.then_some(Holder {
            tid: writer,
            evidence: Evidence::RwlockWriter,
        })
    })
}

/// Whether a read-write lock is for several processes, and its writer; `None` when it is no such lock or has none.
fn writer(lock: &Words, compat: bool) -> Option<(bool, u32)> {
    /// `PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP`, the last kind.
    const LAST_KIND: u32 = 2;
    let is_used = |word: u32| matches!(word, 1 | WAITS_FOR_WRITER);
    let readers = lock.u32(0)?;
    // pad3 and pad4
    let mut fits = readers & (WRPHASE | WRLOCKED | RWAITING) == WRPHASE | WRLOCKED
        && readers >> READER_SHIFT <= MAX_THREADS
        && lock.u32(4)? <= MAX_THREADS
        && is_used(lock.u32(8)?)
        && is_used(lock.u32(12)?)
        && lock.u64(16)? == 0;
    let (shared, flags, writer) = if compat {
        fits &= lock.u8(27)? == 0;
        (lock.u8(25)?.into(), lock.u8(24)?.into(), lock.u32(28)?)
    } else {
        // Behind one byte of rwelision: pad1 and pad2.
        fits &= lock.u64(32)? >> 8 == 0 && lock.u64(40)? == 0;
        (lock.u32(28)?, lock.u32(48)?, lock.u32(24)?)
    };
    (fits && flags <= LAST_KIND && shared <= 1).then_some((shared == 1, writer))
}

/// `pthread_join`: until 2.42 it waits at the descriptor's `tid`, which the kernel clears; from 2.43 on at its
/// `joinstate`. Never private, for the kernel wakes it.
fn join(wait: &Wait, view: &mut impl View) -> Option<Holder> {
    // Until 2.30 it was a plain WAIT.
    match (wait.command, wait.is_realtime) {
        (WAIT, false) | (WAIT_BITSET, true) => {}
        _ => return None,
    }
    let tid = at_joinstate(wait, view).or_else(|| at_tid(wait, view))?;
    wait.may_wait_for(tid, false, view).then_some(Holder {
        tid,
        evidence: Evidence::Join,
    })
}

/// The thread whose `joinstate` it waits at: at 0x628 of the 64-bit descriptor in 2.43 and 2.44. Descriptors are
/// aligned to 64 bytes (`TCB_ALIGNMENT`), so there is one candidate if it is anywhere near.
fn at_joinstate(wait: &Wait, view: &mut impl View) -> Option<u32> {
    /// `THREAD_STATE_JOINABLE`; in a small PID namespace, a thread's number as well.
    const JOINABLE: u32 = 2;
    const NEAR: u64 = 0x600;
    const ALIGNMENT: u64 = 64;
    if wait.value != JOINABLE || wait.command != WAIT_BITSET || wait.compat {
        return None;
    }
    let descriptor = wait.address.checked_sub(NEAR)? & !(ALIGNMENT - 1);
    let state = Words::read(view, wait.address, 4)?.u32(0)?;
    (state == wait.value).then_some(())?;
    descriptor_tid(descriptor, false, view)
}

/// The thread whose `tid` it waits at.
fn at_tid(wait: &Wait, view: &mut impl View) -> Option<u32> {
    if !wait.may_wait_for(wait.value, false, view) {
        return None;
    }
    let descriptor = wait.address.checked_sub(tid_offset(wait.compat) as u64)?;
    descriptor_tid(descriptor, wait.compat, view).filter(|tid| *tid == wait.value)
}

/// Where `struct pthread` has its tid: behind the TCB's head, or the padding that is as long, and one list link.
const fn tid_offset(compat: bool) -> usize {
    if compat { 0x68 } else { 0x2d0 }
}

/// The number of the thread whose descriptor begins here: its first word and its `self` point to itself
/// (`tcbhead_t`, sysdeps/{x86_64,i386}/nptl/tls.h).
fn descriptor_tid(descriptor: u64, compat: bool, view: &mut impl View) -> Option<u32> {
    let tid = tid_offset(compat);
    let words = Words::read(view, descriptor, tid + 4)?;
    let own = if compat { 8 } else { 16 };
    let is_descriptor = descriptor != 0
        && words.pointer(0, compat)? == descriptor
        && words.pointer(own, compat)? == descriptor;
    is_descriptor.then_some(words.u32(tid)?)
}
