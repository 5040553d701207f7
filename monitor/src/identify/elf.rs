//! What unwinding and naming need of an ELF file: its segments, its unwind sections, its build-id, and where its
//! debug information may be.
//!
//! Read from the file in pieces, each checked against the file's length and a limit of its own before anything is
//! allocated: every number in it may lie. 64-bit little-endian files; others are refused.

mod parts;

use std::sync::Arc;

use object::{
    LittleEndian,
    elf::{self, ProgramHeader64, SectionHeader64},
};

use parts::{
    E, build_id, debug_link, header, read_capped, read_section, section_name, table, uncompressed_size,
};

/// Largest section that is read.
pub const MAX_SECTION: u64 = 256 << 20;
/// A linker makes about a dozen.
const MAX_SEGMENTS: usize = 256;
const MAX_SECTIONS: usize = u16::MAX as usize;

/// Something that can be read at offsets.
pub trait Source {
    fn length(&self) -> u64;

    /// Fills all of it, or says that not so many bytes are there.
    fn fill(&self, offset: u64, bytes: &mut [u8]) -> bool;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ElfError {
    #[error("not an ELF file, or a broken one")]
    Malformed,
    #[error("a 32-bit file")]
    ThirtyTwoBit,
}

/// A part of the file that is mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    pub offset: u64,
    pub size: u64,
    pub address: u64,
    pub executable: bool,
}

/// A section that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    pub address: u64,
    pub data: Arc<[u8]>,
}

/// Debug information that is elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DebugLink {
    /// A file's name: no path.
    pub name: String,
    /// CRC-32 of the file's content.
    pub checksum: u32,
}

/// What is known of an ELF file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Image {
    pub segments: Vec<Segment>,
    pub build_id: Vec<u8>,
    /// Base of text-relative addresses in unwind information.
    pub text: Option<u64>,
    pub got: Option<u64>,
    pub eh_frame: Option<Section>,
    pub eh_frame_hdr: Option<Section>,
    /// Read only where there is no `.eh_frame`.
    pub debug_frame: Option<Section>,
    /// None of its tables of symbols is larger than [`MAX_SECTION`].
    pub has_symbols: bool,
    /// It has DWARF, and none of its sections is larger than [`MAX_SECTION`].
    pub has_dwarf: bool,
    /// It names other files that are to be read with it.
    pub has_links: bool,
    pub debug_link: Option<DebugLink>,
}

impl Image {
    /// # Errors
    /// When it is no 64-bit ELF file. What is missing or broken inside is left out.
    pub fn parse(source: &impl Source) -> Result<Self, ElfError> {
        let header = header(source)?;
        let segments: Vec<ProgramHeader64<LittleEndian>> =
            if usize::from(header.e_phentsize.get(E)) == size_of::<ProgramHeader64<LittleEndian>>() {
                let count = usize::from(header.e_phnum.get(E)).min(MAX_SEGMENTS);
                table(source, header.e_phoff.get(E), count).unwrap_or_default()
            } else {
                Vec::new()
            };
        let mut image = Self {
            segments: segments
                .iter()
                .filter(|segment| segment.p_type.get(E) == elf::PT_LOAD)
                .map(|segment| Segment {
                    offset: segment.p_offset.get(E),
                    size: segment.p_filesz.get(E),
                    address: segment.p_vaddr.get(E),
                    executable: segment.p_flags.get(E) & elf::PF_X != 0,
                })
                .collect(),
            build_id: build_id(source, &segments).unwrap_or_default(),
            has_symbols: true,
            ..Self::default()
        };
        image.read_sections(source);
        if image.eh_frame.is_none() {
            image.read_unwind_segment(source, &segments);
        }
        Ok(image)
    }

    /// How much its sections take.
    pub fn bytes(&self) -> usize {
        let sections = [&self.eh_frame, &self.eh_frame_hdr, &self.debug_frame];
        sections
            .into_iter()
            .flatten()
            .map(|section| section.data.len())
            .sum()
    }

    /// What has to be added to an address in the file to get the address in a process that has mapped the file
    /// from this offset on to `start`, executable.
    pub fn bias(&self, start: u64, offset: u64) -> Option<u64> {
        // Segments are mapped by whole pages: two may share one, and the other one has another address.
        let covers = |segment: &&Segment| {
            let end = segment.offset.saturating_add(segment.size);
            (segment.offset & !0xfff..end).contains(&offset)
        };
        let mut executable = self.segments.iter().filter(|segment| segment.executable);
        let segment = executable
            .find(covers)
            .or_else(|| self.segments.iter().find(covers))?;
        let address = segment.address.wrapping_add(offset).wrapping_sub(segment.offset);
        Some(start.wrapping_sub(address))
    }

    fn read_sections(&mut self, source: &impl Source) {
        let sections = sections(source).unwrap_or_default();
        let mut too_large = false;
        let mut debug_frame = None;
        for (name, section) in &sections {
            let address = section.sh_addr.get(E);
            let kind = section.sh_type.get(E);
            if matches!(kind, elf::SHT_SYMTAB | elf::SHT_DYNSYM) {
                self.has_symbols &= section.sh_size.get(E) <= MAX_SECTION;
            }
            match name.as_slice() {
                b".text" => self.text = Some(address),
                b".got" => self.got = Some(address),
                b".eh_frame" => self.eh_frame = read_section(source, section),
                b".eh_frame_hdr" => self.eh_frame_hdr = read_section(source, section),
                b".debug_frame" => debug_frame = Some(section),
                b".gnu_debuglink" => {
                    self.has_links = true;
                    self.debug_link = debug_link(source, section);
                }
                b".gnu_debugaltlink" | b".debug_sup" => self.has_links = true,
                b".debug_info" | b".zdebug_info" => {
                    self.has_dwarf = kind != elf::SHT_NOBITS;
                }
                _ => {}
            }
            if name.starts_with(b".debug_") || name.starts_with(b".zdebug_") {
                too_large |= uncompressed_size(source, section).is_none_or(|size| size > MAX_SECTION);
            }
        }
        self.has_dwarf &= !too_large;
        if self.eh_frame.is_none() {
            self.debug_frame = debug_frame.and_then(|section| read_section(source, section));
        }
    }

    /// Without section headers the unwind information is found as the C runtime finds it: PT_GNU_EH_FRAME is
    /// `.eh_frame_hdr`, which points to `.eh_frame`; that has an end mark of its own.
    fn read_unwind_segment(&mut self, source: &impl Source, segments: &[ProgramHeader64<LittleEndian>]) {
        let read = || {
            let header = segments
                .iter()
                .find(|segment| segment.p_type.get(E) == elf::PT_GNU_EH_FRAME)?;
            let (offset, size) = (header.p_offset.get(E), header.p_filesz.get(E));
            let address = header.p_vaddr.get(E);
            let hdr = read_capped(source, offset, size)?;
            // Version 1, .eh_frame's address as signed four bytes from where they stand: what linkers write.
            let (&[1, 0x1b, _, _], rest) = hdr.split_first_chunk()? else {
                return None;
            };
            let distance = i32::from_le_bytes(*rest.first_chunk()?);
            let frame = address.wrapping_add(4).wrapping_add_signed(distance.into());
            let segment = self.segments.iter().find(|segment| {
                (segment.address..segment.address.saturating_add(segment.size)).contains(&frame)
            })?;
            let within = frame - segment.address;
            let data = read_capped(source, segment.offset.checked_add(within)?, segment.size - within)?;
            Some((
                Section {
                    address,
                    data: hdr.into(),
                },
                Section {
                    address: frame,
                    data: data.into(),
                },
            ))
        };
        if let Some((hdr, frame)) = read() {
            self.eh_frame_hdr = Some(hdr);
            self.eh_frame = Some(frame);
        }
    }
}

/// The sections of a file, by name.
pub fn sections(source: &impl Source) -> Option<Vec<(Vec<u8>, SectionHeader64<LittleEndian>)>> {
    let header = header(source).ok()?;
    if usize::from(header.e_shentsize.get(E)) != size_of::<SectionHeader64<LittleEndian>>() {
        return None;
    }
    let count = usize::from(header.e_shnum.get(E)).min(MAX_SECTIONS);
    let sections: Vec<SectionHeader64<LittleEndian>> = table(source, header.e_shoff.get(E), count)?;
    let names = sections.get(usize::from(header.e_shstrndx.get(E)))?;
    let named = |section: &SectionHeader64<LittleEndian>| {
        (section_name(source, names, section).unwrap_or_default(), *section)
    };
    Some(sections.iter().map(named).collect())
}

/// The build-id of a file, and nothing else of it.
pub fn build_id_of(source: &impl Source) -> Option<Vec<u8>> {
    let header = header(source).ok()?;
    let count = usize::from(header.e_phnum.get(E)).min(MAX_SEGMENTS);
    build_id(source, &table(source, header.e_phoff.get(E), count)?)
}

#[cfg(test)]
mod tests;
