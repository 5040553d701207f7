//! What a thread was started with: its start routine, and what that was given where it is the standard library's own.

use super::Inspector;
use crate::{
    identify::{
        CodeAddress, StackError,
        demangle::demangle,
        elf::Source as _,
        file::open_mapped,
        sites::{self, Callable, callable},
    },
    model::{Frame, Site},
    observe::{helper::ThreadStart, memory::read_present},
};

/// Longest name of a C++ type that is read, in bytes.
const MAX_TYPE: usize = 1_024;
/// Words of a C++ state object in which a function's address is looked for: the vtable, then the arguments from the
/// last to the first (libstdc++'s tuple), then the function.
const STATE_WORDS: usize = 16;

/// Where `struct pthread` of glibc (nptl/descr.h) may have `start_routine`, with `arg` behind it: 0x638 in 2.36.
/// Other versions have it near.
const ROUTINE_FROM: u64 = 0x5c0;
const ROUTINE_TO: u64 = 0x6c0;
/// Its `tid`: behind `tcbhead_t`, or the padding that is as long, and one list link.
const TID: u64 = 0x2d0;

/// What a thread was, or is to be, started with.
pub struct Start {
    pub pid: u32,
    /// Any live thread of the process.
    pub tid: u32,
    pub routine: u64,
    pub argument: u64,
    /// The first three words that the argument points at.
    pub argument_words: [u64; 3],
}

/// What says what a thread runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Its start routine, which is the program's own: every thread with it runs the same.
    Routine,
    /// What a library's start routine was given.
    Argument,
    /// Nothing but that it is a library's.
    Library,
}

/// How often a function's beginning was found at a place of the descriptors of a process's threads.
#[derive(Default)]
pub struct Votes([u32; ((ROUTINE_TO - ROUTINE_FROM) / 8) as usize]);

impl Votes {
    /// The place that most descriptors agree on; of several the first, for the argument behind it may be a function too.
    fn winner(&self) -> Option<usize> {
        let most = *self.0.iter().max()?;
        self.0
            .iter()
            .position(|votes| *votes == most)
            .filter(|_| most > 0)
    }
}

impl Inspector {
    /// What a running thread was started with, by its descriptor at `thread_pointer`: glibc's alone has it.
    ///
    /// # Errors
    /// When nothing can be told of this process.
    pub fn thread_start(
        &mut self,
        pid: u32,
        tid: u32,
        thread_pointer: u64,
    ) -> Result<ThreadStart, StackError> {
        let Some(words) = descriptor(tid, thread_pointer) else {
            return Ok(ThreadStart::default());
        };
        let Some((routine, argument)) = self.routine_of(pid, tid, &words)? else {
            return Ok(ThreadStart::default());
        };
        let start = Start {
            pid,
            tid,
            routine,
            argument,
            // What Rust's threads were given is given up by now; C++'s state objects stay.
            argument_words: [word(tid, argument).unwrap_or(0), 0, 0],
        };
        let (entry, source) = self.start(&start);
        Ok(ThreadStart {
            entry,
            is_certain: source != Source::Library,
        })
    }

    /// Start routine and argument among the words of a descriptor. Each one that is looked at makes the place surer.
    fn routine_of(&mut self, pid: u32, tid: u32, words: &[u64]) -> Result<Option<(u64, u64)>, StackError> {
        self.guarded(|this| {
            this.prepare(pid, tid, |_| true)?;
            let mut target = this.target(pid, tid).ok_or(StackError::Gone)?;
            let begins = |word: &u64| *word != 0 && target.begins(*word);
            let is_function: Vec<bool> = words.iter().map(begins).collect();
            let Some(process) = this.processes.get(&pid) else {
                return Ok(None);
            };
            for (votes, is_function) in process.votes.0.iter_mut().zip(&is_function) {
                *votes = votes.saturating_add(u32::from(*is_function));
            }
            let place = process.votes.winner();
            Ok(place
                .filter(|place| is_function.get(*place) == Some(&true))
                .and_then(|place| Some((*words.get(place)?, *words.get(place + 1)?))))
        })
    }

    /// What the thread runs: its start routine, or, where that is the standard library's own, what that was given.
    pub fn start(&mut self, start: &Start) -> (Option<Site>, Source) {
        let routine = self.frames_at(start, start.routine);
        if let Some(site) = sites::own_entry(&routine) {
            return (Some(site), Source::Routine);
        }
        if let Some(site) = self.given(start) {
            return (Some(site), Source::Argument);
        }
        let library = sites::entry(&routine).or_else(|| routine.last()?.function.clone().map(nameless));
        (library, Source::Library)
    }

    fn given(&mut self, start: &Start) -> Option<Site> {
        if let Some(site) = self.closure(start) {
            return Some(site);
        }
        // C++: a state object that begins with its vtable.
        match self.callable_of(start, start.argument_words[0])? {
            Callable::Pointer(_) => self.pointed(start),
            Callable::Object(function) => sites::is_own(&function).then(|| nameless(function)),
        }
    }

    /// The function that a C++ state object points to.
    fn pointed(&mut self, start: &Start) -> Option<Site> {
        let at = |index: usize| match index {
            1 | 2 if start.argument_words[index] != 0 => Some(start.argument_words[index]),
            index => word(start.tid, start.argument.checked_add(8 * index as u64)?),
        };
        (1..STATE_WORDS).find_map(|index| {
            let address = at(index)?;
            let begins = self.begins(start, address);
            begins.then(|| self.own(start, address)).flatten()
        })
    }

    /// Whether a function begins there.
    pub fn begins(&mut self, start: &Start, address: u64) -> bool {
        self.guarded(|this| {
            this.prepare(start.pid, start.tid, |_| true)?;
            let target = this.target(start.pid, start.tid);
            Ok(target.is_some_and(|mut target| target.begins(address)))
        })
        .unwrap_or(false)
    }

    pub fn frames_at(&mut self, start: &Start, address: u64) -> Vec<Frame> {
        // What is no code has no name.
        self.name(start.pid, start.tid, CodeAddress::Exact(address))
            .unwrap_or_default()
            .into_iter()
            .filter(|frame| frame.function.is_some())
            .collect()
    }
}

/// The words of a descriptor among which the start routine is; `None` when it is none of glibc's.
fn descriptor(tid: u32, at: u64) -> Option<Vec<u64>> {
    // `tcbhead_t` (sysdeps/x86_64/nptl/tls.h): its first word and its third point to itself.
    let is_glibc = at != 0
        && word(tid, at)? == at
        && word(tid, at.checked_add(16)?)? == at
        && word(tid, at.checked_add(TID)?)? as u32 != 0;
    is_glibc.then_some(())?;
    // One more, for the argument behind the last.
    let length = ROUTINE_TO - ROUTINE_FROM + 8;
    let bytes = read_present(tid, at.checked_add(ROUTINE_FROM)?, length as usize)?;
    let words = bytes.chunks_exact(8);
    Some(
        words
            .map(|bytes| u64::from_le_bytes(bytes.try_into().unwrap_or_default()))
            .collect(),
    )
}

impl Inspector {
    /// A word that a program never changes.
    pub fn word_of(&mut self, start: &Start, address: u64) -> Option<u64> {
        Some(u64::from_le_bytes(self.constant(start, address)?))
    }

    /// Eight bytes that a program never changes: of its memory, or, where that page is not there, of the file.
    fn constant(&mut self, start: &Start, address: u64) -> Option<[u8; 8]> {
        if let Some(word) = word(start.tid, address) {
            return Some(word.to_le_bytes());
        }
        let process = self.processes.get(&start.pid)?;
        let (range, offset) = process.maps.constants_at(address)?;
        let file = open_mapped(start.tid, range.start, range.end).ok()?;
        let mut bytes = [0; 8];
        let at = offset.checked_add(address - range.start)?;
        file.fill(at, &mut bytes).then_some(bytes)
    }

    /// The callable that a C++ state object is made for, by the type information that its vtable begins with (Itanium C++
    /// ABI, 2.9.5).
    fn callable_of(&mut self, start: &Start, vtable: u64) -> Option<Callable> {
        let information = self.word_of(start, vtable.checked_sub(8)?)?;
        let name_at = self.word_of(start, information.checked_add(8)?)?;
        let mut name = Vec::new();
        while name.len() < MAX_TYPE {
            let bytes = self.constant(start, name_at.checked_add(name.len() as u64)?)?;
            match bytes.iter().position(|byte| *byte == 0) {
                Some(end) => {
                    name.extend_from_slice(&bytes[..end]);
                    break;
                }
                None => name.extend_from_slice(&bytes),
            }
        }
        let name = String::from_utf8(name).ok()?;
        // A type that no other file can have is marked (`type_info::name` of libstdc++ skips that).
        let mangled = name.strip_prefix('*').unwrap_or(&name);
        callable(&demangle(&format!("_ZTS{mangled}")))
    }
}

fn nameless(function: String) -> Site {
    Site {
        function,
        file: None,
        line: None,
    }
}

fn word(tid: u32, address: u64) -> Option<u64> {
    let bytes = read_present(tid, address, 8)?;
    Some(u64::from_le_bytes(*bytes.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_first_place_that_most_agree_on_wins() {
        let mut votes = Votes::default();
        assert_eq!(votes.winner(), None);
        votes.0[5] = 2;
        votes.0[6] = 2;
        votes.0[1] = 1;
        assert_eq!(votes.winner(), Some(5));
    }

    proptest! {
        /// Any memory may be said to be a descriptor: ours is.
        #[test]
        fn any_address_is_taken(at: u64, near in 0_u64..4096) {
            let local = [near; 300];
            // SAFETY: takes nothing, returns a number.
            let tid = unsafe { libc::gettid() } as u32;
            prop_assert_eq!(descriptor(tid, at), None);
            prop_assert_eq!(descriptor(tid, local.as_ptr() as u64 + near % 64), None);
        }
    }
}
