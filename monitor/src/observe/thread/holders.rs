//! Which thread holds what a thread waits for in `futex`, decided from the wait and a few words of memory.
//!
//! Pure: memory and threads are asked for through a [`View`]. glibc from 2.25 on (2.31 to 2.44 were tried), of
//! 64 and of 32 bits; musl 1.2 of 64 bits; of any other library only PI futexes, whose word the kernel defines.
//! A lock looks like other data, so nothing is believed that does not fit as a whole: what the waiter passed, the
//! word as it is now, every field of the lock, an owner that lives in the same process. All else gives `None`:
//! locks without an owner (Rust's, parking_lot's, musl's plain ones, semaphores, barriers, read locks), waits for an
//! event, an owner in another process.
//!
//! # How to use it
//! One look proves nothing: a lock that is merely contended has another holder a moment later. Sweep, make
//! [`Edges`] of the records, sweep again, and drop with [`Edges::retain_lasting`] every edge whose waiter is not in
//! the [same wait](same_wait) any more. What is left held throughout: a waiter that slept from the first sweep to
//! the second has released nothing in between, so if each member of a cycle of edges did, the cycle was whole at
//! every moment of it, and is a deadlock. Edges of different pairs of sweeps must not be put together. For the same
//! reason an edge need not be made again as long as both its threads are in the same waits; when the holder has run,
//! the lock may have gone to another, though the waiter slept on.
//!
//! # What it cannot know
//! Words in memory are numbers of threads, in the process's own PID namespace. A thread that ended while it held a
//! plain mutex has left its number there, and a later thread of the same process may have got it again. A process that
//! was forked into a new PID namespace while a lock was held has the old namespace's number in its copy.

mod glibc;
mod mapping;
mod musl;
mod process;
#[cfg(test)]
mod tests;

use crate::observe::bpf::{TaskRecord, record_flags};

pub use mapping::is_private;
pub use process::{Edge, Edges};

/// Commands of `futex` (include/uapi/linux/futex.h), and the flags beside them.
const WAIT: u32 = 0;
const LOCK_PI: u32 = 6;
const WAIT_BITSET: u32 = 9;
const LOCK_PI2: u32 = 13;
const PRIVATE: u32 = 128;
const CLOCK_REALTIME: u32 = 256;

/// What the kernel and the libraries keep in a word that has its owner's number (`FUTEX_*` of the same file).
const WAITERS: u32 = 0x8000_0000;
const OWNER_DIED: u32 = 0x4000_0000;
const TID_MASK: u32 = 0x3fff_ffff;

/// No system has more threads (`PID_MAX_LIMIT`, include/linux/threads.h): no lock more users.
const MAX_THREADS: u32 = 4 * 1024 * 1024;

/// A thread that sleeps in `futex` (or in the 32-bit `futex_time64`), whatever its operation.
#[derive(Clone, Copy, Debug)]
pub struct FutexWaitOf<'a> {
    /// The waiter's own number in its PID namespace.
    pub tid: u32,
    pub args: &'a [u64; 6],
    /// The call was made through a 32-bit entry.
    pub compat: bool,
}

/// What says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Evidence {
    /// The owner field of a mutex.
    MutexOwner,
    /// The lock word of a robust mutex.
    RobustWord,
    /// The word of a PI futex.
    PiWord,
    /// The writer of a read-write lock.
    RwlockWriter,
    /// It is the thread that a `pthread_join` awaits.
    Join,
}

/// Who holds what a thread waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holder {
    /// As numbered in the process's own PID namespace. The waiter's own, when it has locked a plain mutex twice.
    pub tid: u32,
    pub evidence: Evidence,
}

/// The waiter's process as [`holder`] looks at it.
pub trait View {
    /// `length` bytes of its memory (1 KB at most are asked for), `None` when they cannot all be read.
    fn read(&mut self, address: u64, length: usize) -> Option<Vec<u8>>;

    /// Whether a live thread of the process has this number in its PID namespace.
    fn is_thread(&mut self, tid: u32) -> bool;

    /// Whether no other process can map the memory at this address (see [`is_private`]). Asked for locks that
    /// processes share: another one's owner, in another PID namespace, could have the number of a thread of ours.
    fn is_private(&mut self, address: u64) -> bool;
}

/// Who holds what the thread waits for; `None` when that is not certain. Most waits that are no lock's are told by
/// the call's arguments alone, without a read.
pub fn holder(wait: &FutexWaitOf, view: &mut impl View) -> Option<Holder> {
    let wait = Wait::of(wait);
    match wait.command {
        LOCK_PI | LOCK_PI2 => pi(&wait, view),
        WAIT | WAIT_BITSET => glibc::holder(&wait, view).or_else(|| musl::holder(&wait, view)),
        _ => None,
    }
}

/// Whether two records of a thread, of different sweeps, are of one and the same wait: it never came back from the
/// kernel in between. With the futex probes a wait that only signal handlers interrupted is the same: no function
/// that releases a lock is allowed in a handler (man 7 signal-safety).
pub fn same_wait(before: &TaskRecord, after: &TaskRecord) -> bool {
    let is_probed = before.record_flags & after.record_flags & record_flags::FUTEX_WAIT != 0
        && before.futex.waits != 0
        && before.futex.waits == after.futex.waits;
    before.host_tid == after.host_tid
        && before.start_boottime == after.start_boottime
        && before.exec_id == after.exec_id
        && before.syscall == after.syscall
        && before.args == after.args
        && (before.switches == after.switches || is_probed)
}

/// A wait, taken apart.
struct Wait {
    tid: u32,
    address: u64,
    command: u32,
    is_private: bool,
    is_realtime: bool,
    /// What the word was when it went to sleep.
    value: u32,
    compat: bool,
}

impl Wait {
    fn of(wait: &FutexWaitOf) -> Self {
        let [address, op, value, ..] = *wait.args;
        // The kernel takes the lower halves too: int op, u32 val, and of a 32-bit call's address.
        let op = op as u32;
        Self {
            tid: wait.tid,
            address: if wait.compat {
                address & u64::from(u32::MAX)
            } else {
                address
            },
            command: op & !(PRIVATE | CLOCK_REALTIME),
            is_private: op & PRIVATE != 0,
            is_realtime: op & CLOCK_REALTIME != 0,
            value: value as u32,
            compat: wait.compat,
        }
    }

    /// Whether it may wait for this thread. For itself only where the lock lets it.
    fn may_wait_for(&self, tid: u32, may_be_itself: bool, view: &mut impl View) -> bool {
        tid != 0 && (tid != self.tid || may_be_itself) && view.is_thread(tid)
    }

    /// Whether a struct with pointers in it can begin here.
    fn is_aligned(&self, start: u64) -> bool {
        start.is_multiple_of(if self.compat { 4 } else { 8 })
    }

    /// Whether all who use the word are of this process.
    fn is_ours(&self, view: &mut impl View) -> bool {
        self.is_private || view.is_private(self.address)
    }
}

/// The kernel itself keeps the word of a PI futex that has waiters: the owner's number and [`WAITERS`]
/// (Documentation/locking/pi-futex.rst). It lets nobody wait for itself.
fn pi(wait: &Wait, view: &mut impl View) -> Option<Holder> {
    let word = Words::read(view, wait.address, 4)?.u32(0)?;
    let tid = word & TID_MASK;
    let is_so = word & WAITERS != 0 && wait.may_wait_for(tid, false, view) && wait.is_ours(view);
    is_so.then_some(Holder {
        tid,
        evidence: Evidence::PiWord,
    })
}

/// Bytes of the target, read by position.
struct Words(Vec<u8>);

impl Words {
    fn read(view: &mut impl View, address: u64, length: usize) -> Option<Self> {
        view.read(address, length).map(Self)
    }

    fn u8(&self, at: usize) -> Option<u8> {
        self.0.get(at).copied()
    }

    fn u16(&self, at: usize) -> Option<u16> {
        let bytes = self.0.get(at..at.checked_add(2)?)?;
        bytes.try_into().ok().map(u16::from_le_bytes)
    }

    fn u32(&self, at: usize) -> Option<u32> {
        let bytes = self.0.get(at..at.checked_add(4)?)?;
        bytes.try_into().ok().map(u32::from_le_bytes)
    }

    fn u64(&self, at: usize) -> Option<u64> {
        let bytes = self.0.get(at..at.checked_add(8)?)?;
        bytes.try_into().ok().map(u64::from_le_bytes)
    }

    /// A pointer of the program's own width.
    fn pointer(&self, at: usize, compat: bool) -> Option<u64> {
        if compat {
            self.u32(at).map(u64::from)
        } else {
            self.u64(at)
        }
    }
}
