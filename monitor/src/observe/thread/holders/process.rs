//! The holders of a whole process: from the records of a sweep to edges between threads, in the monitor's numbers.

use std::collections::{HashMap, HashSet};

use super::{Evidence, FutexWaitOf, Holder, View, holder, same_wait};
use crate::{
    model::ProcessId,
    observe::{
        bpf::{TaskRecord, record_flags},
        helper::{Helper, HelperError},
        thread::{
            state::{self, State},
            syscalls,
        },
    },
    target::pidns::Numbers,
};

/// Answers that are remembered during one look.
const MAX_REMEMBERED: usize = 1024;

/// A thread that waits, and the one that holds what it waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Edge {
    pub waiter: u32,
    pub holder: u32,
    pub evidence: Evidence,
}

/// What one look at a process has found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Edges {
    pub edges: Vec<Edge>,
    /// It could not be looked at to the end: its memory does not answer, or its numbers cannot be known.
    pub is_cut: bool,
}

impl Edges {
    /// Looks at the threads of one process, of which `threads` has one sweep's records of all, and tells the holders
    /// of those that are wanted.
    pub fn of(threads: &[TaskRecord], wanted: impl Fn(&TaskRecord) -> bool, memory: &mut Helper) -> Self {
        let mut found = Self::default();
        let is_waiter = |record: &&TaskRecord| is_in_futex(record) && wanted(record);
        let mut waiters = threads.iter().filter(is_waiter).peekable();
        let Some(first) = waiters.peek() else {
            return found;
        };
        let live = threads.iter().filter(|record| state::of(record) != State::Gone);
        let live: HashSet<u32> = live.map(|record| record.tid).collect();
        let Ok(numbers) = Numbers::of(first.tgid, live.iter().copied()) else {
            found.is_cut = true;
            return found;
        };
        let mut view = Live {
            process: ProcessId {
                pid: first.tgid,
                start_boottime: first.leader_start_boottime,
                exec_id: first.exec_id,
            },
            tid: first.tid,
            live: &live,
            numbers: &numbers,
            memory,
            read: HashMap::new(),
            private: HashMap::new(),
            is_silent: false,
        };
        for record in waiters {
            // Any live thread will do to read by, and this one has just been seen.
            view.tid = record.tid;
            let held = numbers.inner(record.tid).and_then(|tid| {
                let wait = FutexWaitOf {
                    tid,
                    args: &record.args,
                    compat: record.record_flags & record_flags::COMPAT != 0,
                };
                holder(&wait, &mut view)
            });
            if view.is_silent {
                found.is_cut = true;
                break;
            }
            let edge = held.and_then(|Holder { tid, evidence }| {
                Some(Edge {
                    waiter: record.tid,
                    holder: numbers.outer(tid)?,
                    evidence,
                })
            });
            found.edges.extend(edge);
        }
        found
    }

    /// Leaves only the edges whose waiters, as a later sweep shows, have been in the same wait all the time since
    /// the records that the edges were made from. Their holders were so when they were looked at.
    pub fn retain_lasting(&mut self, before: &[TaskRecord], after: &[TaskRecord]) {
        let before: HashMap<_, _> = before.iter().map(|record| (record.tid, record)).collect();
        let after: HashMap<_, _> = after.iter().map(|record| (record.tid, record)).collect();
        self.edges
            .retain(|edge| match (before.get(&edge.waiter), after.get(&edge.waiter)) {
                (Some(before), Some(after)) => is_in_futex(after) && same_wait(before, after),
                _ => false,
            });
    }
}

/// Whether it sleeps in `futex`; `futex_waitv` and `futex_wait` are used by no library's locks.
fn is_in_futex(record: &TaskRecord) -> bool {
    let compat = record.record_flags & record_flags::COMPAT != 0;
    record.record_flags & record_flags::NO_REGISTERS == 0
        && state::of(record) == State::Sleeping
        && matches!(
            syscalls::lookup(record.syscall, compat).reason.as_ref(),
            "futex" | "futex_time64"
        )
}

/// A process that runs, for the length of one look: the waiters of one lock ask for the same words.
struct Live<'a> {
    process: ProcessId,
    tid: u32,
    live: &'a HashSet<u32>,
    numbers: &'a Numbers,
    memory: &'a mut Helper,
    read: HashMap<(u64, usize), Option<Vec<u8>>>,
    private: HashMap<u64, bool>,
    /// A read missed its deadline: no other is worth another deadline.
    is_silent: bool,
}

impl View for Live<'_> {
    fn read(&mut self, address: u64, length: usize) -> Option<Vec<u8>> {
        if self.is_silent {
            return None;
        }
        if let Some(known) = self.read.get(&(address, length)) {
            return known.clone();
        }
        if self.read.len() == MAX_REMEMBERED {
            self.read.clear();
        }
        let bytes = self.memory.read(self.process, self.tid, address, length);
        self.is_silent = is_silence(bytes.as_ref().err());
        let bytes = bytes.ok();
        self.read.insert((address, length), bytes.clone());
        bytes
    }

    fn is_thread(&mut self, tid: u32) -> bool {
        self.numbers
            .outer(tid)
            .is_some_and(|tid| self.live.contains(&tid))
    }

    fn is_private(&mut self, address: u64) -> bool {
        if self.is_silent {
            return false;
        }
        if let Some(known) = self.private.get(&address) {
            return *known;
        }
        if self.private.len() == MAX_REMEMBERED {
            self.private.clear();
        }
        let is_private = self.memory.is_private(self.process, self.tid, address);
        self.is_silent = is_silence(is_private.as_ref().err());
        let is_private = is_private.unwrap_or(false);
        self.private.insert(address, is_private);
        is_private
    }
}

/// Whether the process does not answer, so that no other question is worth a deadline.
fn is_silence(error: Option<&HelperError>) -> bool {
    matches!(
        error,
        Some(HelperError::Unresponsive | HelperError::LeftAlone | HelperError::Failed(_))
    )
}
