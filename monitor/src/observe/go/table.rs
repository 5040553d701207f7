//! Where a Go program's table of functions is, found without symbols: the table by its magic, and the description of
//! the module that it belongs to by the table's address.
//!
//! In a relocatable program that description stands in memory only, so it is read with a process that runs it.
//! Addresses are the linker's.

use super::{
    buildinfo,
    offsets::{self, Offsets},
    pclntab::{Header, Pclntab},
};
use crate::observe::{
    image::Image,
    memory::{Memory, space::SpaceExt as _},
};

/// Places that may look like a table before a program is given up.
pub const MAX_CANDIDATES: usize = 64;

/// The table, and what its offsets count from (`moduledata.text` and `.gofunc`).
pub struct Place {
    pub header: Header,
    pub text: u64,
    pub gofunc: u64,
}

/// The functions of a program, as far as their names and lines go; `None` of one that Go did not make, or a version of it
/// that is not known. `bias`: how far behind the linker's addresses the process has it.
pub fn functions(image: Image, bias: u64, memory: &mut Memory) -> Option<Pclntab<Image>> {
    let offsets = offsets::of(buildinfo::find(&image)?.minor)?;
    let place = find(&image, offsets, bias, memory).ok()?;
    Some(Pclntab::new(image, place.header, place.text, place.gofunc))
}

/// # Errors
/// What there is none of.
pub fn find(image: &Image, offsets: &Offsets, bias: u64, memory: &mut Memory) -> Result<Place, &'static str> {
    let header = find_header(image).ok_or("no table of functions")?;
    let (text, gofunc) =
        find_module(image, &header, bias, memory, offsets).ok_or("no description of its module")?;
    Ok(Place { header, text, gofunc })
}

fn find_header(image: &Image) -> Option<Header> {
    let mut found = None;
    let mut left = MAX_CANDIDATES;
    // Some linkers put constants into the segment of the code.
    for executable in [false, true] {
        for pattern in Header::patterns() {
            let mut visit = |address| {
                found = Header::read(image, address);
                left = left.saturating_sub(1);
                found.is_none() && left > 0
            };
            image.search(
                &pattern,
                8,
                |segment| segment.executable == executable,
                &mut visit,
            );
            if found.is_some() {
                return found;
            }
        }
    }
    None
}

/// `moduledata.text` and `.gofunc`: the module's description begins with the address of the table's header and
/// that of its names.
fn find_module(
    image: &Image,
    header: &Header,
    bias: u64,
    memory: &mut Memory,
    offsets: &Offsets,
) -> Option<(u64, u64)> {
    let wanted = header.address.wrapping_add(bias).to_le_bytes();
    let mut candidates = Vec::new();
    search_data(image, bias, memory, &wanted, &mut candidates);
    candidates.into_iter().find_map(|address| {
        let word =
            |offset: u64| Some(data(image, bias, memory, address.checked_add(offset)?)?.wrapping_sub(bias));
        // funcnametab, and pclntable: the parts of the table that are its first and its last.
        if word(8)? != header.names || word(104)? != header.functions {
            return None;
        }
        let (text, gofunc) = (word(offsets.module_text)?, word(offsets.module_gofunc)?);
        let is_code = image.is_in(text, |segment| segment.executable);
        (is_code && image.is_in(gofunc, |_| true)).then_some((text, gofunc))
    })
}

/// Addresses in the process at which the bytes stand in the program's data, aligned to words.
pub fn search_data(image: &Image, bias: u64, memory: &mut Memory, wanted: &[u8; 8], found: &mut Vec<u64>) {
    let mut visit = |address: u64| {
        found.push(address.wrapping_add(bias));
        found.len() < MAX_CANDIDATES
    };
    if !image.is_relocatable {
        image.search(wanted, 8, |segment| !segment.executable, &mut visit);
        return;
    }
    // The loader writes the pointers of such a program: they stand in memory only.
    let finder = memchr::memmem::Finder::new(wanted);
    for segment in image.segments().iter().filter(|segment| segment.writable) {
        let start = segment.address.wrapping_add(bias);
        let Some(end) = start.checked_add(segment.file_size) else {
            continue;
        };
        memory.parts(start..end, |at, bytes| {
            for offset in finder.find_iter(bytes) {
                let address = at + offset as u64;
                if address.is_multiple_of(8) && found.len() < MAX_CANDIDATES {
                    found.push(address);
                }
            }
        });
    }
}

/// A word of the program's data that nobody changes once it runs. Where it stands in the file, its page need not be in
/// memory.
pub fn data(image: &Image, bias: u64, memory: &Memory, address: u64) -> Option<u64> {
    if image.is_relocatable {
        memory.u64(address)
    } else {
        image.u64(address.wrapping_sub(bias))
    }
}
