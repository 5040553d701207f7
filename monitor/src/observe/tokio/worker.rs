//! How tasks are looked at: the questions to the helper, and what is made of the answers.

use std::{collections::BTreeSet, time::Instant};

use super::{
    protocol::{Answer, Batch, MAX_FUTURES, Question},
    tracker::Entry,
    view::{Memory, View},
};
use crate::{
    model::Cause,
    observe::{
        monotonic,
        worker::{Asker, Causes, Failure, Runtime},
    },
};

/// Tokio's runtime.
pub struct Tokio;

/// What a look is told of a process besides.
#[derive(Clone, Debug, Default)]
pub struct Threads {
    /// Their thread pointers.
    pub pointers: Vec<u64>,
    /// Whether some of them are tokio's own.
    pub has_workers: bool,
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
            entries.extend(records.iter().map(|record| {
                let future = memory.future(record.vtable);
                Entry::new(record, future, now)
            }));
            if is_incomplete {
                incomplete.insert(Cause::TokioUnreadable);
            }
            if is_last {
                break;
            }
        }
        let read = begun.elapsed();
        memory.tracker.look(entries);
        name_futures(memory, asker)?;
        tracing::debug!(
            "process {}: {} tokio tasks read in {read:?}",
            asker.who.pid,
            memory.tracker.entries().len()
        );
        Ok(incomplete)
    }

    fn view(&self, _: &Threads, memory: &mut Memory, incomplete: BTreeSet<Cause>) -> View {
        memory.view(incomplete)
    }

    fn nothing(&self, _: &Memory, cause: Cause) -> View {
        View {
            incomplete: BTreeSet::from([cause]),
            ..View::default()
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
