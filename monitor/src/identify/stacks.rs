//! Stacks of blocked tasks, each read once for each wait. What is not there in time is attached in the next pass.

use std::{
    collections::{HashMap, HashSet},
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    entries::{Entries, ThreadKey},
    worker::{Answer, Question, Worker},
};
use crate::{
    model::{Anchor, Cause, Observation, ProcessId, Site, Stack, Task},
    observe::{
        bpf::SpawnEvent,
        helper::{HelperOptions, NamedBirth, SpawnPoint},
        thread::Records,
    },
};

/// Stacks that are asked for in one pass at most; the rest in the next.
const MAX_ASKED: usize = 20_000;

/// A wait, and where its thread sleeps in it.
pub type Key = (ProcessId, Anchor);

/// What was read just now: it holds only if the threads have not run meanwhile ([`Identifier::confirm`]).
#[derive(Default)]
pub struct New {
    stacks: Vec<Key>,
    entries: bool,
}

impl New {
    /// Whether there is nothing to confirm.
    pub fn is_empty(&self) -> bool {
        self.stacks.is_empty() && !self.entries
    }
}

struct Known {
    /// `None`: asked for.
    answer: Option<Result<Arc<Stack>, Cause>>,
    seen_in: u64,
}

/// Knows the stacks of waits.
pub struct Identifier {
    worker: Worker,
    known: HashMap<Key, Known>,
    entries: Entries,
    /// An entry has come that is to be confirmed.
    new_entries: bool,
    interned: HashSet<Arc<Stack>>,
    waiting: usize,
    pass: u64,
    /// Answers to other questions than for stacks, until they are fetched.
    points: Vec<(ProcessId, Vec<SpawnPoint>)>,
    births: Vec<(ProcessId, Box<SpawnEvent>, NamedBirth)>,
}

impl Identifier {
    /// # Errors
    /// When no thread can be started.
    pub fn start(options: HelperOptions) -> io::Result<Self> {
        Ok(Self {
            worker: Worker::start(options)?,
            known: HashMap::new(),
            entries: Entries::default(),
            new_entries: false,
            interned: HashSet::new(),
            waiting: 0,
            pass: 0,
            points: Vec::new(),
            births: Vec::new(),
        })
    }

    /// Pid of the helper process while one runs.
    pub fn helper_pid(&self) -> Option<u32> {
        self.worker.helper_pid()
    }

    /// Asks where a process's `pthread_create`s are; see [`Self::spawn_points`].
    pub fn ask_spawn_points(&self, process: ProcessId) -> bool {
        self.worker.ask(process, Question::SpawnPoints)
    }

    /// Asks who made a thread; see [`Self::births`].
    pub fn ask_birth(&self, process: ProcessId, event: Box<SpawnEvent>) -> bool {
        self.worker.ask(process, Question::Birth(event))
    }

    /// Answers to [`Self::ask_spawn_points`] that have come.
    pub fn spawn_points(&mut self) -> Vec<(ProcessId, Vec<SpawnPoint>)> {
        self.take_answers();
        std::mem::take(&mut self.points)
    }

    /// Answers to [`Self::ask_birth`] that have come.
    pub fn births(&mut self) -> Vec<(ProcessId, Box<SpawnEvent>, NamedBirth)> {
        self.take_answers();
        std::mem::take(&mut self.births)
    }

    fn take_answers(&mut self) {
        let now = Instant::now();
        while let Some((process, answer)) = self.worker.answer(now) {
            self.take(process, answer);
        }
    }

    /// Attaches the stacks of all tasks that have waited for `threshold`, and waits for those that are not known
    /// yet for `patience` at most. Asks what all other threads run as well. `records`: those of the sweep that the
    /// observations were made from.
    pub fn attach(
        &mut self,
        observations: &mut [Observation],
        records: &Records,
        threshold: Duration,
        patience: Duration,
    ) -> New {
        self.pass += 1;
        self.ask(observations, threshold);
        self.entries.ask(&self.worker, records);
        let new = self.collect(Instant::now() + patience);
        self.answer(observations, threshold);
        let pass = self.pass;
        self.known.retain(|_, known| known.seen_in == pass);
        self.interned.retain(|stack| Arc::strong_count(stack) > 1);
        New {
            stacks: new,
            entries: std::mem::take(&mut self.new_entries),
        }
    }

    /// Says of tasks what they run; `born` is what was seen when a thread was made.
    pub fn tell_entries(
        &mut self,
        observations: &mut [Observation],
        records: &Records,
        born: impl Fn(ThreadKey) -> Option<Arc<Site>>,
    ) {
        self.entries.attach(observations, records, born);
    }

    /// Of the stacks that [`Self::attach`] called new, keeps those whose wait is still the same in a later
    /// observation; the others were read while their threads ran. Attaches what is known to that observation.
    pub fn confirm(
        &mut self,
        observations: &mut [Observation],
        records: &Records,
        new: &New,
        threshold: Duration,
    ) {
        self.entries.confirm(records);
        let still: HashSet<Key> = anchors(observations, Duration::ZERO).collect();
        for key in new.stacks.iter().filter(|key| !still.contains(key)) {
            self.known.remove(key);
        }
        self.answer(observations, threshold);
    }

    fn ask(&mut self, observations: &[Observation], threshold: Duration) {
        for (process, anchor) in anchors(observations, threshold) {
            let key = (process, anchor);
            if let Some(known) = self.known.get_mut(&key) {
                known.seen_in = self.pass;
            } else if self.waiting < MAX_ASKED && self.worker.ask(process, Question::Stack(anchor)) {
                self.waiting += 1;
                self.known.insert(
                    key,
                    Known {
                        answer: None,
                        seen_in: self.pass,
                    },
                );
            }
        }
    }

    fn collect(&mut self, until: Instant) -> Vec<Key> {
        let mut new = Vec::new();
        while self.waiting > 0 || self.entries.waiting() > 0 {
            let Some((process, answer)) = self.worker.answer(until) else {
                break;
            };
            new.extend(self.take(process, answer));
        }
        new
    }

    /// Takes an answer down; the wait, when it is a new stack.
    fn take(&mut self, process: ProcessId, answer: Answer) -> Option<Key> {
        let (anchor, answer) = match answer {
            Answer::Stack(anchor, answer) => (anchor, answer),
            Answer::SpawnPoints(points) => {
                self.points.push((process, points));
                return None;
            }
            Answer::Entry((tid, start_boottime), told) => {
                self.new_entries |= self.entries.take((process, tid, start_boottime), told);
                return None;
            }
            Answer::Birth(event, named) => {
                self.births.push((process, event, named));
                return None;
            }
        };
        self.waiting -= 1;
        let key = (process, anchor);
        let answer = answer.map(|stack| self.intern(stack));
        let is_new = answer.is_ok();
        let known = self.known.get_mut(&key)?;
        known.answer = Some(answer);
        is_new.then_some(key)
    }

    fn answer(&self, observations: &mut [Observation], threshold: Duration) {
        for observation in observations {
            let process = observation.process.id;
            for task in &mut observation.tasks {
                let Some(anchor) = anchor_of(task, threshold) else {
                    continue;
                };
                match self
                    .known
                    .get(&(process, anchor))
                    .and_then(|known| known.answer.as_ref())
                {
                    Some(Ok(stack)) => task.stack = Some(Arc::clone(stack)),
                    Some(Err(cause)) => {
                        observation.incomplete.insert(*cause);
                    }
                    None if self.known.contains_key(&(process, anchor)) => {
                        observation.incomplete.insert(Cause::StackPending);
                    }
                    None => {}
                }
            }
        }
    }

    /// Thousands of threads share few stacks.
    fn intern(&mut self, stack: Arc<Stack>) -> Arc<Stack> {
        match self.interned.get(&stack) {
            Some(known) => Arc::clone(known),
            None => {
                self.interned.insert(Arc::clone(&stack));
                stack
            }
        }
    }
}

fn anchors(observations: &[Observation], threshold: Duration) -> impl Iterator<Item = Key> {
    observations.iter().flat_map(move |observation| {
        let tasks = observation.tasks.iter();
        tasks.filter_map(move |task| Some((observation.process.id, anchor_of(task, threshold)?)))
    })
}

/// What the stack of a task is read by that has waited for that long, or of which all is to be told.
fn anchor_of(task: &Task, threshold: Duration) -> Option<Anchor> {
    if let Some(facts) = &task.facts {
        return facts.anchor;
    }
    let wait = task.wait.as_ref().filter(|wait| wait.age >= threshold)?;
    wait.anchor.as_deref().copied()
}
