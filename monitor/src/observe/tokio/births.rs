//! Where the probes go that count births and deaths of tasks. Every future has functions of its own, but all of them come by
//! one that puts a task into its runtime's list, and by one that takes it out again:
//!
//! - `OwnedTasks::bind_inner` of tokio/src/runtime/task/list.rs (1.30 and later). It writes the list's number into the task's
//!   header, and then locks the list, or, from 1.35 on, finds the task's own number by the vtable to choose a part of it.
//! - `OwnedTasks::remove` of the same file, or `release` of a scheduler that it was put into. It reads the list's number from
//!   the header, and compares it with its own.
//!
//! They are known by what their beginnings do, with symbols and without. A program with one future may have them put into
//! others, and then nothing is counted.

use iced_x86::{Code, Decoder, DecoderOptions, Instruction, Mnemonic, OpKind, Register};

use super::{
    points,
    program::Program,
    protocol::{Births, Exit, MAX_BIRTHS},
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

/// Functions of a program, by the linker's addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Functions {
    pub spawns: Vec<u64>,
    /// And whether their argument is where the task stands.
    pub exits: Vec<(u64, bool)>,
}

impl Functions {
    /// Looks through a program for them.
    pub fn find(image: &Image, module: &Module) -> Self {
        let mut found = Self::default();
        for function in module.functions(MAX_FUNCTIONS) {
            let code = image.some(function, BEGINNING, 1);
            match meaning(&code, function) {
                Some(Meaning::Spawn) => found.spawns.push(function),
                Some(Meaning::Exit { is_indirect }) => found.exits.push((function, is_indirect)),
                None => {}
            }
        }
        found.spawns.dedup();
        found.exits.dedup();
        let counts = [found.spawns.len(), found.exits.len()];
        if counts.iter().all(|count| (1..=MAX_BIRTHS).contains(count)) {
            found
        } else {
            Self::default()
        }
    }
}

/// Places for a process's probes. `None` when there are none, or there is any doubt.
pub fn find(who: Who, placed: &Placed<Program>, functions: &Functions, memory: &Memory) -> Option<Births> {
    let image = &placed.program.image;
    let place = Place::of(who, functions.spawns.first()?.wrapping_add(placed.bias))?;
    let offset = |function: u64| {
        let code = image.some(function, BEGINNING, 1);
        place.offset(image, memory, placed.bias, &points::first(&code, function)?)
    };
    let spawns: Option<Vec<u64>> = functions.spawns.iter().map(|at| offset(*at)).collect();
    let exits = functions.exits.iter().map(|(at, is_indirect)| {
        Some(Exit {
            offset: offset(*at)?,
            is_indirect: *is_indirect,
        })
    });
    let exits: Option<Vec<Exit>> = exits.collect();
    Some(Births {
        spawns: spawns?,
        exits: exits?,
        file: place.file,
        bias: placed.bias,
        steps: Vec::new(),
    })
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meaning {
    Spawn,
    Exit { is_indirect: bool },
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
    let (mut has_owner, mut compared) = (false, None);
    for instruction in &mut Decoder::with_ip(64, code, at, DecoderOptions::NONE) {
        if let Some(is_indirect) = compared {
            // Another list's task is a panic.
            return (instruction.mnemonic() == Mnemonic::Jne).then_some(Meaning::Exit { is_indirect });
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
                let [base, index] = [instruction.memory_base(), instruction.memory_index()];
                let pair = [known.get(base), known.get(index)];
                if has_owner
                    && (pair == [Some(Value::Argument), Some(Value::IdOffset)]
                        || pair == [Some(Value::IdOffset), Some(Value::Argument)])
                {
                    return Some(Meaning::Spawn);
                }
                let loaded = plain_displacement(&instruction).and_then(|at| behind(known.get(base)?, at));
                known.set(instruction.op0_register(), loaded);
            }
            _ if has_owner && instruction.has_lock_prefix() => {
                let is_lists = known.get(instruction.memory_base()) == Some(Value::List);
                return is_lists.then_some(Meaning::Spawn);
            }
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
    let is_branch = instruction.op_count() > 0 && instruction.op0_kind() == OpKind::NearBranch64;
    is_branch
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
mod tests {
    use super::*;

    /// `OwnedTasks::bind_inner` of tokio 1.54 (fat LTO), by other registers, and of 1.33.
    const SPAWNS: [&[u8]; 3] = [
        // push rbp, r15, r14, r13, r12, rbx; sub rsp, 0x38; mov rbx, rdx; mov r15, rsi; mov rax, [rdi+0x28];
        // mov [rsi+0x18], rax; mov rax, [rsi+0x10]; mov rax, [rax+0x48]; mov r12, [rsi+rax]
        &[
            0x55, 0x41, 0x57, 0x41, 0x56, 0x41, 0x55, 0x41, 0x54, 0x53, 0x48, 0x83, 0xec, 0x38, 0x48, 0x89,
            0xd3, 0x49, 0x89, 0xf7, 0x48, 0x8b, 0x47, 0x28, 0x48, 0x89, 0x46, 0x18, 0x48, 0x8b, 0x46, 0x10,
            0x48, 0x8b, 0x40, 0x48, 0x4c, 0x8b, 0x24, 0x06,
        ],
        // push rbx; mov rbx, rsi; mov rcx, [rdi+0x20]; mov [rbx+0x18], rcx; mov rax, [rbx+0x10]; mov rax, [rax+0x48];
        // mov rdx, [rax+rbx]
        &[
            0x53, 0x48, 0x89, 0xf3, 0x48, 0x8b, 0x4f, 0x20, 0x48, 0x89, 0x4b, 0x18, 0x48, 0x8b, 0x43, 0x10,
            0x48, 0x8b, 0x40, 0x48, 0x48, 0x8b, 0x14, 0x18,
        ],
        // push rbx; mov rbx, rsi; mov rax, [rdi]; mov [rsi+0x18], rax; lea r15, [rdi+8]; mov r13b, 1; xor eax, eax;
        // lock cmpxchg [r15], r13b
        &[
            0x53, 0x48, 0x89, 0xf3, 0x48, 0x8b, 0x07, 0x48, 0x89, 0x46, 0x18, 0x4c, 0x8d, 0x7f, 0x08, 0x41,
            0xb5, 0x01, 0x31, 0xc0, 0xf0, 0x45, 0x0f, 0xb0, 0x2f,
        ],
    ];

    /// `OwnedTasks::remove` of tokio 1.54, and `release` of 1.54 (fat LTO) and of 1.44.
    const EXITS: [(&[u8], bool); 3] = [
        // push rbx; push rax; mov rbx, [rsi]; mov rax, [rbx+0x18]; test rax, rax; je; mov [rsp], rax;
        // cmp rax, [rdi+0x28]; jne
        (
            &[
                0x53, 0x50, 0x48, 0x8b, 0x1e, 0x48, 0x8b, 0x43, 0x18, 0x48, 0x85, 0xc0, 0x0f, 0x84, 0xc9, 0,
                0, 0, 0x48, 0x89, 0x04, 0x24, 0x48, 0x3b, 0x47, 0x28, 0x0f, 0x85, 0x14, 1, 0, 0,
            ],
            true,
        ),
        // push rbx; sub rsp, 0x10; mov rax, [rsi+0x18]; test rax, rax; je; mov [rsp+8], rax; cmp rax, [rdi+0x218]; jne
        (
            &[
                0x53, 0x48, 0x83, 0xec, 0x10, 0x48, 0x8b, 0x46, 0x18, 0x48, 0x85, 0xc0, 0x0f, 0x84, 0xd5, 0,
                0, 0, 0x48, 0x89, 0x44, 0x24, 0x08, 0x48, 0x3b, 0x87, 0x18, 0x02, 0, 0, 0x0f, 0x85, 0x24, 1,
                0, 0,
            ],
            false,
        ),
        // push rax; mov rsi, [rsi]; mov rax, [rsi+0x18]; test rax, rax; je; mov rdx, [rdi]; mov [rsp], rax;
        // cmp rax, [rdx+0xb0]; jne
        (
            &[
                0x50, 0x48, 0x8b, 0x36, 0x48, 0x8b, 0x46, 0x18, 0x48, 0x85, 0xc0, 0x74, 0x20, 0x48, 0x8b,
                0x17, 0x48, 0x89, 0x04, 0x24, 0x48, 0x3b, 0x82, 0xb0, 0, 0, 0, 0x75, 0x14,
            ],
            true,
        ),
    ];

    #[test]
    fn the_functions_are_known_by_what_they_do() {
        for code in SPAWNS {
            assert_eq!(meaning(code, 0x1000), Some(Meaning::Spawn), "{code:x?}");
        }
        for (code, is_indirect) in EXITS {
            assert_eq!(
                meaning(code, 0x1000),
                Some(Meaning::Exit { is_indirect }),
                "{code:x?}"
            );
        }
    }

    /// No part of it may be missing, and none be another.
    #[test]
    fn nothing_else_is_taken_for_them() {
        let all = SPAWNS.iter().copied().chain(EXITS.iter().map(|(code, _)| *code));
        for code in all {
            for length in 0..code.len() {
                assert_eq!(meaning(&code[..length], 0x1000), None, "{:x?}", &code[..length]);
            }
        }
        // Another field of the task's; of the vtable's.
        let changed = |at: usize, byte: u8| {
            let mut code = SPAWNS[1].to_vec();
            code[at] = byte;
            meaning(&code, 0x1000)
        };
        assert_eq!(changed(11, 0x20), None);
        assert_eq!(changed(15, 0x08), None);
        assert_eq!(changed(19, 0x40), None);
        // The task's list is compared with a field of its own.
        let mut code = EXITS[0].0.to_vec();
        code[24] = 0x43;
        assert_eq!(meaning(&code, 0x1000), None);
        assert_eq!(meaning(&[], 0x1000), None);
        assert_eq!(meaning(&[0xc3], 0x1000), None);
    }

    proptest::proptest! {
        #[test]
        fn any_code_is_looked_at(code in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..100), at: u64) {
            let _ = meaning(&code, at);
        }
    }
}
