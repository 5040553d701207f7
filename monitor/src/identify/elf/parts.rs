//! The parts of an ELF file, each read for itself.

use object::{
    LittleEndian,
    elf::{self, CompressionHeader64, FileHeader64, ProgramHeader64, SectionHeader64},
    pod::{self, Pod},
};

use super::{DebugLink, ElfError, MAX_SECTION, Section, Source};

pub const E: LittleEndian = LittleEndian;
const MAX_NOTE: u64 = 64 << 10;
/// `.gnu_debuglink`: a file's name and a checksum.
const MAX_LINK: u64 = 4096;
const MAX_SECTION_NAME: u64 = 32;

pub fn header(source: &impl Source) -> Result<FileHeader64<LittleEndian>, ElfError> {
    let mut ident = [0; 6];
    if !source.fill(0, &mut ident) {
        return Err(ElfError::Malformed);
    }
    match ident {
        [0x7f, b'E', b'L', b'F', elf::ELFCLASS64, elf::ELFDATA2LSB] => {}
        [0x7f, b'E', b'L', b'F', elf::ELFCLASS32, _] => return Err(ElfError::ThirtyTwoBit),
        _ => return Err(ElfError::Malformed),
    }
    let mut header = table(source, 0, 1).ok_or(ElfError::Malformed)?;
    header.pop().ok_or(ElfError::Malformed)
}

/// So many structures of a kind, one behind the other.
pub fn table<T: Pod>(source: &impl Source, offset: u64, count: usize) -> Option<Vec<T>> {
    let length = count.checked_mul(size_of::<T>())?;
    if length as u64 > MAX_SECTION || offset.checked_add(length as u64)? > source.length() {
        return None;
    }
    // The structures want to be aligned.
    let mut words = vec![0_u64; length.div_ceil(8)];
    let bytes = pod::bytes_of_slice_mut(&mut words);
    if !source.fill(offset, bytes.get_mut(..length)?) {
        return None;
    }
    let (items, _) = pod::slice_from_bytes(bytes, count).ok()?;
    Some(items.to_vec())
}

pub fn read_capped(source: &impl Source, offset: u64, length: u64) -> Option<Vec<u8>> {
    if length > MAX_SECTION || offset.checked_add(length)? > source.length() {
        return None;
    }
    let mut bytes = vec![0; length as usize];
    source.fill(offset, &mut bytes).then_some(bytes)
}

pub fn read_section(source: &impl Source, section: &SectionHeader64<LittleEndian>) -> Option<Section> {
    let compressed = section.sh_flags.get(E) & u64::from(elf::SHF_COMPRESSED) != 0;
    if compressed || section.sh_type.get(E) == elf::SHT_NOBITS {
        return None;
    }
    let data = read_capped(source, section.sh_offset.get(E), section.sh_size.get(E))?;
    Some(Section {
        address: section.sh_addr.get(E),
        data: data.into(),
    })
}

pub fn section_name(
    source: &impl Source,
    names: &SectionHeader64<LittleEndian>,
    section: &SectionHeader64<LittleEndian>,
) -> Option<Vec<u8>> {
    let at = u64::from(section.sh_name.get(E));
    let left = names.sh_size.get(E).checked_sub(at)?;
    let offset = names.sh_offset.get(E).checked_add(at)?;
    let mut name = read_capped(source, offset, left.min(MAX_SECTION_NAME))?;
    let end = name.iter().position(|byte| *byte == 0)?;
    name.truncate(end);
    Some(name)
}

/// What whoever decompresses it has to allocate.
pub fn uncompressed_size(source: &impl Source, section: &SectionHeader64<LittleEndian>) -> Option<u64> {
    if section.sh_flags.get(E) & u64::from(elf::SHF_COMPRESSED) == 0 {
        return Some(section.sh_size.get(E));
    }
    let header: Vec<CompressionHeader64<LittleEndian>> = table(source, section.sh_offset.get(E), 1)?;
    header.first().map(|header| header.ch_size.get(E))
}

pub fn debug_link(source: &impl Source, section: &SectionHeader64<LittleEndian>) -> Option<DebugLink> {
    let size = section.sh_size.get(E);
    if size > MAX_LINK {
        return None;
    }
    parse_debug_link(&read_capped(source, section.sh_offset.get(E), size)?)
}

/// A name that ends in 0, filled up to a multiple of four, and a checksum (the manual of gdb, "Debugging
/// Information in Separate Files").
pub fn parse_debug_link(data: &[u8]) -> Option<DebugLink> {
    let end = data.iter().position(|byte| *byte == 0)?;
    let checksum = data.get((end + 1).next_multiple_of(4)..)?.first_chunk()?;
    let name = std::str::from_utf8(data.get(..end)?).ok()?;
    if name.is_empty() || name == "." || name == ".." || name.contains('/') {
        return None;
    }
    Some(DebugLink {
        name: name.to_owned(),
        checksum: u32::from_le_bytes(*checksum),
    })
}

pub fn build_id(source: &impl Source, segments: &[ProgramHeader64<LittleEndian>]) -> Option<Vec<u8>> {
    segments
        .iter()
        .filter(|segment| segment.p_type.get(E) == elf::PT_NOTE && segment.p_filesz.get(E) <= MAX_NOTE)
        .filter_map(|segment| read_capped(source, segment.p_offset.get(E), segment.p_filesz.get(E)))
        .find_map(|notes| build_id_note(&notes))
}

/// Notes: lengths of name and content, type, then both, each filled up to a multiple of four (elf(5)).
pub fn build_id_note(mut notes: &[u8]) -> Option<Vec<u8>> {
    let word = |at: usize, notes: &[u8]| Some(u32::from_le_bytes(*notes.get(at..)?.first_chunk()?));
    loop {
        let (name_length, length) = (word(0, notes)? as usize, word(4, notes)? as usize);
        let kind = word(8, notes)?;
        let rest = notes.get(12..)?;
        let name = rest.get(..name_length)?;
        let rest = rest.get(name_length.checked_next_multiple_of(4)?..)?;
        let content = rest.get(..length)?;
        if kind == elf::NT_GNU_BUILD_ID && name == b"GNU\0" {
            return Some(content.to_vec());
        }
        notes = rest.get(length.checked_next_multiple_of(4)?..)?;
    }
}
