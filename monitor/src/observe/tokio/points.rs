//! Where the probes go that tell that a task is polled: on the first instruction of its vtable's `poll`, which has the task
//! in its first argument. Only on one that the kernel carries out itself (arch/x86/kernel/uprobes.c: a `push` or a `jmp`): an
//! instruction that it had to step over would cost twenty times as much. Compilers begin this function with one or the
//! other.

use iced_x86::{Code, Decoder, DecoderOptions, Instruction};

use super::program::Program;
use crate::observe::{
    helper::Who,
    memory::{Memory, space::SpaceExt as _},
    place::Place,
    programs::Placed,
};

/// Longest instruction.
const LONGEST: usize = 15;

/// Places for probes, in the order of the functions; `None` where there is any doubt.
pub fn find(
    who: Who,
    placed: &Placed<Program>,
    memory: &Memory,
    polls: &[u64],
) -> Option<(Place, Vec<Option<u64>>)> {
    let image = &placed.program.image;
    let place = Place::of(who, polls.first()?.wrapping_add(placed.bias))?;
    let offsets = polls.iter().map(|poll| {
        let code = image.some(*poll, LONGEST, 1);
        place.offset(image, memory, placed.bias, &first(&code, *poll)?)
    });
    let offsets = offsets.collect();
    Some((place, offsets))
}

/// The first instruction of a function, if the kernel carries it out itself.
pub fn first(code: &[u8], at: u64) -> Option<Instruction> {
    let instruction = decode(code, at)?;
    let is_emulated = matches!(
        instruction.code(),
        Code::Push_r64 | Code::Jmp_rel8_64 | Code::Jmp_rel32_64
    );
    is_emulated.then_some(instruction)
}

/// A branch amid a function, which the kernel carries out itself as well.
pub fn branch(code: &[u8], at: u64) -> Option<Instruction> {
    decode(code, at).filter(|instruction| matches!(instruction.code(), Code::Je_rel8_64 | Code::Je_rel32_64))
}

fn decode(code: &[u8], at: u64) -> Option<Instruction> {
    Decoder::with_ip(64, code, at, DecoderOptions::NONE)
        .into_iter()
        .next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_kernel_emulates_is_probed() {
        for code in [
            &[0x55][..],
            &[0x41, 0x57],
            &[0xe9, 0, 1, 0, 0],
            &[0xeb, 0x10],
            &[0x50, 0x90],
        ] {
            assert!(first(code, 0x1000).is_some(), "{code:x?}");
        }
        for code in [
            &[0x48, 0x83, 0xec, 0x18][..],
            &[0xf3, 0x0f, 0x1e, 0xfa],
            &[0xcc],
            &[0x0f, 0x84, 0, 0, 0, 0],
            &[0xe9, 0, 1],
            &[],
        ] {
            assert!(first(code, 0x1000).is_none(), "{code:x?}");
        }
        for code in [&[0x0f, 0x84, 0, 1, 0, 0][..], &[0x74, 0x10]] {
            assert!(branch(code, 0x1000).is_some(), "{code:x?}");
        }
        for code in [&[0x0f, 0x85, 0, 1, 0, 0][..], &[0x55], &[0x0f, 0x84, 0, 1], &[]] {
            assert!(branch(code, 0x1000).is_none(), "{code:x?}");
        }
    }
}
