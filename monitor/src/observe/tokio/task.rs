//! One task, as tokio's runtime has it: a cell of a header, the future, and a trailer (tokio/src/runtime/task/core.rs and
//! state.rs, the same from 1.28 to 1.54 at least).
//!
//! What differs from one future to the next stands in its vtable: seven functions and three offsets
//! (tokio/src/runtime/task/raw.rs). That no other data looks like it is how tokio is found without symbols.

use std::ops::Range;

use monitor_common::TOKIO_JOIN_INTEREST as JOIN_INTEREST;
use serde::{Deserialize, Serialize};

use crate::observe::memory::space::word;

/// Functions of a vtable: `poll` first, `dealloc` third, `shutdown` last.
pub const FUNCTIONS: usize = 7;
/// Words of a vtable that all versions have.
pub const WORDS: usize = FUNCTIONS + 3;
/// A cell begins with the header: state, link in a queue, vtable, number of the owner.
pub const HEADER: u64 = 32;
/// The header is followed by the scheduler, whose type is aligned like a pointer or, in a cell that is aligned more, by
/// more; and that by the task's number.
const SCHEDULER: Range<u64> = HEADER..513;
const MAX_SCHEDULER: u64 = 64;
/// Futures are larger than most people think, but not so large.
const MAX_CELL: u64 = 16 << 20;
/// More references than this are no references.
const MAX_REFERENCES: u64 = 1 << 24;

/// Bits of a task's state.
const RUNNING: u64 = 1;
const COMPLETE: u64 = 2;
const NOTIFIED: u64 = 4;
const REFERENCES: u32 = 6;

/// What is the same of all tasks that run the same future on the same scheduler. Addresses are the linker's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vtable {
    pub functions: [u64; FUNCTIONS],
    /// Offsets within a cell.
    pub trailer: u64,
    pub id: u64,
    /// Behind the number it is kept where the task was spawned (a `&'static Location`): in programs that are built with
    /// `--cfg tokio_unstable` (tokio/src/runtime/task/core.rs of 1.54; 1.44 has no such field).
    pub keeps_place: bool,
}

impl Vtable {
    pub const fn poll(&self) -> u64 {
        self.functions[0]
    }

    pub const fn dealloc(&self) -> u64 {
        self.functions[2]
    }

    /// Whether three words may be the offsets of a vtable: trailer, scheduler, number.
    pub fn are_offsets(trailer: u64, scheduler: u64, id: u64) -> bool {
        let is_aligned = (trailer | scheduler | id).is_multiple_of(8);
        is_aligned
            && SCHEDULER.contains(&scheduler)
            && (scheduler..=scheduler + MAX_SCHEDULER).contains(&id)
            && (id + 8..MAX_CELL).contains(&trailer)
    }

    /// From the bytes of one; `is_code` says of an address whether a function may begin there. `bias` is taken off them.
    /// `behind`: the word that follows, which is an offset as well where there is one more.
    pub fn decode(
        bytes: &[u8],
        behind: Option<u64>,
        bias: u64,
        is_code: impl Fn(u64) -> bool,
    ) -> Option<Self> {
        let word = |index: usize| word(bytes, 8 * index);
        let mut functions = [0; FUNCTIONS];
        for (index, function) in functions.iter_mut().enumerate() {
            *function = word(index)?.wrapping_sub(bias);
            if !is_code(*function) {
                return None;
            }
        }
        let (trailer, scheduler, id) = (word(FUNCTIONS)?, word(FUNCTIONS + 1)?, word(FUNCTIONS + 2)?);
        // Some of them may be the same code; not all.
        let is_varied = functions.iter().any(|function| *function != functions[0]);
        (is_varied && Self::are_offsets(trailer, scheduler, id)).then_some(Self {
            functions,
            trailer,
            id,
            keeps_place: behind == Some(id + 8),
        })
    }

    /// Where the future lies in a cell, with what else is kept of it while it runs.
    pub const fn stage(&self) -> Range<u64> {
        self.id + 8..self.trailer
    }
}

/// What a task is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Status {
    Running,
    /// It is to be polled.
    Notified,
    /// It waits for somebody to wake it.
    Idle,
    /// It has ended, and is about to be let go.
    Complete,
    /// It has ended and is in no list any more; it stays, and so does what it has returned, as long as somebody has its
    /// handle.
    Kept,
}

/// A task's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct State(pub u64);

impl State {
    /// Whether a live task can have it: somebody refers to it, and it does not run and is complete at once.
    pub const fn is_sound(self) -> bool {
        let references = self.0 >> REFERENCES;
        references > 0 && references < MAX_REFERENCES && self.0 & (RUNNING | COMPLETE) != RUNNING | COMPLETE
    }

    /// How many handles, wakers and lists refer to it; 255 where there are more.
    pub fn references(self) -> u8 {
        u8::try_from(self.0 >> REFERENCES).unwrap_or(u8::MAX)
    }

    /// Whether it has ended and somebody has its handle. Whoever gives the handle back says so here before the cell is freed.
    pub const fn is_kept(self) -> bool {
        self.is_sound() && self.0 & (COMPLETE | JOIN_INTEREST) == COMPLETE | JOIN_INTEREST
    }

    pub const fn status(self) -> Status {
        if self.0 & RUNNING != 0 {
            Status::Running
        } else if self.0 & COMPLETE != 0 {
            Status::Complete
        } else if self.0 & NOTIFIED != 0 {
            Status::Notified
        } else {
            Status::Idle
        }
    }
}

/// The first words of a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    pub state: State,
    /// Where its vtable is; the process's address.
    pub vtable: u64,
    /// The number of the list that owns it.
    pub owner: u64,
}

impl Header {
    /// Where a task may be: cells are allocated aligned.
    pub const fn is_place(address: u64) -> bool {
        address != 0 && address.is_multiple_of(16)
    }

    /// `None` for what is none of a live task.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let header = Self {
            state: State(word(bytes, 0)?),
            vtable: word(bytes, 16)?,
            owner: word(bytes, 24)?,
        };
        (header.state.is_sound() && header.owner != 0).then_some(header)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bytes(words: &[u64]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    const CODE: Range<u64> = 0x1000..0x9000;

    fn decode(words: &[u64]) -> Option<Vtable> {
        let behind = words.get(WORDS).copied();
        Vtable::decode(&bytes(words), behind, 0x5_0000, |address| CODE.contains(&address))
    }

    #[test]
    fn a_vtable_is_seven_functions_and_three_offsets() {
        let mut words: Vec<u64> = (1..=7).map(|number| 0x5_0000 + 0x1000 * number).collect();
        words.extend([264, 32, 40]);
        let vtable = decode(&words).unwrap();
        assert_eq!(
            (vtable.poll(), vtable.dealloc(), vtable.stage()),
            (0x1000, 0x3000, 48..264)
        );
        assert!(!vtable.keeps_place);
        for (behind, keeps_place) in [(48, true), (40, false), (0x5_1000, false)] {
            let words = [&words[..], &[behind]].concat();
            assert_eq!(decode(&words).unwrap().keeps_place, keeps_place, "{behind}");
        }
        for (index, wrong) in [
            (0, 0x5_0000),
            (6, 0),
            (7, 40),
            (7, 263),
            (8, 16),
            (9, 24),
            (9, 400),
        ] {
            let mut words = words.clone();
            words[index] = wrong;
            assert_eq!(decode(&words), None, "{index} {wrong}");
        }
        words[..7].fill(0x5_1000);
        assert_eq!(decode(&words), None);
        assert_eq!(decode(&words[..9]), None);
    }

    #[test]
    fn states_are_what_the_bits_say() {
        let told = [
            (0x40, Some(Status::Idle)),
            (0x40 | RUNNING, Some(Status::Running)),
            (0x80 | NOTIFIED, Some(Status::Notified)),
            (0x40 | COMPLETE, Some(Status::Complete)),
            (0x40 | COMPLETE | RUNNING, None),
            (0, None),
            (u64::MAX, None),
        ];
        for (state, expected) in told {
            let header = Header::decode(&bytes(&[state, 0, 1, 1]));
            assert_eq!(header.map(|header| header.state.status()), expected, "{state:#x}");
        }
    }

    #[test]
    fn what_is_kept_is_complete_and_somebody_has_its_handle() {
        let kept = COMPLETE | JOIN_INTEREST;
        for state in [0x40 | kept, 0x80 | kept | 16, 0x40 | kept | 32] {
            assert!(State(state).is_kept(), "{state:#x}");
        }
        // Freed; given back; still running.
        for state in [kept, 0x40 | COMPLETE, 0x40 | JOIN_INTEREST, 0x40 | kept | RUNNING] {
            assert!(!State(state).is_kept(), "{state:#x}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_decoded_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..100), bias: u64) {
            if let Some(vtable) = Vtable::decode(&bytes, None, bias, |_| true) {
                prop_assert!(vtable.stage().start <= vtable.stage().end && vtable.trailer < MAX_CELL);
            }
            if let Some(header) = Header::decode(&bytes) {
                prop_assert!(header.state.is_sound());
            }
        }
    }
}
