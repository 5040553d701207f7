//! Which pages of another process are in memory, and reads that touch no others.
//!
//! A read of a page that is not there faults it in: from swap, from a file, or from userfaultfd or FUSE, where it
//! may sleep for ever. `/proc/PID/pagemap` (Documentation/admin-guide/mm/pagemap.rst) tells before. The page may
//! still go between the two: whoever reads must bear to be killed.

use std::{
    fs::File,
    io,
    mem::MaybeUninit,
    ops::Range,
    os::unix::fs::FileExt as _,
    sync::atomic::{AtomicU64, Ordering},
};

pub const PAGE: u64 = 4096;
/// Bit 63 of a pagemap entry: the page is present.
const PRESENT: u64 = 1 << 63;
/// Most parts that one read is made of; what lies behind is left out.
const MAX_PARTS: usize = 256;
/// Of all processes.
static COPIED: AtomicU64 = AtomicU64::new(0);

/// Bytes that this process has copied from others since it began.
pub fn copied() -> u64 {
    COPIED.load(Ordering::Relaxed)
}

/// The page map of a process. It stays with the address space: after an exec it tells nothing any more.
#[derive(Debug)]
pub struct Pages {
    file: File,
}

impl Pages {
    /// Of the process that the live thread `tid` belongs to.
    ///
    /// # Errors
    /// When the thread is gone, or may not be looked at.
    pub fn of(tid: u32) -> io::Result<Self> {
        let file = File::open(format!("/proc/{tid}/pagemap"))?;
        Ok(Self { file })
    }

    /// The parts of a range that are in memory, in rising order, cut at the ends of the range.
    ///
    /// # Errors
    /// When the map cannot be read.
    pub fn present(&self, range: Range<u64>) -> io::Result<Vec<Range<u64>>> {
        let (first, end) = (range.start / PAGE, range.end.div_ceil(PAGE));
        let mut entries = vec![0; (end.saturating_sub(first) as usize).saturating_mul(8)];
        let known = self.read_up_to(&mut entries, first.saturating_mul(8))?;
        let mut parts: Vec<Range<u64>> = Vec::new();
        for (page, entry) in (first..end).zip(entries[..known].chunks_exact(8)) {
            let entry = u64::from_le_bytes(entry.try_into().unwrap_or_default());
            if entry & PRESENT == 0 {
                continue;
            }
            let start = (page * PAGE).max(range.start);
            let end = (page * PAGE).saturating_add(PAGE).min(range.end);
            let count = parts.len();
            match parts.last_mut() {
                Some(last) if last.end == start => last.end = end,
                _ if count == MAX_PARTS => break,
                _ => parts.push(start..end),
            }
        }
        Ok(parts)
    }

    /// How many bytes there were: the map ends with the address space.
    fn read_up_to(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut filled = 0;
        while filled < bytes.len() {
            match self.file.read_at(&mut bytes[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }
}

/// Reads the parts of another process's memory that are told, one behind the other, and returns how many bytes
/// there were before the first that could not be read. `tid` is any live thread of it.
pub fn read(tid: u32, parts: &[Range<u64>], bytes: &mut [u8]) -> usize {
    let bytes = std::ptr::from_mut(bytes) as *mut [MaybeUninit<u8>];
    // SAFETY: the same bytes, into which nothing is written but bytes.
    read_new(tid, parts, unsafe { &mut *bytes })
}

/// The same into bytes that nothing has been written to: so many of the first have been afterwards.
pub fn read_new(tid: u32, parts: &[Range<u64>], bytes: &mut [MaybeUninit<u8>]) -> usize {
    let local = libc::iovec {
        iov_base: bytes.as_mut_ptr().cast(),
        iov_len: bytes.len(),
    };
    let remote: Vec<_> = parts
        .iter()
        .take(MAX_PARTS)
        .map(|part| libc::iovec {
            iov_base: part.start as *mut libc::c_void,
            iov_len: part.end.saturating_sub(part.start) as usize,
        })
        .collect();
    // SAFETY: `local` is `bytes`, into which no more than its length is written; the kernel checks `remote`
    // against the other process.
    let read = unsafe {
        libc::process_vm_readv(
            tid as libc::pid_t,
            &raw const local,
            1,
            remote.as_ptr(),
            remote.len() as libc::c_ulong,
            0,
        )
    };
    let read = usize::try_from(read).unwrap_or_default();
    COPIED.fetch_add(read as u64, Ordering::Relaxed);
    read
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Map(*mut u8, usize);

    impl Map {
        fn new(pages: usize) -> Self {
            let length = pages * PAGE as usize;
            // SAFETY: a new anonymous mapping.
            let at = unsafe {
                libc::mmap(
                    std::ptr::null_mut(),
                    length,
                    libc::PROT_READ | libc::PROT_WRITE,
                    libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                    -1,
                    0,
                )
            };
            assert_ne!(at, libc::MAP_FAILED);
            Self(at.cast(), length)
        }

        fn touch(&self, page: usize, value: u8) {
            // SAFETY: within the mapping.
            unsafe { self.0.add(page * PAGE as usize).write_volatile(value) };
        }

        fn address(&self, page: usize) -> u64 {
            self.0 as u64 + page as u64 * PAGE
        }
    }

    impl Drop for Map {
        fn drop(&mut self) {
            // SAFETY: nobody holds a reference into it.
            unsafe { libc::munmap(self.0.cast(), self.1) };
        }
    }

    fn own() -> u32 {
        // SAFETY: takes nothing, returns a number.
        unsafe { libc::gettid() as u32 }
    }

    #[test]
    fn only_touched_pages_are_present_and_stay_the_only_ones() {
        let map = Map::new(6);
        for page in [1, 2, 4] {
            map.touch(page, page as u8 + 10);
        }
        let pages = Pages::of(own()).unwrap();
        let expected = [
            map.address(1) + 8..map.address(3),
            map.address(4)..map.address(5) - 3,
        ];
        for _ in 0..2 {
            let parts = pages.present(map.address(1) + 8..map.address(5) - 3).unwrap();
            assert_eq!(parts, expected);
        }
        assert!(pages.present(map.address(0)..map.address(1)).unwrap().is_empty());
    }

    #[test]
    fn parts_are_read_one_behind_the_other() {
        let map = Map::new(3);
        map.touch(0, 1);
        map.touch(2, 3);
        let parts = [
            map.address(0)..map.address(0) + 2,
            map.address(2)..map.address(2) + 1,
        ];
        let mut bytes = [9; 3];
        assert_eq!(read(own(), &parts, &mut bytes), 3);
        assert_eq!(bytes, [1, 0, 3]);
        // The second part is not mapped.
        let parts = [map.address(0)..map.address(0) + 2, 16..24];
        assert_eq!(read(own(), &parts, &mut [0; 10]), 2);
    }

    #[test]
    fn nothing_is_told_of_what_is_no_address() {
        let pages = Pages::of(own()).unwrap();
        assert!(
            pages
                .present(u64::MAX - 10..u64::MAX)
                .unwrap_or_default()
                .is_empty()
        );
        #[expect(clippy::reversed_empty_ranges)]
        let reversed = 8192..4096;
        assert!(pages.present(reversed).unwrap().is_empty());
    }
}
