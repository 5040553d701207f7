//! The memory that a thread's frames lie in, read once and looked into many times.

use std::ops::Range;

use super::maps::Maps;
use crate::observe::memory::present::{self, PAGE, Pages};

/// How much of a stack is read, from the innermost frame on.
const MAX_STACK: u64 = 512 << 10;
/// How much of any other memory, where a frame leads there: signal stacks, stacks of coroutines.
const MAX_OTHER: u64 = 64 << 10;
/// How often that may be.
const MAX_REGIONS: usize = 6;

/// What can be read of a process while one of its threads is unwound.
pub struct StackMemory<'a> {
    tid: u32,
    pages: &'a Pages,
    maps: &'a Maps,
    regions: Vec<Region>,
    /// Nothing more is to be read.
    is_copy: bool,
}

/// A range of memory of which some parts were there.
struct Region {
    range: Range<u64>,
    parts: Vec<Range<u64>>,
    /// The parts, one behind the other.
    bytes: Vec<u8>,
}

impl<'a> StackMemory<'a> {
    /// Reads the stack above `sp`.
    pub fn new(tid: u32, pages: &'a Pages, maps: &'a Maps, sp: u64) -> Self {
        let mut memory = Self {
            tid,
            pages,
            maps,
            regions: Vec::new(),
            is_copy: false,
        };
        memory.load(sp, MAX_STACK);
        memory
    }

    /// A copy of the stack above `sp` that was made earlier, and nothing else: what is there now is newer.
    pub fn copied(tid: u32, pages: &'a Pages, maps: &'a Maps, sp: u64, bytes: Vec<u8>) -> Self {
        let range = sp..sp.saturating_add(bytes.len() as u64);
        let region = Region {
            range: range.clone(),
            parts: vec![range],
            bytes,
        };
        Self {
            tid,
            pages,
            maps,
            regions: vec![region],
            is_copy: true,
        }
    }

    /// Eight bytes. `None` when they are not mapped or not in memory, or too many places were asked for.
    pub fn word(&mut self, address: u64) -> Option<u64> {
        let end = address.checked_add(8)?;
        let within = |region: &Region| region.range.start <= address && end <= region.range.end;
        if let Some(region) = self.regions.iter().find(|region| within(region)) {
            return region.word(address);
        }
        if self.is_copy || self.regions.len() == MAX_REGIONS {
            return None;
        }
        self.load(address, MAX_OTHER)?.word(address)
    }

    /// Code, wherever it is. Whether all of it was in memory.
    pub fn code(&self, address: u64, bytes: &mut [u8]) -> bool {
        let Some(end) = address.checked_add(bytes.len() as u64) else {
            return false;
        };
        let whole = address..end;
        let parts = self.pages.present(whole.clone()).unwrap_or_default();
        parts.first() == Some(&whole) && present::read(self.tid, &parts, bytes) == bytes.len()
    }

    fn load(&mut self, start: u64, most: u64) -> Option<&Region> {
        let end = self.maps.readable_until(start)?.min(start.saturating_add(most));
        let mut parts = self.pages.present(start..end).ok()?;
        let wanted: u64 = parts.iter().map(|part| part.end - part.start).sum();
        let mut bytes = vec![0; wanted as usize];
        let read = present::read(self.tid, &parts, &mut bytes) as u64;
        keep(&mut parts, read);
        self.regions.push(Region {
            range: start..end,
            parts,
            bytes,
        });
        self.regions.last()
    }
}

/// Cuts off what was not read.
fn keep(parts: &mut Vec<Range<u64>>, read: u64) {
    let mut left = read;
    for part in parts.iter_mut() {
        let length = (part.end - part.start).min(left);
        part.end = part.start + length;
        left -= length;
    }
    parts.retain(|part| !part.is_empty());
}

impl Region {
    fn word(&self, address: u64) -> Option<u64> {
        let mut before = 0;
        for part in &self.parts {
            if part.contains(&address) {
                let at = before + (address - part.start) as usize;
                if part.end - address < 8 {
                    return None;
                }
                return Some(u64::from_le_bytes(*self.bytes.get(at..)?.first_chunk()?));
            }
            before += (part.end - part.start) as usize;
        }
        None
    }
}

/// Whether an address can belong to a program at all (the rest is the kernel's or nobody's).
pub fn is_plausible(address: u64) -> bool {
    (PAGE..1 << 47).contains(&address)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own() -> u32 {
        // SAFETY: takes nothing, returns a number.
        unsafe { libc::gettid() as u32 }
    }

    #[test]
    fn words_are_read_from_the_parts_that_were_there() {
        let region = Region {
            range: 0x1000..0x4000,
            parts: vec![0x1000..0x1010, 0x3000..0x300c],
            bytes: (0..28).collect(),
        };
        let word = |at: usize| {
            Some(u64::from_le_bytes(std::array::from_fn(|index| {
                (at + index) as u8
            })))
        };
        assert_eq!(region.word(0x1000), word(0));
        assert_eq!(region.word(0x1008), word(8));
        assert_eq!(region.word(0x1009), None);
        assert_eq!(region.word(0x2000), None);
        assert_eq!(region.word(0x3004), word(20));
        assert_eq!(region.word(0x3005), None);
    }

    #[test]
    fn what_was_not_read_is_not_kept() {
        let mut parts = vec![0..10, 20..30, 40..50];
        keep(&mut parts, 15);
        assert_eq!(parts, [0..10, 20..25]);
    }

    #[test]
    fn our_own_stack_is_read() {
        let tid = own();
        // Before the maps are read, which are to have them.
        let boxes: Vec<_> = (0..20_u64).map(|value| vec![value; 1 << 20]).collect();
        let maps = Maps::read(std::process::id(), tid).unwrap();
        let pages = Pages::of(tid).unwrap();
        let marks = std::hint::black_box([0x1234_5678_9abc_def0_u64, 17]);
        let at = marks.as_ptr() as u64;
        let mut memory = StackMemory::new(tid, &pages, &maps, at);
        assert_eq!((memory.word(at), memory.word(at + 8)), (Some(marks[0]), Some(17)));
        assert_eq!(memory.word(8), None);
        // Other memory is read when it is asked for, but not for ever.
        let found = boxes
            .iter()
            .filter(|values| memory.word(values.as_ptr() as u64).is_some())
            .count();
        assert!((1..20).contains(&found), "{found}");
    }

    #[test]
    fn code_is_read_only_where_it_is() {
        let tid = own();
        let maps = Maps::read(std::process::id(), tid).unwrap();
        let pages = Pages::of(tid).unwrap();
        let memory = StackMemory::new(tid, &pages, &maps, 0);
        let here = is_plausible as fn(u64) -> bool as usize as u64;
        is_plausible(std::hint::black_box(here));
        assert!(memory.code(here, &mut [0; 4]));
        assert!(!memory.code(16, &mut [0; 4]));
        assert!(!memory.code(u64::MAX - 2, &mut [0; 4]));
    }
}
