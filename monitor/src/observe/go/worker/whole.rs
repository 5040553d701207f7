//! A look at which all is told of all goroutines, blocked or not: with the stacks of those that do not run, and what
//! the runtime's own traceback prints of each (runtime/traceback.go, `goroutineheader` and `printcreatedby`, Go 1.18 to
//! 1.27).

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use super::{
    super::{
        buildinfo::Version,
        goroutine::Status,
        protocol::{Answer, MAX_NAMED, MAX_SITES, Outcome, Pcs, Question, Record, Stacks},
        reasons::{DURABLE, is_durable},
        tracker::Entry,
        view::{Memory, View},
    },
    ask,
    labelled::Labelled,
};
use crate::{
    model::{Cause, Creator, Facts, Reason, Stack, State, Task, Trace},
    observe::worker::{Asker, Failure},
};

/// Stacks of one process that are told apart; goroutines with others have none.
const MAX_DIFFERENT: usize = 100_000;
/// ns
const MINUTE: u64 = 60_000_000_000;

/// What a record tells beyond what is kept of it.
struct Extra {
    id: u64,
    /// Of the reading of its stack, where stacks are read.
    outcome: Option<Outcome>,
    status: Status,
    order: u32,
    parent: u64,
    is_locked: bool,
    is_leaked: bool,
    bubble: Option<u64>,
    /// As the runtime counts them: since a garbage collection found it waiting.
    minutes: u64,
    gopc: u64,
}

/// A stack with its names, and how far into its function each frame is.
type Told = (Arc<Stack>, Arc<[u32]>);

/// All that was read beyond what is remembered from look to look.
#[derive(Default)]
pub struct Whole {
    /// Of Go's version.
    minor: u32,
    extras: Vec<Extra>,
    numbers: HashMap<Pcs, u32>,
    stacks: Vec<Option<Told>>,
    creators: HashMap<u64, Option<Arc<Creator>>>,
    labels: Labelled,
    /// It is not known of all whether their waits end by themselves.
    timers_unread: bool,
    /// Whether the runtime prints them.
    traces_labels: bool,
}

impl Whole {
    pub fn new(version: &str, traces_labels: bool) -> Self {
        Self {
            minor: Version::parse(version).map_or(0, |version| version.minor),
            traces_labels,
            ..Self::default()
        }
    }

    /// Takes down what some records and their stacks tell; `now`: when they were read, CLOCK_MONOTONIC ns.
    pub fn note(&mut self, records: &[Record], stacks: Option<Stacks>, now: u64) {
        let stacks = stacks.unwrap_or_default();
        self.timers_unread |= stacks.timers_unread;
        self.labels.note(records, &stacks.labelled, stacks.labels);
        let numbers: Vec<u32> = stacks.stacks.into_iter().map(|pcs| self.number(pcs)).collect();
        let mut outcomes = stacks.outcomes.into_iter().map(|outcome| match outcome {
            Outcome::Stack { number, has_deadline } => Outcome::Stack {
                number: numbers.get(number as usize).copied().unwrap_or(u32::MAX),
                has_deadline,
            },
            other => other,
        });
        self.extras.extend(records.iter().map(|record| {
            let since = Some(record.wait_since)
                .filter(|since| *since != 0 && !record.status.is_active() && !record.is_leaked);
            Extra {
                id: record.id,
                outcome: outcomes.next(),
                status: record.status,
                order: record.order,
                parent: record.parent,
                is_locked: record.is_locked,
                is_leaked: record.is_leaked,
                bubble: Some(record.bubble).filter(|bubble| *bubble != 0),
                minutes: since.map_or(0, |since| now.saturating_sub(since) / MINUTE),
                gopc: record.gopc,
            }
        }));
    }

    /// Adds it to the tasks of a view that was made from the same look.
    pub fn complete(mut self, mut view: View, memory: &Memory) -> View {
        if self.timers_unread {
            view.incomplete.insert(Cause::GoroutinesUnreadable);
        }
        self.extras.sort_unstable_by_key(|extra| extra.id);
        let extras = std::mem::take(&mut self.extras);
        let mut extras = extras.iter().peekable();
        // Both are in the order of their numbers.
        for (task, entry) in view.tasks.iter_mut().zip(memory.tracker.entries()) {
            while extras.next_if(|extra| extra.id < task.id).is_some() {}
            let Some(extra) = extras.next_if(|extra| extra.id == task.id) else {
                continue;
            };
            let told = match extra.outcome {
                Some(Outcome::Stack { number, .. }) => self.stacks.get(number as usize).cloned().flatten(),
                _ => None,
            };
            if let Some(outcome) = extra.outcome {
                note_outcome(task, outcome, told.is_some(), &mut view.incomplete);
            }
            let (stack, within) = told.unzip();
            task.stack = stack;
            task.facts = Some(Box::new(self.facts(
                task.id,
                entry,
                extra,
                within.unwrap_or_default(),
                memory,
            )));
        }
        view
    }

    fn facts(&self, id: u64, entry: &Entry, extra: &Extra, within: Arc<[u32]>, memory: &Memory) -> Facts {
        let (reason, nature) = memory.wait_of(entry);
        let has_moved = extra.outcome == Some(Outcome::Moved);
        let (state, status) = match extra.status {
            _ if has_moved => (State::Running, Reason::Static("running")),
            Status::Running => (State::Running, Reason::Static("running")),
            Status::Runnable => (State::Runnable, Reason::Static("runnable")),
            Status::Syscall => (State::Waiting, Reason::Static("syscall")),
            Status::Waiting if reason.is_empty() => (State::Waiting, Reason::Static("waiting")),
            Status::Waiting => (State::Waiting, reason),
        };
        let is_waiting = state == State::Waiting;
        let creator = self.creators.get(&extra.gopc).cloned().flatten();
        Facts {
            state,
            reason: is_waiting.then(|| status.clone()),
            age: memory.tracker.age(entry).filter(|_| is_waiting),
            anchor: None,
            references: None,
            made: None,
            made_by: Some(extra.parent).filter(|parent| *parent != 0),
            trace: Some(Trace {
                order: extra.order,
                is_hidden: memory.is_runtimes(entry, nature),
                status: marked(status, state, extra, memory.text(entry.reason), self.minor),
                minutes: if is_waiting { extra.minutes } else { 0 },
                is_locked: extra.is_locked,
                is_leaked: is_waiting && extra.is_leaked,
                bubble: extra.bubble,
                labels: self.labels.of(id),
                prints_labels: self.traces_labels,
                // The first one was made by nobody.
                creator: creator.filter(|_| id != 1),
                within,
            }),
        }
    }

    /// Number of a stack; `u32::MAX` when there are too many.
    fn number(&mut self, pcs: Pcs) -> u32 {
        if let Some(known) = self.numbers.get(&pcs) {
            return *known;
        }
        if self.stacks.len() >= MAX_DIFFERENT {
            return u32::MAX;
        }
        let next = self.stacks.len() as u32;
        self.stacks.push(None);
        self.numbers.insert(pcs, next);
        next
    }

    /// Names what is to be named.
    pub fn name(&mut self, memory: &mut Memory, asker: &mut Asker<'_>) -> Result<(), Failure> {
        self.name_stacks(memory, asker)?;
        let mut made_at: Vec<u64> = self.extras.iter().map(|extra| extra.gopc).collect();
        // Neighbours are often made at the same place.
        made_at.dedup();
        made_at.sort_unstable();
        made_at.dedup();
        for some in made_at.chunks(MAX_SITES) {
            let Answer::Creators(told) = ask(asker, &Question::Creators(asker.who, some.to_vec()))? else {
                return Err(asker.another_answer());
            };
            let told = told.into_iter().map(|creator| creator.map(Arc::new));
            self.creators.extend(some.iter().copied().zip(told));
        }
        Ok(())
    }

    fn name_stacks(&mut self, memory: &mut Memory, asker: &mut Asker<'_>) -> Result<(), Failure> {
        let numbered: Vec<(&Pcs, u32)> = self.numbers.iter().map(|(pcs, number)| (pcs, *number)).collect();
        for some in numbered.chunks(MAX_NAMED) {
            let pcs = some.iter().map(|(pcs, _)| pcs.pcs.clone()).collect();
            let Answer::Named(told) = ask(asker, &Question::Name(asker.who, pcs))? else {
                return Err(asker.another_answer());
            };
            for ((pcs, number), named) in some.iter().zip(told) {
                let within = named.within.as_slice().into();
                let stack = memory.stack_of(named, pcs.truncated);
                if let Some(place) = self.stacks.get_mut(*number as usize) {
                    *place = Some((Arc::new(stack), within));
                }
            }
        }
        Ok(())
    }
}

/// What a traceback calls its state, with what follows that. `reason`: what it waits for, or has waited for last.
fn marked(status: Reason, state: State, extra: &Extra, reason: &str, minor: u32) -> Reason {
    let is_waiting = extra.status == Status::Waiting && state == State::Waiting;
    if extra.is_leaked && is_waiting {
        return format!("{} (leaked)", &*status).into();
    }
    // Go 1.25 does not ask whether it waits; 1.24 has no such mark.
    let is_asked = is_waiting && minor > 25 || minor == 25;
    if extra.bubble.is_some() && is_asked && is_durable(reason) && !status.ends_with(DURABLE) {
        return format!("{} {DURABLE}", &*status).into();
    }
    status
}

/// What the reading of its stack says of a goroutine besides.
fn note_outcome(task: &mut Task, outcome: Outcome, is_told: bool, incomplete: &mut BTreeSet<Cause>) {
    match outcome {
        Outcome::Stack { has_deadline, .. } => {
            if has_deadline {
                task.wait = None;
            }
            if !is_told {
                incomplete.insert(Cause::StackUnreadable);
            }
        }
        Outcome::Unreadable => {
            incomplete.insert(Cause::StackUnreadable);
        }
        Outcome::Moved => task.wait = None,
    }
}
