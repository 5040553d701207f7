//! Where a runtime keeps its tasks: `OwnedTasks` (tokio/src/runtime/task/list.rs), found by way of the threads that are in a
//! runtime, whose thread-local context holds an `Arc` of its handle (tokio/src/runtime/context/current.rs).
//!
//! From 1.35 on it is a list in shards: their address, how many there are, (from 1.40 on how many tasks were added,) how
//! many there are now, the mask that picks a shard, and the list's number, which every task of it has in its header. Before
//! it was one list: its head, its tail, and the number behind or, of a `LocalSet`, before.

use std::{collections::HashSet, time::Duration};

use super::{
    program::Program,
    task::{HEADER, Header, Status, Vtable},
};
use crate::observe::{
    helper::Allowance,
    memory::{
        Memory,
        space::{Space as _, SpaceExt as _, word},
    },
    programs::Placed,
};

/// Threads that are looked at for runtimes.
const MAX_THREADS: usize = 4_096;
/// The thread-local variables of a program that are looked through, from their end.
const MAX_LOCALS: u64 = 64 << 10;
/// Of a handle that is looked through; the lists stood within the first 600 bytes of it.
const HANDLE: usize = 4_096;
/// What is read of it at once where not all of it is there.
const PART: usize = 512;
/// Of those of all threads together.
const MAX_ALL_LOCALS: u64 = 16 << 20;
/// How long a search may take.
const LONGEST: Duration = Duration::from_secs(2);
/// Pointers that are looked behind.
const MAX_POINTERS: usize = 64 << 10;
const MAX_COUNT: u64 = 1 << 24;
/// A shard for each task that may be spawned at once (`gen_shared_list_size`).
const SHARDS: std::ops::RangeInclusive<u64> = 4..=1 << 16;
/// A lock, the first task, the last.
const SHARD: u64 = 24;
/// A list may change while it is looked at.
const TRIES: usize = 8;
/// Lists of one process.
const MAX_LISTS: usize = 1_024;

/// A list of tasks.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct List {
    /// Where it was found.
    at: u64,
    pub number: u64,
    form: Form,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Form {
    /// Where the shards are, how many, and at which word the count of tasks stands.
    Shards {
        address: u64,
        count: u64,
        tasks: u64,
    },
    Single,
}

impl List {
    /// A list in one part, whose ends stand there.
    pub const fn single(at: u64, number: u64) -> Self {
        let form = Form::Single;
        Self { at, number, form }
    }

    /// Whether it is of tokio 1.35 or later.
    pub const fn is_sharded(&self) -> bool {
        !matches!(self.form, Form::Single)
    }

    /// Where it was found.
    pub const fn at(&self) -> u64 {
        self.at
    }
}

/// The ends of one part of a list, 0 where there is no task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    /// Where they stand in memory: the first task, and behind it the last.
    pub at: u64,
    pub first: u64,
    pub last: u64,
}

/// A process whose lists are looked for.
pub struct Search<'a> {
    pub placed: &'a Placed<Program>,
    pub memory: &'a mut Memory,
}

impl Search<'_> {
    /// The lists of all runtimes that threads are in, and those of `known` that are still there. `pointers`: the thread
    /// pointers of the process's threads; `everywhere`: whether all their variables are to be looked through, and not only
    /// where runtimes were found before.
    pub fn lists(&mut self, known: &[List], pointers: &[u64], everywhere: bool) -> Vec<List> {
        let mut lists: Vec<List> = known
            .iter()
            .filter(|list| self.read(list.at).is_some_and(|again| again == **list))
            .cloned()
            .collect();
        let pointers = &pointers[..pointers.len().min(MAX_THREADS)];
        let mut handles = HashSet::new();
        let allowance = Allowance::of(LONGEST);
        for (handle, place) in self.locals(pointers, everywhere) {
            if lists.len() >= MAX_LISTS || allowance.is_over() {
                break;
            }
            let is_new = handles.insert(handle);
            if let Some(list) = is_new.then(|| self.behind(handle)).flatten() {
                self.placed.program.found_at(place);
                // Other pairs of tasks, as those that are to be run next, may look like a list while it changes.
                if lists.iter().all(|known| known.number != list.number) {
                    lists.push(list);
                }
            }
        }
        lists
    }

    /// What in the threads' variables may point to a handle, and how far below the thread's pointer.
    pub fn locals(&mut self, pointers: &[u64], everywhere: bool) -> Vec<(u64, u64)> {
        let Some((size, align)) = self.placed.program.image.thread_locals else {
            return Vec::new();
        };
        let mut words = Vec::new();
        let known = self.placed.program.places();
        let mut places = Vec::new();
        if everywhere || known.is_empty() {
            // They end where the pointer points (the ABI's variant II), or below by what aligns them.
            let length = size.saturating_add(align.min(PART as u64)).min(MAX_LOCALS) & !7;
            let threads = (MAX_ALL_LOCALS / length.max(1)).max(1) as usize;
            for pointer in pointers.iter().take(threads) {
                let start = pointer.saturating_sub(length);
                self.memory.parts(start..*pointer, |address, bytes| {
                    let first = (address.next_multiple_of(8) - address) as usize;
                    let bytes = bytes.get(first..).unwrap_or_default();
                    for (index, _) in bytes.chunks_exact(8).enumerate() {
                        let at = address + (first + 8 * index) as u64;
                        if let Some(value) = word(bytes, 8 * index)
                            && self::is_pointer(value)
                        {
                            words.push((value, pointer - at));
                        }
                    }
                });
            }
        } else {
            for pointer in pointers {
                let place = |known: &u64| {
                    let at = pointer.saturating_sub(*known);
                    at..at.saturating_add(8)
                };
                places.extend(known.iter().map(place));
            }
            let gathered = self.memory.gather(&places, 0);
            for number in 0..places.len() {
                if let Some(value) = gathered.get(number).and_then(|bytes| word(bytes, 0)) {
                    words.push((value, known[number % known.len()]));
                }
            }
        }
        // A handle is counted: strong and weak references come first.
        words.sort_unstable();
        words.dedup_by_key(|(value, _)| *value);
        words.truncate(MAX_POINTERS);
        let counts: Vec<_> = words
            .iter()
            .map(|(value, _)| *value..value.saturating_add(16))
            .collect();
        let gathered = self.memory.gather(&counts, 0);
        let is_counted = |number: usize| {
            let count = |at| {
                let count = gathered.get(number).and_then(|bytes| word(bytes, at));
                count.is_some_and(|count| (1..MAX_COUNT).contains(&count))
            };
            count(0) && count(8)
        };
        let counted = words.iter().enumerate().filter(|(number, _)| is_counted(*number));
        counted.map(|(_, word)| *word).collect()
    }

    /// The list in a handle.
    fn behind(&self, handle: u64) -> Option<List> {
        let bytes = handle_bytes(self.memory, handle);
        let places = |handle: u64| (16..bytes.len()).step_by(8).map(move |at| handle + at as u64);
        let shards = places(handle).find_map(|at| self.shards(at, bytes.get((at - handle) as usize..)?));
        shards.or_else(|| places(handle).find_map(|at| self.single(at, bytes.get((at - handle) as usize..)?)))
    }

    /// What stands at the place of a list.
    fn read(&self, at: u64) -> Option<List> {
        let bytes = self.memory.some(at, 64, 8);
        self.shards(at, &bytes).or_else(|| self.single(at, &bytes))
    }

    fn shards(&self, at: u64, bytes: &[u8]) -> Option<List> {
        let word = |index: usize| word(bytes, 8 * index);
        let (address, count) = (word(0)?, word(1)?);
        if !is_pointer(address) || !SHARDS.contains(&count) || !count.is_power_of_two() {
            return None;
        }
        // A count may happen to be the mask as well: the tasks tell.
        [3, 4].into_iter().find_map(|mask| {
            let number = word(mask + 1)?;
            let list = List {
                at,
                number,
                form: Form::Shards {
                    address,
                    count,
                    tasks: mask as u64 - 1,
                },
            };
            let is_likely = word(mask)? == count - 1 && (1..MAX_COUNT << 8).contains(&number);
            let is_sound = || {
                self.ends(&list).is_some_and(|ends| {
                    ends.into_iter().all(|Ends { first, last, .. }| {
                        (first == 0) == (last == 0) && (last == 0 || self.is_of(last, number))
                    })
                })
            };
            (is_likely && (0..TRIES).any(|_| is_sound())).then_some(list)
        })
    }

    /// Two ends of a list, and the number of its tasks soon behind.
    fn single(&self, at: u64, bytes: &[u8]) -> Option<List> {
        let is_task = |index: usize| {
            word(bytes, 8 * index).is_some_and(|value| is_pointer(value) && Header::is_place(value))
        };
        let is_likely = is_task(0) && is_task(1);
        let number = is_likely.then(|| (0..TRIES).find_map(|_| self.number_of_single(at)));
        number.flatten().map(|number| List::single(at, number))
    }

    /// The list of a `LocalSet` in something that lies at an address and has these first bytes: there, or where one of its
    /// pointers leads.
    pub fn local(&self, address: u64, bytes: &[u8]) -> Option<List> {
        let places = (0..bytes.len()).step_by(8).map(|at| address + at as u64);
        places
            .filter(|at| self.is_likely(bytes, at - address))
            .find_map(|at| Some(List::single(at, self.number_of_single(at)?)))
    }

    /// Whether there may be the ends of a list: the last of them is a task.
    fn is_likely(&self, bytes: &[u8], at: u64) -> bool {
        let task =
            |at: u64| word(bytes, at as usize).filter(|value| is_pointer(*value) && Header::is_place(*value));
        task(at).is_some() && task(at + 8).is_some_and(|last| self.header(last).is_some())
    }

    fn number_of_single(&self, at: u64) -> Option<u64> {
        let bytes: [u8; 64] = self.memory.array(at.checked_sub(16)?)?;
        let word = |index: usize| word(&bytes, 8 * index);
        let (first, last) = (word(2)?, word(3)?);
        let header = self.header(last)?.0;
        // Two handles of tasks that have ended are none: no list has such a task, but for a moment.
        if header.state.status() == Status::Complete {
            return None;
        }
        let owner = header.owner;
        // A runtime's stands behind, a `LocalSet`'s before.
        let is_numbered = [0, 1, 4, 5, 6, 7]
            .into_iter()
            .any(|index| word(index) == Some(owner));
        let (_, next) = self.links(last)?;
        let (previous, _) = self.links(first)?;
        (is_numbered && next == 0 && previous == 0 && self.is_of(first, owner)).then_some(owner)
    }

    /// The ends of each of a list's parts.
    pub fn ends(&self, list: &List) -> Option<Vec<Ends>> {
        let decode = |bytes: &[u8], at: usize, address: u64| {
            Some(Ends {
                at: address,
                first: word(bytes, at)?,
                last: word(bytes, at + 8)?,
            })
        };
        match list.form {
            Form::Shards { address, count, .. } => {
                let mut bytes = vec![0; (SHARD * count) as usize];
                self.memory.fill(address, &mut bytes).then_some(())?;
                let shards = bytes.chunks_exact(SHARD as usize).enumerate();
                shards
                    .map(|(number, shard)| decode(shard, 8, address + SHARD * number as u64 + 8))
                    .collect()
            }
            Form::Single => {
                let bytes: [u8; 16] = self.memory.array(list.at)?;
                Some(vec![decode(&bytes, 0, list.at)?])
            }
        }
    }

    /// How many tasks the list says that it has; `None` where that is not known.
    pub fn count(&self, list: &List) -> Option<u64> {
        match list.form {
            Form::Shards { tasks, .. } => self.memory.u64(list.at + 8 * tasks),
            Form::Single => None,
        }
    }

    fn header(&self, address: u64) -> Option<(Header, Vtable)> {
        if !Header::is_place(address) {
            return None;
        }
        let bytes: [u8; HEADER as usize] = self.memory.array(address)?;
        let header = Header::decode(&bytes)?;
        let vtable = self
            .placed
            .program
            .vtable(header.vtable.wrapping_sub(self.placed.bias))?;
        Some((header, *vtable))
    }

    fn is_of(&self, address: u64, number: u64) -> bool {
        self.header(address)
            .is_some_and(|(header, _)| header.owner == number)
    }

    /// The tasks before and behind one.
    fn links(&self, address: u64) -> Option<(u64, u64)> {
        let (_, vtable) = self.header(address)?;
        let bytes: [u8; 16] = self.memory.array(address.checked_add(vtable.trailer)?)?;
        Some((word(&bytes, 0)?, word(&bytes, 8)?))
    }
}

fn handle_bytes(memory: &Memory, handle: u64) -> Vec<u8> {
    memory.some(handle, HANDLE, PART)
}

/// The words of a handle, as many as are there.
pub fn handle_words(memory: &Memory, handle: u64) -> Vec<u64> {
    let bytes = handle_bytes(memory, handle);
    (0..bytes.len())
        .step_by(8)
        .filter_map(|at| word(&bytes, at))
        .collect()
}

/// Whether a number may be the address of something that was allocated.
pub fn is_pointer(value: u64) -> bool {
    (0x1_0000..1 << 47).contains(&value) && value.is_multiple_of(8)
}
