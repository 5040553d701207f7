//! The thread that talks to the helper process: no target can delay a sweep.
//!
//! A process that does not answer within the helper's deadline is left alone for a while.

use std::{
    collections::HashMap,
    io,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
        mpsc::{Receiver, Sender, channel},
    },
    thread,
    time::{Duration, Instant},
};

use crate::{
    model::{Anchor, Cause, ProcessId, Stack},
    observe::{
        bpf::SpawnEvent,
        helper::{Helper, HelperError, HelperOptions, NamedBirth, SpawnPoint},
    },
};

/// How long a process is left alone that did not answer in time.
const LEFT_ALONE: Duration = Duration::from_secs(600);

/// What is asked about a process.
pub enum Question {
    /// The stack of a sleeping thread.
    Stack(Anchor),
    /// Where its `pthread_create`s are.
    SpawnPoints,
    /// Who made a thread, and what it runs.
    Birth(Box<SpawnEvent>),
}

pub enum Answer {
    Stack(Anchor, Result<Arc<Stack>, Cause>),
    SpawnPoints(Vec<SpawnPoint>),
    Birth(Box<SpawnEvent>, NamedBirth),
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
            left_alone: HashMap::new(),
            helper_pid: Arc::clone(&helper_pid),
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
    left_alone: HashMap<ProcessId, Instant>,
    helper_pid: Arc<AtomicU32>,
}

impl Clerk {
    fn work(&mut self, asked: &Receiver<(ProcessId, Question)>, answers: &Sender<(ProcessId, Answer)>) {
        while let Ok((process, question)) = asked.recv() {
            let answer = match question {
                Question::Stack(anchor) => Answer::Stack(anchor, self.stack(process, anchor)),
                Question::SpawnPoints => {
                    let points = self.ask(process, |helper| helper.spawn_points(process.pid, process.pid));
                    Answer::SpawnPoints(points.unwrap_or_default())
                }
                Question::Birth(event) => {
                    let named = self.ask(process, |helper| helper.birth(&event));
                    Answer::Birth(event, named.unwrap_or_default())
                }
            };
            if answers.send((process, answer)).is_err() {
                return;
            }
        }
    }

    fn stack(&mut self, process: ProcessId, anchor: Anchor) -> Result<Arc<Stack>, Cause> {
        let named = self.ask(process, |helper| {
            helper.stack(process.pid, anchor.tid, anchor.registers)
        })?;
        Ok(Arc::new(Stack {
            block_site: named.block_site().map(Arc::new),
            entry: named.entry().map(Arc::new),
            frames: named.frames,
            truncated: named.truncated,
        }))
    }

    fn ask<T>(
        &mut self,
        process: ProcessId,
        ask: impl FnOnce(&mut Helper) -> Result<T, HelperError>,
    ) -> Result<T, Cause> {
        let now = Instant::now();
        if self.left_alone.get(&process).is_some_and(|until| now < *until) {
            return Err(Cause::StackUnresponsive);
        }
        let answer = ask(&mut self.helper);
        self.helper_pid
            .store(self.helper.pid().unwrap_or(0), Ordering::Relaxed);
        answer.map_err(|error| {
            tracing::debug!("process {}: {error}", process.pid);
            match error {
                // A helper that dies over a process (a truncated file, too much memory) is as bad as one that hangs.
                HelperError::Unresponsive | HelperError::Failed(_) => {
                    tracing::warn!(
                        "process {} does not let its stacks be read: left alone for {LEFT_ALONE:?}",
                        process.pid
                    );
                    self.left_alone.retain(|_, until| now < *until);
                    self.left_alone.insert(process, now + LEFT_ALONE);
                    Cause::StackUnresponsive
                }
                HelperError::Absent | HelperError::Refused(_) => Cause::StackUnreadable,
            }
        })
    }
}
