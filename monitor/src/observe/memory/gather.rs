//! Reads of many small places of another process, few calls for all of them, none of a page that is not there.

use std::{io, mem::MaybeUninit, ops::Range};

use super::{
    present::{self, PAGE, Pages},
    space::Space,
};

/// Of which the presence is looked up at once: few enough pages that all their parts are told.
const WINDOW: u64 = 256 * PAGE;
/// Pages further apart are not looked up by one call: those between them take longer than another call.
const APART: u64 = 16 * PAGE;
/// To copy so many bytes more costs less than another place.
pub const NEAR: u64 = 128;
/// Places that are read by one call.
const MAX_PLACES: usize = 256;

/// The memory of a process.
pub struct Memory {
    /// Any live thread of it.
    tid: u32,
    pages: Pages,
    window: Range<u64>,
    present: Vec<Range<u64>>,
}

/// What was read of several places.
#[derive(Debug, Default)]
pub struct Gathered {
    bytes: Vec<u8>,
    /// By number of the place.
    parts: Vec<Option<Range<usize>>>,
}

impl Gathered {
    /// The bytes of a place, if all of them could be read.
    pub fn get(&self, number: usize) -> Option<&[u8]> {
        self.bytes.get(self.parts.get(number)?.clone()?)
    }
}

impl Memory {
    /// Of the process that the live thread `tid` belongs to.
    ///
    /// # Errors
    /// When the thread is gone, or may not be looked at.
    pub fn of(tid: u32) -> io::Result<Self> {
        Ok(Self {
            tid,
            pages: Pages::of(tid)?,
            window: 0..0,
            present: Vec::new(),
        })
    }

    /// The parts of a range that are in memory, a piece at a time.
    pub fn parts(&mut self, range: Range<u64>, mut visit: impl FnMut(u64, &[u8])) {
        let mut at = range.start;
        while at < range.end {
            let end = at.saturating_add(WINDOW).min(range.end);
            for part in self.pages.present(at..end).unwrap_or_default() {
                let mut bytes = vec![0; (part.end - part.start) as usize];
                let read = present::read(self.tid, std::slice::from_ref(&part), &mut bytes);
                visit(part.start, &bytes[..read]);
            }
            at = end;
        }
    }

    /// The bytes of all places; in rising order of their addresses it costs the least. Places that lie no further
    /// apart than `gap` bytes are read as one.
    pub fn gather(&mut self, places: &[Range<u64>], gap: u64) -> Gathered {
        let mut spans: Vec<Range<u64>> = Vec::new();
        let mut parts = Vec::with_capacity(places.len());
        let mut length = 0;
        for (number, place) in places.iter().enumerate() {
            if place.is_empty() || !self.is_present(place, &places[number + 1..]) {
                parts.push(None);
                continue;
            }
            let from = match spans.last_mut() {
                // The pages between two that are there and touch are there.
                Some(last)
                    if place.start >= last.start && place.start <= last.end.saturating_add(gap.min(PAGE)) =>
                {
                    let from = length - (last.end - last.start) + (place.start - last.start);
                    if place.end > last.end {
                        length += place.end - last.end;
                        last.end = place.end;
                    }
                    from
                }
                _ => {
                    spans.push(place.clone());
                    length += place.end - place.start;
                    length - (place.end - place.start)
                }
            };
            let from = from as usize;
            parts.push(Some(from..from + (place.end - place.start) as usize));
        }
        let (bytes, broken) = self.read(&spans, length as usize);
        for part in &mut parts {
            let hit = |part: &Range<usize>| {
                let touches = |hole: &Range<usize>| hole.start < part.end && part.start < hole.end;
                broken.iter().any(touches)
            };
            if part.as_ref().is_some_and(hit) {
                *part = None;
            }
        }
        Gathered { bytes, parts }
    }

    /// Reads the spans, which are so long together, one behind the other; and says what of the bytes could not be read.
    fn read(&self, spans: &[Range<u64>], length: usize) -> (Vec<u8>, Vec<Range<usize>>) {
        // Megabytes of them are read: they are not written twice.
        let mut bytes = Vec::with_capacity(length);
        let room = &mut bytes.spare_capacity_mut()[..length];
        let mut broken = Vec::new();
        let (mut next, mut at) = (0, 0);
        while next < spans.len() {
            let some = &spans[next..(next + MAX_PLACES).min(spans.len())];
            let length = some
                .iter()
                .map(|span| (span.end - span.start) as usize)
                .sum::<usize>();
            let mut read = present::read_new(self.tid, some, &mut room[at..at + length]);
            for span in some {
                let length = (span.end - span.start) as usize;
                at += length;
                next += 1;
                if read < length {
                    // It went meanwhile; what lies behind it may be there.
                    broken.push(at - length..at);
                    room[at - length + read..at].fill(MaybeUninit::new(0));
                    break;
                }
                read -= length;
            }
        }
        assert_eq!(at, length, "the spans' length");
        // SAFETY: each span was read, or what could not be was filled, and together they are that long.
        unsafe { bytes.set_len(length) };
        (bytes, broken)
    }

    /// `next`: those that will be asked about then.
    fn is_present(&mut self, place: &Range<u64>, next: &[Range<u64>]) -> bool {
        if place.end - place.start > WINDOW {
            let parts = self.pages.present(place.clone()).unwrap_or_default();
            return parts.first() == Some(place);
        }
        if place.start < self.window.start || place.end > self.window.end {
            self.window = window(place, next);
            self.present = self.pages.present(self.window.clone()).unwrap_or_default();
        }
        let index = self.present.partition_point(|part| part.end < place.end);
        let holds = |part: &Range<u64>| part.start <= place.start && place.end <= part.end;
        self.present.get(index).is_some_and(holds)
    }
}

/// The pages of a place, and of the next ones as far as they are near.
fn window(first: &Range<u64>, next: &[Range<u64>]) -> Range<u64> {
    let mut window = first.start & !(PAGE - 1)..first.end;
    for place in next.iter().filter(|place| !place.is_empty()) {
        let is_near = place.start >= window.start && place.start <= window.end.saturating_add(APART);
        if !is_near || place.end - window.start > WINDOW {
            break;
        }
        window.end = window.end.max(place.end);
    }
    window.end = window.end.checked_next_multiple_of(PAGE).unwrap_or(u64::MAX);
    window
}

/// At the process's own addresses.
impl Space for Memory {
    fn fill(&self, address: u64, bytes: &mut [u8]) -> bool {
        let Some(end) = address.checked_add(bytes.len() as u64) else {
            return false;
        };
        let range = address..end;
        let parts = self.pages.present(range.clone()).unwrap_or_default();
        parts == [range] && present::read(self.tid, &parts, bytes) == bytes.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own() -> Memory {
        // SAFETY: takes nothing, returns a number.
        Memory::of(unsafe { libc::gettid() } as u32).unwrap()
    }

    #[test]
    fn places_are_read_whole_or_not_at_all() {
        let bytes: Vec<u8> = (0..20_000_u32).map(|number| number as u8).collect();
        let base = bytes.as_ptr() as u64;
        let place = |from: u64, to: u64| base + from..base + to;
        let places = [
            place(0, 10),
            place(12, 20),
            place(100, 5_000),
            16..24,
            place(4_000, 4_010),
            place(19_990, 20_000),
            5..5,
            u64::MAX - 8..u64::MAX,
        ];
        for gap in [0, 64] {
            let gathered = own().gather(&places, gap);
            for (number, place) in places.iter().enumerate() {
                let expected = place
                    .start
                    .checked_sub(base)
                    .filter(|at| *at < 20_000)
                    .map(|at| &bytes[at as usize..(place.end - base) as usize]);
                assert_eq!(gathered.get(number), expected, "{number} {gap}");
            }
        }
    }

    #[test]
    fn pages_are_looked_up_together_that_are_near() {
        let page = |number: u64| number * PAGE + 8..number * PAGE + 16;
        let all = |numbers: &[u64]| {
            let places: Vec<_> = numbers.iter().copied().map(page).collect();
            window(&places[0], &places[1..])
        };
        let one = |place: Range<u64>| window(&place, &[]);
        let pages = |from: u64, to: u64| from * PAGE..to * PAGE;
        assert_eq!(all(&[7]), pages(7, 8));
        assert_eq!(all(&[7, 9, 20, 40]), pages(7, 21));
        // What lies before is another one's.
        assert_eq!(all(&[7, 9, 6, 10]), pages(7, 10));
        let many: Vec<u64> = (0..1000).map(|number| 2 * number).collect();
        assert_eq!(all(&many), pages(0, 255));
        // One that is read anyway.
        assert_eq!(one(8..2 * WINDOW), 0..2 * WINDOW);
        assert_eq!(one(u64::MAX - 8..u64::MAX), u64::MAX - PAGE + 1..u64::MAX);
        assert_eq!(window(&page(2), &[0..0, page(3)]), pages(2, 4));
    }

    #[test]
    fn many_places_are_read_by_several_calls() {
        let words: Vec<u64> = (0..4_000).collect();
        let base = words.as_ptr() as u64;
        let places: Vec<_> = (0..1_000)
            .map(|number| base + 32 * number..base + 32 * number + 8)
            .collect();
        let gathered = own().gather(&places, 0);
        for number in 0..1_000 {
            assert_eq!(gathered.get(number).unwrap(), (4 * number as u64).to_le_bytes());
        }
    }
}
