//! Bytes at addresses: what the decoders of runtimes' tables and structures read from. Every read may fail; nothing is ever assumed.

/// Longest name of a function or file that is read, in bytes.
pub const MAX_NAME: usize = 1024;

/// Something that can be read at addresses.
pub trait Space {
    /// Fills all of it, or says that not so many bytes are there.
    fn fill(&self, address: u64, bytes: &mut [u8]) -> bool;
}

impl<T: Space + ?Sized> Space for &T {
    fn fill(&self, address: u64, bytes: &mut [u8]) -> bool {
        (**self).fill(address, bytes)
    }
}

/// Numbers and names at addresses.
pub trait SpaceExt: Space {
    fn array<const N: usize>(&self, address: u64) -> Option<[u8; N]> {
        let mut bytes = [0; N];
        self.fill(address, &mut bytes).then_some(bytes)
    }

    fn u32(&self, address: u64) -> Option<u32> {
        self.array(address).map(u32::from_le_bytes)
    }

    fn u64(&self, address: u64) -> Option<u64> {
        self.array(address).map(u64::from_le_bytes)
    }

    /// As many of so many bytes as there are, in steps of `step`: what ends before the end of the space is found too.
    fn some(&self, address: u64, length: usize, step: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        if self.fill(address, &mut bytes) {
            return bytes;
        }
        let mut known = 0;
        for part in bytes.chunks_mut(step.max(1)) {
            let Some(at) = address.checked_add(known as u64) else {
                break;
            };
            if !self.fill(at, part) {
                break;
            }
            known += part.len();
        }
        bytes.truncate(known);
        bytes
    }

    /// The text up to the next NUL; `None` when there is none within [`MAX_NAME`] bytes.
    fn name(&self, address: u64) -> Option<String> {
        let mut text = Vec::new();
        while text.len() < MAX_NAME {
            let part = self.some(address.checked_add(text.len() as u64)?, 64, 1);
            if let Some(end) = memchr::memchr(0, &part) {
                text.extend_from_slice(part.get(..end)?);
                return Some(String::from_utf8_lossy(&text).into_owned());
            }
            if part.len() < 64 {
                return None;
            }
            text.extend_from_slice(&part);
        }
        None
    }
}

impl<T: Space + ?Sized> SpaceExt for T {}

/// A little-endian word of a slice.
pub fn word(bytes: &[u8], at: usize) -> Option<u64> {
    let bytes = bytes.get(at..at.checked_add(8)?)?;
    Some(u64::from_le_bytes(bytes.try_into().ok()?))
}

/// Half a word.
pub fn half(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_le_bytes(bytes.try_into().ok()?))
}

/// A byte string that begins at an address.
#[cfg(test)]
pub struct Flat {
    pub base: u64,
    pub bytes: Vec<u8>,
}

#[cfg(test)]
impl Space for Flat {
    fn fill(&self, address: u64, bytes: &mut [u8]) -> bool {
        let Some(at) = address.checked_sub(self.base) else {
            return false;
        };
        let at = at as usize;
        let Some(found) = at
            .checked_add(bytes.len())
            .and_then(|end| self.bytes.get(at..end))
        else {
            return false;
        };
        bytes.copy_from_slice(found);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_end_at_their_nul_and_nowhere_else() {
        let flat = |bytes: &[u8]| Flat {
            base: 0x1000,
            bytes: bytes.to_vec(),
        };
        assert_eq!(flat(b"main.f\0x").name(0x1000).as_deref(), Some("main.f"));
        assert_eq!(flat(b"main.f\0x").name(0x1005).as_deref(), Some("f"));
        assert_eq!(flat(b"main.f").name(0x1000), None);
        assert_eq!(flat(b"main.f\0").name(0xfff), None);
        let endless = vec![b'a'; 2 * MAX_NAME];
        assert_eq!(flat(&endless).name(0x1000), None);
        let long = [vec![b'a'; 200], vec![0]].concat();
        assert_eq!(flat(&long).name(0x1000).map(|name| name.len()), Some(200));
    }

    #[test]
    fn nothing_is_read_around_the_end_of_the_address_space() {
        let flat = Flat {
            base: u64::MAX - 7,
            bytes: vec![1; 8],
        };
        assert_eq!(flat.u64(u64::MAX - 7), Some(0x0101_0101_0101_0101));
        assert_eq!(flat.u64(u64::MAX - 6), None);
        assert_eq!(flat.name(u64::MAX - 7), None);
    }
}
