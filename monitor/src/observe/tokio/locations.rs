//! Places in the sources that a program keeps as constants: `core::panic::Location`, a file's name and its length, line and
//! column.

use super::program::Program;
use crate::{
    identify::clean,
    model::Site,
    observe::{
        memory::{
            Memory,
            space::{Space as _, SpaceExt as _, half, word},
        },
        programs::Placed,
    },
};

const LENGTH: usize = 24;
const MAX_PATH: u64 = 300;
const MAX_LINE: u32 = 1 << 20;
const MAX_COLUMN: u32 = 1 << 12;

/// A pointer in the program's data. Addresses are the linker's.
pub fn pointer(placed: &Placed<Program>, memory: &Memory, address: u64) -> Option<u64> {
    let image = &placed.program.image;
    if image.is_relocatable {
        let value = memory.u64(address.wrapping_add(placed.bias))?;
        Some(value.wrapping_sub(placed.bias))
    } else {
        image.u64(address)
    }
}

/// The place that a constant tells; `None` of what is none.
pub fn read(placed: &Placed<Program>, memory: &Memory, address: u64) -> Option<Site> {
    let image = &placed.program.image;
    let is_constant = image.is_in(address, |segment| !segment.executable);
    if !is_constant {
        return None;
    }
    let path = pointer(placed, memory, address)?;
    let rest: [u8; LENGTH] = image.array(address)?;
    let (length, line, column) = (word(&rest, 8)?, half(&rest, 16)?, half(&rest, 20)?);
    let is_sound = (4..=MAX_PATH).contains(&length)
        && (1..MAX_LINE).contains(&line)
        && (1..MAX_COLUMN).contains(&column);
    if !is_sound {
        return None;
    }
    let mut name = vec![0; length as usize];
    // With its terminator or without, as the compiler's version has it.
    image.fill(path, &mut name).then_some(())?;
    let name = String::from_utf8(name).ok()?;
    let name = name.trim_end_matches('\0');
    name.ends_with(".rs").then(|| Site {
        function: format!("{}:{line}:{column}", clean(name, MAX_PATH as usize)),
        file: Some(clean(name, MAX_PATH as usize)),
        line: Some(line),
    })
}
