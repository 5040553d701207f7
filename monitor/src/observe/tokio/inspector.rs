//! The helper's side: reads programs with tokio in them, and their tasks.

mod makers;
mod waits;

use std::{
    collections::HashMap,
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    rc::Rc,
    time::{Duration, Instant},
};

use makers::Makers;

use super::{
    awaits::{Kinds, Trace, Tracer},
    blocks::Blocks,
    cell::{self, Cell},
    chain,
    futures::Names,
    lists::{List, Search},
    locations, points,
    program::Program,
    protocol::{
        Answer, Awaits, Batch, MAX_FUTURES, MAX_KEPT, MAX_LOCATIONS, MAX_POINTS, MAX_WANTED, Outcome,
        Prepared, Question, Record, Wanted,
    },
    task::{Status, Vtable},
    timers::Timers,
    types::Types,
    walk::{Seen, Walk},
    wheels::Wheels,
};
use crate::{
    identify::{self, Lru},
    model::{ProcessId, Site},
    observe::{
        helper::Who,
        memory::Memory,
        programs::{Placed, Programs, Unknown},
    },
};

/// Processes whose lists are remembered.
const MAX_PROCESSES: usize = 256;
/// Programs of which it is remembered who makes tasks.
const MAX_MAKERS: usize = 64;
/// Programs whose debug information is kept, and how much of it.
const MAX_DEBUG: usize = 16;
const MAX_DEBUG_BYTES: usize = 1 << 30;
/// How long debug information is read, or tasks are traced, before that is told of.
const STEP: Duration = Duration::from_secs(1);
/// Of chains that are told at once.
const MAX_TOLD: usize = 1 << 20;
/// Every so many looks all thread-local variables are looked through: another runtime may keep its handle elsewhere.
const EVERYWHERE: u32 = 16;
/// How often the lists of a process are looked for again that has threads of tokio's.
const TRIES: u32 = 3;
/// Tasks that are told at once.
const BATCH: usize = 16 << 10;

/// What is remembered of a process.
#[derive(Default)]
struct Known {
    lists: Vec<List>,
    /// Where those of them stand that belong to no runtime.
    of_sets: Vec<u64>,
    wheels: Vec<Wheels>,
    looks: u32,
    /// The addresses and numbers of the tasks at the last look.
    tasks: Option<HashMap<u64, u64>>,
}

/// Reads tasks of other processes. It belongs into a process that may hang or die.
pub struct Inspector {
    programs: Programs<Program>,
    known: Lru<ProcessId, Known>,
    walk: Option<(Who, Walk)>,
    timers: Option<(Who, Timers)>,
    /// Of programs by their number: who makes tasks.
    makers: Lru<u64, Rc<Makers>>,
    /// Of programs by their number; `None` of those that have no debug information.
    debug: Lru<u64, Option<Debug>>,
}

/// The debug information of a program.
struct Debug {
    types: Types,
    kinds: Kinds,
}

impl Default for Inspector {
    fn default() -> Self {
        Self {
            programs: Programs::default(),
            known: Lru::new(MAX_PROCESSES, usize::MAX),
            walk: None,
            timers: None,
            makers: Lru::new(MAX_MAKERS, usize::MAX),
            debug: Lru::new(MAX_DEBUG, MAX_DEBUG_BYTES),
        }
    }
}

impl Inspector {
    /// `code`: who knows the symbols of programs.
    pub fn answer(&mut self, question: &Question, code: &mut identify::Inspector) -> Answer {
        let answered = catch_unwind(AssertUnwindSafe(|| self.try_answer(question, code)));
        let answered = answered.unwrap_or_else(|_| {
            // Whatever was being changed may be half done.
            *self = Self::default();
            Err(Unknown::Unreadable(
                "its tables are so broken that a decoder gave up".to_owned(),
            ))
        });
        answered.unwrap_or_else(Answer::Refused)
    }

    fn try_answer(&mut self, question: &Question, code: &mut identify::Inspector) -> Result<Answer, Unknown> {
        match question {
            Question::Begin {
                who,
                threads,
                stacks,
                has_workers,
            } => self
                .begin(*who, threads, stacks, *has_workers)
                .map(|()| Answer::Begun),
            Question::Next => self.next().map(Answer::Some),
            Question::Kept { who, addresses } => self.kept(*who, addresses).map(Answer::Kept),
            Question::Prepare(who) => self.prepare(*who, code).map(Answer::Prepared),
            Question::Futures { who, vtables } => self.futures(*who, vtables, code).map(Answer::Futures),
            Question::Locations { who, addresses } => self.locations(*who, addresses).map(Answer::Locations),
            Question::Awaits(who, wanted) => self.awaits(*who, wanted).map(Answer::Awaits),
            Question::Timers { who, threads } => self.timers(*who, threads).map(Answer::Timers),
            Question::Points { who, vtables } => self.points(*who, vtables),
            Question::Births(who) => self.births(*who, code).map(Answer::Births),
            Question::Steps { who, places } => self.steps(*who, places, code).map(Answer::Steps),
            Question::Origins { who, places } => self.origins(*who, places, code).map(Answer::Origins),
        }
    }

    fn begin(&mut self, who: Who, threads: &[u64], stacks: &[u64], has_workers: bool) -> Result<(), Unknown> {
        (self.walk, self.timers) = (None, None);
        let placed = self.program(who)?;
        let mut memory = memory(who)?;
        let mut search = Search {
            placed: &placed,
            memory: &mut memory,
        };
        let mut known = self.known.remove(&who.process()).unwrap_or_default();
        let everywhere = known.lists.is_empty() || known.looks.is_multiple_of(EVERYWHERE);
        known.lists = search.lists(&known.lists, threads, everywhere);
        for _ in 0..TRIES {
            if known.lists.is_empty() && has_workers {
                known.lists = search.lists(&[], threads, true);
            }
        }
        // A list that was met before is read by way of itself.
        if known.looks.is_multiple_of(EVERYWHERE) || known.looks == 1 {
            for list in search.locals_on(stacks) {
                // A part of a runtime's list looks the same, and has the same number.
                if known.lists.iter().all(|known| known.number != list.number) {
                    known.of_sets.push(list.at());
                    known.lists.push(list);
                }
            }
        }
        let lists = &known.lists;
        known
            .of_sets
            .retain(|set| lists.iter().any(|list| list.at() == *set));
        known.looks += 1;
        let lists: Vec<_> = known
            .lists
            .iter()
            .filter_map(|list| {
                Some(Seen {
                    list: list.clone(),
                    count: search.count(list),
                    ends: search.ends(list)?,
                })
            })
            .collect();
        let is_lost = known.lists.is_empty() && has_workers;
        let tasks = known.tasks.take();
        self.known.insert(who.process(), known, 0);
        if is_lost {
            return Err(Unknown::Layout("its version of tokio".to_owned()));
        }
        self.walk = Some((who, Walk::new(placed, Blocks::new(memory), lists, tasks)));
        Ok(())
    }

    fn next(&mut self) -> Result<Batch, Unknown> {
        let Some((who, mut walk)) = self.walk.take() else {
            return Err(Unknown::Unreadable("no walk was begun".to_owned()));
        };
        let mut batch = Batch::default();
        batch.is_last = !walk.some(BATCH, &mut batch.records);
        if batch.is_last {
            let placed = self.program(who)?;
            let mut memory = memory(who)?;
            let search = Search {
                placed: &placed,
                memory: &mut memory,
            };
            batch.is_incomplete = walk.is_incomplete(|list| search.count(list));
            if let Some(known) = self.known.get(&who.process()) {
                known.tasks = Some(walk.into_seen());
            }
        } else {
            self.walk = Some((who, walk));
        }
        Ok(batch)
    }

    fn kept(&mut self, who: Who, addresses: &[u64]) -> Result<Vec<Record>, Unknown> {
        let placed = self.program(who)?;
        let mut blocks = Blocks::new(memory(who)?);
        let addresses = addresses.iter().take(MAX_KEPT);
        let kept = addresses.filter_map(|address| cell::kept(&mut blocks, &placed, *address));
        Ok(kept.collect())
    }

    fn locations(&mut self, who: Who, addresses: &[u64]) -> Result<Vec<Option<Site>>, Unknown> {
        let placed = self.program(who)?;
        let memory = memory(who)?;
        let addresses = addresses.iter().take(MAX_LOCATIONS);
        Ok(addresses
            .map(|address| locations::read(&placed, &memory, *address))
            .collect())
    }

    fn futures(
        &mut self,
        who: Who,
        vtables: &[u64],
        code: &mut identify::Inspector,
    ) -> Result<Vec<Option<Site>>, Unknown> {
        let placed = self.program(who)?;
        let mut memory = memory(who)?;
        let mut told = Vec::with_capacity(vtables.len());
        for address in vtables.iter().take(MAX_FUTURES) {
            let vtable = placed.program.vtable(*address);
            if let (Some(vtable), Some(Some(debug))) = (vtable, self.debug.get(&placed.program.number))
                && let Some(site) = debug.types.open().site(vtable.poll())
            {
                told.push(Some(site));
                continue;
            }
            told.push(vtable.and_then(|vtable| {
                let at = vtable.poll().wrapping_add(placed.bias);
                let module = code.module(who.pid, who.tid, at)?;
                let mut names = Names {
                    placed: &placed,
                    module: &module,
                    memory: &mut memory,
                };
                let nameless = || identify::sites::nameless(&placed.module);
                Some(names.future(vtable).unwrap_or_else(nameless))
            }));
        }
        Ok(told)
    }

    fn prepare(&mut self, who: Who, code: &mut identify::Inspector) -> Result<Prepared, Unknown> {
        let placed = self.program(who)?;
        let number = placed.program.number;
        if self.debug.get(&number).is_none() {
            let at = placed.program.any_poll().wrapping_add(placed.bias);
            let sections = code.debug_sections(who.pid, who.tid, at);
            let debug = sections.map(|sections| Debug {
                types: Types::new(sections),
                kinds: Kinds::default(),
            });
            let bytes = debug.as_ref().map_or(0, |debug| debug.types.bytes());
            self.debug.insert(number, debug, bytes);
        }
        Ok(match self.debug.get(&number) {
            Some(Some(debug)) => {
                let polls = placed.program.polls();
                if debug.types.advance(&polls, Instant::now() + STEP) {
                    Prepared::Types
                } else {
                    Prepared::Reading
                }
            }
            _ => Prepared::Nothing,
        })
    }

    fn awaits(&mut self, who: Who, wanted: &[Wanted]) -> Result<Awaits, Unknown> {
        let placed = self.program(who)?;
        let wanted = &wanted[..wanted.len().min(MAX_WANTED)];
        let Some(Some(debug)) = self.debug.get(&placed.program.number) else {
            return Ok(Awaits {
                outcomes: vec![Outcome::Unknown; wanted.len()],
                chains: Vec::new(),
            });
        };
        let mut blocks = Blocks::new(memory(who)?);
        let mut tracer = Tracer {
            placed: &placed,
            blocks: &mut blocks,
            types: debug.types.open(),
            kinds: &mut debug.kinds,
            joined: None,
            steps: 0,
        };
        let until = Instant::now() + STEP;
        let mut answer = Awaits::default();
        let mut numbers: HashMap<Trace, u32> = HashMap::new();
        let mut bytes = 0;
        for wanted in wanted {
            if !answer.outcomes.is_empty() && (bytes > MAX_TOLD || Instant::now() > until) {
                break;
            }
            let found = cell::read(tracer.blocks, &placed, wanted.address);
            let is_same = |cell: &Cell| {
                cell.record.id == wanted.id
                    && cell.record.sum == wanted.sum
                    && cell.record.status == Status::Idle
            };
            let Some(cell) = found.filter(is_same) else {
                answer.outcomes.push(Outcome::Moved);
                continue;
            };
            let vtable = placed.program.vtable(cell.record.vtable);
            let Some(trace) = vtable.and_then(|vtable| tracer.trace(vtable, wanted.address)) else {
                answer.outcomes.push(Outcome::Unknown);
                continue;
            };
            let joins = tracer.joined;
            let next = answer.chains.len() as u32;
            let number = *numbers.entry(trace).or_insert_with_key(|trace| {
                let chain = chain::describe(trace, &mut tracer.types, &placed.module);
                bytes += chain.bytes();
                answer.chains.push(chain);
                next
            });
            answer.outcomes.push(Outcome::Chain { number, joins });
        }
        Ok(answer)
    }

    fn points(&mut self, who: Who, vtables: &[u64]) -> Result<Answer, Unknown> {
        let placed = self.program(who)?;
        let polls: Vec<u64> = vtables
            .iter()
            .take(MAX_POINTS)
            .map(|address| placed.program.vtable(*address).map_or(0, Vtable::poll))
            .collect();
        let found = points::find(who, &placed, &memory(who)?, &polls);
        Ok(match found {
            Some((place, offsets)) => Answer::Points(place.file, offsets),
            None => Answer::Points(PathBuf::new(), vec![None; polls.len()]),
        })
    }

    fn program(&mut self, who: Who) -> Result<Placed<Program>, Unknown> {
        self.programs.of(who, Program::read)
    }
}

fn memory(who: Who) -> Result<Memory, Unknown> {
    Memory::of(who.tid).map_err(|error| Unknown::Unreadable(error.to_string()))
}
