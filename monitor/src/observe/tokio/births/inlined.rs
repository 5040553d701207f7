//! Where those functions were put into others: with tokio 1.28 and 1.29 each future has its own `OwnedTasks::bind`, and where
//! there is but one future, later versions have no function for it either. What all of them come by is the list itself
//! (tokio/src/util/linked_list.rs), which finds the pointers of a task behind its future, by an offset in its vtable:
//!
//! ```text
//! push_front(task)            remove(task)
//!   cmp  task, head             mov  q, [task + 0x10]
//!   je   panic                  mov  r, [q + 0x38]
//!   mov  q, [task + 0x10]       mov  prev, [task + r]
//!   mov  r, [q + 0x38]          test prev, prev
//!   mov  [task + r + 8], head   je   it_is_the_first
//!                               mov  q, [prev + 0x10]
//!                               mov  s, [q + 0x38]
//!                               mov  next, [task + r + 8]
//!                               mov  [prev + s + 8], next
//! ```
//!
//! Each task comes by one of the first kind and by one of the second kind, once. The probe goes on the `je`, at which the task
//! is in a register, and which the kernel carries out itself. The vtable may have been loaded before it, for something else.

mod flow;

use std::{
    cell::OnceCell,
    collections::{BTreeMap, HashSet, VecDeque},
};

use iced_x86::{Code, Decoder, DecoderOptions, Instruction, Mnemonic, OpKind, Register};

use flow::{definition, falling, is_kept, straight, targets, value};

use super::{Functions, OWNER, VTABLE, number};
use crate::{
    identify::Module,
    observe::{
        image::Image,
        memory::space::SpaceExt as _,
        tokio::protocol::{Holder, MAX_INLINED},
    },
};

/// In a task's vtable: how far behind its header its pointers are.
const TRAILER: u64 = 56;
/// Of these pointers the second.
const NEXT: u64 = 8;
/// How far apart those may be that are looked for, in bytes; and how many instructions are remembered.
const NEAR: usize = 80;
const WINDOW: usize = 24;
/// What is looked through at all, and what is looked at instruction by instruction.
const MAX_CODE: u64 = 512 << 20;
const MAX_DECODED: usize = 64 << 20;
/// Places that look so at first.
const MAX_CANDIDATES: usize = 64 << 10;

/// What was found.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Inlined {
    pub places: Functions,
    /// Of the births those before which the task is told the list's number: nobody has called what puts it into the list.
    pub binding: HashSet<u64>,
}

/// Looks through a program for them; none where there is any doubt.
pub fn find(image: &Image, module: &Module) -> Inlined {
    let mut candidates = Vec::new();
    image.code(3 * NEAR, MAX_CODE, |bytes, base| {
        if candidates.len() < MAX_CANDIDATES {
            candidates.extend(likely(bytes).map(|at| base.wrapping_add(at as u64)));
        }
    });
    // Functions, how far into each, and how long it is.
    let mut functions: BTreeMap<u64, (usize, usize)> = BTreeMap::new();
    for at in &candidates {
        let Some(function) = module.function_range(*at).filter(|range| range.contains(at)) else {
            continue;
        };
        let whole = (function.end - function.start) as usize;
        let length = ((at - function.start) as usize).saturating_add(2 * NEAR);
        let (known, _) = functions.entry(function.start).or_insert((0, whole));
        *known = length.min(whole).max(*known);
    }
    let decoded = functions
        .values()
        .fold(0, |sum: usize, (_, whole)| sum.saturating_add(*whole));
    let mut found = Inlined::default();
    if candidates.len() >= MAX_CANDIDATES || decoded > MAX_DECODED {
        return found;
    }
    for (function, (length, whole)) in functions {
        let code = image.some(function, whole, 4096);
        let is_understood = places(&code, length, function, &mut found);
        let most = found.places.spawns.len().max(found.places.exits.len());
        if !is_understood || most > MAX_INLINED {
            return Inlined::default();
        }
    }
    found
}

/// Where bytes look like the load of a task's offset: what is read before, and what is written behind, is near.
fn likely(bytes: &[u8]) -> impl Iterator<Item = usize> {
    memchr::memchr_iter(TRAILER as u8, bytes).filter(move |at| {
        is_load(bytes, *at)
            && (at.saturating_sub(NEAR)..*at)
                .any(|before| bytes[before] == VTABLE as u8 && is_load(bytes, before))
            && (at + 1..bytes.len().min(at + NEAR + 1))
                .any(|behind| bytes[behind] == NEXT as u8 && is_store(bytes, behind))
    })
}

/// Whether a byte is the displacement of a `mov` of eight bytes into a register, from a register's.
fn is_load(bytes: &[u8], at: usize) -> bool {
    match bytes[..at] {
        // With r12 as its base.
        [.., rex, 0x8b, modrm, 0x24] if modrm & 0xc7 == 0x44 => rex & 0xf8 == 0x48,
        [.., rex, 0x8b, modrm] => rex & 0xf8 == 0x48 && modrm >> 6 == 1 && modrm & 7 != 4,
        _ => false,
    }
}

/// Whether a byte is the displacement of a `mov` of a register's eight bytes, to the sum of two.
fn is_store(bytes: &[u8], at: usize) -> bool {
    matches!(bytes[..at], [.., rex, 0x89, modrm, sib] if rex & 0xf8 == 0x48 && modrm & 0xc7 == 0x44 && sib >> 6 == 0)
}

/// Decodes so much of a function from its beginning, and adds the places in it. Whether all that may be one was understood.
fn places(code: &[u8], length: usize, function: u64, found: &mut Inlined) -> bool {
    let decoder = |code| Decoder::with_ip(64, code, function, DecoderOptions::NONE);
    let reached = OnceCell::new();
    let mut window: VecDeque<Instruction> = VecDeque::with_capacity(WINDOW);
    for instruction in &mut decoder(&code[..length.min(code.len())]) {
        if instruction.is_invalid() {
            // What is cut off, or no code.
            break;
        }
        let before = window.make_contiguous();
        if let Some(sum) = Sum::of(&instruction, Code::Mov_rm64_r64).filter(|sum| sum.at == NEXT) {
            let push = if let Some(store) = sum.of_task(straight(before)) {
                let (push, removal) = (pushed(before, &store), removed(before, &store));
                if push.is_none() && removal.is_none() {
                    return false;
                }
                found
                    .places
                    .exits
                    .extend(removal.filter(|_| push.is_none()).map(held));
                push
            } else {
                let reached = reached.get_or_init(|| targets(decoder(code)));
                let store = sum.of_task(falling(before, instruction.ip(), reached));
                let mut stores = store.into_iter().flat_map(|store| sum.by_any(store.task));
                stores.find_map(|store| pushed(before, &store))
            };
            if let Some((at, task)) = push {
                if before.iter().any(|it| sum.gives_owner(task, it)) {
                    found.binding.insert(at);
                }
                found.places.spawns.push(held((at, task)));
            }
        }
        if window.len() == WINDOW {
            window.pop_front();
        }
        window.push_back(instruction);
    }
    true
}

fn held((at, register): (u64, usize)) -> (u64, Holder) {
    (at, Holder::Register(register as u8))
}

/// A `mov` of a register from or to the sum of two and a number.
#[derive(Clone, Copy)]
struct Sum {
    value: usize,
    registers: [usize; 2],
    at: u64,
}

/// A write to a task's pointers.
struct Store {
    value: usize,
    /// The register that had the task when its offset was loaded. Where it stands may be in another one as well.
    task: usize,
}

impl Sum {
    fn of(instruction: &Instruction, code: Code) -> Option<Self> {
        let (memory, register) = match code {
            Code::Mov_rm64_r64 => (0, 1),
            _ => (1, 0),
        };
        let is_sum = instruction.code() == code
            && instruction.op_kind(memory) == OpKind::Memory
            && instruction.memory_index_scale() == 1
            && instruction.segment_prefix() == Register::None;
        is_sum.then_some(())?;
        Some(Self {
            value: number(instruction.op_register(register))?,
            registers: [
                number(instruction.memory_base())?,
                number(instruction.memory_index())?,
            ],
            at: instruction.memory_displacement64(),
        })
    }

    /// If one of the two is a task's offset.
    fn of_task(self, before: &[Instruction]) -> Option<Store> {
        let mut tasks = self.registers.iter().filter_map(|it| task_of(before, *it));
        tasks.next().map(|task| Store {
            value: self.value,
            task,
        })
    }

    /// Whether the task in this register, or in one of the two, is told the number of its list.
    fn gives_owner(self, task: usize, instruction: &Instruction) -> bool {
        let [base, index] = self.registers;
        instruction.code() == Code::Mov_rm64_r64
            && instruction.op0_kind() == OpKind::Memory
            && instruction.memory_index() == Register::None
            && instruction.memory_displacement64() == OWNER
            && number(instruction.memory_base()).is_some_and(|it| [task, base, index].contains(&it))
    }

    /// A task's, by this register or by one of the two, which may be a copy.
    fn by_any(self, task: usize) -> impl Iterator<Item = Store> {
        let [base, index] = self.registers;
        [task, base, index].into_iter().map(move |task| Store {
            value: self.value,
            task,
        })
    }
}

/// The branch of a `push_front` that ends with this, behind these instructions, and the task's register.
fn pushed(before: &[Instruction], store: &Store) -> Option<(u64, usize)> {
    let branch = Branch::last(before)?;
    let is_it = branch.compares(Mnemonic::Cmp, store.task, store.value)
        && is_kept(branch.behind, store.task)
        && is_kept(branch.behind, store.value);
    is_it.then_some((branch.at, store.task))
}

/// The branch of a `remove` that ends with this, behind these instructions, and the task's register.
fn removed(before: &[Instruction], store: &Store) -> Option<(u64, usize)> {
    let branch = Branch::last(before)?;
    let (previous, before, behind) = (store.task, branch.before, branch.behind);
    if !branch.compares(Mnemonic::Test, previous, previous) || !is_kept(behind, previous) {
        return None;
    }
    let (first, second) = (definition(before, previous)?, definition(behind, store.value)?);
    let from = Sum::of(&before[first], Code::Mov_r64_rm64).filter(|load| load.at == 0)?;
    let also = Sum::of(&behind[second], Code::Mov_r64_rm64).filter(|load| load.at == NEXT)?;
    let task = |offset: &usize| {
        let is_same = also.registers.contains(offset)
            && is_kept(&before[first..], *offset)
            && is_kept(&behind[..second], *offset);
        let task = task_of(&before[..first], *offset).filter(|_| is_same)?;
        is_kept(&before[first..], task).then_some(task)
    };
    let task = from.registers.iter().find_map(task)?;
    Some((branch.at, task))
}

/// A `je`, and what is carried out before and behind it, whichever way was taken to it.
struct Branch<'a> {
    at: u64,
    before: &'a [Instruction],
    behind: &'a [Instruction],
}

impl<'a> Branch<'a> {
    fn last(instructions: &'a [Instruction]) -> Option<Self> {
        let behind = straight(instructions);
        let (branch, before) = instructions[..instructions.len() - behind.len()].split_last()?;
        let is_je = matches!(branch.code(), Code::Je_rel8_64 | Code::Je_rel32_64);
        is_je.then(|| Self {
            at: branch.ip(),
            before: straight(before),
            behind,
        })
    }

    /// Whether it depends on a comparison of what is in these two registers.
    fn compares(&self, mnemonic: Mnemonic, one: usize, other: usize) -> bool {
        // These leave the flags alone.
        let is_other = |it: &Instruction| !matches!(it.mnemonic(), Mnemonic::Mov | Mnemonic::Lea);
        let Some(index) = self.before.iter().rposition(is_other) else {
            return false;
        };
        let (condition, before) = (&self.before[index], &self.before[..index]);
        let is_wide = matches!(
            condition.code(),
            Code::Cmp_r64_rm64 | Code::Cmp_rm64_r64 | Code::Test_rm64_r64
        );
        let operand = |operand: u32| match condition.op_kind(operand) {
            OpKind::Register => Some(value(before, number(condition.op_register(operand))?)),
            _ => None,
        };
        let is_kept = [one, other].iter().all(|it| is_kept(&self.before[index..], *it));
        let pair = (operand(0), operand(1));
        let (one, other) = (Some(value(before, one)), Some(value(before, other)));
        is_wide && is_kept && condition.mnemonic() == mnemonic && [(one, other), (other, one)].contains(&pair)
    }
}

/// The register that has the task whose offset is in this one, as it was loaded last.
fn task_of(before: &[Instruction], offset: usize) -> Option<usize> {
    let load = |before: &[Instruction], register: usize, at: u64| {
        let index = definition(before, register)?;
        let instruction = &before[index];
        let is_load = instruction.code() == Code::Mov_r64_rm64
            && instruction.op1_kind() == OpKind::Memory
            && instruction.memory_index() == Register::None
            && instruction.segment_prefix() == Register::None
            && instruction.memory_displacement64() == at;
        is_load.then_some((index, number(instruction.memory_base())?))
    };
    let (index, vtable) = load(before, offset, TRAILER)?;
    let (index, task) = load(&before[..index], vtable, VTABLE)?;
    is_kept(&before[index..], task).then_some(task)
}

#[cfg(test)]
mod tests;
