//! Against a table made by hand, and any bytes. That it tells the truth of real programs is shown by tests/kernel.

use proptest::prelude::*;

use super::*;
use crate::observe::memory::space::Flat;

const BASE: u64 = 0x50_0000;
const TEXT: u64 = 0x40_1000;

/// Puts a table together: parts one behind the other.
struct Builder {
    names: Vec<u8>,
    values: Vec<u8>,
    records: Vec<u8>,
    index: Vec<(u32, u32)>,
}

impl Builder {
    fn new() -> Self {
        Self {
            names: vec![0],
            // Offset 0 is "no table".
            values: vec![0],
            records: Vec::new(),
            index: Vec::new(),
        }
    }

    fn name(&mut self, name: &str) -> i32 {
        let at = self.names.len() as i32;
        self.names.extend(name.as_bytes());
        self.names.push(0);
        at
    }

    /// Pairs of (value, bytes of code).
    fn table(&mut self, pairs: &[(i32, u32)]) -> u32 {
        let at = self.values.len() as u32;
        let mut last = -1;
        for (value, length) in pairs {
            let change = value - last;
            last = *value;
            let zigzag = ((change << 1) ^ (change >> 31)) as u32;
            for mut number in [zigzag, *length] {
                while number >= 0x80 {
                    self.values.push(number as u8 | 0x80);
                    number >>= 7;
                }
                self.values.push(number as u8);
            }
        }
        self.values.push(0);
        at
    }

    fn function(&mut self, entry: u32, name: &str, sp: &[(i32, u32)], line: &[(i32, u32)]) {
        let name = self.name(name);
        let (sp, line) = (self.table(sp), self.table(line));
        let file = self.table(&[(0, 1000)]);
        self.index.push((entry, self.records.len() as u32));
        for number in [entry, name as u32, 0, 0, sp, file, line, 0, 0, 0] {
            self.records.extend(number.to_le_bytes());
        }
        self.records.extend([0, 0, 0, 0]);
    }

    fn build(mut self, end: u32) -> (Flat, Header) {
        let index_length = 8 * (self.index.len() as u32 + 1);
        self.index.push((end, 0));
        let units = 0_u32.to_le_bytes();
        let files = b"/src/main.go\0";
        let mut offset = 72_u64;
        let mut offsets = Vec::new();
        let lengths = [self.names.len(), units.len(), files.len(), self.values.len()];
        for length in lengths {
            offsets.push(offset);
            offset += length as u64;
        }
        offsets.push(offset);
        let mut bytes = vec![0xf1, 0xff, 0xff, 0xff, 0, 0, 1, 8];
        for number in [self.index.len() as u64 - 1, 1, 0].into_iter().chain(offsets) {
            bytes.extend(number.to_le_bytes());
        }
        bytes.extend(&self.names);
        bytes.extend(units);
        bytes.extend(files);
        bytes.extend(&self.values);
        for (entry, record) in &self.index {
            bytes.extend(entry.to_le_bytes());
            bytes.extend((record + index_length).to_le_bytes());
        }
        bytes.extend(&self.records);
        let flat = Flat { base: BASE, bytes };
        let header = Header::read(&flat, BASE).unwrap();
        (flat, header)
    }
}

fn two() -> Pclntab<Flat> {
    let mut builder = Builder::new();
    builder.function(0, "main.first", &[(0, 4), (24, 60)], &[(10, 8), (12, 56)]);
    builder.function(64, "main.second", &[(8, 64)], &[(20, 64)]);
    let (flat, header) = builder.build(128);
    Pclntab::new(flat, header, TEXT, BASE)
}

#[test]
fn functions_are_found_by_address_and_by_name() {
    let table = two();
    for (pc, name) in [
        (TEXT - 1, None),
        (TEXT, Some("main.first")),
        (TEXT + 63, Some("main.first")),
        (TEXT + 64, Some("main.second")),
        (TEXT + 127, Some("main.second")),
        (TEXT + 128, None),
        (u64::MAX, None),
    ] {
        let found = table.function(pc).and_then(|function| table.name(&function));
        assert_eq!(found.as_deref(), name, "{pc:#x}");
    }
    let [second, none, prefix] = table.find(["main.second", "main.third", "main.sec"]);
    assert_eq!(second.map(|function| function.entry), Some(TEXT + 64));
    assert!(none.is_none() && prefix.is_none());
}

#[test]
fn values_hold_from_one_step_to_the_next() {
    let table = two();
    let first = table.function(TEXT).unwrap();
    for (offset, size, line) in [
        (0, 0, 10),
        (3, 0, 10),
        (4, 24, 10),
        (7, 24, 10),
        (8, 24, 12),
        (63, 24, 12),
    ] {
        assert_eq!(table.frame_size(&first, TEXT + offset), Some(size));
        let (file, found) = table.line(&first, TEXT + offset);
        assert_eq!(
            (file.as_deref(), found),
            (Some("/src/main.go"), Some(line)),
            "{offset}"
        );
    }
    assert_eq!(table.frame_size(&first, TEXT + 64), None);
    let calls = table.calls(&first, TEXT);
    assert_eq!(calls.len(), 1);
    assert_eq!(
        (calls[0].function.as_str(), calls[0].inlined),
        ("main.first", false)
    );
}

#[test]
fn headers_that_lie_are_none() {
    let Pclntab { space: flat, .. } = two();
    let lie = |at: usize, word: u64| {
        let mut bytes = flat.bytes.clone();
        bytes[at..at + 8].copy_from_slice(&word.to_le_bytes());
        Header::read(&Flat { base: BASE, bytes }, BASE)
    };
    // The number of functions; an offset beyond all memory; offsets that fall.
    for (at, word) in [(8, 0), (8, u64::MAX), (64, u64::MAX), (32, 0), (40, 1)] {
        assert_eq!(lie(at, word), None, "{at} {word}");
    }
}

#[test]
fn inlined_calls_that_lead_in_a_circle_end() {
    // One function whose inline tree says of every call that it was made at the same place.
    let mut builder = Builder::new();
    let name = builder.name("main.inner");
    let inline = builder.table(&[(0, 64)]);
    builder.function(0, "main.outer", &[(0, 64)], &[(1, 64)]);
    let record = builder.records.len() - 44;
    builder.records[record + 28..record + 32].copy_from_slice(&3_u32.to_le_bytes());
    builder.records[record + 43] = 4;
    for number in [0, 0, inline] {
        builder.records.extend(u32::to_le_bytes(number));
    }
    let tree_at = builder.records.len() + 16;
    for number in [u32::MAX, u32::MAX, u32::MAX, 0] {
        builder.records.extend(number.to_le_bytes());
    }
    // funcID, nameOff, parentPc (again the first instruction), startLine.
    for number in [0, name as u32, 0, 1] {
        builder.records.extend(number.to_le_bytes());
    }
    let (flat, header) = builder.build(64);
    let gofunc = header.functions + 16 + tree_at as u64;
    let table = Pclntab::new(flat, header, TEXT, gofunc);
    let outer = table.function(TEXT).unwrap();
    let calls = table.calls(&outer, TEXT + 5);
    assert_eq!(calls.len(), MAX_INLINED + 1);
    assert_eq!(calls[0].function, "main.inner");
    assert_eq!(calls[MAX_INLINED].function, "main.outer");
}

proptest! {
    #[test]
    fn any_bytes_are_taken(
        bytes in prop::collection::vec(any::<u8>(), 0..512),
        at in 72_u64..400,
        pc in any::<u64>(),
    ) {
        let header = Header {
            address: BASE,
            format: if pc % 2 == 0 { Format::Go118 } else { Format::Go120 },
            count: pc % 5_000_000,
            names: BASE + at / 2,
            units: BASE + at / 3,
            files: BASE + at / 4,
            values: BASE + at / 5,
            functions: BASE + at,
        };
        let table = Pclntab::new(Flat { base: BASE, bytes }, header, TEXT, BASE);
        for pc in [pc, TEXT, TEXT + pc % 4096] {
            if let Some(function) = table.function(pc) {
                table.calls(&function, pc);
                table.frame_size(&function, pc);
            }
        }
        table.find(["main.main"]);
    }

    #[test]
    fn a_real_table_with_some_bytes_changed_is_taken(changes in prop::collection::vec((0_usize..400, any::<u8>()), 1..9)) {
        let Pclntab { mut space, .. } = two();
        for (at, byte) in changes {
            if let Some(place) = space.bytes.get_mut(at) {
                *place = byte;
            }
        }
        if let Some(header) = Header::read(&space, BASE) {
            let table = Pclntab::new(space, header, TEXT, BASE);
            for pc in TEXT..TEXT + 128 {
                if let Some(function) = table.function(pc) {
                    table.calls(&function, pc);
                    table.frame_size(&function, pc);
                }
            }
        }
    }
}
