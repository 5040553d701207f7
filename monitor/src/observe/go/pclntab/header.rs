//! Where the parts of the table are.

use crate::observe::memory::space::{Space, SpaceExt as _, half, word};

/// Go 1.18 and 1.19, and from 1.20 on (`_func.startLine`, a shorter entry of the inline tree).
const MAGICS: [(u32, Format); 2] = [(0xffff_fff1, Format::Go120), (0xffff_fff0, Format::Go118)];
/// Steps of code are of one byte, pointers of eight.
const AMD64: [u8; 4] = [0, 0, 1, 8];
/// `pcHeader` up to and with `pclnOffset`.
const HEADER: u64 = 72;
/// No program known has a tenth of it.
const MAX_FUNCTIONS: u64 = 4 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Go118,
    Go120,
}

/// `runtime.pcHeader`: where the parts of the table are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    pub address: u64,
    pub(super) format: Format,
    pub(super) count: u64,
    pub names: u64,
    pub(super) units: u64,
    pub(super) files: u64,
    pub(super) values: u64,
    pub functions: u64,
}

impl Header {
    /// The bytes that it begins with.
    pub fn patterns() -> impl Iterator<Item = [u8; 8]> {
        MAGICS.iter().map(|(magic, _)| {
            let [a, b, c, d] = magic.to_le_bytes();
            let [e, f, g, h] = AMD64;
            [a, b, c, d, e, f, g, h]
        })
    }

    /// The header at an address, if it is one.
    pub fn read(space: &impl Space, address: u64) -> Option<Self> {
        let bytes: [u8; HEADER as usize] = space.array(address)?;
        let magic = half(&bytes, 0)?;
        let (_, format) = MAGICS.iter().find(|(known, _)| *known == magic)?;
        let word = |index: usize| word(&bytes, 8 * index);
        // The third word is `textStart`, which Go 1.26 no longer fills in.
        let offsets = [word(4)?, word(5)?, word(6)?, word(7)?, word(8)?];
        let rises = offsets.windows(2).all(|pair| pair[0] <= pair[1]);
        let count = word(1)?;
        if bytes[4..8] != AMD64 || !rises || offsets[0] < 0x40 || count == 0 || count > MAX_FUNCTIONS {
            return None;
        }
        let [names, units, files, values, functions] = offsets.map(|offset| address.checked_add(offset));
        Some(Self {
            address,
            format: *format,
            count,
            names: names?,
            units: units?,
            files: files?,
            values: values?,
            functions: functions?,
        })
    }
}
