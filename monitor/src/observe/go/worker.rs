//! How goroutines are looked at: the questions to the helper, and what is made of the answers.

mod labelled;
mod whole;

use std::{
    collections::BTreeSet,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use whole::Whole;

use super::{
    protocol::{Answer, Batch, MAX_NAMED, MAX_SITES, MAX_STACKS, Outcome, Points, Question},
    tracker::Stacked,
    view::{Memory, View},
};
use crate::{
    model::Cause,
    observe::{
        books::Place,
        monotonic,
        thread::spawns::Origin,
        worker::{Asker, Causes, Failure, Runtime},
    },
};

/// Goroutines that room is made for before they are read.
const MAX_RESERVED: usize = 1 << 20;

/// Go's runtime.
pub struct Go {
    pub reads_stacks: bool,
    /// Whether it is to be told where the probes go.
    pub wants_points: bool,
    pub threshold: Duration,
}

/// What a look is told besides the process.
pub struct Wanted {
    /// What is to be named besides.
    pub unnamed: Vec<Place>,
    /// Whether all is to be told of all its goroutines, with the stacks of those that do not run.
    pub whole: bool,
}

/// What is remembered of a process.
#[derive(Default)]
pub struct Process {
    memory: Memory,
    version: String,
    /// `None`: not asked for.
    points: Option<Option<Arc<Points>>>,
    /// What was read for a look that is to tell all, until it is told.
    whole: Option<Whole>,
}

impl Process {
    /// Sees to it that these get names.
    fn number(&mut self, places: &[Place]) {
        if let Some(Some(points)) = &self.points {
            for (gopc, startpc) in places.iter().filter(|(gopc, _)| *gopc != 0) {
                self.memory.made_at.number(gopc.wrapping_sub(points.bias));
                if *startpc != 0 {
                    self.memory.runs.number(startpc.wrapping_sub(points.bias));
                }
            }
        }
    }

    fn view(&self, threshold: Option<Duration>, incomplete: BTreeSet<Cause>, unnamed: &[Place]) -> View {
        let mut view = self.memory.view(&self.version, threshold, incomplete);
        view.points = self.points.clone().flatten();
        if let Some(points) = &view.points {
            let name = |place: &Place| {
                let (gopc, startpc) = *place;
                let linked = |address: u64| {
                    Some(address)
                        .filter(|it| *it != 0)
                        .map(|it| it.wrapping_sub(points.bias))
                };
                let origin = Origin {
                    entry: linked(startpc).and_then(|pc| self.memory.runs.named(pc)),
                    spawn_site: linked(gopc).and_then(|pc| self.memory.made_at.named(pc)),
                };
                (*place, origin)
            };
            view.named = unnamed.iter().map(name).collect();
        }
        view
    }
}

impl Runtime for Go {
    const TASKS: &'static str = "goroutines";
    const CAUSES: Causes = Causes {
        layout: Cause::GoLayout,
        unreadable: Cause::GoroutinesUnreadable,
        unresponsive: Cause::GoroutinesUnresponsive,
        pending: Cause::GoroutinesPending,
    };
    type Order = Wanted;
    type Process = Process;
    type View = View;

    fn look(
        &self,
        wanted: &Wanted,
        process: &mut Process,
        asker: &mut Asker<'_>,
    ) -> Result<BTreeSet<Cause>, Failure> {
        let who = asker.who;
        let begin = Question::Begin {
            who,
            whole: wanted.whole && self.reads_stacks,
        };
        let asked_at = Instant::now();
        let Answer::Begun(begun) = ask(asker, &begin)? else {
            return Err(asker.another_answer());
        };
        let begun_at = Instant::now();
        process.version = begun.version;
        if self.wants_points && process.points.is_none() {
            let Answer::Points(points) = ask(asker, &Question::Points(who))? else {
                return Err(asker.another_answer());
            };
            process.points = Some(points.map(Arc::new));
        }
        process.number(&wanted.unnamed);
        let memory = &mut process.memory;
        memory.set_reasons(begun.reasons);
        let mut incomplete = BTreeSet::new();
        // Of those that there ever were; how many live is seen only then.
        let mut entries = Vec::with_capacity(usize::try_from(begun.count).unwrap_or(0).min(MAX_RESERVED));
        let mut whole = wanted
            .whole
            .then(|| Whole::new(&process.version, begun.traces_labels));
        let copied_by = |now: u64| now.saturating_sub(begun.copied) >> 20;
        let mut copied;
        loop {
            let Answer::Some(batch) = ask(asker, &Question::Next)? else {
                return Err(asker.another_answer());
            };
            let Batch {
                records,
                stacks,
                ended,
                ..
            } = batch;
            entries.extend(
                records
                    .iter()
                    .map(|record| memory.entry(record, begun.began, ended)),
            );
            if let Some(whole) = &mut whole {
                whole.note(&records, stacks, ended);
            }
            if batch.unreadable > 0 {
                incomplete.insert(Cause::GoroutinesUnreadable);
            }
            copied = batch.copied;
            if batch.is_last {
                break;
            }
        }
        let read = asked_at.elapsed();
        memory.tracker.look(begun.began, entries);
        name_places(memory, asker)?;
        if let Some(mut whole) = whole {
            whole.name(memory, asker)?;
            tracing::debug!(
                "process {}: {} goroutines with all their stacks read in {read:?}, {} MiB copied, told in {:?}",
                who.pid,
                memory.tracker.entries().len(),
                copied_by(copied),
                asked_at.elapsed()
            );
            process.whole = Some(whole);
            return Ok(incomplete);
        }
        if !self.reads_stacks {
            return Ok(incomplete);
        }
        let unasked = memory.unasked(self.threshold);
        if !unasked.is_empty() {
            thread::sleep(memory.tracker.confirm_after().saturating_sub(begun_at.elapsed()));
            if !read_stacks(memory, &unasked, asker, &mut copied)? {
                incomplete.insert(Cause::GoroutinesUnreadable);
            }
            name_stacks(memory, asker)?;
        }
        tracing::debug!(
            "process {}: {} goroutines read in {read:?}, {} MiB copied, {} stacks until {:?}",
            who.pid,
            memory.tracker.entries().len(),
            copied_by(copied),
            unasked.len(),
            asked_at.elapsed()
        );
        Ok(incomplete)
    }

    fn view(&self, wanted: &Wanted, process: &mut Process, incomplete: BTreeSet<Cause>) -> View {
        match process.whole.take() {
            Some(whole) => whole.complete(process.view(None, incomplete, &wanted.unnamed), &process.memory),
            None => process.view(
                self.reads_stacks.then_some(self.threshold),
                incomplete,
                &wanted.unnamed,
            ),
        }
    }

    fn nothing(&self, process: &Process, cause: Cause) -> View {
        View {
            version: process.version.clone(),
            incomplete: BTreeSet::from([cause]),
            ..View::default()
        }
    }
}

fn name_places(memory: &mut Memory, asker: &mut Asker<'_>) -> Result<(), Failure> {
    let who = asker.who;
    loop {
        let (made_at, runs) = (memory.made_at.unnamed(MAX_SITES), memory.runs.unnamed(MAX_SITES));
        if made_at.is_empty() && runs.is_empty() {
            return Ok(());
        }
        let asked = (made_at.len(), runs.len());
        let Answer::Sites { made_at, runs } = ask(asker, &Question::Sites { who, made_at, runs })? else {
            return Err(asker.another_answer());
        };
        if (made_at.len(), runs.len()) != asked {
            return Err(asker.another_answer());
        }
        memory.made_at.name(made_at);
        memory.runs.name(runs);
    }
}

/// Whether it is known of all of them whether their waits end by themselves.
fn read_stacks(
    memory: &mut Memory,
    unasked: &[usize],
    asker: &mut Asker<'_>,
    copied: &mut u64,
) -> Result<bool, Failure> {
    let mut is_known = true;
    for indices in unasked.chunks(MAX_STACKS) {
        let entries = memory.tracker.entries();
        let wanted = indices
            .iter()
            .filter_map(|index| entries.get(*index))
            .map(|entry| entry.wanted());
        let question = Question::Stacks(asker.who, wanted.collect());
        let Answer::Stacks(answer) = ask(asker, &question)? else {
            return Err(asker.another_answer());
        };
        is_known &= !answer.timers_unread;
        *copied = answer.copied;
        let now = monotonic();
        let numbers: Vec<Option<u32>> = answer.stacks.into_iter().map(|pcs| memory.stack(pcs)).collect();
        for (index, outcome) in indices.iter().zip(answer.outcomes) {
            let Some(entry) = memory.tracker.entries_mut().get_mut(*index) else {
                continue;
            };
            match outcome {
                Outcome::Stack {
                    has_deadline: true, ..
                } => entry.set_stack(Stacked::Passing),
                Outcome::Stack { number, .. } => {
                    let number = numbers.get(number as usize).copied().flatten();
                    entry.set_stack(number.map_or(Stacked::Unreadable, Stacked::Number));
                }
                Outcome::Unreadable => entry.set_stack(Stacked::Unreadable),
                Outcome::Moved => entry.has_run(now),
            }
        }
    }
    Ok(is_known)
}

fn name_stacks(memory: &mut Memory, asker: &mut Asker<'_>) -> Result<(), Failure> {
    for stacks in memory.unnamed_stacks().chunks(MAX_NAMED) {
        let question = Question::Name(asker.who, stacks.iter().map(|(pcs, _)| pcs.pcs.clone()).collect());
        let Answer::Named(named) = ask(asker, &question)? else {
            return Err(asker.another_answer());
        };
        for ((pcs, number), named) in stacks.iter().zip(named) {
            memory.name_stack(*number, named, pcs.truncated);
        }
    }
    Ok(())
}

fn ask(asker: &mut Asker<'_>, question: &Question) -> Result<Answer, Failure> {
    asker.ask(|helper, process| {
        Ok(match helper.go(process, question)? {
            Answer::Refused(unknown) => Err(unknown),
            answer => Ok(answer),
        })
    })
}
