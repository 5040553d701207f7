//! Which Go made a program: the linker leaves its version in every binary, stripped or not.
//!
//! debug/buildinfo/buildinfo.go (Go 1.18 on): 14 bytes of magic, aligned to 16, the size of a pointer, flags; with
//! flag 2 the version follows at 32 as a varint length and text. Before 1.18 there were pointers instead.

use std::fmt;

use crate::observe::{
    image::{Image, Segment},
    memory::space::{Space, SpaceExt as _},
};

const MAGIC: &[u8] = b"\xff Go buildinf:";
const ALIGN: u64 = 16;
const HEADER: u64 = 32;
const INLINE: u8 = 2;
/// `go1.24.11 X:nocoverageredesign,…` and vendors' suffixes; what is longer is none.
const MAX_VERSION: u64 = 256;

/// A version of Go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// As the binary says it: `go1.27.3`.
    pub text: String,
    pub major: u32,
    pub minor: u32,
}

impl Version {
    /// `go1.27.3`, `go1.26rc1`, `devel go1.28-1234567`, with anything behind it.
    pub fn parse(text: &str) -> Option<Self> {
        let at = text.find("go1.")?;
        let digits = text.get(at + 4..)?;
        let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
        let first = text.get(at..)?.split_ascii_whitespace().next()?;
        // Experiments stand behind it (cmd/link/internal/ld/main.go): after a space, in newer versions after a hyphen.
        let first = first.split("-X:").next()?;
        // It becomes a label and a line of the log.
        let clean = first
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || ".-+_".contains(c));
        Some(Self {
            text: clean.then(|| first.to_owned())?,
            major: 1,
            minor: digits.get(..end)?.parse().ok()?,
        })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.text.fmt(formatter)
    }
}

/// The version of Go that made the program; `None` when it was none from 1.18 on.
pub fn find(image: &Image) -> Option<Version> {
    let mut found = None;
    let mut visit = |address| {
        found = read(image, address);
        found.is_none()
    };
    // It is in the data; linkers other than Go's own have put it elsewhere.
    image.search(MAGIC, ALIGN, |segment| segment.writable, &mut visit);
    if found.is_none() {
        let mut visit = |address| {
            found = read(image, address);
            found.is_none()
        };
        let is_constant = |segment: &Segment| !segment.writable && !segment.executable;
        image.search(MAGIC, ALIGN, is_constant, &mut visit);
    }
    found
}

/// The version, if its record is at this address.
fn read(space: &impl Space, address: u64) -> Option<Version> {
    let [pointer_size, flags] = space.array(address.checked_add(MAGIC.len() as u64)?)?;
    if flags & INLINE == 0 || !matches!(pointer_size, 0 | 8) {
        return None;
    }
    let mut at = address.checked_add(HEADER)?;
    let mut length = 0;
    for shift in (0..).step_by(7).take(5) {
        let [byte] = space.array(at)?;
        at += 1;
        length |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            break;
        }
    }
    if length > MAX_VERSION {
        return None;
    }
    let mut text = vec![0; length as usize];
    space.fill(at, &mut text).then_some(())?;
    Version::parse(std::str::from_utf8(&text).ok()?)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::observe::memory::space::Flat;

    fn record(flags: u8, length: &[u8], text: &[u8]) -> Flat {
        let mut bytes = MAGIC.to_vec();
        bytes.extend([8, flags]);
        bytes.resize(HEADER as usize, 0);
        bytes.extend(length);
        bytes.extend(text);
        Flat { base: 0x4000, bytes }
    }

    #[test]
    fn versions_are_read_as_the_toolchain_writes_them() {
        for (text, minor) in [
            ("go1.27.3", 27),
            ("go1.19", 19),
            ("go1.26rc1", 26),
            ("devel go1.28-3f4164f508", 28),
            ("go1.24.11 X:nocoverageredesign", 24),
            ("go1.26.6-X:goroutineleakprofile", 26),
        ] {
            let found = read(&record(2, &[text.len() as u8], text.as_bytes()), 0x4000).unwrap();
            assert_eq!((found.major, found.minor), (1, minor), "{text}");
        }
        for text in ["go1.24.11 X:rangefunc", "go1.24.11-X:jsonv2,synctest"] {
            assert_eq!(Version::parse(text).unwrap().text, "go1.24.11");
        }
    }

    #[test]
    fn what_is_no_version_is_none() {
        for text in [
            "",
            "go",
            "go1.",
            "go2.1",
            "go1.x",
            "go1.20\u{1b}[2J",
            "go1.99999999999",
        ] {
            assert_eq!(Version::parse(text), None, "{text:?}");
        }
        // With pointers, as before Go 1.18; a length beyond any version; one that never ends; a text cut short.
        assert_eq!(read(&record(0, &[8], b"go1.17.1"), 0x4000), None);
        assert_eq!(
            read(&record(2, &[0x80, 0x80, 0x40], &[b'a'; 1 << 20]), 0x4000),
            None
        );
        assert_eq!(read(&record(2, &[0xff; 64], b""), 0x4000), None);
        assert_eq!(read(&record(2, &[9], b"go1.27"), 0x4000), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            read(&Flat { base: 0x4000, bytes: [MAGIC, &bytes].concat() }, 0x4000);
        }
    }
}
