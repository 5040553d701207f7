//! One goroutine, as the runtime's `g` describes it (runtime/runtime2.go).

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::{
    offsets::Offsets,
    space::{half, word},
};

/// `g.atomicstatus`; the collector marks one that it looks at.
const SCANNED: u32 = 0x1000;
/// The runtime's own limit is 1 GB (`maxstacksize`).
const MAX_STACK: u64 = 2 << 30;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Status {
    /// It runs, could run, or is being moved.
    Active,
    /// In a system call, or in C.
    Syscall,
    Waiting,
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
        // runtime/runtime2.go: the numbers up to 9 are as old as Go 1.14, `_Gleaked` and `_Gdeadextra` came with 1.26.
        let status = match half(bytes, offsets.status)? & !SCANNED {
            0 | 5 | 6 | 11 => return Some(Decoded::Dead),
            1 | 2 | 8 | 9 => Status::Active,
            3 => Status::Syscall,
            4 | 10 => Status::Waiting,
            _ => return None,
        };
        let stack = word(0)?..word(8)?;
        let size = stack.end.checked_sub(stack.start)?;
        let is_syscall = status == Status::Syscall;
        let (sp, pc, bp) = if is_syscall {
            let bp = match offsets.syscall_bp {
                0 => 0,
                offset => word(offset)?,
            };
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
