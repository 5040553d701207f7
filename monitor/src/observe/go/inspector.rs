//! The helper's side: reads Go programs and their goroutines.

use std::{
    collections::HashSet,
    panic::{AssertUnwindSafe, catch_unwind},
};

use super::{
    frames,
    goroutine::{Decoded, Goroutine, Status},
    points, poll,
    program::{Program, Unknown},
    protocol::{
        Answer, Batch, Begun, MAX_NAMED, MAX_SITES, MAX_STACKS, Named, Outcome, Question, Record, Stacks,
        Wanted,
    },
    reads::{check, list, read, some_stacks, threads},
    sites,
    stack::{Copied, Pcs},
    timers,
};
use crate::observe::{
    helper::Who,
    memory::Memory,
    monotonic,
    programs::{Placed, Programs},
};

/// Goroutines that are read at once: 8 MiB of them.
const BATCH: usize = 16 << 10;
/// A walk over a process's goroutines.
struct Walk {
    who: Who,
    /// Addresses still to be read, in falling order, each with its place in the runtime's list.
    left: Vec<(u64, u32)>,
}

/// Reads goroutines of other processes. It belongs into a process that may hang or die.
#[derive(Default)]
pub struct Inspector {
    programs: Programs<Program>,
    walk: Option<Walk>,
    /// The walk's next batch, if it was read before it was asked for.
    ahead: Option<Answer>,
}

impl Inspector {
    pub fn answer(&mut self, question: &Question) -> Answer {
        // Other questions may come between two of a walk.
        let ahead = match question {
            Question::Begin(_) | Question::Next => self.ahead.take(),
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
            Question::Begin(who) => self.begin(*who).map(Answer::Begun),
            Question::Next => self.next().map(Answer::Some),
            Question::Stacks(who, wanted) => self.stacks(*who, wanted, false).map(Answer::Stacks),
            Question::StacksNow(who, wanted) => self.stacks(*who, wanted, true).map(Answer::Stacks),
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

    fn begin(&mut self, who: Who) -> Result<Begun, Unknown> {
        self.walk = None;
        let Placed { bias, program, .. } = self.program(who)?;
        let mut memory = memory(who)?;
        let listed = list(&program, bias, &mut memory)?;
        let mut left: Vec<(u64, u32)> = listed.into_iter().zip(0..).collect();
        // As they lie in memory, so that neighbours are read together; each once, whatever the list says.
        left.sort_unstable_by(|a, b| b.cmp(a));
        left.dedup_by_key(|(address, _)| *address);
        let begun = Begun {
            version: program.version.text.clone(),
            count: left.len() as u64,
            reasons: program.reasons.clone(),
        };
        self.walk = Some(Walk { who, left });
        Ok(begun)
    }

    fn next(&mut self) -> Result<Batch, Unknown> {
        let Some(mut walk) = self.walk.take() else {
            return Err(Unknown::Unreadable("no walk was begun".to_owned()));
        };
        let Placed { bias, program, .. } = self.program(walk.who)?;
        let mut memory = memory(walk.who)?;
        let from = walk.left.len().saturating_sub(BATCH);
        let mut places = walk.left.split_off(from);
        places.reverse();
        let addresses: Vec<u64> = places.iter().map(|(address, _)| *address).collect();
        let mut batch = Batch {
            began: monotonic(),
            is_last: walk.left.is_empty(),
            ..Batch::default()
        };
        let mut goroutines = Vec::with_capacity(addresses.len());
        let mut orders = Vec::with_capacity(addresses.len());
        for (decoded, (_, order)) in read(&program, &mut memory, &addresses).into_iter().zip(places) {
            match decoded {
                Decoded::Live(goroutine) => {
                    goroutines.push(goroutine);
                    orders.push(order);
                }
                Decoded::Dead => {}
                Decoded::Invalid => batch.unreadable += 1,
            }
        }
        batch.ended = monotonic();
        let threads = threads(&program, &mut memory, &goroutines);
        batch.records = goroutines
            .iter()
            .zip(threads)
            .zip(orders)
            .map(|((goroutine, thread), order)| Record {
                address: goroutine.address,
                id: goroutine.id,
                status: goroutine.status,
                reason: goroutine.reason,
                seq: goroutine.seq,
                wait_since: goroutine.wait_since,
                gopc: goroutine.gopc.wrapping_sub(bias),
                startpc: goroutine.startpc.wrapping_sub(bias),
                place: goroutine.place(),
                thread,
                order,
                parent: goroutine.parent,
                is_locked: goroutine.is_locked,
            })
            .collect();
        if !batch.is_last {
            self.walk = Some(walk);
        }
        Ok(batch)
    }

    /// `again`: those that have run while their stacks were read are told to have.
    fn stacks(&mut self, who: Who, wanted: &[Wanted], again: bool) -> Result<Stacks, Unknown> {
        let wanted = &wanted[..wanted.len().min(MAX_STACKS)];
        let Placed { bias, program, .. } = self.program(who)?;
        let mut memory = memory(who)?;
        let addresses: Vec<u64> = wanted.iter().map(|wanted| wanted.address).collect();
        let mut found = read(&program, &mut memory, &addresses);
        for (wanted, found) in wanted.iter().zip(&mut found) {
            match found {
                Decoded::Live(goroutine) if is_still(goroutine, wanted) => {}
                Decoded::Invalid => {}
                _ => *found = Decoded::Dead,
            }
        }
        let mut answer = Stacks {
            outcomes: vec![Outcome::Moved; wanted.len()],
            stacks: Vec::new(),
        };
        let timed = timed(&program, &mut memory, &found);
        let mut numbers = std::collections::HashMap::new();
        let mut order: Vec<usize> = (0..found.len()).collect();
        order.sort_unstable_by_key(|number| match &found[*number] {
            Decoded::Live(goroutine) => goroutine.sp,
            _ => 0,
        });
        let mut rest = order.as_slice();
        while !rest.is_empty() {
            let (some, places) = some_stacks(&found, rest);
            let (now, later) = rest.split_at(some);
            rest = later;
            let copied = memory.gather(&places, 0);
            for (place, number) in now.iter().enumerate() {
                let goroutine = match &found[*number] {
                    Decoded::Live(goroutine) => goroutine,
                    Decoded::Dead => continue,
                    Decoded::Invalid => {
                        answer.outcomes[*number] = Outcome::Unreadable;
                        continue;
                    }
                };
                let Some(bytes) = copied.get(place) else {
                    answer.outcomes[*number] = Outcome::Unreadable;
                    continue;
                };
                let copied = Copied {
                    goroutine,
                    bytes,
                    bias,
                    goexit: &program.goexit,
                };
                let pcs = copied.unwind(&program.functions);
                let next = answer.stacks.len() as u32;
                let index = *numbers.entry(pcs).or_insert_with_key(|pcs: &Pcs| {
                    answer.stacks.push(pcs.clone());
                    next
                });
                let is_io = program.waits_for(goroutine) == Some(poll::REASON);
                answer.outcomes[*number] = Outcome::Stack {
                    number: index,
                    has_deadline: timed.contains(number)
                        || is_io && poll::has_deadline(program.offsets, &mut memory, goroutine, bytes),
                };
            }
        }
        if again {
            let later = read(&program, &mut memory, &addresses);
            for ((wanted, found), outcome) in wanted.iter().zip(later).zip(&mut answer.outcomes) {
                match found {
                    Decoded::Live(goroutine) if is_still(&goroutine, wanted) => {}
                    _ => *outcome = Outcome::Moved,
                }
            }
        }
        Ok(answer)
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

    /// The program of a process, where the process has it.
    fn program(&mut self, who: Who) -> Result<Placed<Program>, Unknown> {
        self.programs.of(who, |image, bias, memory| {
            let program = Program::read(image, bias, memory)?;
            check(&program, bias, memory)?;
            Ok(program)
        })
    }
}

/// Of these goroutines the numbers of those that a timer will wake.
fn timed(program: &Program, memory: &mut Memory, found: &[Decoded]) -> HashSet<usize> {
    let (numbers, lists): (Vec<usize>, Vec<u64>) = found
        .iter()
        .enumerate()
        .filter_map(|(number, found)| match found {
            Decoded::Live(goroutine) => Some((number, goroutine)),
            _ => None,
        })
        .filter(|(_, goroutine)| program.waits_for(goroutine).is_some_and(timers::may_end))
        .map(|(number, goroutine)| (number, goroutine.waiting))
        .unzip();
    let ends = timers::end_by_themselves(program.offsets, memory, &lists, monotonic());
    let numbers = numbers.into_iter().zip(ends);
    numbers
        .filter(|(_, ends)| *ends)
        .map(|(number, _)| number)
        .collect()
}

fn is_still(goroutine: &Goroutine, wanted: &Wanted) -> bool {
    goroutine.id == wanted.id
        && goroutine.seq == wanted.seq
        && goroutine.place() == wanted.place
        && goroutine.status != Status::Running
}

fn memory(who: Who) -> Result<Memory, Unknown> {
    Memory::of(who.tid).map_err(|error| Unknown::Unreadable(error.to_string()))
}
