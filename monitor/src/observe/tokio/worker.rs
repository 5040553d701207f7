//! How tasks are looked at: the questions to the helper, and what is made of the answers.

mod makers;

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use makers::tell_creators;

use super::{
    protocol::{
        Answer, Batch, MAX_FUTURES, MAX_KEPT, MAX_LOCATIONS, MAX_POINTS, MAX_WANTED, Outcome, Prepared,
        Question,
    },
    tracker::{Awaited, Entry},
    view::{Memory, View},
};
use crate::{
    model::Cause,
    observe::{
        books::Place,
        monotonic,
        worker::{Asker, Causes, Failure, Runtime},
    },
};

/// Tokio's runtime.
pub struct Tokio {
    pub threshold: Duration,
    /// Whether it is to be told what tasks await.
    pub reads_stacks: bool,
    /// Whether it is to be told where the probes go.
    pub wants_points: bool,
}

/// What a look is told of a process besides.
#[derive(Clone, Debug, Default)]
pub struct Threads {
    /// Their thread pointers.
    pub pointers: Vec<u64>,
    /// The stack pointers of those that sleep.
    pub stacks: Vec<u64>,
    /// Whether some of them are tokio's own.
    pub has_workers: bool,
    /// Whether all is to be told of all tasks, also of those that were not seen before.
    pub whole: bool,
    /// Places at which tasks are made that have no name.
    pub unnamed: Vec<Place>,
    /// Places that calls return to, of which it is to be told how to get on; the process's addresses, as those above.
    pub steps: Vec<u64>,
    /// Where tasks lay that have ended and had a handle then; the process's addresses, too.
    pub ended: Vec<u64>,
}

impl Runtime for Tokio {
    const TASKS: &'static str = "tokio-tasks";
    const CAUSES: Causes = Causes {
        layout: Cause::TokioLayout,
        unreadable: Cause::TokioUnreadable,
        unresponsive: Cause::TokioUnresponsive,
        pending: Cause::TokioPending,
    };
    type Order = Threads;
    type Process = Memory;
    type View = View;

    fn look(
        &self,
        threads: &Threads,
        memory: &mut Memory,
        asker: &mut Asker<'_>,
    ) -> Result<BTreeSet<Cause>, Failure> {
        let begun = Instant::now();
        let question = Question::Begin {
            who: asker.who,
            threads: threads.pointers.clone(),
            stacks: threads.stacks.clone(),
            has_workers: threads.has_workers,
        };
        let Answer::Begun = ask(asker, &question)? else {
            return Err(asker.another_answer());
        };
        let mut incomplete = BTreeSet::new();
        let mut entries = Vec::new();
        loop {
            let Answer::Some(batch) = ask(asker, &Question::Next)? else {
                return Err(asker.another_answer());
            };
            let Batch {
                records,
                is_last,
                is_incomplete,
            } = batch;
            let now = monotonic();
            entries.extend(records.iter().map(|record| memory.entry(record, now)));
            if is_incomplete {
                incomplete.insert(Cause::TokioUnreadable);
            }
            if is_last {
                break;
            }
        }
        ask_kept(memory, &mut entries, threads, asker)?;
        let read = begun.elapsed();
        memory.tracker.look(entries);
        if self.reads_stacks {
            prepare(memory, asker)?;
        }
        name_futures(memory, asker)?;
        name_places(memory, asker)?;
        if self.wants_points {
            point(memory, asker)?;
            tell_creators(memory, threads, asker)?;
        }
        if self.reads_stacks {
            let unasked = memory.unasked(threads.whole);
            ask_awaits(memory, &unasked, asker)?;
            ask_timers(memory, threads, asker)?;
        }
        memory.tracker.has_looked = true;
        tracing::debug!(
            "process {}: {} tokio tasks read in {read:?}, the rest until {:?}",
            asker.who.pid,
            memory.tracker.entries().len(),
            begun.elapsed()
        );
        Ok(incomplete)
    }

    fn view(&self, threads: &Threads, memory: &mut Memory, incomplete: BTreeSet<Cause>) -> View {
        memory.view(self.threshold, monotonic(), incomplete, threads.whole)
    }

    fn nothing(&self, _: &Memory, cause: Cause) -> View {
        View {
            incomplete: BTreeSet::from([cause]),
            ..View::default()
        }
    }
}

/// Adds what is kept of tasks that have ended: of those that were there at the last look, and of those that a probe has seen end.
fn ask_kept(
    memory: &mut Memory,
    entries: &mut Vec<Entry>,
    threads: &Threads,
    asker: &mut Asker<'_>,
) -> Result<(), Failure> {
    let mut addresses = memory.tracker.missing(entries);
    addresses.extend(&threads.ended);
    // As they lie in memory.
    addresses.sort_unstable();
    addresses.dedup();
    for addresses in addresses.chunks(MAX_KEPT) {
        let question = Question::Kept {
            who: asker.who,
            addresses: addresses.to_vec(),
        };
        let Answer::Kept(records) = ask(asker, &question)? else {
            return Err(asker.another_answer());
        };
        if records.len() > addresses.len() {
            return Err(asker.another_answer());
        }
        let now = monotonic();
        entries.extend(records.iter().map(|record| memory.entry(record, now)));
    }
    Ok(())
}

/// Sees to it that the debug information is read.
fn prepare(memory: &mut Memory, asker: &mut Asker<'_>) -> Result<(), Failure> {
    while memory.has_types.is_none() {
        let Answer::Prepared(prepared) = ask(asker, &Question::Prepare(asker.who))? else {
            return Err(asker.another_answer());
        };
        memory.has_types = match prepared {
            Prepared::Types => Some(true),
            Prepared::Nothing => Some(false),
            Prepared::Reading => None,
        };
    }
    Ok(())
}

/// Where tasks were spawned, as far as the program keeps that itself.
fn name_places(memory: &mut Memory, asker: &mut Asker<'_>) -> Result<(), Failure> {
    let who = asker.who;
    loop {
        let addresses = memory.made_at.unnamed(MAX_LOCATIONS);
        if addresses.is_empty() {
            return Ok(());
        }
        let asked = addresses.len();
        let Answer::Locations(sites) = ask(asker, &Question::Locations { who, addresses })? else {
            return Err(asker.another_answer());
        };
        if sites.len() != asked {
            return Err(asker.another_answer());
        }
        memory.made_at.name(sites);
    }
}

fn point(memory: &mut Memory, asker: &mut Asker<'_>) -> Result<(), Failure> {
    loop {
        let vtables = memory.unpointed(MAX_POINTS);
        if vtables.is_empty() {
            return Ok(());
        }
        let asked = vtables.len();
        let who = asker.who;
        let Answer::Points(file, offsets) = ask(asker, &Question::Points { who, vtables })? else {
            return Err(asker.another_answer());
        };
        if offsets.len() != asked {
            return Err(asker.another_answer());
        }
        memory.point(file, offsets);
    }
}

fn ask_awaits(memory: &mut Memory, unasked: &[usize], asker: &mut Asker<'_>) -> Result<(), Failure> {
    let mut left = unasked;
    while !left.is_empty() {
        let entries = memory.tracker.entries();
        let wanted = left
            .iter()
            .take(MAX_WANTED)
            .filter_map(|index| entries.get(*index));
        let question = Question::Awaits(asker.who, wanted.map(Entry::wanted).collect());
        let Answer::Awaits(answer) = ask(asker, &question)? else {
            return Err(asker.another_answer());
        };
        if answer.outcomes.is_empty() || answer.outcomes.len() > left.len() {
            return Err(asker.another_answer());
        }
        let numbers: Vec<Option<u32>> = answer
            .chains
            .into_iter()
            .map(|chain| memory.chain(chain))
            .collect();
        let (now, later) = left.split_at(answer.outcomes.len());
        for (index, outcome) in now.iter().zip(answer.outcomes) {
            let Some(entry) = memory.tracker.entries_mut().get_mut(*index) else {
                continue;
            };
            match outcome {
                Outcome::Chain { number, joins } => {
                    let number = numbers.get(number as usize).copied().flatten();
                    entry.set_awaited(number.map_or(Awaited::Unknown, Awaited::Number));
                    entry.joins = joins.unwrap_or(0);
                }
                Outcome::Unknown => entry.set_awaited(Awaited::Unknown),
                Outcome::Moved => {}
            }
        }
        left = later;
    }
    Ok(())
}

/// Of tasks of which it is not known what they await: whether it is a timer.
fn ask_timers(memory: &mut Memory, threads: &Threads, asker: &mut Asker<'_>) -> Result<(), Failure> {
    if !memory.is_any_unknown() {
        return Ok(());
    }
    let begun = monotonic();
    loop {
        let question = Question::Timers {
            who: asker.who,
            threads: threads.pointers.clone(),
        };
        let Answer::Timers(timers) = ask(asker, &question)? else {
            return Err(asker.another_answer());
        };
        if timers.is_last {
            memory.take_timers(&timers, begun);
            return Ok(());
        }
    }
}

fn name_futures(memory: &mut Memory, asker: &mut Asker<'_>) -> Result<(), Failure> {
    loop {
        let vtables = memory.unnamed(MAX_FUTURES);
        if vtables.is_empty() {
            return Ok(());
        }
        let asked = vtables.len();
        let who = asker.who;
        let Answer::Futures(names) = ask(asker, &Question::Futures { who, vtables })? else {
            return Err(asker.another_answer());
        };
        if names.len() != asked {
            return Err(asker.another_answer());
        }
        memory.name(names);
    }
}

fn ask(asker: &mut Asker<'_>, question: &Question) -> Result<Answer, Failure> {
    asker.ask(|helper, process| {
        Ok(match helper.tokio(process, question)? {
            Answer::Refused(unknown) => Err(unknown),
            answer => Ok(answer),
        })
    })
}
