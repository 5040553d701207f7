//! The helper's side: reads Go programs and their goroutines.

use std::{
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    rc::Rc,
    time::Duration,
};

use super::{
    frames,
    goroutine::{Decoded, Goroutine, Status},
    image::{Image, ImageKey},
    memory::Memory,
    points, poll,
    program::{self, Program, Unknown},
    protocol::{
        Answer, Batch, Begun, MAX_NAMED, MAX_SITES, MAX_STACKS, Named, Outcome, Question, Record, Stacks,
        Wanted, Who,
    },
    reads::{check, list, read, some_stacks, threads},
    sites,
    stack::{Copied, Pcs},
};
use crate::identify::{Lru, clean};

/// Programs and processes that are kept.
const MAX_PROGRAMS: usize = 64;
const MAX_PROCESSES: usize = 256;
/// Goroutines that are read at once: 8 MiB of them.
const BATCH: usize = 16 << 10;
/// The auxiliary vector has some twenty entries.
const MAX_AUXV: usize = 4096;

/// A process that runs a Go program.
struct Process {
    who: Who,
    /// `Err`: what it is told each time.
    program: Result<Rc<Program>, Unknown>,
    bias: u64,
    module: String,
}

/// A walk over a process's goroutines.
struct Walk {
    who: Who,
    /// Addresses still to be read, in falling order, each with its place in the runtime's list.
    left: Vec<(u64, u32)>,
}

/// Reads goroutines of other processes. It belongs into a process that may hang or die.
pub struct Inspector {
    programs: Lru<ImageKey, Result<Rc<Program>, Unknown>>,
    processes: Lru<u32, Process>,
    walk: Option<Walk>,
}

impl Default for Inspector {
    fn default() -> Self {
        Self {
            programs: Lru::new(MAX_PROGRAMS, usize::MAX),
            processes: Lru::new(MAX_PROCESSES, usize::MAX),
            walk: None,
        }
    }
}

impl Inspector {
    pub fn answer(&mut self, question: &Question) -> Answer {
        let answered = catch_unwind(AssertUnwindSafe(|| self.try_answer(question)));
        let answered = answered.unwrap_or_else(|_| {
            // Whatever was being changed may be half done.
            *self = Self::default();
            Err(Unknown::Unreadable(
                "its tables are so broken that a decoder gave up".to_owned(),
            ))
        });
        answered.unwrap_or_else(|unknown| Answer::Refused(unknown.into()))
    }

    fn try_answer(&mut self, question: &Question) -> Result<Answer, Unknown> {
        match question {
            Question::Begin(who) => self.begin(*who).map(Answer::Begun),
            Question::Next => self.next().map(Answer::Some),
            Question::Stacks(who, wanted) => self.stacks(*who, wanted, false).map(Answer::Stacks),
            Question::StacksNow(who, wanted) => self.stacks(*who, wanted, true).map(Answer::Stacks),
            Question::Name(who, stacks) => self.name(*who, stacks).map(Answer::Named),
            Question::Points(who) => {
                let (bias, program) = self.program(*who)?;
                Ok(Answer::Points(points::find(*who, &program, bias, &memory(*who)?)))
            }
            Question::Creators(who, made_at) => {
                let (_, program) = self.program(*who)?;
                let made_at = made_at.iter().take(MAX_SITES);
                Ok(Answer::Creators(
                    made_at.map(|pc| frames::creator(&program, *pc)).collect(),
                ))
            }
            Question::Sites { who, made_at, runs } => {
                let (_, program) = self.program(*who)?;
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
        let (bias, program) = self.program(who)?;
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
        let (bias, program) = self.program(walk.who)?;
        let mut memory = memory(walk.who)?;
        let from = walk.left.len().saturating_sub(BATCH);
        let mut places = walk.left.split_off(from);
        places.reverse();
        let addresses: Vec<u64> = places.iter().map(|(address, _)| *address).collect();
        let mut batch = Batch {
            began: now(),
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
        batch.ended = now();
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
        let (bias, program) = self.program(who)?;
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
                let is_io = program
                    .reasons
                    .get(usize::from(goroutine.reason))
                    .map(String::as_str)
                    == Some(poll::REASON);
                answer.outcomes[*number] = Outcome::Stack {
                    number: index,
                    has_deadline: is_io
                        && goroutine.status == Status::Waiting
                        && poll::has_deadline(program.offsets, &mut memory, goroutine, bytes),
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
        let (_, program) = self.program(who)?;
        let module = self
            .processes
            .get(&who.pid)
            .map(|process| process.module.clone())
            .unwrap_or_default();
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

    /// The program of a process, and how far behind the linker's addresses the process has it.
    fn program(&mut self, who: Who) -> Result<(u64, Rc<Program>), Unknown> {
        if let Some(process) = self.processes.get(&who.pid)
            && (process.who.start_boottime, process.who.exec_id) == (who.start_boottime, who.exec_id)
        {
            let bias = process.bias;
            return process.program.clone().map(|program| (bias, program));
        }
        let (bias, program) = match self.open(who) {
            Ok((bias, program)) => (bias, Ok(program)),
            Err(unknown) => (0, Err(unknown)),
        };
        let path = fs::read_link(format!("/proc/{}/task/{}/exe", who.pid, who.tid)).unwrap_or_default();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let process = Process {
            who,
            program: program.clone(),
            bias,
            module: clean(name.strip_suffix(" (deleted)").unwrap_or(&name), 255),
        };
        // What could not be read may be readable later: a program that has only just begun has nothing to show.
        if !matches!(program, Err(Unknown::Unreadable(_))) {
            self.processes.insert(who.pid, process, 0);
        }
        program.map(|program| (bias, program))
    }

    fn open(&mut self, who: Who) -> Result<(u64, Rc<Program>), Unknown> {
        let failed = |error: std::io::Error| Unknown::Unreadable(error.to_string());
        let (file, key) = Image::open(who.pid, who.tid).map_err(failed)?;
        if let Some(Err(unknown)) = self.programs.get(&key) {
            return Err(unknown.clone());
        }
        let image = Image::parse(file).ok_or(Unknown::NotGo)?;
        let bias = if image.is_relocatable {
            let auxv = fs::read(format!("/proc/{}/task/{}/auxv", who.pid, who.tid)).map_err(failed)?;
            let auxv = &auxv[..auxv.len().min(MAX_AUXV)];
            program::bias(auxv, image.entry)
                .ok_or_else(|| Unknown::Unreadable("no auxiliary vector".to_owned()))?
        } else {
            0
        };
        if let Some(Ok(program)) = self.programs.get(&key) {
            return Ok((bias, Rc::clone(program)));
        }
        let mut memory = memory(who)?;
        let program = Program::read(image, bias, &mut memory).and_then(|program| {
            check(&program, bias, &mut memory)?;
            Ok(Rc::new(program))
        });
        if !matches!(program, Err(Unknown::Unreadable(_))) {
            self.programs.insert(key, program.clone(), 0);
        }
        program.map(|program| (bias, program))
    }
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

/// CLOCK_MONOTONIC, ns: what Go's `nanotime` reads.
pub fn now() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let time = Duration::new(time.tv_sec as u64, time.tv_nsec as u32);
    time.as_nanos() as u64
}
