//! The thread that talks to the helper process: no target can delay a sweep.
//!
//! Processes that have answered before come first: new ones that do not answer cost them one deadline at a time.

use std::{
    collections::{HashSet, VecDeque},
    io,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
        mpsc::{Receiver, Sender, channel},
    },
    thread,
    time::Instant,
};

use super::entries::Told;
use crate::{
    model::{Anchor, Cause, ProcessId, Stack},
    observe::{
        bpf::SpawnEvent,
        helper::{Helper, HelperError, HelperOptions, NamedBirth, SpawnPoint, ThreadStart},
    },
};

/// Processes that have answered are remembered up to so many.
const MAX_ANSWERED: usize = 10_000;

/// What is asked about a process.
pub enum Question {
    /// The stack of a sleeping thread.
    Stack(Anchor),
    /// Where its `pthread_create`s are.
    SpawnPoints,
    /// Who made a thread, and what it runs.
    Birth(Box<SpawnEvent>),
    /// What a thread runs.
    Entry {
        /// tid, and CLOCK_BOOTTIME ns of its start.
        thread: (u32, u64),
        /// 0 where the C library does not know it.
        thread_pointer: u64,
        /// When it sleeps.
        anchor: Option<Anchor>,
    },
}

pub enum Answer {
    Stack(Anchor, Result<Arc<Stack>, Cause>),
    SpawnPoints(Vec<SpawnPoint>),
    Birth(Box<SpawnEvent>, NamedBirth),
    Entry((u32, u64), Told),
}

/// A thread with a helper process of its own.
pub struct Worker {
    questions: Sender<(ProcessId, Question)>,
    answers: Receiver<(ProcessId, Answer)>,
    helper_pid: Arc<AtomicU32>,
}

impl Worker {
    /// # Errors
    /// When no thread can be started.
    pub fn start(options: HelperOptions) -> io::Result<Self> {
        let (questions, asked) = channel();
        let (answer, answers) = channel();
        let helper_pid = Arc::new(AtomicU32::new(0));
        let mut clerk = Clerk {
            helper: Helper::new(options),
            helper_pid: Arc::clone(&helper_pid),
            answered: HashSet::new(),
            first: VecDeque::new(),
            later: VecDeque::new(),
        };
        thread::Builder::new()
            .name("identifier".to_owned())
            .spawn(move || clerk.work(&asked, &answer))?;
        Ok(Self {
            questions,
            answers,
            helper_pid,
        })
    }

    /// Whether the question will be answered.
    pub fn ask(&self, process: ProcessId, question: Question) -> bool {
        self.questions.send((process, question)).is_ok()
    }

    /// The next answer, if there is one by then.
    pub fn answer(&self, until: Instant) -> Option<(ProcessId, Answer)> {
        self.answers
            .recv_timeout(until.saturating_duration_since(Instant::now()))
            .ok()
    }

    /// Pid of the helper process while one runs.
    pub fn helper_pid(&self) -> Option<u32> {
        Some(self.helper_pid.load(Ordering::Relaxed)).filter(|pid| *pid != 0)
    }
}

struct Clerk {
    helper: Helper,
    helper_pid: Arc<AtomicU32>,
    /// Processes that have answered.
    answered: HashSet<ProcessId>,
    /// Questions about these, and about the others.
    first: VecDeque<(ProcessId, Question)>,
    later: VecDeque<(ProcessId, Question)>,
}

impl Clerk {
    fn work(&mut self, asked: &Receiver<(ProcessId, Question)>, answers: &Sender<(ProcessId, Answer)>) {
        while let Some((process, question)) = self.next(asked) {
            let answer = match question {
                Question::Stack(anchor) => Answer::Stack(anchor, self.stack(process, anchor)),
                Question::SpawnPoints => {
                    let points = self.ask(process, |helper| helper.spawn_points(process));
                    Answer::SpawnPoints(points.unwrap_or_default())
                }
                Question::Birth(event) => {
                    let named = self.ask(process, |helper| helper.birth(process, &event));
                    Answer::Birth(event, named.unwrap_or_default())
                }
                Question::Entry {
                    thread,
                    thread_pointer,
                    anchor,
                } => Answer::Entry(thread, self.entry(process, thread.0, thread_pointer, anchor)),
            };
            if answers.send((process, answer)).is_err() {
                return;
            }
        }
    }

    /// The next question; `None` when nobody asks any more.
    fn next(&mut self, asked: &Receiver<(ProcessId, Question)>) -> Option<(ProcessId, Question)> {
        if self.first.is_empty() && self.later.is_empty() {
            let question = asked.recv().ok()?;
            self.put(question);
        }
        while let Ok(question) = asked.try_recv() {
            self.put(question);
        }
        self.first.pop_front().or_else(|| self.later.pop_front())
    }

    fn put(&mut self, question: (ProcessId, Question)) {
        let queue = match self.answered.contains(&question.0) {
            true => &mut self.first,
            false => &mut self.later,
        };
        queue.push_back(question);
    }

    fn stack(&mut self, process: ProcessId, anchor: Anchor) -> Result<Arc<Stack>, Cause> {
        let named = self.ask(process, |helper| {
            helper.stack(process, anchor.tid, anchor.registers)
        })?;
        Ok(Arc::new(Stack {
            block_site: named.block_site().map(Arc::new),
            entry: named.entry().map(Arc::new),
            frames: named.frames,
            truncated: named.truncated,
        }))
    }

    fn entry(&mut self, process: ProcessId, tid: u32, thread_pointer: u64, anchor: Option<Anchor>) -> Told {
        let mut told = Told {
            start: ThreadStart::default(),
            seen: None,
            failure: None,
        };
        if thread_pointer != 0 {
            match self.ask(process, |helper| {
                helper.thread_start(process, tid, thread_pointer)
            }) {
                Ok(start) => told.start = start,
                Err(cause) => told.failure = Some(cause),
            }
        }
        if let Some(anchor) = anchor.filter(|_| !told.start.is_certain) {
            match self.ask(process, |helper| helper.stack(process, tid, anchor.registers)) {
                Ok(stack) => told.seen = (!stack.truncated).then(|| stack.entry()),
                Err(cause) => told.failure = Some(cause),
            }
        }
        told
    }

    fn ask<T>(
        &mut self,
        process: ProcessId,
        ask: impl FnOnce(&mut Helper) -> Result<T, HelperError>,
    ) -> Result<T, Cause> {
        let answer = ask(&mut self.helper);
        self.helper_pid
            .store(self.helper.pid().unwrap_or(0), Ordering::Relaxed);
        if let Err(error) = &answer {
            tracing::debug!("process {}: {error}", process.pid);
        }
        let cause = match &answer {
            Err(HelperError::Unresponsive | HelperError::LeftAlone | HelperError::Failed(_)) => {
                self.answered.remove(&process);
                Cause::StackUnresponsive
            }
            Ok(_) | Err(HelperError::Absent | HelperError::Refused(_)) => {
                if self.answered.len() == MAX_ANSWERED {
                    self.answered.clear();
                }
                self.answered.insert(process);
                Cause::StackUnreadable
            }
        };
        answer.map_err(|_| cause)
    }
}
