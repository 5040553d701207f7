//! Locks as they were seen in glibc 2.36, 2.43 and musl 1.2.3, and what is not quite a lock.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{Evidence::*, *};

const WAITER: u32 = 101;
const OWNER: u32 = 102;
/// Somewhere in the heap; everything is put down here or near it.
const AT: u64 = 0x5555_0000_1000;

/// A process with these threads and a little memory.
#[derive(Clone)]
struct Process {
    memory: BTreeMap<u64, u8>,
    threads: Vec<u32>,
    is_private: bool,
    reads: usize,
}

impl Process {
    fn new(words: &[u32]) -> Self {
        let mut process = Self {
            memory: BTreeMap::new(),
            threads: vec![WAITER, OWNER],
            is_private: true,
            reads: 0,
        };
        process.put(AT, words);
        process
    }

    fn put(&mut self, address: u64, words: &[u32]) {
        let bytes = words.iter().flat_map(|word| word.to_le_bytes());
        self.memory.extend((address..).zip(bytes));
    }

    fn put_pointer(&mut self, address: u64, pointer: u64) {
        self.put(address, &[pointer as u32, (pointer >> 32) as u32]);
    }

    fn ask(&mut self, op: u64, value: u32, address: u64) -> Option<(u32, Evidence)> {
        self.ask_as(op, value, address, false)
    }

    fn ask_as(&mut self, op: u64, value: u32, address: u64, compat: bool) -> Option<(u32, Evidence)> {
        // The kernel keeps whole registers; libraries leave a sign in the upper half.
        let args = [address, op, value as i32 as u64, 0, 0, u64::from(u32::MAX)];
        let wait = FutexWaitOf {
            tid: WAITER,
            args: &args,
            compat,
        };
        holder(&wait, self).map(|holder| (holder.tid, holder.evidence))
    }
}

impl View for Process {
    fn read(&mut self, address: u64, length: usize) -> Option<Vec<u8>> {
        self.reads += 1;
        assert!(length <= 1024);
        let end = address.checked_add(length as u64)?;
        let bytes: Vec<u8> = self.memory.range(address..end).map(|(_, byte)| *byte).collect();
        (bytes.len() == length).then_some(bytes)
    }

    fn is_thread(&mut self, tid: u32) -> bool {
        self.threads.contains(&tid)
    }

    fn is_private(&mut self, _: u64) -> bool {
        self.is_private
    }
}

const MUTEX: [u32; 10] = [2, 0, OWNER, 1, 0, 0, 0, 0, 0, 0];
const ROBUST_WORD: u32 = OWNER | 0x8000_0000;
const ROBUST: [u32; 10] = [
    ROBUST_WORD,
    1,
    OWNER,
    1,
    0x90,
    0,
    0x5655_59a0,
    0x7f15,
    0x5655_59a0,
    0x7f15,
];
/// Readers, writers, the two futexes, padding, writer, shared, then zeros and the kind.
const RWLOCK: [u32; 14] = [0xb, 0, 3, 3, 0, 0, OWNER, 0, 0, 0, 0, 0, 0, 0];

#[test]
fn a_mutex_names_its_owner() {
    let held = Some((OWNER, MutexOwner));
    assert_eq!(Process::new(&MUTEX).ask(0x80, 2, AT), held);
    // Recursive, error-checking, adaptive after spinning, of an application that told it not to elide.
    for (count, kind, spins) in [(3, 1, 0), (0, 2, 0), (0, 3, 20), (0, 512, 0)] {
        let words = [2, count, OWNER, 1, kind, spins, 0, 0, 0, 0];
        assert_eq!(Process::new(&words).ask(0x80, 2, AT), held, "{words:?}");
    }
    // With others who wait on a condition variable; with a timeout of a day or more.
    assert_eq!(
        Process::new(&[2, 0, OWNER, 900, 0, 0, 0, 0, 0, 0]).ask(0x189, 2, AT),
        held
    );
}

#[test]
fn what_is_not_quite_a_mutex_is_none() {
    for (index, bad) in [
        (0, 1), // let go, or not contended, since
        (1, 1),
        (2, 0),
        (2, 103), // no thread of the process
        (3, 0),
        (3, u32::MAX),
        (4, 1),   // recursive, but not counted
        (4, 16),  // robust
        (4, 32),  // PI
        (4, 64),  // PP
        (4, 128), // process-shared, but the wait is private
        (4, 4),
        (5, 1),
        (5, 1 << 16),
        (6, 1),
        (7, 1),
        (8, 1),
        (9, 1),
    ] {
        let mut words = MUTEX;
        words[index] = bad;
        assert_eq!(Process::new(&words).ask(0x80, 2, AT), None, "{words:?}");
    }
    let mut process = Process::new(&MUTEX);
    process.put(AT + 4, &MUTEX);
    assert_eq!(process.ask(0x80, 2, AT + 4), None, "not aligned");
    assert_eq!(
        Process::new(&MUTEX[..9]).ask(0x80, 2, AT),
        None,
        "half of it is not there"
    );
}

#[test]
fn an_owner_that_waits_for_itself_is_one_only_where_the_lock_lets_it() {
    for (count, kind, holder) in [
        (0, 0, Some((WAITER, MutexOwner))),
        (1, 1, None),
        (0, 2, None),
        (0, 3, Some((WAITER, MutexOwner))),
    ] {
        let words = [2, count, WAITER, 1, kind, 0, 0, 0, 0, 0];
        assert_eq!(Process::new(&words).ask(0x80, 2, AT), holder, "kind {kind}");
    }
    let word = WAITER | 0x8000_0000;
    for (kind, holder) in [(0x90, Some((WAITER, RobustWord))), (0x91, None), (0x92, None)] {
        let words = [word, 1, WAITER, 1, kind, 0, 1, 1, 1, 1];
        assert_eq!(Process::new(&words).ask(0, word, AT), holder, "kind {kind:#x}");
    }
    let mut pi = Process::new(&[word]);
    assert_eq!(pi.ask(0x86, 0, AT), None, "the kernel lets nobody");
    let mut rwlock = Process::new(&RWLOCK);
    rwlock.put(AT + 24, &[WAITER]);
    assert_eq!(rwlock.ask(0x189, 3, AT + 8), None, "glibc lets nobody");
}

#[test]
fn what_processes_share_is_believed_in_private_memory_only() {
    let mut mutex = Process::new(&[2, 0, OWNER, 1, 0x80, 0, 0, 0, 0, 0]);
    assert_eq!(mutex.ask(0, 2, AT), Some((OWNER, MutexOwner)));
    assert_eq!(mutex.ask(0x80, 2, AT), None, "its waits are not private");
    mutex.is_private = false;
    assert_eq!(mutex.ask(0, 2, AT), None);
    let mut robust = Process::new(&ROBUST);
    assert_eq!(robust.ask(0, ROBUST_WORD, AT), Some((OWNER, RobustWord)));
    robust.is_private = false;
    assert_eq!(robust.ask(0, ROBUST_WORD, AT), None);
    let mut rwlock = Process::new(&RWLOCK);
    rwlock.put(AT + 28, &[1]);
    assert_eq!(rwlock.ask(0x109, 3, AT + 8), Some((OWNER, RwlockWriter)));
    rwlock.is_private = false;
    assert_eq!(rwlock.ask(0x109, 3, AT + 8), None);
    let mut pi = Process::new(&[ROBUST_WORD]);
    pi.is_private = false;
    assert_eq!(pi.ask(6, 0, AT), None);
    assert_eq!(
        pi.ask(0x86, 0, AT),
        Some((OWNER, PiWord)),
        "a private wait is of one process"
    );
}

#[test]
fn a_robust_mutex_has_its_owner_in_the_word() {
    let mut after_a_death = ROBUST;
    after_a_death[2] = i32::MAX as u32;
    assert_eq!(
        Process::new(&after_a_death).ask(0, ROBUST_WORD, AT),
        Some((OWNER, RobustWord))
    );
    for (index, bad) in [(0, 2), (1, 0), (2, 103), (3, 0), (4, 0x80), (4, 0xb0)] {
        let mut words = ROBUST;
        words[index] = bad;
        assert_eq!(Process::new(&words).ask(0, ROBUST_WORD, AT), None, "{words:?}");
    }
    let died = ROBUST_WORD | 0x4000_0000;
    let mut words = ROBUST;
    words[0] = died;
    assert_eq!(Process::new(&words).ask(0, died, AT), None);
    // std::future waits with this bit too.
    assert_eq!(Process::new(&[0x8000_0000; 10]).ask(0, 0x8000_0000, AT), None);
}

#[test]
fn the_kernel_keeps_the_word_of_a_pi_futex() {
    for op in [0x86, 0x8d, 0x18d] {
        let held = Process::new(&[ROBUST_WORD | 0x4000_0000]).ask(op, 0, AT);
        assert_eq!(held, Some((OWNER, PiWord)), "{op:#x}");
    }
    for word in [OWNER, 0, 0x8000_0000, 0x8000_0000 | 103] {
        assert_eq!(Process::new(&[word]).ask(0x86, 0, AT), None, "{word:#x}");
    }
}

#[test]
fn a_read_write_lock_names_its_writer_to_readers_and_writers() {
    let held = Some((OWNER, RwlockWriter));
    assert_eq!(Process::new(&RWLOCK).ask(0x189, 3, AT + 8), held);
    let mut without_readers = RWLOCK;
    without_readers[0] = 3;
    assert_eq!(Process::new(&without_readers).ask(0x189, 3, AT + 12), held);
    let mut prefers_writers = RWLOCK;
    (prefers_writers[1], prefers_writers[12]) = (4, 2);
    assert_eq!(Process::new(&prefers_writers).ask(0x189, 3, AT + 12), held);
}

#[test]
fn what_is_not_quite_a_written_lock_is_none() {
    for (index, bad) in [
        (0, 3),   // a reader waits, but there is none
        (0, 0xa), // a read phase: who reads is not known
        (0, 0x9), // between two writers
        (0, 0xf),
        (1, 0x8000_0000), // handed over at this moment
        (2, 1),
        (3, 0),
        (4, 1),
        (5, 1),
        (6, 0),
        (6, 103),
        (7, 1), // process-shared, but the wait is private
        (8, 0x100),
        (9, 1),
        (10, 1),
        (11, 1),
        (12, 3),
    ] {
        let mut words = RWLOCK;
        words[index] = bad;
        assert_eq!(Process::new(&words).ask(0x189, 3, AT + 8), None, "{words:?}");
    }
    // A condition variable of glibc 2.41 on, with a mutex behind it: its owner lies where the writer would.
    let mut cond = Process::new(&[8, 0, 0, 0, 2, 0, 0, 0, 0, 8, 3, 0]);
    cond.put(AT + 48, &MUTEX);
    assert_eq!(cond.ask(0x189, 3, AT + 40), None);
}

/// A descriptor of a thread at [`AT`], with its number.
fn descriptor() -> Process {
    let mut process = Process::new(&[0; 0x1a0]);
    process.put_pointer(AT, AT);
    process.put_pointer(AT + 16, AT);
    process.put(AT + 0x2d0, &[OWNER]);
    process
}

#[test]
fn a_join_waits_for_a_thread() {
    let joined = Some((OWNER, Join));
    assert_eq!(descriptor().ask(0x109, OWNER, AT + 0x2d0), joined);
    assert_eq!(
        descriptor().ask(0, OWNER, AT + 0x2d0),
        joined,
        "glibc 2.30 and before"
    );
    let mut newer = descriptor();
    newer.put(AT + 0x628, &[2]);
    assert_eq!(newer.ask(0x109, 2, AT + 0x628), joined, "glibc 2.43 and later");
    // A semaphore that processes share, for instance.
    assert_eq!(Process::new(&[OWNER; 0x200]).ask(0x109, OWNER, AT + 0x2d0), None);
    let mut ended = descriptor();
    ended.threads = vec![WAITER];
    assert_eq!(ended.ask(0x109, OWNER, AT + 0x2d0), None);
    newer.threads = vec![WAITER, 2];
    assert_eq!(
        newer.ask(0x109, 2, AT + 0x628),
        None,
        "2 is a state there, not a thread"
    );
    let mut second = descriptor();
    second.put(AT + 0x2d0, &[2]);
    second.threads = vec![WAITER, 2];
    assert_eq!(
        second.ask(0x109, 2, AT + 0x2d0),
        Some((2, Join)),
        "and here a thread"
    );
    assert_eq!(
        descriptor().ask(0x189, OWNER, AT + 0x2d0),
        None,
        "a join is never private"
    );
}

#[test]
fn programs_of_32_bits_have_other_offsets() {
    const LOW: u64 = 0x5655_9000;
    let ask = |words: &[u32], op, value, at| {
        let mut process = Process::new(&[]);
        process.put(LOW, words);
        process.ask_as(op, value, 0xffff_ffff_0000_0000 | (LOW + at), true)
    };
    assert_eq!(
        ask(&[2, 0, OWNER, 0, 1, 0], 0x80, 2, 0),
        Some((OWNER, MutexOwner))
    );
    assert_eq!(ask(&[2, 0, OWNER, 1, 1, 0], 0x80, 2, 0), None);
    assert_eq!(
        ask(&[ROBUST_WORD, 1, OWNER, 0x90, 1, 0xf7c0_1b6c], 0, ROBUST_WORD, 0),
        Some((OWNER, RobustWord))
    );
    let rwlock = [0xb, 0, 3, 3, 0, 0, 2, OWNER];
    assert_eq!(ask(&rwlock, 0x189, 3, 8), Some((OWNER, RwlockWriter)));
    let mut thread = [0; 27];
    (thread[0], thread[2], thread[26]) = (LOW as u32, LOW as u32, OWNER);
    assert_eq!(ask(&thread, 0x109, OWNER, 0x68), Some((OWNER, Join)));
}

/// A recursive mutex of musl at [`AT`], in its owner's list.
fn musl_mutex() -> Process {
    const LIST: u64 = AT + 0x800;
    let mut process = Process::new(&[1, ROBUST_WORD, 1, 0, 0, 1]);
    process.put_pointer(AT + 24, LIST);
    process.put_pointer(AT + 32, LIST);
    process.put_pointer(LIST, AT + 32);
    process
}

#[test]
fn musl_has_owners_and_joins_too() {
    assert_eq!(
        musl_mutex().ask(0x80, ROBUST_WORD, AT + 4),
        Some((OWNER, MutexOwner))
    );
    let mut plain = musl_mutex();
    plain.put(AT, &[0]);
    assert_eq!(plain.ask(0x80, ROBUST_WORD, AT + 4), None, "no owner, but EBUSY");
    let mut elsewhere = musl_mutex();
    elsewhere.put_pointer(AT + 0x800, AT + 8);
    assert_eq!(
        elsewhere.ask(0x80, ROBUST_WORD, AT + 4),
        None,
        "a read-write lock"
    );

    let mut thread = Process::new(&[0; 16]);
    for (at, pointer) in [(0, AT), (16, AT + 0x3000), (24, AT + 0x5000)] {
        thread.put_pointer(AT + at, pointer);
    }
    thread.put(AT + 48, &[OWNER, 0, 2]);
    assert_eq!(thread.ask(0x80, 2, AT + 56), Some((OWNER, Join)));
    thread.put_pointer(AT, AT + 8);
    assert_eq!(thread.ask(0x80, 2, AT + 56), None);
}

/// By the call's arguments alone: nothing of the target is read for them.
#[test]
fn most_waits_cost_no_read() {
    let mut process = Process::new(&MUTEX);
    for (op, value) in [
        (0x189, 0), // condition variable, semaphore
        (0x80, 0),  // barrier
        (0x80, 1),  // once, parking_lot
        (0x89, 2),  // Rust's mutex
        (0x89, 3),
        (0x189, 1),
        (0, 0), // std::atomic
        (0x8b, 2),
        (0x8c, 2),
    ] {
        assert_eq!(process.ask(op, value, AT), None, "{op:#x} {value}");
    }
    assert_eq!(process.reads, 0);
}

#[test]
fn two_records_are_of_one_wait_when_the_thread_never_came_back() {
    let first = TaskRecord {
        syscall: 202,
        switches: 7,
        ..TaskRecord::default()
    };
    assert!(same_wait(&first, &first));
    let changed = |change: fn(&mut TaskRecord)| {
        let mut later = first;
        change(&mut later);
        later
    };
    for other in [
        changed(|later| later.switches = 8),
        changed(|later| later.args[0] = 1),
        changed(|later| later.syscall = 0),
        changed(|later| later.start_boottime = 1),
        changed(|later| later.exec_id = 1),
    ] {
        assert!(!same_wait(&first, &other));
    }
    // Only a signal's handler ran in between, the probes say.
    let probed = |switches, waits| {
        let mut record = first;
        record.record_flags = record_flags::FUTEX_WAIT;
        (record.switches, record.futex.waits) = (switches, waits);
        record
    };
    assert!(same_wait(&probed(7, 3), &probed(9, 3)));
    assert!(!same_wait(&probed(7, 3), &probed(9, 4)));
    assert!(
        !same_wait(&probed(7, 0), &probed(9, 0)),
        "it began before the probes came"
    );
}

proptest! {
    /// Whatever lies there, and however the wait looks: nothing but `None`, or a thread that there is.
    #[test]
    fn no_memory_makes_it_fail(
        words in prop::collection::vec(prop_oneof![0u32..4, Just(OWNER), Just(ROBUST_WORD), any::<u32>()], 0..300),
        op in prop_oneof![Just(0u64), Just(0x80), Just(0x109), Just(0x189), Just(0x86), any::<u64>()],
        value in prop_oneof![0u32..4, Just(OWNER), Just(ROBUST_WORD), any::<u32>()],
        address in prop_oneof![AT..AT + 1200, 0u64..64, u64::MAX - 64..=u64::MAX],
        compat: bool,
    ) {
        let mut process = Process::new(&words);
        let held = process.ask_as(op, value, address, compat);
        prop_assert!(held.is_none_or(|(tid, _)| process.threads.contains(&tid)));
        prop_assert!(process.reads <= 8);
    }
}
