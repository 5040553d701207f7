//! What is to be known of a program before its tasks can be read: the vtables of its futures. A program that has none has
//! no tokio, which its file tells with one look at its constants.
//!
//! The functions of a vtable stand in memory only where a program is loaded anywhere; its offsets stand in the file.

use std::{
    cell::RefCell,
    collections::{HashMap, HashSet},
    ops::Range,
    sync::atomic::{AtomicU64, Ordering},
};

use super::task::{FUNCTIONS, Vtable, WORDS};
use crate::observe::{
    image::{Image, Segment},
    memory::{
        Memory,
        space::{Space as _, SpaceExt as _, word},
    },
    programs::Unknown,
};

/// Constants of one program that are looked through.
const MAX_SCANNED: u64 = 256 << 20;
/// What is looked through at once.
const STEP: u64 = 1 << 20;
const LENGTH: u64 = 8 * WORDS as u64;
/// A large program has some thousands of futures.
const MAX_VTABLES: usize = 64 << 10;
/// Places in the thread-local variables that a runtime is found at.
const MAX_PLACES: usize = 8;

static NEXT: AtomicU64 = AtomicU64::new(0);

/// A program with tokio in it.
pub struct Program {
    /// Tells it from every other one that ever was.
    pub number: u64,
    pub image: Image,
    /// By address.
    vtables: HashMap<u64, Vtable>,
    /// How far below a thread's pointer runtimes were found.
    places: RefCell<Vec<u64>>,
}

impl Program {
    /// # Errors
    /// When it has no tokio, or its constants are not in memory.
    pub fn read(image: Image, bias: u64, memory: &mut Memory) -> Result<Self, Unknown> {
        let candidates = candidates(&image);
        if candidates.is_empty() {
            return Err(Unknown::Other);
        }
        let is_code = |address| image.is_in(address, |segment| segment.executable);
        let mut vtables = HashMap::new();
        let mut is_missing = false;
        let places: Vec<Range<u64>> = candidates
            .iter()
            .map(|address| address.wrapping_add(bias))
            .map(|address| address..address.saturating_add(LENGTH))
            .collect();
        let gathered = memory.gather(&places, LENGTH);
        // Not all vtables have it, so it may lie where nothing is.
        let behind: Vec<Range<u64>> = places
            .iter()
            .map(|place| place.end..place.end.saturating_add(8))
            .collect();
        let behind = memory.gather(&behind, LENGTH);
        let mut in_file = [0; LENGTH as usize];
        for (number, address) in candidates.iter().enumerate() {
            let decoded = if !image.is_relocatable && image.fill(*address, &mut in_file) {
                Vtable::decode(&in_file, image.u64(address.saturating_add(LENGTH)), 0, is_code)
            } else {
                let bytes = gathered.get(number);
                // Not there, or not written by the loader yet.
                is_missing |= bytes.is_none_or(|bytes| word(bytes, 0) == Some(0));
                let behind = behind.get(number).and_then(|bytes| word(bytes, 0));
                bytes.and_then(|bytes| Vtable::decode(bytes, behind, bias, is_code))
            };
            if let Some(vtable) = decoded {
                vtables.insert(*address, vtable);
            }
        }
        match (vtables.is_empty(), is_missing) {
            (false, _) => Ok(Self {
                number: NEXT.fetch_add(1, Ordering::Relaxed),
                image,
                vtables,
                places: RefCell::default(),
            }),
            (true, false) => Err(Unknown::Other),
            (true, true) => Err(Unknown::Unreadable(
                "the vtables of its futures are not in memory".to_owned(),
            )),
        }
    }

    /// This very process's program, as if it had these.
    #[cfg(test)]
    pub fn of_vtables(vtables: HashMap<u64, Vtable>) -> Self {
        let own = std::fs::File::open("/proc/self/exe").unwrap();
        Self {
            number: 0,
            image: Image::parse(own).unwrap(),
            vtables,
            places: RefCell::default(),
        }
    }

    /// The vtable at an address (the linker's).
    pub fn vtable(&self, address: u64) -> Option<&Vtable> {
        self.vtables.get(&address)
    }

    /// The functions that poll its futures.
    pub fn polls(&self) -> HashSet<u64> {
        self.vtables.values().map(Vtable::poll).collect()
    }

    /// Whether what frees a future's cell frees another future's as well: the compiler makes one of functions that do the
    /// same, and it has the name of one of them.
    pub fn is_freed_as_others(&self, vtable: &Vtable) -> bool {
        self.vtables
            .values()
            .any(|other| other.dealloc() == vtable.dealloc() && other.poll() != vtable.poll())
    }

    /// An address of its code.
    pub fn any_poll(&self) -> u64 {
        self.vtables.values().map(Vtable::poll).next().unwrap_or(0)
    }

    /// How far below a thread's pointer its runtime was found, in any process of this program.
    pub fn places(&self) -> Vec<u64> {
        self.places.borrow().clone()
    }

    pub fn found_at(&self, place: u64) {
        let mut places = self.places.borrow_mut();
        if places.len() < MAX_PLACES && !places.contains(&place) {
            places.push(place);
        }
    }
}

/// Addresses at which vtables may stand, by what the file has there.
fn candidates(image: &Image) -> Vec<u64> {
    let is_function = |word: u64| word == 0 || image.is_in(word, |segment| segment.executable);
    let mut found = Vec::new();
    let mut left = MAX_SCANNED;
    for range in constants(image) {
        let mut at = range.start.next_multiple_of(8);
        while at < range.end && left > 0 && found.len() < MAX_VTABLES {
            let end = at.saturating_add(STEP + LENGTH).min(range.end);
            let mut bytes = vec![0; (end - at) as usize];
            left = left.saturating_sub(STEP);
            if image.fill(at, &mut bytes) {
                scan(&bytes, at, is_function, &mut found);
            }
            at = at.saturating_add(STEP);
        }
    }
    found.sort_unstable();
    found.dedup();
    found.truncate(MAX_VTABLES);
    found
}

fn scan(bytes: &[u8], base: u64, is_function: impl Fn(u64) -> bool, found: &mut Vec<u64>) {
    let words: Vec<u64> = bytes
        .chunks_exact(8)
        .map(|chunk| u64::from_le_bytes(chunk.try_into().unwrap_or_default()))
        .collect();
    for (index, window) in words.windows(WORDS).enumerate() {
        let (functions, offsets) = window.split_at(FUNCTIONS);
        if let [trailer, scheduler, id] = *offsets
            && Vtable::are_offsets(trailer, scheduler, id)
            && functions.iter().all(|word| is_function(*word))
        {
            found.push(base + 8 * index as u64);
        }
    }
}

/// Where constants with pointers in them are: what the loader protects once it has written them, and, where it has nothing to
/// write, what was never writable.
fn constants(image: &Image) -> Vec<Range<u64>> {
    let in_file = |segment: &Segment| segment.address..segment.address.saturating_add(segment.file_size);
    let mut ranges = Vec::new();
    for segment in image.segments().iter().filter(|segment| !segment.executable) {
        let all = in_file(segment);
        match &image.relocated {
            _ if !segment.writable && !image.is_relocatable => ranges.push(all),
            Some(relocated) => {
                let (start, end) = (all.start.max(relocated.start), all.end.min(relocated.end));
                if start < end {
                    ranges.push(start..end);
                }
            }
            None if segment.writable => ranges.push(all),
            None => {}
        }
    }
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vtables_are_found_by_their_offsets() {
        let mut words = vec![0_u64; 20];
        words.extend([0x1000, 24, 8, 0x2000, 0x3000]);
        let at = words.len() as u64;
        words.extend([0; 7]);
        words.extend([264, 32, 40, 0x1000]);
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        let mut found = Vec::new();
        scan(&bytes, 0x5000, |word| word == 0, &mut found);
        assert_eq!(found, [0x5000 + 8 * at]);
        found.clear();
        scan(&bytes[..bytes.len() - 16], 0x5000, |word| word == 0, &mut found);
        assert!(found.is_empty(), "{found:?}");
    }
}
