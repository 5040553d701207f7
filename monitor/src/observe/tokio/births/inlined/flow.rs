//! In which order instructions are carried out, and which registers they leave alone.

use std::collections::HashSet;

use iced_x86::{Code, Decoder, Instruction, Mnemonic, OpKind};

use super::super::{is_branch, leaves, number};

/// The last instructions, as far as they are carried out one after the other.
pub fn straight(before: &[Instruction]) -> &[Instruction] {
    let begin = before.iter().rposition(leaves).map_or(0, |at| at + 1);
    &before[begin..]
}

/// The last instructions, as far as they are carried out one after the other when no branch is taken, and none comes from
/// elsewhere (`reached`: where branches lead) to one of those behind the first, or to `next`.
pub fn falling<'a>(before: &'a [Instruction], next: u64, reached: &HashSet<u64>) -> &'a [Instruction] {
    let mut begin = before.len();
    let mut next = next;
    while let Some(last) = before[..begin].last() {
        if reached.contains(&next) || leaves(last) && !is_conditional(last) {
            break;
        }
        begin -= 1;
        next = last.ip();
    }
    &before[begin..]
}

/// Whether what comes next may stand behind it; it writes no register.
fn is_conditional(branch: &Instruction) -> bool {
    use Mnemonic::{Ja, Jae, Jb, Jbe, Je, Jg, Jge, Jl, Jle, Jne, Jno, Jnp, Jns, Jo, Jp, Js};
    matches!(
        branch.mnemonic(),
        Ja | Jae | Jb | Jbe | Je | Jg | Jge | Jl | Jle | Jne | Jno | Jnp | Jns | Jo | Jp | Js
    )
}

/// Where the branches of a function lead.
pub fn targets(mut decoder: Decoder<'_>) -> HashSet<u64> {
    let branches = decoder.iter().filter(is_branch);
    branches.map(|branch| branch.near_branch_target()).collect()
}

/// What a register holds, whichever else it was copied from: which register had it first, and what wrote that.
pub fn value(before: &[Instruction], register: usize) -> (usize, Option<usize>) {
    let (mut register, mut before) = (register, before);
    loop {
        let written = before.iter().rposition(|it| writes(it, register));
        let copied = written.and_then(|index| {
            let from = &before[index];
            let is_copy = from.code() == Code::Mov_r64_rm64 || from.code() == Code::Mov_rm64_r64;
            (is_copy && from.op1_kind() == OpKind::Register).then(|| number(from.op1_register()))?
        });
        match (written, copied) {
            (Some(index), Some(from)) => (register, before) = (from, &before[..index]),
            _ => return (register, written),
        }
    }
}

/// The last instruction that writes a register; `None` when there is none, or one behind it might.
pub fn definition(instructions: &[Instruction], register: usize) -> Option<usize> {
    let index = instructions
        .iter()
        .rposition(|instruction| writes(instruction, register))?;
    // Not one that does more than it seems to.
    let is_load = instructions[index].mnemonic() == Mnemonic::Mov;
    is_load.then_some(index)
}

/// Whether none of them writes a register.
pub fn is_kept(instructions: &[Instruction], register: usize) -> bool {
    !instructions
        .iter()
        .any(|instruction| writes(instruction, register))
}

/// Whether an instruction may write a register.
fn writes(instruction: &Instruction, register: usize) -> bool {
    match instruction.mnemonic() {
        Mnemonic::Cmp | Mnemonic::Test | Mnemonic::Nop => false,
        _ if is_conditional(instruction) => false,
        Mnemonic::Movups | Mnemonic::Movaps | Mnemonic::Movdqu | Mnemonic::Movdqa | Mnemonic::Xorps => false,
        Mnemonic::Mov | Mnemonic::Lea | Mnemonic::Movzx | Mnemonic::Xor | Mnemonic::And | Mnemonic::Or => {
            let is_register = instruction.op0_kind() == OpKind::Register;
            // What has no number may be a part of any.
            is_register && number(instruction.op0_register()).is_none_or(|it| it == register)
        }
        _ => true,
    }
}
