//! Where the probes go that count goroutines: an instruction of the function that makes one, and one of that which
//! clears one away. It is a jump at the function's beginning, before which nothing has changed the registers, and which
//! the kernel carries out itself. An instruction that it had to step over would cost twenty times as much.

use std::path::PathBuf;

use iced_x86::{Code, Decoder, DecoderOptions, Instruction, Register};
use serde::{Deserialize, Serialize};

use super::{
    pclntab::{Function, Pclntab},
    program::Program,
};
use crate::observe::{
    helper::Who,
    image::Image,
    memory::{Memory, space::SpaceExt as _},
    place::Place,
};

/// A function's beginning: make room, compare, jump.
const BEGINNING: usize = 32;

/// Places for a process's probes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Points {
    /// Leads to its program from here, whatever its mounts (`/proc/PID/map_files/…`).
    pub file: PathBuf,
    /// In that file: where a goroutine is made, and where one is cleared away.
    pub offsets: [u64; 2],
    /// Offset of `g.gopc`.
    pub gopc: u64,
    /// How far behind the linker's addresses the process has its program.
    pub bias: u64,
}

/// `None` when there is any doubt.
pub fn find(who: Who, program: &Program, bias: u64, memory: &Memory) -> Option<Points> {
    let functions = &program.functions;
    let jumps = [jump(functions, &program.spawn)?, jump(functions, &program.exit)?];
    let place = Place::of(who, jumps[0].ip().wrapping_add(bias))?;
    let mut offsets = [0; 2];
    for (offset, jump) in offsets.iter_mut().zip(&jumps) {
        *offset = place.offset(functions.space(), memory, bias, jump)?;
    }
    Some(Points {
        file: place.file,
        offsets,
        gopc: program.offsets.gopc as u64,
        bias,
    })
}

/// The jump to where the stack is made larger (`cmd/internal/obj/x86`, `stacksplit`), at which the registers are those
/// that the function was called with, the scratch register R12 excepted. A goroutine is made and cleared away on the
/// system's stack, which is never made larger: the jump is come by once a call.
fn jump(functions: &Pclntab<Image>, function: &Option<Function>) -> Option<Instruction> {
    let function = function.as_ref()?;
    let code = functions.space().some(function.entry, BEGINNING, 1);
    let jump = jump_in(&code, function.entry)?;
    let is_inside = (function.entry..function.end).contains(&jump.near_branch_target());
    is_inside.then_some(jump)
}

fn jump_in(code: &[u8], entry: u64) -> Option<Instruction> {
    let mut instructions = Decoder::with_ip(64, code, entry, DecoderOptions::NONE).into_iter();
    let mut next = instructions.next()?;
    let mut end = Register::RSP;
    // The frame is large: `lea -N(SP), R12`.
    if next.code() == Code::Lea_r64_m && next.op0_register() == Register::R12 && next.memory_base() == end {
        end = Register::R12;
        next = instructions.next()?;
    }
    // `cmp 16(R14), SP`: the end of what the goroutine in R14 may use.
    let compares = next.code() == Code::Cmp_r64_rm64
        && next.op0_register() == end
        && next.memory_base() == Register::R14
        && next.memory_index() == Register::None
        && next.memory_displacement64() == 16;
    let jump = instructions.next().filter(|_| compares)?;
    matches!(jump.code(), Code::Jbe_rel8_64 | Code::Jbe_rel32_64).then_some(jump)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENTRY: u64 = 0x44_28c0;
    const COMPARE: [u8; 4] = [0x49, 0x3b, 0x66, 0x10];
    const LARGE: [u8; 5] = [0x4c, 0x8d, 0x64, 0x24, 0xa0];
    const COMPARE_LARGE: [u8; 4] = [0x4d, 0x3b, 0x66, 0x10];
    const FAR: [u8; 6] = [0x0f, 0x86, 0x86, 0x03, 0x00, 0x00];
    const NEAR: [u8; 2] = [0x76, 0x52];

    fn at(parts: &[&[u8]]) -> Option<u64> {
        jump_in(&parts.concat(), ENTRY).map(|jump| jump.ip() - ENTRY)
    }

    #[test]
    fn the_jump_of_a_functions_beginning_is_found() {
        assert_eq!(at(&[&COMPARE, &FAR]), Some(4));
        assert_eq!(at(&[&COMPARE, &NEAR, &[0x55]]), Some(4));
        assert_eq!(at(&[&LARGE, &COMPARE_LARGE, &FAR]), Some(9));
        let jump = jump_in(&[&COMPARE[..], &FAR].concat(), ENTRY).unwrap();
        assert_eq!(jump.near_branch_target(), ENTRY + 10 + 0x386);
    }

    #[test]
    fn any_other_beginning_is_left_alone() {
        let push: [u8; 1] = [0x55];
        // No check of the stack, one of another register, another jump, and what is cut off.
        assert_eq!(at(&[&push, &COMPARE, &FAR]), None);
        assert_eq!(at(&[&FAR]), None);
        assert_eq!(at(&[&LARGE, &COMPARE, &FAR]), None);
        assert_eq!(at(&[&COMPARE_LARGE, &FAR]), None);
        assert_eq!(at(&[&[0x49, 0x3b, 0x66, 0x18], &FAR]), None);
        assert_eq!(at(&[&[0x49, 0x3b, 0x67, 0x10], &FAR]), None);
        assert_eq!(at(&[&COMPARE, &[0x77, 0x52]]), None);
        assert_eq!(at(&[&COMPARE, &push, &FAR]), None);
        assert_eq!(at(&[&COMPARE, &FAR[..5]]), None);
        assert_eq!(at(&[&COMPARE, &[0xcc], &FAR[1..]]), None);
        assert_eq!(at(&[]), None);
    }
}
