//! Who waits for the world: whom the wakers of a runtime's sockets and pipes wake (tokio/src/runtime/io/scheduled_io.rs). From
//! 1.30 on they are in a list, whose ends stand in the handle (registration_set.rs, driver.rs): how many are to be let
//! go, a lock, which those are, the ends, whether it is over, and the numbers of two files.
//!
//! A waker stays there until something comes, also when its task waits for something else besides, or by now.

use std::{collections::HashSet, time::Duration};

use super::{
    blocks::Blocks,
    links::{self, End},
    lists::{handle_words, is_pointer},
    wakers::Wakers,
};
use crate::observe::{
    helper::Allowance,
    memory::{
        Memory,
        space::{SpaceExt as _, word},
    },
};

/// Words around the ends of a list, and at which of them these are.
const WORDS: usize = 9;
const ENDS: usize = 5;
/// What is in a list is aligned so.
const ALIGN: u64 = 128;
/// The number that no file has: where the compiler says that there is another thing.
const NO_FILE: u32 = u32::MAX;
const MAX_RELEASED: u64 = 1 << 24;
const MAX_FILES: u64 = 1 << 30;
/// What is waited for of one process, and by whom of one of them.
const MAX_REGISTERED: usize = 1 << 18;
const MAX_WAITING: usize = 1 << 12;
/// How often what changes while it is read is read anew, and for how long.
const TRIES: usize = 8;
const LONGEST: Duration = Duration::from_millis(500);
/// Its links, its state, a lock, the ends of the list of those who wait, who reads, and who writes.
const REGISTERED: usize = 80;
const WAITING: usize = 4;
/// Links, and a waker.
const WAITER: usize = 32;

/// Where the ends of the list in a handle stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sockets {
    At(u64),
    /// Its runtime cannot wait for the world.
    None,
}

/// The list in a handle of a process with this thread; `None` where that is not known.
pub fn find(memory: &Memory, tid: u32, handle: u64) -> Option<Sockets> {
    // It may be changing just now: that there is none has to be seen each time.
    let mut is_none = true;
    for _ in 0..TRIES {
        match find_once(memory, tid, handle) {
            Some(Sockets::None) => {}
            Some(found) => return Some(found),
            None => is_none = false,
        }
    }
    is_none.then_some(Sockets::None)
}

fn find_once(memory: &Memory, tid: u32, handle: u64) -> Option<Sockets> {
    let words = handle_words(memory, handle);
    // What lies behind a handle may be anything.
    let is_found = |words: &[u64]| is_driver(words) && words.last().is_some_and(|files| wait(tid, *files));
    if let Some(index) = words.windows(WORDS).position(is_found) {
        return Some(Sockets::At(handle + 8 * (index + ENDS) as u64));
    }
    let is_none = |words: &[u64]| has_no_driver(memory, words);
    words.windows(WORDS).any(is_none).then_some(Sockets::None)
}

/// Whether there is something else in the place of a driver: what wakes a thread that waits, and no file.
fn has_no_driver(memory: &Memory, words: &[u64]) -> bool {
    let [waker, .., files] = *words else {
        return false;
    };
    if files as u32 != NO_FILE && (files >> 32) as u32 != NO_FILE {
        return false;
    }
    let is_counted = |count: Option<u64>| count.is_some_and(|count| (1..MAX_RELEASED).contains(&count));
    is_pointer(waker) && is_counted(memory.u64(waker)) && is_counted(memory.u64(waker + 8))
}

/// Whether two numbers of files are those of what waits, and of what ends the waiting.
fn wait(tid: u32, files: u64) -> bool {
    let is_a = |number: u64, kind: &str| {
        let link = std::fs::read_link(format!("/proc/{tid}/fd/{number}"));
        link.is_ok_and(|link| link.as_os_str() == kind)
    };
    let (one, other) = (files & 0xffff_ffff, files >> 32);
    [(one, other), (other, one)]
        .into_iter()
        .any(|(poll, event)| is_a(poll, "anon_inode:[eventpoll]") && is_a(event, "anon_inode:[eventfd]"))
}

fn is_driver(words: &[u64]) -> bool {
    let [pending, lock, room, address, length, first, last, over, files] = *words else {
        return false;
    };
    let is_end = |end: u64| is_pointer(end) && end.is_multiple_of(ALIGN);
    let (one, other) = (files & 0xffff_ffff, files >> 32);
    let is_list = if room == 0 {
        address == 8 && length == 0
    } else {
        is_pointer(address) && length <= room
    };
    // Behind a byte there may be anything.
    pending < MAX_RELEASED
        && lock & 0xff < 4
        && room < MAX_RELEASED
        && is_list
        && (first == 0 && last == 0 || is_end(first) && is_end(last))
        && over & 0xff < 2
        && one != other
        && [one, other]
            .into_iter()
            .all(|file| (1..MAX_FILES).contains(&file))
}

/// Adds the tasks that wait for what is in a list; whether all of it was read.
pub fn read(blocks: &mut Blocks, wakers: &mut Wakers, ends: u64, tasks: &mut HashSet<u64>) -> bool {
    let allowance = Allowance::of(LONGEST);
    (0..TRIES).any(|number| {
        let has_time = number == 0 || !allowance.is_over();
        blocks.clear();
        has_time && read_once(blocks, wakers, ends, tasks)
    })
}

fn read_once(blocks: &mut Blocks, wakers: &mut Wakers, ends: u64, tasks: &mut HashSet<u64>) -> bool {
    let mut is_whole = true;
    let end = links::walk(
        blocks,
        ends,
        MAX_REGISTERED,
        |blocks, address, registered: &[u8; REGISTERED]| {
            for index in WAITING..REGISTERED / 8 {
                if let Some(waker) = wakers.at(blocks, registered, index) {
                    tasks.extend(wakers.task(blocks, waker));
                }
            }
            let is_waited_for = [WAITING, WAITING + 1]
                .into_iter()
                .all(|end| word(registered, 8 * end).is_some_and(is_pointer));
            if is_waited_for {
                let waiting = address + 8 * WAITING as u64;
                let end = links::walk(
                    blocks,
                    waiting,
                    MAX_WAITING,
                    |blocks, _, waiter: &[u8; WAITER]| {
                        if let Some((_, waker)) = wakers.first(blocks, waiter, 2) {
                            tasks.extend(wakers.task(blocks, waker));
                        }
                    },
                );
                is_whole &= end == End::Whole;
            }
        },
    );
    is_whole && end == End::Whole
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_driver_is_known_by_what_stands_around_its_list() {
        let empty = [0, 0, 16, 0x7f00_0000_1000, 0, 0, 0, 0, 5 << 32 | 4];
        let full = [
            1,
            1,
            16,
            0x7f00_0000_1000,
            1,
            0x7f00_0000_2000,
            0x7f00_0000_3000,
            0,
            5 << 32 | 4,
        ];
        let taken = [0, 0, 0, 8, 0, 0, 0, 0, 5 << 32 | 4];
        for words in [empty, full, taken] {
            assert!(is_driver(&words), "{words:x?}");
            for (index, wrong) in [
                (1, 9),
                (3, 0),
                (4, 17),
                (5, 0x7f00_0000_2008),
                (7, 2),
                (8, 4),
                (8, 4 << 32 | 4),
            ] {
                let mut words = words;
                words[index] = wrong;
                assert!(!is_driver(&words), "{index} {words:x?}");
            }
        }
    }

    #[test]
    fn what_looks_like_a_driver_and_has_other_files_is_none() {
        // SAFETY: takes nothing, returns a number.
        let tid = unsafe { libc::gettid() } as u32;
        let memory = Memory::of(tid).unwrap();
        let found = |one: u64, other: u64| {
            let mut words = vec![0_u64; 512];
            words[245..254].copy_from_slice(&[1, 1, 64, 0x556a_01ba_f010, 0, 0, 0, 0, other << 32 | one]);
            let handle = words.as_ptr() as u64;
            let found = find(&memory, tid, handle);
            found.map(|found| found == Sockets::At(handle + 8 * (245 + ENDS) as u64))
        };
        // SAFETY: both take numbers and return a new file's, or -1.
        let (poll, event) = unsafe { (libc::epoll_create1(0), libc::eventfd(0, 0)) };
        let (poll, event) = (u64::try_from(poll).unwrap(), u64::try_from(event).unwrap());
        assert_eq!(found(poll, event), Some(true));
        assert_eq!(found(event, poll), Some(true));
        for (one, other) in [(poll, 0x7fff), (event, 1), (0x3f31_c800, 0x7fff)] {
            assert_eq!(found(one, other), None, "{one} {other}");
        }
        for file in [poll, event] {
            // SAFETY: it is ours, and nobody else knows of it.
            unsafe { libc::close(file as i32) };
        }
    }

    proptest! {
        #[test]
        fn any_words_are_understood_or_refused(words in prop::collection::vec(any::<u64>(), 0..12)) {
            let _ = is_driver(&words);
        }
    }
}
