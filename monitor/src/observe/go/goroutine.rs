//! One goroutine, as the runtime's `g` describes it (runtime/runtime2.go).

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::offsets::Offsets;
use crate::observe::memory::space::{half, word};

/// `g.atomicstatus`; the collector marks one that it looks at.
const SCANNED: u32 = 0x1000;
/// `_Gleaked`.
const LEAKED: u32 = 10;
/// The runtime's own limit is 1 GB (`maxstacksize`).
const MAX_STACK: u64 = 2 << 30;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Status {
    /// It runs, or is being moved.
    Running,
    /// It could run.
    Runnable,
    /// In a system call, or in C.
    Syscall,
    Waiting,
}

impl Status {
    pub const fn is_active(self) -> bool {
        matches!(self, Self::Running | Self::Runnable)
    }
}

/// What is kept of a `g`. Addresses are the process's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Goroutine {
    pub address: u64,
    pub id: u64,
    pub status: Status,
    /// Number of its wait reason.
    pub reason: u8,
    /// Rises with each time that it stops running; one byte.
    pub seq: u8,
    /// CLOCK_MONOTONIC ns; set by a garbage collection that finds it waiting, 0 otherwise.
    pub wait_since: u64,
    pub gopc: u64,
    pub startpc: u64,
    /// Number of the goroutine that made it, or 0.
    pub parent: u64,
    pub is_locked: bool,
    /// The program's own search for leaks has found that nothing alive can wake it (`_Gleaked`).
    pub is_leaked: bool,
    /// The `synctestBubble` that it is in, or 0.
    pub bubble: u64,
    /// Its labels, or 0.
    pub labels: u64,
    /// The first of the `sudog`s that it waits with, or 0.
    pub waiting: u64,
    pub stack: Range<u64>,
    pub sp: u64,
    pub pc: u64,
    pub bp: u64,
    /// Its thread's `m`, or 0.
    pub m: u64,
}

/// What a `g` turned out to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decoded {
    Live(Goroutine),
    /// Ended, or not begun.
    Dead,
    /// No `g`, or not where it is looked for.
    Invalid,
}

impl Goroutine {
    /// From the bytes of a `g`.
    pub fn decode(offsets: &Offsets, address: u64, bytes: &[u8]) -> Decoded {
        Self::fields(offsets, address, bytes).unwrap_or(Decoded::Invalid)
    }

    fn fields(offsets: &Offsets, address: u64, bytes: &[u8]) -> Option<Decoded> {
        let word = |offset: usize| word(bytes, offset);
        let optional = |offset: usize| if offset == 0 { Some(0) } else { word(offset) };
        // runtime/runtime2.go: the numbers up to 9 are as old as Go 1.14, `_Gleaked` and `_Gdeadextra` came with 1.26.
        let number = half(bytes, offsets.status)? & !SCANNED;
        let status = match number {
            0 | 5 | 6 | 11 => return Some(Decoded::Dead),
            1 | 9 => Status::Runnable,
            2 | 8 => Status::Running,
            3 => Status::Syscall,
            4 | LEAKED => Status::Waiting,
            _ => return None,
        };
        let stack = word(0)?..word(8)?;
        let size = stack.end.checked_sub(stack.start)?;
        let is_syscall = status == Status::Syscall;
        let (sp, pc, bp) = if is_syscall {
            let bp = optional(offsets.syscall_bp)?;
            (word(offsets.syscall_sp)?, word(offsets.syscall_pc)?, bp)
        } else {
            (
                word(offsets.sched)?,
                word(offsets.sched + 8)?,
                word(offsets.sched + offsets.gobuf_bp)?,
            )
        };
        let id = word(offsets.goid)?;
        // Those of threads (`g0`) are not in the list; 1 << 48 were not made since the world began.
        if id == 0 || id >> 48 != 0 || size == 0 || size > MAX_STACK {
            return None;
        }
        // One that runs has its stack pointer elsewhere.
        if status == Status::Waiting && !(stack.start..stack.end).contains(&sp) {
            return None;
        }
        Some(Decoded::Live(Self {
            address,
            id,
            status,
            reason: *bytes.get(offsets.wait_reason)?,
            seq: *bytes.get(offsets.tracking_seq)?,
            wait_since: word(offsets.wait_since)?,
            gopc: word(offsets.gopc)?,
            startpc: word(offsets.startpc)?,
            parent: optional(offsets.parent)?,
            is_locked: word(offsets.locked_m)? != 0,
            is_leaked: number == LEAKED,
            bubble: optional(offsets.bubble)?,
            labels: word(offsets.labels)?,
            waiting: word(offsets.waiting)?,
            stack,
            sp,
            pc,
            bp,
            m: word(offsets.m)?,
        }))
    }

    /// Changes when it stands elsewhere. A stack that is moved (it grows, or is shrunk by a collection) changes
    /// nothing: what is used of it keeps its size.
    pub fn place(&self) -> u32 {
        let used = self.stack.end.wrapping_sub(self.sp);
        let mixed = (used ^ self.pc.rotate_left(20)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed >> 32) as u32
    }
}

#[cfg(test)]
pub mod tests {
    use proptest::prelude::*;

    use super::{super::offsets, *};

    /// A `g` that waits, of number 18.
    pub fn waiting() -> (Vec<u8>, &'static Offsets) {
        let offsets = offsets::of(27).unwrap();
        let mut bytes = vec![0; offsets.size as usize];
        let mut put = |at: usize, word: u64| bytes[at..at + 8].copy_from_slice(&word.to_le_bytes());
        put(0, 0x1000);
        put(8, 0x3000);
        put(offsets.sched, 0x2f00);
        put(offsets.sched + 8, 0x40_1000);
        put(offsets.goid, 18);
        put(offsets.startpc, 0x40_2000);
        put(offsets.status, 4);
        bytes[offsets.tracking_seq] = 200;
        (bytes, offsets)
    }

    fn changed(at: usize, word: u64) -> Decoded {
        let (mut bytes, offsets) = waiting();
        bytes[at..at + 8].copy_from_slice(&word.to_le_bytes());
        Goroutine::decode(offsets, 0xc000, &bytes)
    }

    #[test]
    fn a_waiting_one_is_read() {
        let (bytes, offsets) = waiting();
        let Decoded::Live(goroutine) = Goroutine::decode(offsets, 0xc000, &bytes) else {
            panic!("not live");
        };
        assert_eq!(
            (goroutine.id, goroutine.seq, goroutine.status),
            (18, 200, Status::Waiting)
        );
        assert_eq!(
            (goroutine.sp, goroutine.pc, goroutine.startpc),
            (0x2f00, 0x40_1000, 0x40_2000)
        );
    }

    #[test]
    fn what_cannot_be_is_none() {
        let offsets = offsets::of(27).unwrap();
        // A status that there is not, no number, a stack upside down or too large, a stack pointer outside of it.
        for (at, word) in [
            (offsets.status, 7),
            (offsets.status, 99),
            (offsets.goid, 0),
            (offsets.goid, u64::MAX),
            (8, 0x800),
            (8, u64::MAX),
            (offsets.sched, 0x3000),
            (offsets.sched, 0xfff),
        ] {
            assert_eq!(changed(at, word), Decoded::Invalid, "{at} {word}");
        }
        for ended in [0, 6, 11, 0x1006] {
            assert_eq!(changed(offsets.status, ended), Decoded::Dead);
        }
        assert_eq!(Goroutine::decode(offsets, 0xc000, &[]), Decoded::Invalid);
    }

    #[test]
    fn a_stack_that_moves_keeps_its_place_and_another_call_does_not() {
        let goroutine = |base: u64, used: u64, pc: u64| {
            let (mut bytes, offsets) = waiting();
            let mut put = |at: usize, word: u64| bytes[at..at + 8].copy_from_slice(&word.to_le_bytes());
            put(0, base);
            put(8, base + 0x2000);
            put(offsets.sched, base + 0x2000 - used);
            put(offsets.sched + 8, pc);
            match Goroutine::decode(offsets, 0xc000, &bytes) {
                Decoded::Live(goroutine) => goroutine.place(),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(goroutine(0x1000, 0x100, 7), goroutine(0x9000, 0x100, 7));
        assert_ne!(goroutine(0x1000, 0x100, 7), goroutine(0x1000, 0x108, 7));
        assert_ne!(goroutine(0x1000, 0x100, 7), goroutine(0x1000, 0x100, 8));
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken(bytes in prop::collection::vec(any::<u8>(), 0..512), minor in 19_u32..28) {
            if let Some(offsets) = offsets::of(minor) {
                Goroutine::decode(offsets, 0xc000, &bytes);
            }
        }
    }
}
