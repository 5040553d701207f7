//! The closure that a Rust thread was made of.
//!
//! std hands the thread a box whose vtable has one method; no symbol says what it is made for, unless the newer mangling
//! is used. But std runs every thread's closure from `__rust_begin_short_backtrace`, which is made for each closure by
//! itself and is never put into its caller (library/std/src/sys/backtrace.rs): what that function contains or calls of the
//! program's own code is the closure.

use std::ops::Range;

use super::{Inspector, starts::Start};
use crate::{
    identify::{elf::Source as _, file::open_mapped, sites},
    model::Site,
};

/// Fourth word of a Rust vtable: the first method, after drop, size and alignment.
const METHOD: u64 = 24;
const BOUNDARY: &str = "__rust_begin_short_backtrace";
/// Longest function that is looked through, in bytes.
const MAX_CODE: u64 = 4096;
/// Calls of one function that are followed.
const MAX_CALLS: usize = 64;
/// Distance of the places in a function that are asked which functions were put there, in bytes.
const STEP: usize = 4;
/// Closures of a process that are remembered.
const MAX_CLOSURES: usize = 4_096;

impl Inspector {
    /// What a thread runs that is made with this argument; only true at the moment of its birth, for the box is given up
    /// when the thread begins.
    pub fn closure(&mut self, start: &Start) -> Option<Site> {
        start.argument_words.into_iter().find_map(|vtable| {
            let method = self.word_of(start, vtable.checked_add(METHOD)?)?;
            let known = self.processes.get(&start.pid)?.closures.get(&method).cloned();
            known.unwrap_or_else(|| {
                let found = self.closure_in(start, method);
                if let Some(process) = self.processes.get(&start.pid) {
                    if process.closures.len() == MAX_CLOSURES {
                        process.closures.clear();
                    }
                    process.closures.insert(method, found.clone());
                }
                found
            })
        })
    }

    fn closure_in(&mut self, start: &Start, method: u64) -> Option<Site> {
        if !self.begins(start, method) {
            return None;
        }
        self.calls(start, method).into_iter().find_map(|callee| {
            let frames = self.frames_at(start, callee);
            let is_boundary = frames.last()?.function.as_ref()?.contains(BOUNDARY);
            is_boundary.then(|| self.own_inside(start, callee)).flatten()
        })
    }

    /// The program's own code that a function of std's was made for: put into it, or called by it.
    fn own_inside(&mut self, start: &Start, function: u64) -> Option<Site> {
        let range = self.range_of(start, function)?;
        range
            .step_by(STEP)
            .find_map(|address| self.own(start, address))
            .or_else(|| {
                let calls = self.calls(start, function);
                calls.into_iter().find_map(|callee| self.own(start, callee))
            })
    }

    /// The functions that a function calls, or jumps to at its end, by distance (`E8` and `E9`; Intel's manual, volume
    /// 2A). Not a disassembler: bytes that happen to look so are taken for one if a function begins where they lead.
    fn calls(&mut self, start: &Start, function: u64) -> Vec<u64> {
        let Some((range, code)) = self
            .range_of(start, function)
            .and_then(|range| Some((range.clone(), self.code_of(start, range)?)))
        else {
            return Vec::new();
        };
        let targets = code.windows(5).zip(range).filter_map(|(bytes, at)| {
            let [0xe8 | 0xe9, a, b, c, d] = *bytes else {
                return None;
            };
            let distance = i32::from_le_bytes([a, b, c, d]);
            Some(at.wrapping_add(5).wrapping_add_signed(distance.into()))
        });
        let mut calls: Vec<u64> = Vec::new();
        for target in targets.collect::<Vec<_>>() {
            if calls.len() < MAX_CALLS && !calls.contains(&target) && self.begins(start, target) {
                calls.push(target);
            }
        }
        calls
    }

    /// From a function's beginning to its end, as its unwind information tells.
    fn range_of(&mut self, start: &Start, function: u64) -> Option<Range<u64>> {
        let range = self
            .guarded(|this| {
                this.prepare(start.pid, start.tid, |_| true)?;
                let target = this.target(start.pid, start.tid);
                Ok(target.and_then(|mut target| target.function_range(function)))
            })
            .ok()??;
        Some(range.start..range.end.min(range.start.saturating_add(MAX_CODE)))
    }

    /// Code, from the file: pages that the process has not come to yet are not in its memory.
    fn code_of(&mut self, start: &Start, range: Range<u64>) -> Option<Vec<u8>> {
        let code = self.processes.get(&start.pid)?.code_at(range.start)?;
        let length = range.end.min(code.range.end).checked_sub(range.start)?;
        let file = open_mapped(start.tid, code.range.start, code.range.end).ok()?;
        let mut bytes = vec![0; length as usize];
        let at = code.offset.checked_add(range.start - code.range.start)?;
        file.fill(at, &mut bytes).then_some(bytes)
    }

    pub fn own(&mut self, start: &Start, address: u64) -> Option<Site> {
        sites::own_entry(&self.frames_at(start, address))
    }
}
