use super::{
    parts::{build_id_note, parse_debug_link},
    *,
};
use proptest::prelude::*;

impl Source for [u8] {
    fn length(&self) -> u64 {
        self.len() as u64
    }

    fn fill(&self, offset: u64, bytes: &mut [u8]) -> bool {
        let range = usize::try_from(offset).ok().and_then(|offset| {
            let end = offset.checked_add(bytes.len())?;
            self.get(offset..end)
        });
        range.is_some_and(|range| {
            bytes.copy_from_slice(range);
            true
        })
    }
}

struct Bytes(Vec<u8>);

impl Source for Bytes {
    fn length(&self) -> u64 {
        self.0.len() as u64
    }

    fn fill(&self, offset: u64, bytes: &mut [u8]) -> bool {
        self.0.as_slice().fill(offset, bytes)
    }
}

/// A file with two segments, a build-id and the sections that matter.
fn sample() -> Bytes {
    let mut file = vec![0_u8; 64];
    let mut add = |bytes: &[u8]| {
        let at = file.len() as u64;
        file.extend_from_slice(bytes);
        file.resize(file.len().next_multiple_of(8), 0);
        at
    };
    let note = add(&[
        4, 0, 0, 0, 4, 0, 0, 0, 3, 0, 0, 0, b'G', b'N', b'U', 0, 0xde, 0xad, 0xbe, 0xef,
    ]);
    let frame = add(b"frames");
    // Version 1; .eh_frame at its own address + 4 + distance.
    let hdr = add(&[1, 0x1b, 3, 0x3b, 0xfc, 0x0f, 0, 0, 9, 9]);
    let link = add(b"app.debug\0\0\0\x78\x56\x34\x12");
    let contents = [
        (".text", 0x1000, 1, 0, 0),
        (".eh_frame", 0x3000, 1, frame, 6),
        (".eh_frame_hdr", 0x2000, 1, hdr, 10),
        (".gnu_debuglink", 0, 1, link, 16),
        (".debug_info", 0, 1, link, 16),
        (".got", 0x4000, elf::SHT_NOBITS, 0, 8),
    ];
    let mut names = vec![0_u8];
    let mut sections = vec![0_u8; 64];
    let mut section = |name: u32, address: u64, kind: u32, offset: u64, size: u64| {
        sections.extend(name.to_le_bytes());
        sections.extend(kind.to_le_bytes());
        for word in [0, address, offset, size, 0, 1, 0] {
            sections.extend(u64::to_le_bytes(word));
        }
    };
    for (name, address, kind, offset, size) in contents {
        section(names.len() as u32, address, kind, offset, size);
        names.extend(name.bytes());
        names.push(0);
    }
    let names_at = add(&names);
    section(0, 0, 3, names_at, names.len() as u64);
    let sections_at = add(&sections);
    let mut segments = Vec::new();
    let loads = [
        (elf::PT_LOAD, 4, 0, 0, 0x123_u64),
        (elf::PT_LOAD, 5, 0x123, 0x1123, 0x500),
        (elf::PT_LOAD, 4, frame, 0x3000, 6),
        (elf::PT_NOTE, 4, note, 0, 20),
        (elf::PT_GNU_EH_FRAME, 4, hdr, 0x2000, 10),
    ];
    for (kind, flags, offset, address, size) in loads {
        segments.extend(u32::to_le_bytes(kind));
        segments.extend(u32::to_le_bytes(flags));
        for word in [offset, address, address, size, size, 8] {
            segments.extend(u64::to_le_bytes(word));
        }
    }
    let segments_at = add(&segments);
    let mut header = vec![
        0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3, 0, 62, 0, 1, 0, 0, 0,
    ];
    for word in [0, segments_at, sections_at] {
        header.extend(u64::to_le_bytes(word));
    }
    header.extend([0, 0, 0, 0]);
    for half in [
        64_u16,
        56,
        loads.len() as u16,
        64,
        contents.len() as u16 + 2,
        contents.len() as u16 + 1,
    ] {
        header.extend(half.to_le_bytes());
    }
    file[..64].copy_from_slice(&header);
    Bytes(file)
}

#[test]
fn what_matters_is_found() {
    let image = Image::parse(&sample()).unwrap();
    assert_eq!(image.build_id, [0xde, 0xad, 0xbe, 0xef]);
    assert_eq!(build_id_of(&sample()).unwrap(), image.build_id);
    assert_eq!((image.text, image.got), (Some(0x1000), Some(0x4000)));
    let frame = image.eh_frame.as_ref().unwrap();
    assert_eq!((frame.address, &*frame.data), (0x3000, b"frames".as_slice()));
    assert_eq!(image.eh_frame_hdr.as_ref().unwrap().address, 0x2000);
    assert!(image.has_dwarf && image.has_links);
    let link = image.debug_link.clone().unwrap();
    assert_eq!((link.name.as_str(), link.checksum), ("app.debug", 0x1234_5678));
    assert_eq!(image.bytes(), 16);
}

#[test]
fn without_section_headers_the_segment_tells() {
    let mut file = sample();
    file.0[0x3c..0x3e].copy_from_slice(&[0; 2]);
    let image = Image::parse(&file).unwrap();
    let frame = image.eh_frame.as_ref().unwrap();
    assert_eq!((frame.address, &*frame.data), (0x3000, b"frames".as_slice()));
    assert_eq!(image.eh_frame_hdr.as_ref().unwrap().data.len(), 10);
    assert!(!image.has_dwarf);
}

#[test]
fn the_bias_is_that_of_the_executable_segment() {
    let image = Image::parse(&sample()).unwrap();
    // Both segments share the file's first page.
    assert_eq!(image.bias(0x7f00_0000_1000, 0), Some(0x7f00_0000_0000));
    assert_eq!(image.bias(0x7f00_0000_1000, 0x9000), None);
    // A program that is loaded where it was linked.
    let image = Image {
        segments: vec![Segment {
            offset: 0x1000,
            size: 0x100,
            address: 0x40_1000,
            executable: true,
        }],
        ..Image::default()
    };
    assert_eq!(image.bias(0x40_1000, 0x1000), Some(0));
}

/// Whoever sorts it would be busy for long.
#[test]
fn a_table_of_symbols_has_a_largest_size() {
    let mut file = sample();
    assert!(Image::parse(&file).unwrap().has_symbols);
    // The first section with a name becomes one.
    let sections = u64::from_le_bytes(file.0[40..48].try_into().unwrap()) as usize;
    file.0[sections + 64 + 4] = elf::SHT_SYMTAB as u8;
    file.0[sections + 64 + 32..sections + 64 + 40].copy_from_slice(&(MAX_SECTION + 1).to_le_bytes());
    assert!(!Image::parse(&file).unwrap().has_symbols);
}

#[test]
fn links_are_names_and_never_paths() {
    for name in ["../x", "/etc/passwd", ".", "..", "", "a/b"] {
        let mut data = name.as_bytes().to_vec();
        data.push(0);
        data.resize(data.len().next_multiple_of(4) + 4, 0);
        assert_eq!(parse_debug_link(&data), None, "{name}");
    }
    assert_eq!(parse_debug_link(b"abc\0\0\0"), None);
    assert_eq!(parse_debug_link(b"abc"), None);
}

#[test]
fn other_files_are_refused() {
    assert_eq!(Image::parse(&Bytes(Vec::new())), Err(ElfError::Malformed));
    assert_eq!(Image::parse(&Bytes(vec![0; 4096])), Err(ElfError::Malformed));
    let mut short = sample();
    short.0.truncate(40);
    assert_eq!(Image::parse(&short), Err(ElfError::Malformed));
    let mut small = sample();
    small.0[4] = elf::ELFCLASS32;
    assert_eq!(Image::parse(&small), Err(ElfError::ThirtyTwoBit));
}

#[test]
fn our_own_program_is_understood() {
    let own = std::fs::read("/proc/self/exe").unwrap();
    let image = Image::parse(&Bytes(own)).unwrap();
    assert!(image.eh_frame.is_some() && image.eh_frame_hdr.is_some() && image.has_dwarf);
    assert!(!image.segments.is_empty());
}

proptest! {
    #[test]
    fn any_bytes_are_taken_or_refused(file in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = Image::parse(&Bytes(file));
    }

    /// Whatever lies in it: what is kept is no larger than what is there.
    #[test]
    fn any_lies_are_survived(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..30)) {
        let mut file = sample();
        let length = file.0.len();
        for (at, value) in changes {
            file.0[at.index(length)] = value;
        }
        if let Ok(image) = Image::parse(&file) {
            prop_assert!(image.bytes() <= 3 * length);
            prop_assert!(image.build_id.len() <= length);
            image.bias(u64::MAX, 0);
            image.bias(0, u64::MAX);
        }
        build_id_of(&file);
    }

    #[test]
    fn any_notes_are_taken_or_refused(notes in prop::collection::vec(any::<u8>(), 0..100)) {
        build_id_note(&notes);
        parse_debug_link(&notes);
    }
}
