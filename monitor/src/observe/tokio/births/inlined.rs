//! Where those functions were put into others: with tokio 1.28 and 1.29 each future has its own `OwnedTasks::bind`, and small
//! programs of later versions have no function of its own for it either. What all of them come by is the list itself
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
//! is in a register, and which the kernel carries out itself.

use std::collections::{BTreeMap, VecDeque};

use iced_x86::{Code, Decoder, DecoderOptions, Instruction, Mnemonic, OpKind, Register};

use super::{Functions, VTABLE, leaves, number};
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
/// How far apart the instructions may be that are looked for, in bytes, and the first from the last.
const NEAR: usize = 24;
const WINDOW: usize = 24;
/// What is looked through at all, and what is looked at instruction by instruction.
const MAX_CODE: u64 = 512 << 20;
const MAX_DECODED: usize = 64 << 20;
/// Places that look so at first.
const MAX_CANDIDATES: usize = 64 << 10;

/// Looks through a program for them; none where there is any doubt.
pub fn find(image: &Image, module: &Module) -> Functions {
    let mut candidates = Vec::new();
    image.code(3 * NEAR, MAX_CODE, |bytes, base| {
        if candidates.len() < MAX_CANDIDATES {
            candidates.extend(likely(bytes).map(|at| base.wrapping_add(at as u64)));
        }
    });
    // Functions, and how far into each.
    let mut functions: BTreeMap<u64, usize> = BTreeMap::new();
    for at in &candidates {
        let Some(function) = module.function_range(*at).filter(|range| range.contains(at)) else {
            continue;
        };
        let whole = (function.end - function.start) as usize;
        let length = ((at - function.start) as usize).saturating_add(2 * NEAR);
        let known = functions.entry(function.start).or_default();
        *known = length.min(whole).max(*known);
    }
    let decoded = functions
        .values()
        .fold(0, |sum: usize, length| sum.saturating_add(*length));
    let mut found = Functions::default();
    if candidates.len() >= MAX_CANDIDATES || decoded > MAX_DECODED {
        return found;
    }
    for (function, length) in functions {
        places(&image.some(function, length, 4096), function, &mut found);
        if found.spawns.len() > MAX_INLINED || found.exits.len() > MAX_INLINED {
            return Functions::default();
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

/// Decodes a function from its beginning, and adds the places in it.
fn places(code: &[u8], function: u64, found: &mut Functions) {
    let mut window: VecDeque<Instruction> = VecDeque::with_capacity(WINDOW);
    for instruction in &mut Decoder::with_ip(64, code, function, DecoderOptions::NONE) {
        if instruction.is_invalid() {
            // This may be no code.
            return;
        }
        if let Some(store) = Sum::of(&instruction, Code::Mov_rm64_r64).filter(|store| store.at == NEXT) {
            let before = window.make_contiguous();
            let either = store.either();
            if let Some(place) = either.into_iter().find_map(|sum| pushed(before, sum)) {
                found.spawns.push(place);
            } else if let Some(place) = either.into_iter().find_map(|sum| removed(before, sum)) {
                found.exits.push(place);
            }
        }
        if window.len() == WINDOW {
            window.pop_front();
        }
        window.push_back(instruction);
    }
}

/// A `mov` of a register from or to the sum of two and a number.
#[derive(Clone, Copy)]
struct Sum {
    value: usize,
    base: usize,
    index: usize,
    at: u64,
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
            base: number(instruction.memory_base())?,
            index: number(instruction.memory_index())?,
            at: instruction.memory_displacement64(),
        })
    }

    /// Both ways to tell the two apart.
    fn either(self) -> [Self; 2] {
        let swapped = Self {
            base: self.index,
            index: self.base,
            ..self
        };
        [self, swapped]
    }
}

/// The branch of a `push_front` that ends with this, behind these instructions.
fn pushed(before: &[Instruction], store: Sum) -> Option<(u64, Holder)> {
    let (task, head) = (store.base, store.value);
    let (condition, branch, behind) = branch(before)?;
    let is_asked = is_pair(condition, Mnemonic::Cmp, task, head);
    let is_it =
        is_asked && is_kept(behind, task) && is_kept(behind, head) && is_offset_of(behind, store.index, task);
    is_it.then_some((branch.ip(), Holder::Register(task as u8)))
}

/// The branch of a `remove` that ends with this, behind these instructions.
fn removed(before: &[Instruction], store: Sum) -> Option<(u64, Holder)> {
    let (previous, next) = (store.base, store.value);
    let (condition, branch, behind) = branch(before)?;
    if !is_pair(condition, Mnemonic::Test, previous, previous)
        || !is_kept(behind, previous)
        || !is_offset_of(behind, store.index, previous)
    {
        return None;
    }
    // What was there before the branch.
    let before = straight(&before[..before.len() - behind.len() - 2]);
    let (first, second) = (definition(before, previous)?, definition(behind, next)?);
    let from = Sum::of(&before[first], Code::Mov_r64_rm64).filter(|load| load.at == 0)?;
    let also = Sum::of(&behind[second], Code::Mov_r64_rm64).filter(|load| load.at == NEXT)?;
    let is_it = |from: Sum| {
        let is_same = also
            .either()
            .iter()
            .any(|it| (it.base, it.index) == (from.base, from.index));
        is_same
            && [from.base, from.index]
                .iter()
                .all(|register| is_kept(&before[first..], *register) && is_kept(&behind[..second], *register))
            && is_offset_of(&before[..first], from.index, from.base)
    };
    let task = from.either().into_iter().find(|from| is_it(*from))?.base;
    Some((branch.ip(), Holder::Register(task as u8)))
}

/// The last branch, what it depends on, and what stands behind it.
fn branch(before: &[Instruction]) -> Option<(&Instruction, &Instruction, &[Instruction])> {
    let behind = straight(before);
    let [.., condition, branch] = &before[..before.len() - behind.len()] else {
        return None;
    };
    let is_je = matches!(branch.code(), Code::Je_rel8_64 | Code::Je_rel32_64);
    is_je.then_some((condition, branch, behind))
}

/// The last instructions, as far as they are carried out one after the other.
fn straight(before: &[Instruction]) -> &[Instruction] {
    let begin = before.iter().rposition(leaves).map_or(0, |at| at + 1);
    &before[begin..]
}

/// Whether one of the registers holds a task, and the other one its offset, as it was loaded last.
fn is_offset_of(before: &[Instruction], offset: usize, task: usize) -> bool {
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
    let vtable = |(index, vtable)| load(&before[..index], vtable, VTABLE);
    load(before, offset, TRAILER)
        .and_then(vtable)
        .is_some_and(|(index, from)| from == task && is_kept(&before[index..], task))
}

/// Whether an instruction compares these two registers.
fn is_pair(instruction: &Instruction, mnemonic: Mnemonic, one: usize, other: usize) -> bool {
    let register = |operand: u32| {
        (instruction.op_kind(operand) == OpKind::Register)
            .then(|| number(instruction.op_register(operand)))
            .flatten()
    };
    let is_wide = matches!(
        instruction.code(),
        Code::Cmp_r64_rm64 | Code::Cmp_rm64_r64 | Code::Test_rm64_r64
    );
    let pair = (register(0), register(1));
    is_wide
        && instruction.mnemonic() == mnemonic
        && [(Some(one), Some(other)), (Some(other), Some(one))].contains(&pair)
}

/// The last instruction that writes a register; `None` when there is none, or one behind it might.
fn definition(instructions: &[Instruction], register: usize) -> Option<usize> {
    let index = instructions
        .iter()
        .rposition(|instruction| writes(instruction, register))?;
    // Not one that does more than it seems to.
    let is_load = instructions[index].mnemonic() == Mnemonic::Mov;
    is_load.then_some(index)
}

/// Whether none of them writes a register.
fn is_kept(instructions: &[Instruction], register: usize) -> bool {
    !instructions
        .iter()
        .any(|instruction| writes(instruction, register))
}

/// Whether an instruction may write a register.
fn writes(instruction: &Instruction, register: usize) -> bool {
    match instruction.mnemonic() {
        Mnemonic::Cmp | Mnemonic::Test | Mnemonic::Nop => false,
        Mnemonic::Movups | Mnemonic::Movaps | Mnemonic::Movdqu | Mnemonic::Movdqa | Mnemonic::Xorps => false,
        Mnemonic::Mov | Mnemonic::Lea | Mnemonic::Movzx | Mnemonic::Xor | Mnemonic::And | Mnemonic::Or => {
            let is_register = instruction.op0_kind() == OpKind::Register;
            // What has no number may be a part of any.
            is_register && number(instruction.op0_register()).is_none_or(|it| it == register)
        }
        _ => true,
    }
}

#[cfg(test)]
mod tests;
