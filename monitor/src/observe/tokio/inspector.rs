//! The helper's side: reads programs with tokio in them, and their tasks.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::{
    blocks::Blocks,
    futures::Names,
    lists::{List, Search},
    program::Program,
    protocol::{Answer, Batch, MAX_FUTURES, Question},
    walk::{Seen, Walk},
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
/// Every so many looks all thread-local variables are looked through: another runtime may keep its handle elsewhere.
const EVERYWHERE: u32 = 16;
/// Tasks that are told at once.
const BATCH: usize = 16 << 10;

/// What is remembered of a process.
#[derive(Default)]
struct Known {
    lists: Vec<List>,
    looks: u32,
    /// The highest number that a task had at the last look.
    newest: u64,
}

/// Reads tasks of other processes. It belongs into a process that may hang or die.
pub struct Inspector {
    programs: Programs<Program>,
    known: Lru<ProcessId, Known>,
    walk: Option<(Who, Walk)>,
}

impl Default for Inspector {
    fn default() -> Self {
        Self {
            programs: Programs::default(),
            known: Lru::new(MAX_PROCESSES, usize::MAX),
            walk: None,
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
                has_workers,
            } => self.begin(*who, threads, *has_workers).map(|()| Answer::Begun),
            Question::Next => self.next().map(Answer::Some),
            Question::Futures { who, vtables } => self.futures(*who, vtables, code).map(Answer::Futures),
        }
    }

    fn begin(&mut self, who: Who, threads: &[u64], has_workers: bool) -> Result<(), Unknown> {
        self.walk = None;
        let placed = self.program(who)?;
        let mut memory = memory(who)?;
        let mut search = Search {
            placed: &placed,
            memory: &mut memory,
        };
        let mut known = self.known.remove(&who.process()).unwrap_or_default();
        let everywhere = known.lists.is_empty() || known.looks.is_multiple_of(EVERYWHERE);
        known.lists = search.lists(&known.lists, threads, everywhere);
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
        self.known.insert(who.process(), known, 0);
        if is_lost {
            return Err(Unknown::Layout("its version of tokio".to_owned()));
        }
        self.walk = Some((who, Walk::new(placed, Blocks::new(memory), lists)));
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
            let known = self.known.get(&who.process());
            let before = known.map_or(0, |known| std::mem::replace(&mut known.newest, walk.newest));
            batch.is_incomplete = walk.is_incomplete(before, |list| search.count(list));
        } else {
            self.walk = Some((who, walk));
        }
        Ok(batch)
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

    fn program(&mut self, who: Who) -> Result<Placed<Program>, Unknown> {
        self.programs.of(who, Program::read)
    }
}

fn memory(who: Who) -> Result<Memory, Unknown> {
    Memory::of(who.tid).map_err(|error| Unknown::Unreadable(error.to_string()))
}
