//! Where in a file a probe goes: an instruction of a program, which must be the same in the file and in the process.

use std::{ops::Range, os::unix::fs::MetadataExt as _, path::PathBuf};

use iced_x86::Instruction;

use super::{
    helper::Who,
    image::Image,
    memory::{Memory, space::Space as _},
};
use crate::identify::{Maps, is_served, open_mapped, open_regular};

/// `int3`, where somebody's probe is already.
const BREAKPOINT: u8 = 0xcc;

/// The code of a process's program.
pub struct Place {
    /// Leads to its file from here, whatever its mounts (`/proc/PID/map_files/…`).
    pub file: PathBuf,
    range: Range<u64>,
    offset: u64,
}

impl Place {
    /// The code around an address; `None` when probes are not safe there.
    pub fn of(who: Who, address: u64) -> Option<Self> {
        let maps = Maps::read(who.pid, who.tid).ok()?;
        let (_, code) = maps.code_at(address)?;
        let mapped = open_mapped(who.tid, code.range.start, code.range.end).ok()?;
        // The kernel reads a file to put a probe into it, for the monitor itself: that must not hang.
        if is_served(&mapped) {
            return None;
        }
        let program = open_regular(format!("/proc/{}/task/{}/exe", who.pid, who.tid).as_ref()).ok()?;
        let (mapped, own) = (mapped.metadata().ok()?, program.metadata().ok()?);
        if (mapped.dev(), mapped.ino()) != (own.dev(), own.ino()) {
            return None;
        }
        Some(Self {
            file: PathBuf::from(format!(
                "/proc/{}/map_files/{:x}-{:x}",
                who.pid, code.range.start, code.range.end
            )),
            range: code.range.clone(),
            offset: code.offset,
        })
    }

    /// Where an instruction of the program stands in the file.
    pub fn offset(
        &self,
        image: &Image,
        memory: &Memory,
        bias: u64,
        instruction: &Instruction,
    ) -> Option<u64> {
        let address = instruction.ip().wrapping_add(bias);
        if !self.range.contains(&address) || !is_as_in_file(image, memory, instruction, bias) {
            return None;
        }
        let offset = image.offset(instruction.ip())?;
        (offset == self.offset.checked_add(address - self.range.start)?).then_some(offset)
    }
}

/// Whether the process has the instruction that its file has there, somebody else's breakpoint aside.
fn is_as_in_file(image: &Image, memory: &Memory, instruction: &Instruction, bias: u64) -> bool {
    let (mut in_file, mut in_memory) = (vec![0; instruction.len()], vec![0; instruction.len()]);
    if !image.fill(instruction.ip(), &mut in_file) {
        return false;
    }
    // What is not in memory comes from the file.
    if !memory.fill(instruction.ip().wrapping_add(bias), &mut in_memory) {
        return true;
    }
    if let [first, ..] = in_memory.as_mut_slice()
        && *first == BREAKPOINT
    {
        *first = in_file[0];
    }
    in_file == in_memory
}
