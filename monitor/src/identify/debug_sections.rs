//! The DWARF sections of one file, all of them in memory: for whoever has to follow references from one to another.

use std::io::Read as _;

use flate2::read::ZlibDecoder;
use gimli::{Dwarf, DwarfSections, EndianSlice, LittleEndian, SectionId};
use object::{
    LittleEndian as E,
    elf::{self, CompressionHeader64, SectionHeader64},
};

use super::elf::{MAX_SECTION, Source, sections};

/// What the sections of one file may take together.
const MAX_BYTES: u64 = 768 << 20;
/// What types are made of. Where functions and variables are at run time is not needed.
const WANTED: [SectionId; 7] = [
    SectionId::DebugAbbrev,
    SectionId::DebugAddr,
    SectionId::DebugInfo,
    SectionId::DebugLine,
    SectionId::DebugLineStr,
    SectionId::DebugStr,
    SectionId::DebugStrOffsets,
];

pub type Slice<'a> = EndianSlice<'a, LittleEndian>;

/// The sections of one file.
pub struct DebugSections {
    sections: DwarfSections<Vec<u8>>,
    bytes: usize,
}

impl DebugSections {
    /// `None` when the file has no DWARF, or too much of it.
    pub fn read(source: &impl Source) -> Option<Self> {
        let headers = sections(source)?;
        let mut left = MAX_BYTES;
        let (mut is_whole, mut has_types) = (true, false);
        let sections = DwarfSections::load(|id: SectionId| -> Result<Vec<u8>, ()> {
            if !WANTED.contains(&id) {
                return Ok(Vec::new());
            }
            let named = headers.iter().find(|(name, _)| name == id.name().as_bytes());
            let Some((_, header)) = named else {
                return Ok(Vec::new());
            };
            let read = content(source, header).filter(|bytes| bytes.len() as u64 <= left);
            is_whole &= read.is_some();
            let bytes = read.unwrap_or_default();
            left -= bytes.len() as u64;
            has_types |= id == SectionId::DebugInfo && !bytes.is_empty();
            Ok(bytes)
        })
        .ok()?;
        let bytes = (MAX_BYTES - left) as usize;
        (is_whole && has_types).then_some(Self { sections, bytes })
    }

    /// Of these bytes, and nothing else.
    #[cfg(test)]
    pub fn for_tests(info: &[u8], abbreviations: &[u8]) -> Self {
        let sections = DwarfSections::load(|id| -> Result<Vec<u8>, ()> {
            Ok(match id {
                SectionId::DebugInfo => info.to_vec(),
                SectionId::DebugAbbrev => abbreviations.to_vec(),
                _ => Vec::new(),
            })
        });
        let sections = sections.unwrap();
        Self { sections, bytes: 0 }
    }

    /// What they take in memory.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub fn dwarf(&self) -> Dwarf<Slice<'_>> {
        self.sections
            .borrow(|bytes| EndianSlice::new(bytes.as_slice(), LittleEndian))
    }
}

fn content(source: &impl Source, header: &SectionHeader64<E>) -> Option<Vec<u8>> {
    let (offset, size) = (header.sh_offset.get(E), header.sh_size.get(E));
    if header.sh_type.get(E) == elf::SHT_NOBITS || size > MAX_SECTION {
        return None;
    }
    if offset.checked_add(size)? > source.length() {
        return None;
    }
    let mut bytes = vec![0; size as usize];
    source.fill(offset, &mut bytes).then_some(())?;
    if header.sh_flags.get(E) & u64::from(elf::SHF_COMPRESSED) == 0 {
        return Some(bytes);
    }
    let (kind, rest) = bytes.split_at_checked(size_of::<CompressionHeader64<E>>())?;
    let (kind, _) = object::pod::from_bytes::<CompressionHeader64<E>>(kind).ok()?;
    let size = kind.ch_size.get(E);
    if kind.ch_type.get(E) != elf::ELFCOMPRESS_ZLIB || size > MAX_SECTION {
        return None;
    }
    let mut content = Vec::new();
    ZlibDecoder::new(rest).take(size).read_to_end(&mut content).ok()?;
    (content.len() as u64 == size).then_some(content)
}
