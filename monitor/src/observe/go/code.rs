//! Where the runtime keeps its variables, told by its own code: by what functions load that are known to load them.
//! Addresses are the linker's.

use iced_x86::{Code, Decoder, DecoderOptions, Instruction, MemorySize, OpKind, Register};

use super::{
    offsets::Offsets,
    pclntab::{Function, Pclntab},
};
use crate::observe::{image::Image, memory::space::SpaceExt as _};

/// Bytes of a function that are looked at.
const MAX_CODE: usize = 4096;
/// Instructions between a test and the load that it is for.
const NEAR: usize = 4;

/// The list's length and the list itself: the first two words that `runtime.forEachGRace` loads
/// (`atomicAllG`, runtime/proc.go).
pub fn list(functions: &Pclntab<Image>, for_each: &Function) -> Option<(u64, u64)> {
    let code = instructions(functions, for_each);
    let mut words = code.iter().filter_map(|instruction| word(functions, instruction));
    Some((words.next()?, words.next()?))
}

/// `runtime.allp`, a slice: the first one that `runtime.timeSleepUntil` loads (runtime/time.go; before Go 1.23
/// runtime/time.go, too).
pub fn processors(functions: &Pclntab<Image>, sleep_until: &Function) -> Option<u64> {
    let code = instructions(functions, sleep_until);
    let mut words = code.iter().filter_map(|instruction| word(functions, instruction));
    let (one, other) = (words.next()?, words.next()?);
    // Its beginning and its length, whichever comes first.
    (one.abs_diff(other) == 8).then(|| one.min(other))
}

/// `runtime.debug.tracebacklabels`: what `runtime.goroutineheader` looks at where a goroutine has labels (runtime/traceback.go,
/// from Go 1.26 on).
pub fn traceback_labels(functions: &Pclntab<Image>, header: &Function, offsets: &Offsets) -> Option<u64> {
    let code = instructions(functions, header);
    let is_test = |instruction: &Instruction| {
        instruction.code() == Code::Cmp_rm64_imm8
            && instruction.memory_base() != Register::RIP
            && instruction.memory_displacement64() == offsets.labels as u64
    };
    let tests = code.iter().enumerate().filter(|(_, it)| is_test(it));
    tests
        .filter_map(|(at, _)| {
            code.iter()
                .skip(at + 1)
                .take(NEAR)
                .find_map(|instruction| small(functions, instruction))
        })
        .last()
}

/// `runtime.debug.asynctimerchan`: the first thing that `runtime.(*timer).stop` looks at (runtime/time.go, Go 1.23 to
/// 1.26).
pub fn async_timers(functions: &Pclntab<Image>, stop: &Function) -> Option<u64> {
    let code = instructions(functions, stop);
    code.iter().find_map(|instruction| small(functions, instruction))
}

fn instructions(functions: &Pclntab<Image>, function: &Function) -> Vec<Instruction> {
    let length = usize::try_from(function.end.saturating_sub(function.entry)).unwrap_or(MAX_CODE);
    let code = functions.space().some(function.entry, length.min(MAX_CODE), 1);
    Decoder::with_ip(64, &code, function.entry, DecoderOptions::NONE)
        .into_iter()
        .collect()
}

/// The variable that an instruction loads a word from.
fn word(functions: &Pclntab<Image>, instruction: &Instruction) -> Option<u64> {
    variable(functions, instruction).filter(|_| instruction.code() == Code::Mov_r64_rm64)
}

/// The same of half a word, or which it compares.
fn small(functions: &Pclntab<Image>, instruction: &Instruction) -> Option<u64> {
    let is_small = matches!(instruction.memory_size(), MemorySize::UInt32 | MemorySize::Int32);
    let is_read = instruction.op_kind(1) == OpKind::Memory
        || matches!(instruction.code(), Code::Cmp_rm32_imm8 | Code::Cmp_rm32_imm32);
    variable(functions, instruction).filter(|_| is_small && is_read)
}

fn variable(functions: &Pclntab<Image>, instruction: &Instruction) -> Option<u64> {
    let address = instruction.memory_displacement64();
    let is_data = || functions.space().is_in(address, |segment| segment.writable);
    (instruction.memory_base() == Register::RIP && is_data()).then_some(address)
}
