//! The helper's side: reads Go programs and their goroutines.

mod stacks;
mod unwinding;

use std::{
    collections::HashSet,
    panic::{AssertUnwindSafe, catch_unwind},
};

use super::{
    frames, points,
    program::{Program, Unknown},
    protocol::{Answer, Batch, Begun, MAX_NAMED, MAX_SITES, Named, Question, Record},
    reading::Reading,
    reads::{bubbles, check, list, threads},
    shapes::KnownShapes,
    sites,
};
use crate::observe::{
    helper::Who,
    memory::{Memory, present::copied},
    monotonic,
    programs::{Placed, Programs},
};

/// A walk over a process's goroutines.
struct Walk {
    who: Who,
    reading: Reading,
}

/// Reads goroutines of other processes. It belongs into a process that may hang or die.
#[derive(Default)]
pub struct Inspector {
    programs: Programs<Program>,
    walk: Option<Walk>,
    /// The walk's next batch, if it was read before it was asked for.
    ahead: Option<Answer>,
    /// What timers that are set go off to, of the process that was asked for last, where that has to be known.
    timers: Option<(Who, Option<HashSet<u64>>)>,
    /// Of the process that was asked for last.
    known: Option<(Who, KnownShapes)>,
}

/// Where stacks are looked at.
struct Look<'a> {
    who: Who,
    placed: &'a Placed<Program>,
    known: KnownShapes,
}

impl Inspector {
    pub fn answer(&mut self, question: &Question) -> Answer {
        // Other questions may come between two of a walk.
        let ahead = match question {
            Question::Begin { .. } | Question::Next => self.ahead.take(),
            _ => None,
        };
        match (question, ahead) {
            (Question::Next, Some(ahead)) => ahead,
            _ => self.answer_now(question),
        }
    }

    /// Goes on with a walk while the last answer is being taken in.
    pub fn read_ahead(&mut self) {
        if self.walk.is_some() && self.ahead.is_none() {
            self.ahead = Some(self.answer_now(&Question::Next));
        }
    }

    fn answer_now(&mut self, question: &Question) -> Answer {
        let answered = catch_unwind(AssertUnwindSafe(|| self.try_answer(question)));
        let answered = answered.unwrap_or_else(|_| {
            // Whatever was being changed may be half done.
            *self = Self::default();
            Err(Unknown::Unreadable(
                "its tables are so broken that a decoder gave up".to_owned(),
            ))
        });
        answered.unwrap_or_else(Answer::Refused)
    }

    fn try_answer(&mut self, question: &Question) -> Result<Answer, Unknown> {
        match question {
            Question::Begin { who, whole } => self.begin(*who, *whole).map(Answer::Begun),
            Question::Next => self.next().map(Answer::Some),
            Question::Stacks(who, wanted) => self.stacks(*who, wanted).map(Answer::Stacks),
            Question::Name(who, stacks) => self.name(*who, stacks).map(Answer::Named),
            Question::Points(who) => {
                let Placed { bias, program, .. } = self.program(*who)?;
                Ok(Answer::Points(points::find(*who, &program, bias, &memory(*who)?)))
            }
            Question::Creators(who, made_at) => {
                let Placed { program, .. } = self.program(*who)?;
                let made_at = made_at.iter().take(MAX_SITES);
                Ok(Answer::Creators(
                    made_at.map(|pc| frames::creator(&program, *pc)).collect(),
                ))
            }
            Question::Sites { who, made_at, runs } => {
                let Placed { program, .. } = self.program(*who)?;
                let (made_at, runs) = (made_at.iter().take(MAX_SITES), runs.iter().take(MAX_SITES));
                Ok(Answer::Sites {
                    made_at: made_at.map(|pc| frames::spawn_site(&program, *pc)).collect(),
                    runs: runs.map(|pc| frames::entry(&program, *pc)).collect(),
                })
            }
        }
    }

    fn begin(&mut self, who: Who, whole: bool) -> Result<Begun, Unknown> {
        self.walk = None;
        self.timers = None;
        let copied = copied();
        let Placed { bias, program, .. } = self.program(who)?;
        let mut memory = memory(who)?;
        let listed = list(&program, bias, &mut memory)?;
        let mut left: Vec<(u64, u32)> = listed.into_iter().zip(0..).collect();
        // As they lie in memory, so that neighbours are read together; each once, whatever the list says.
        // The list has long runs in that order, or in the other one.
        left.sort_by(|a, b| b.cmp(a));
        left.dedup_by_key(|(address, _)| *address);
        let begun = Begun {
            began: monotonic(),
            version: program.version.text.clone(),
            count: left.len() as u64,
            reasons: program.reasons.clone(),
            traces_labels: program.traces_labels(bias, &memory),
            copied,
        };
        let known = whole.then(|| self.known_shapes(who));
        let reading = Reading::begin(program.offsets, memory, left, known);
        let reading = reading.map_err(|error| Unknown::Unreadable(error.to_string()))?;
        self.walk = Some(Walk { who, reading });
        Ok(begun)
    }

    fn next(&mut self) -> Result<Batch, Unknown> {
        let Some(mut walk) = self.walk.take() else {
            return Err(Unknown::Unreadable("no walk was begun".to_owned()));
        };
        let placed = self.program(walk.who)?;
        let Placed { bias, program, .. } = &placed;
        let mut memory = memory(walk.who)?;
        let Ok((part, is_last)) = walk.reading.next(&mut memory) else {
            return Err(Unknown::Unreadable("who reads it has died".to_owned()));
        };
        let goroutines = part.goroutines;
        let whole = |read| {
            let look = Look {
                who: walk.who,
                placed: &placed,
                known: self.known_shapes(walk.who),
            };
            self.whole_stacks(&look, &mut memory, &goroutines, read)
        };
        let stacks = part.stacks.map(whole);
        let threads = threads(program, &mut memory, &goroutines);
        let bubbles = bubbles(program, &mut memory, &goroutines);
        let records = goroutines
            .iter()
            .zip(threads)
            .zip(part.places)
            .map(|((goroutine, thread), order)| Record {
                address: goroutine.address,
                id: goroutine.id,
                status: goroutine.status,
                reason: goroutine.reason,
                seq: goroutine.seq,
                wait_since: goroutine.wait_since,
                gopc: goroutine.gopc.wrapping_sub(*bias),
                startpc: goroutine.startpc.wrapping_sub(*bias),
                place: goroutine.place(),
                thread,
                order,
                parent: goroutine.parent,
                is_locked: goroutine.is_locked,
                is_leaked: goroutine.is_leaked,
                bubble: bubbles.get(&goroutine.bubble).copied().unwrap_or(0),
            })
            .collect();
        if !is_last {
            self.walk = Some(walk);
        }
        Ok(Batch {
            ended: part.ended,
            records,
            stacks,
            unreadable: part.unreadable,
            copied: copied(),
            is_last,
        })
    }

    fn name(&mut self, who: Who, stacks: &[Vec<u64>]) -> Result<Vec<Named>, Unknown> {
        let Placed { program, module, .. } = self.program(who)?;
        let one = |pcs: &Vec<u64>| {
            let told = frames::of_stack(&program, &module, pcs);
            Named {
                block_site: sites::block_site(&told.frames, program.library.as_deref()),
                frames: told.frames,
                within: told.within,
                truncated: told.truncated,
            }
        };
        Ok(stacks.iter().take(MAX_NAMED).map(one).collect())
    }

    /// What is known of a process's stacks.
    fn known_shapes(&mut self, who: Who) -> KnownShapes {
        match &self.known {
            Some((known, shapes)) if *known == who => shapes.clone(),
            _ => self.known.insert((who, KnownShapes::new())).1.clone(),
        }
    }

    /// The program of a process, where the process has it.
    fn program(&mut self, who: Who) -> Result<Placed<Program>, Unknown> {
        self.programs.of(who, |image, bias, memory| {
            let program = Program::read(image, bias, memory)?;
            check(&program, bias, memory)?;
            Ok(program)
        })
    }
}

fn memory(who: Who) -> Result<Memory, Unknown> {
    Memory::of(who.tid).map_err(|error| Unknown::Unreadable(error.to_string()))
}
