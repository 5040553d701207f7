//! Where the probes go that count births and deaths of tasks. Every future has functions of its own, but all of them come by
//! one that puts a task into its runtime's list, and by one that takes it out again:
//!
//! - `OwnedTasks::bind_inner` of tokio/src/runtime/task/list.rs (1.30 and later). It writes the list's number into the task's
//!   header, and then locks the list, or, from 1.35 on, finds the task's own number by the vtable to choose a part of it.
//! - `OwnedTasks::remove` of the same file, or `release` of a scheduler that it was put into. It reads the list's number from
//!   the header, and compares it with its own. Where that was put into each future's own functions, what they call is left:
//!   `ShardedList::remove` of tokio/src/util/sharded_list.rs, which finds the part of the list that is to be locked as above.
//!
//! They are known by what their beginnings do, with symbols and without. Where one of the two is missing, what both were made of
//! is looked for in all functions ([`inlined`]).

mod inlined;

use iced_x86::{Code, Decoder, DecoderOptions, Instruction, Mnemonic, OpKind, Register};
use inlined::Inlined;

use super::{
    points,
    program::Program,
    protocol::{Births, Holder, MAX_BIRTHS, MAX_INLINED, Point},
};
use crate::{
    identify::Module,
    observe::{
        helper::Who,
        image::Image,
        memory::{Memory, space::SpaceExt as _},
        place::Place,
        programs::Placed,
    },
};

/// Functions whose beginnings are looked at, and how much of each.
const MAX_FUNCTIONS: usize = 4 << 20;
const BEGINNING: usize = 96;

/// Offsets in a task's header (tokio/src/runtime/task/core.rs) and, in words of its vtable, that of its number.
const VTABLE: u64 = 16;
const OWNER: u64 = 24;
const ID_OFFSET: u64 = 72;

/// Functions of a program, or places within, by the linker's addresses, and what has the task there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Functions {
    pub spawns: Vec<(u64, Holder)>,
    pub exits: Vec<(u64, Holder)>,
}

impl Functions {
    /// Looks through a program for them; either both kinds are found, or none.
    pub fn find(image: &Image, module: &Module) -> Self {
        let (mut called, removals) = Self::called(image, module);
        let Inlined {
            places: mut inlined,
            binding,
        } = inlined::find(image, module);
        let function = |at: u64| module.function_range(at).map(|function| function.start);
        let is_known = |(at, _): &(u64, Holder), known: &[(u64, Holder)]| {
            let around = function(*at);
            known.iter().any(|(begin, _)| Some(*begin) == around)
        };
        if called.is_whole(MAX_BIRTHS) {
            // Those of a `LocalSet`, which each future puts into its list itself.
            inlined
                .spawns
                .retain(|place| binding.contains(&place.0) && !is_known(place, &called.spawns));
            inlined
                .exits
                .retain(|place| !is_known(place, &called.exits) && !is_known(place, &removals));
            if inlined.is_whole(MAX_INLINED - MAX_BIRTHS) {
                called.spawns.append(&mut inlined.spawns);
                called.exits.append(&mut inlined.exits);
            }
            return called;
        }
        if !inlined.is_whole(MAX_INLINED) {
            return Self::default();
        }
        // At the beginning of a function the list is not locked yet, and nobody waits for the probe.
        for place in &mut inlined.exits {
            let begin = function(place.0);
            let exit = called.exits.iter().find(|(at, _)| Some(*at) == begin);
            *place = exit.copied().unwrap_or(*place);
        }
        inlined.exits.dedup();
        inlined
    }

    /// Functions that all tasks come by, and those that take a task out of a list and ask nobody whose it is.
    fn called(image: &Image, module: &Module) -> (Self, Vec<(u64, Holder)>) {
        let (mut found, mut removals) = (Self::default(), Vec::new());
        for function in module.functions(MAX_FUNCTIONS) {
            let code = image.some(function, BEGINNING, 1);
            match meaning(&code, function) {
                Some(Meaning::Spawn) => found.spawns.push((function, Holder::Argument)),
                Some(Meaning::Exit { is_indirect: false }) => found.exits.push((function, Holder::Argument)),
                Some(Meaning::Exit { is_indirect: true }) => found.exits.push((function, Holder::Pointee)),
                Some(Meaning::Removal) => removals.push((function, Holder::Argument)),
                None => {}
            }
        }
        // They may be called by the others, and by nobody else.
        if found.exits.is_empty() {
            found.exits.clone_from(&removals);
        }
        found.spawns.dedup();
        found.exits.dedup();
        (found, removals)
    }

    /// Whether there are some of both kinds, and no more than so many.
    fn is_whole(&self, most: usize) -> bool {
        [&self.spawns, &self.exits]
            .iter()
            .all(|places| (1..=most).contains(&places.len()))
    }

    /// Functions that are called to put a task into a list, and places that do so themselves.
    pub fn makers(&self) -> (Vec<u64>, Vec<u64>) {
        let (amid, called): (Vec<_>, Vec<_>) = self
            .spawns
            .iter()
            .partition(|(_, task)| matches!(task, Holder::Register(_)));
        let addresses = |places: Vec<(u64, Holder)>| places.into_iter().map(|(at, _)| at).collect();
        (addresses(called), addresses(amid))
    }
}

/// Places for a process's probes. `None` when there are none, or there is any doubt.
pub fn find(who: Who, placed: &Placed<Program>, functions: &Functions, memory: &Memory) -> Option<Births> {
    let image = &placed.program.image;
    let (first, _) = functions.spawns.first()?;
    let place = Place::of(who, first.wrapping_add(placed.bias))?;
    let point = |(at, task): &(u64, Holder)| {
        let code = image.some(*at, BEGINNING, 1);
        let instruction = match task {
            Holder::Argument | Holder::Pointee => points::first(&code, *at),
            Holder::Register(_) => points::branch(&code, *at),
        };
        Some(Point {
            offset: place.offset(image, memory, placed.bias, &instruction?)?,
            task: *task,
        })
    };
    let points = |places: &[(u64, Holder)]| places.iter().map(point).collect::<Option<Vec<Point>>>();
    Some(Births {
        spawns: points(&functions.spawns)?,
        exits: points(&functions.exits)?,
        file: place.file,
        bias: placed.bias,
        steps: Vec::new(),
    })
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meaning {
    Spawn,
    Exit {
        is_indirect: bool,
    },
    /// An exit that asks nobody whose the task is.
    Removal,
}

/// What a register holds, of what is of interest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Value {
    /// The first argument, or something that it leads to.
    List,
    /// The second argument.
    Argument,
    /// Where the second argument leads to.
    Pointee,
    /// Of a task: the number of its list, by either.
    Owner {
        is_indirect: bool,
    },
    Vtable,
    IdOffset,
}

/// What a function is, by its beginning.
fn meaning(code: &[u8], at: u64) -> Option<Meaning> {
    let mut known = Registers::default();
    known.set(Register::RDI, Some(Value::List));
    known.set(Register::RSI, Some(Value::Argument));
    let (mut has_owner, mut has_number, mut compared) = (false, false, None);
    for instruction in &mut Decoder::with_ip(64, code, at, DecoderOptions::NONE) {
        if let Some(is_indirect) = compared {
            // Another list's task is a panic.
            return (instruction.mnemonic() == Mnemonic::Jne).then_some(Meaning::Exit { is_indirect });
        }
        if instruction.op_count() > 1 && instruction.op1_kind() == OpKind::Memory {
            let pair = [instruction.memory_base(), instruction.memory_index()].map(|it| known.get(it));
            has_number |= pair.contains(&Some(Value::Argument)) && pair.contains(&Some(Value::IdOffset));
        }
        if has_owner && has_number {
            return Some(Meaning::Spawn);
        }
        match instruction.code() {
            // A task that is in no list.
            Code::Je_rel8_64 | Code::Je_rel32_64 => {}
            _ if leaves(&instruction) => return None,
            Code::Mov_rm64_r64 if instruction.op0_kind() == OpKind::Memory => {
                let into = known.get(instruction.memory_base());
                has_owner |= into == Some(Value::Argument)
                    && plain_displacement(&instruction) == Some(OWNER)
                    && known.get(instruction.op1_register()) == Some(Value::List);
            }
            Code::Mov_r64_rm64 | Code::Mov_rm64_r64 if instruction.op1_kind() == OpKind::Register => {
                known.set(instruction.op0_register(), known.get(instruction.op1_register()));
            }
            Code::Mov_r64_rm64 => {
                let base = known.get(instruction.memory_base());
                let loaded = plain_displacement(&instruction).and_then(|at| behind(base?, at));
                known.set(instruction.op0_register(), loaded);
            }
            _ if has_owner && instruction.has_lock_prefix() => {
                let is_lists = known.get(instruction.memory_base()) == Some(Value::List);
                return is_lists.then_some(Meaning::Spawn);
            }
            _ if has_number && instruction.has_lock_prefix() => return Some(Meaning::Removal),
            // A part of it.
            Code::Lea_r64_m => {
                let part = known
                    .get(instruction.memory_base())
                    .filter(|value| *value == Value::List);
                known.set(instruction.op0_register(), part);
            }
            Code::Cmp_r64_rm64 | Code::Cmp_rm64_r64 => compared = comparison(&known, &instruction),
            Code::Push_r64 | Code::Test_rm64_r64 => {}
            _ if instruction.op_count() > 0 && instruction.op0_kind() == OpKind::Register => {
                known.set(instruction.op0_register(), None);
            }
            _ => {}
        }
    }
    None
}

/// Whether what comes next is not what stands behind it.
fn leaves(instruction: &Instruction) -> bool {
    is_branch(instruction)
        || matches!(
            instruction.mnemonic(),
            Mnemonic::Call
                | Mnemonic::Jmp
                | Mnemonic::Ret
                | Mnemonic::Int3
                | Mnemonic::Ud2
                | Mnemonic::Syscall
                | Mnemonic::INVALID
        )
}

/// Whether it may go on elsewhere in the code, at a place that it names.
fn is_branch(instruction: &Instruction) -> bool {
    instruction.op_count() > 0 && instruction.op0_kind() == OpKind::NearBranch64
}

/// What stands at an offset from something.
fn behind(value: Value, at: u64) -> Option<Value> {
    match (value, at) {
        (Value::List, _) => Some(Value::List),
        (Value::Argument, 0) => Some(Value::Pointee),
        (Value::Argument, VTABLE) => Some(Value::Vtable),
        (Value::Vtable, ID_OFFSET) => Some(Value::IdOffset),
        (Value::Argument, OWNER) => Some(Value::Owner { is_indirect: false }),
        (Value::Pointee, OWNER) => Some(Value::Owner { is_indirect: true }),
        _ => None,
    }
}

/// Whether a task's list is compared with what the first argument leads to.
fn comparison(known: &Registers, instruction: &Instruction) -> Option<bool> {
    let value = |operand: u32| match instruction.op_kind(operand) {
        OpKind::Register => known.get(instruction.op_register(operand)),
        OpKind::Memory => known
            .get(instruction.memory_base())
            .filter(|_| plain_displacement(instruction).is_some())
            .filter(|value| *value == Value::List),
        _ => None,
    };
    match (value(0)?, value(1)?) {
        (Value::List, Value::Owner { is_indirect }) | (Value::Owner { is_indirect }, Value::List) => {
            Some(is_indirect)
        }
        _ => None,
    }
}

/// Of an operand that is a register and a displacement.
fn plain_displacement(instruction: &Instruction) -> Option<u64> {
    (instruction.memory_index() == Register::None).then(|| instruction.memory_displacement64())
}

#[derive(Default)]
struct Registers([Option<Value>; 16]);

impl Registers {
    fn get(&self, register: Register) -> Option<Value> {
        *self.0.get(number(register)?)?
    }

    fn set(&mut self, register: Register, value: Option<Value>) {
        if let Some(known) = number(register).and_then(|number| self.0.get_mut(number)) {
            *known = value;
        }
    }
}

/// Of a general register, or of one that is half of it. Nothing of interest is done with smaller parts.
fn number(register: Register) -> Option<usize> {
    [Register::RAX, Register::EAX].into_iter().find_map(|first| {
        let number = (register as usize).checked_sub(first as usize)?;
        (number < 16).then_some(number)
    })
}

#[cfg(test)]
mod tests;
