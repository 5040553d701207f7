//! What each thread runs, asked for once a thread, blocked or not.
//!
//! The C library remembers a thread's start routine; where that is the program's own, it is the answer. Where it is
//! the standard library's (C++, Rust), or forgotten (the first thread, musl), the outermost frames of the stack tell,
//! of a thread that sleeps for a moment. They may be read while it runs on, so they count only when it has not run
//! meanwhile, or when two looks say the same.

use std::{collections::HashMap, sync::Arc};

use super::worker::{Question, Worker};
use crate::{
    model::{Anchor, Cause, Observation, ProcessId, Registers, Site},
    observe::{
        bpf::{TaskRecord, record_flags},
        helper::ThreadStart,
        thread::{Records, is_asleep},
    },
};

/// Looks at the stack of one thread; after that what else is known has to do.
const MAX_LOOKS: u32 = 6;
/// Functions whose files are remembered; beyond it they are learnt anew.
const MAX_FILES: usize = 20_000;
/// Threads that are asked about at once.
const MAX_ASKED: usize = 5_000;

/// A process's thread: tid, and CLOCK_BOOTTIME ns of its start.
pub type ThreadKey = (ProcessId, u32, u64);

/// What came of a question about a thread.
pub struct Told {
    pub start: ThreadStart,
    /// What its stack says, where one was asked for and read to its end.
    pub seen: Option<Option<Site>>,
    pub failure: Option<Cause>,
}

type Entry = Option<Arc<Site>>;

#[derive(Default)]
struct Thread {
    answer: Option<Entry>,
    /// What is known besides, until there is an answer.
    meanwhile: Entry,
    /// What the last look at its stack said, and its switch count when it was asked for.
    look: Option<(Entry, u64)>,
    asked: Option<u64>,
    is_new: bool,
    looks: u32,
    /// Passes until the next look.
    rest: u32,
    seen_in: u64,
}

/// What the threads of all watched processes run.
#[derive(Default)]
pub struct Entries {
    threads: HashMap<ThreadKey, Thread>,
    /// Functions whose file is known, for those sources that do not tell it: a thread is in one group whatever told.
    files: HashMap<(ProcessId, String), Arc<Site>>,
    asked: usize,
    pass: u64,
}

impl Entries {
    /// Asks about threads that are not known yet. `observations` and `records` are of the same sweep.
    pub fn ask(&mut self, worker: &Worker, records: &Records) {
        self.pass += 1;
        for (process, record) in records
            .iter()
            .flat_map(|(id, records)| records.iter().map(|r| (*id, r)))
        {
            let key = (process, record.tid, record.start_boottime);
            let thread = self.threads.entry(key).or_default();
            let is_first = thread.seen_in == 0;
            thread.seen_in = self.pass;
            if thread.answer.is_some() || thread.asked.is_some() || self.asked >= MAX_ASKED {
                continue;
            }
            if record.record_flags & (record_flags::COMPAT | record_flags::NO_REGISTERS) != 0 {
                // Nothing here reads 32-bit code.
                thread.answer = Some(None);
                continue;
            }
            let sleeps = is_asleep(record);
            if !is_first && (!sleeps || thread.rest > 0) {
                thread.rest = thread.rest.saturating_sub(1);
                continue;
            }
            let anchor = sleeps.then(|| anchor(record));
            // The first thread was started by the kernel.
            let thread_pointer = if record.is_leader() {
                0
            } else {
                record.thread_pointer
            };
            let question = Question::Entry {
                thread: (record.tid, record.start_boottime),
                thread_pointer,
                anchor,
            };
            if worker.ask(process, question) {
                thread.asked = Some(record.switches);
                self.asked += 1;
            }
        }
        let pass = self.pass;
        self.threads
            .retain(|_, thread| thread.seen_in == pass || thread.asked.is_some());
    }

    /// Questions without an answer.
    pub fn waiting(&self) -> usize {
        self.asked
    }

    /// Takes an answer down; whether it is one that a later sweep can confirm.
    pub fn take(&mut self, key: ThreadKey, told: Told) -> bool {
        self.asked = self.asked.saturating_sub(1);
        let start = told.start.entry.map(|site| self.keep_file(key.0, site));
        let seen = told.seen.map(|site| site.map(|site| self.keep_file(key.0, site)));
        let Some(thread) = self.threads.get_mut(&key) else {
            return false;
        };
        let switches = thread.asked.take().unwrap_or(0);
        if told.start.is_certain {
            thread.answer = Some(start);
            return false;
        }
        if start.is_some() {
            thread.meanwhile = start;
        }
        thread.looks += 1;
        thread.rest = thread.looks;
        let before = thread.look.take().map(|(entry, _)| entry);
        match seen {
            Some(entry) if before.as_ref() == Some(&entry) => thread.answer = Some(entry),
            Some(entry) => {
                thread.look = Some((entry, switches));
                thread.is_new = true;
            }
            None => {}
        }
        // Nobody will ever let it be read.
        if thread.answer.is_none()
            && (thread.looks >= MAX_LOOKS || told.failure == Some(Cause::StackUnresponsive))
        {
            let last = thread.look.take().and_then(|(entry, _)| entry);
            thread.answer = Some(thread.meanwhile.clone().or(last));
        }
        thread.answer.is_none() && thread.is_new
    }

    /// Believes what was read of threads that have not run since.
    pub fn confirm(&mut self, records: &Records) {
        for (process, record) in records
            .iter()
            .flat_map(|(id, records)| records.iter().map(|r| (*id, r)))
        {
            let key = (process, record.tid, record.start_boottime);
            let Some(thread) = self.threads.get_mut(&key).filter(|thread| thread.is_new) else {
                continue;
            };
            thread.is_new = false;
            if let Some((entry, switches)) = &thread.look
                && *switches == record.switches
                && is_asleep(record)
            {
                thread.answer = Some(entry.clone());
            }
        }
    }

    /// Says of tasks what they run: what was found here, else what `born` says (their birth was seen), else what their
    /// stack says, which is remembered then.
    pub fn attach(
        &mut self,
        observations: &mut [Observation],
        records: &Records,
        born: impl Fn(ThreadKey) -> Entry,
    ) {
        for observation in observations {
            let process = observation.process.id;
            let starts: HashMap<u64, u64> = records
                .get(&process)
                .into_iter()
                .flatten()
                .map(|record| (u64::from(record.tid), record.start_boottime))
                .collect();
            for task in &mut observation.tasks {
                let Some(start_boottime) = starts.get(&task.id) else {
                    continue;
                };
                let key = (process, task.id as u32, *start_boottime);
                let of_stack = task.stack.as_ref().filter(|stack| !stack.truncated);
                let of_stack = of_stack.and_then(|stack| stack.entry.clone());
                let entry = self.entry(key, of_stack, &born);
                task.entry = entry.map(|site| self.with_file(process, site));
            }
        }
        if self.files.len() > MAX_FILES {
            self.files.clear();
        }
    }

    fn entry(&mut self, key: ThreadKey, of_stack: Entry, born: impl Fn(ThreadKey) -> Entry) -> Entry {
        if let Some(site) = &of_stack {
            self.keep_file(key.0, Site::clone(site));
        }
        let Some(thread) = self.threads.get_mut(&key) else {
            return of_stack;
        };
        if let Some(Some(entry)) = &thread.answer {
            return Some(Arc::clone(entry));
        }
        if of_stack.is_some() {
            thread.answer = Some(of_stack.clone());
            return of_stack;
        }
        born(key).or_else(|| thread.meanwhile.clone())
    }

    fn keep_file(&mut self, process: ProcessId, site: Site) -> Arc<Site> {
        let site = Arc::new(site);
        if site.file.is_some() {
            let name = (process, site.function.clone());
            self.files.entry(name).or_insert_with(|| Arc::clone(&site));
        }
        site
    }

    fn with_file(&self, process: ProcessId, site: Arc<Site>) -> Arc<Site> {
        if site.file.is_some() {
            return site;
        }
        let known = self.files.get(&(process, site.function.clone()));
        known.map_or(site, Arc::clone)
    }
}

fn anchor(record: &TaskRecord) -> Anchor {
    Anchor {
        tid: record.tid,
        start_boottime: record.start_boottime,
        began: 0,
        registers: Registers {
            ip: record.ip,
            sp: record.sp,
            bp: record.bp,
        },
    }
}

#[cfg(test)]
mod tests;
