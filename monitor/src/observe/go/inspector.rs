//! The helper's side: reads Go programs and their goroutines.

use std::{
    fs,
    ops::Range,
    panic::{AssertUnwindSafe, catch_unwind},
    rc::Rc,
    time::Duration,
};

use super::{
    frames,
    goroutine::{Decoded, Goroutine, Status},
    image::{Image, ImageKey},
    memory::Memory,
    poll,
    program::{self, Program, Unknown},
    protocol::{
        Answer, Batch, Begun, MAX_NAMED, MAX_SITES, MAX_STACKS, Named, Outcome, Question, Record, Stacks,
        Wanted, Who,
    },
    sites,
    space::{SpaceExt as _, word},
    stack::{Copied, Pcs},
};
use crate::identify::{Lru, clean};

/// Programs and processes that are kept.
const MAX_PROGRAMS: usize = 64;
const MAX_PROCESSES: usize = 256;
/// More goroutines than this are not walked.
const MAX_GOROUTINES: u64 = 4 << 20;
/// Goroutines that are read at once: 8 MiB of them.
const BATCH: usize = 16 << 10;
/// Goroutines that lie this near are read as one.
const GAP: u64 = 128;
/// Of one stack, from its top; and of all that are read at once.
const MAX_STACK: u64 = 1 << 20;
const MAX_COPIED: u64 = 16 << 20;
/// The auxiliary vector has some twenty entries.
const MAX_AUXV: usize = 4096;
/// Goroutines by which the layout is checked.
const CHECKED: usize = 256;
/// The list may be replaced while it is read.
const TRIES: usize = 3;

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
    /// Addresses still to be read, in falling order.
    left: Vec<u64>,
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
            Question::Stacks(who, wanted) => self.stacks(*who, wanted).map(Answer::Stacks),
            Question::Name(who, stacks) => self.name(*who, stacks).map(Answer::Named),
            Question::Sites { who, made_at, runs } => {
                let (process, program) = self.program(*who)?;
                let _ = process;
                let some = |pcs: &[u64]| pcs.iter().take(MAX_SITES).copied().collect::<Vec<_>>();
                Ok(Answer::Sites {
                    made_at: some(made_at)
                        .into_iter()
                        .map(|pc| frames::spawn_site(&program, pc))
                        .collect(),
                    runs: some(runs)
                        .into_iter()
                        .map(|pc| frames::entry(&program, pc))
                        .collect(),
                })
            }
        }
    }

    fn begin(&mut self, who: Who) -> Result<Begun, Unknown> {
        self.walk = None;
        let (bias, program) = self.program(who)?;
        let mut memory = memory(who)?;
        let mut left = list(&program, bias, &mut memory)?;
        // As they lie in memory, so that neighbours are read together; each once, whatever the list says.
        left.sort_unstable_by(|a, b| b.cmp(a));
        left.dedup();
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
        let mut addresses = walk.left.split_off(from);
        addresses.reverse();
        let mut batch = Batch {
            began: now(),
            is_last: walk.left.is_empty(),
            ..Batch::default()
        };
        let mut goroutines = Vec::with_capacity(addresses.len());
        for decoded in read(&program, &mut memory, &addresses) {
            match decoded {
                Decoded::Live(goroutine) => goroutines.push(goroutine),
                Decoded::Dead => {}
                Decoded::Invalid => batch.unreadable += 1,
            }
        }
        batch.ended = now();
        let threads = threads(&program, &mut memory, &goroutines);
        batch.records = goroutines
            .iter()
            .zip(threads)
            .map(|(goroutine, thread)| Record {
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
            })
            .collect();
        if !batch.is_last {
            self.walk = Some(walk);
        }
        Ok(batch)
    }

    fn stacks(&mut self, who: Who, wanted: &[Wanted]) -> Result<Stacks, Unknown> {
        let wanted = &wanted[..wanted.len().min(MAX_STACKS)];
        let (bias, program) = self.program(who)?;
        let mut memory = memory(who)?;
        let addresses: Vec<u64> = wanted.iter().map(|wanted| wanted.address).collect();
        let mut found = read(&program, &mut memory, &addresses);
        for (wanted, found) in wanted.iter().zip(&mut found) {
            let is_same = |goroutine: &Goroutine| {
                goroutine.id == wanted.id
                    && goroutine.seq == wanted.seq
                    && goroutine.place() == wanted.place
                    && goroutine.status != Status::Active
            };
            match found {
                Decoded::Live(goroutine) if is_same(goroutine) => {}
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
            let (frames, truncated) = frames::of_stack(&program, &module, pcs);
            Named {
                block_site: sites::block_site(&frames, program.library.as_deref()),
                frames,
                truncated,
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

fn memory(who: Who) -> Result<Memory, Unknown> {
    Memory::of(who.tid).map_err(|error| Unknown::Unreadable(error.to_string()))
}

/// The addresses of all goroutines there ever were (`runtime.allgs` only grows).
fn list(program: &Program, bias: u64, memory: &mut Memory) -> Result<Vec<u64>, Unknown> {
    let unreadable = |what: String| Unknown::Unreadable(format!("{}: {what}", program.version));
    let at = |address: u64| address.wrapping_add(bias);
    for _ in 0..TRIES {
        // The length first: the list that is loaded afterwards is at least as long (runtime.atomicAllG).
        let length = memory.u64(at(program.list_length));
        let list = memory.u64(at(program.list));
        let (Some(length), Some(list)) = (length, list) else {
            return Err(unreadable("its list of goroutines is not in memory".to_owned()));
        };
        if length > MAX_GOROUTINES {
            return Err(unreadable(format!("it claims to have {length} goroutines")));
        }
        let Some(end) = list.checked_add(8 * length) else {
            return Err(unreadable("its list of goroutines is nowhere".to_owned()));
        };
        let mut addresses = Vec::with_capacity(length as usize);
        memory.parts(list..end, |address, bytes| {
            if address == list + 8 * addresses.len() as u64 {
                addresses.extend((0..bytes.len() / 8).filter_map(|number| word(bytes, 8 * number)));
            }
        });
        // Once it is replaced the old one may be used for something else.
        if memory.u64(at(program.list)) == Some(list) && addresses.len() as u64 == length {
            return Ok(addresses);
        }
    }
    Err(unreadable("its list of goroutines cannot be read".to_owned()))
}

fn read(program: &Program, memory: &mut Memory, addresses: &[u64]) -> Vec<Decoded> {
    let offsets = program.offsets;
    let place = |address: &u64| *address..address.saturating_add(offsets.size);
    let places: Vec<Range<u64>> = addresses.iter().map(place).collect();
    let gathered = memory.gather(&places, GAP);
    let one = |(number, address): (usize, &u64)| match gathered.get(number) {
        Some(bytes) => Goroutine::decode(offsets, *address, bytes),
        None => Decoded::Invalid,
    };
    addresses.iter().enumerate().map(one).collect()
}

/// Numbers of the threads that goroutines run on; 0 for those that run on none.
fn threads(program: &Program, memory: &mut Memory, goroutines: &[Goroutine]) -> Vec<u64> {
    let place = |goroutine: &Goroutine| {
        let at = goroutine.m.wrapping_add(program.offsets.procid);
        if goroutine.m == 0 || goroutine.status == Status::Waiting {
            0..0
        } else {
            at..at.saturating_add(8)
        }
    };
    let places: Vec<Range<u64>> = goroutines.iter().map(place).collect();
    if places.iter().all(Range::is_empty) {
        return vec![0; goroutines.len()];
    }
    let gathered = memory.gather(&places, 0);
    (0..goroutines.len())
        .map(|number| gathered.get(number).and_then(|bytes| word(bytes, 0)).unwrap_or(0))
        .collect()
}

/// The parts of the next stacks that are read at once, and how many these are.
fn some_stacks(found: &[Decoded], order: &[usize]) -> (usize, Vec<Range<u64>>) {
    let mut places = Vec::new();
    let mut length = 0;
    for number in order {
        let place = match &found[*number] {
            Decoded::Live(goroutine) => {
                goroutine.sp..goroutine.stack.end.min(goroutine.sp.saturating_add(MAX_STACK))
            }
            _ => 0..0,
        };
        length += place.end.saturating_sub(place.start);
        if length > MAX_COPIED && !places.is_empty() {
            break;
        }
        places.push(if place.start < place.end { place } else { 0..0 });
    }
    (places.len(), places)
}

/// Whether the table of offsets fits: of a goroutine what it runs is a function's beginning, and so on.
fn check(program: &Program, bias: u64, memory: &mut Memory) -> Result<(), Unknown> {
    let addresses = list(program, bias, memory)?;
    let some = &addresses[..addresses.len().min(CHECKED)];
    let (mut live, mut sound) = (0, 0);
    let mut ids = std::collections::HashSet::new();
    for decoded in read(program, memory, some) {
        match decoded {
            Decoded::Dead => {}
            Decoded::Invalid => live += 1,
            Decoded::Live(goroutine) => {
                live += 1;
                let pc = goroutine.startpc.wrapping_sub(bias);
                let begins = program
                    .functions
                    .function(pc)
                    .is_some_and(|function| function.entry == pc);
                sound += usize::from(begins && ids.insert(goroutine.id));
            }
        }
    }
    match (live, sound) {
        // A program has at least its main goroutine and the runtime's, once it runs.
        (0, _) => Err(Unknown::Unreadable(format!(
            "{}: it has no goroutines yet",
            program.version
        ))),
        // One or the other may be changing just now.
        _ if 10 * sound >= 9 * live => Ok(()),
        _ => Err(Unknown::Layout(program.version.text.clone())),
    }
}

/// CLOCK_MONOTONIC, ns: what Go's `nanotime` reads.
pub fn now() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let time = Duration::new(time.tv_sec as u64, time.tv_nsec as u32);
    time.as_nanos() as u64
}
