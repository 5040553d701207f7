//! Whether memory is a process's own.

use std::{
    fs::File,
    io::{BufRead as _, BufReader, Read as _},
};

/// Longest `/proc/PID/maps` that is read: 65,530 mappings (`vm.max_map_count`) with paths of 200 letters.
const MAX_TEXT: u64 = 16 * 1024 * 1024;

/// Whether an address of the process that the live thread `tid` belongs to lies in a private mapping: one that no
/// other process can share, though one that was forked may have got a copy. What cannot be read is not private.
pub fn is_private(tid: u32, address: u64) -> bool {
    let Ok(file) = File::open(format!("/proc/{tid}/maps")) else {
        return false;
    };
    let lines = BufReader::new(file.take(MAX_TEXT)).split(b'\n');
    for line in lines.map_while(Result::ok) {
        match parse(&line) {
            // In rising order.
            Some((start, end, is_private)) if address < end => return is_private && start <= address,
            Some(_) => {}
            None => return false,
        }
    }
    false
}

/// `start-end rwxp …`: the letter is `p` for private, `s` for shared (`show_vma_header_prefix`,
/// fs/proc/task_mmu.c).
fn parse(line: &[u8]) -> Option<(u64, u64, bool)> {
    // What follows is a path, of any bytes.
    let mut words = line.splitn(3, |byte| *byte == b' ');
    let (range, mode) = (words.next()?, words.next()?);
    let (start, end) = std::str::from_utf8(range).ok()?.split_once('-')?;
    Some((
        u64::from_str_radix(start, 16).ok()?,
        u64::from_str_radix(end, 16).ok()?,
        mode.get(3) == Some(&b'p'),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Only what the kernel writes is taken, and all of that.
        #[test]
        fn any_line_is_taken(line in "([0-9a-f]{0,17}-?){0,2}[ rwxps-]{0,8}\\PC{0,40}", start: u64, end: u64) {
            let _ = parse(line.as_bytes());
            let real = format!("{start:x}-{end:x} r-xp 00000000 00:00 0 {line}");
            prop_assert_eq!(parse(real.as_bytes()), Some((start, end, true)));
        }
    }

    struct Map(*mut libc::c_void);

    impl Map {
        fn new(flags: libc::c_int) -> Self {
            // SAFETY: a new mapping that nobody else knows.
            let at = unsafe {
                libc::mmap(
                    std::ptr::null_mut(),
                    4096,
                    libc::PROT_READ,
                    flags | libc::MAP_ANONYMOUS,
                    -1,
                    0,
                )
            };
            assert_ne!(at, libc::MAP_FAILED);
            Self(at)
        }
    }

    impl Drop for Map {
        fn drop(&mut self) {
            // SAFETY: nobody refers to it.
            unsafe { libc::munmap(self.0, 4096) };
        }
    }

    #[test]
    fn private_and_shared_mappings_are_told_apart() {
        let own = std::process::id();
        let (private, shared) = (Map::new(libc::MAP_PRIVATE), Map::new(libc::MAP_SHARED));
        assert!(is_private(own, private.0 as u64));
        assert!(is_private(own, private.0 as u64 + 4095));
        assert!(!is_private(own, shared.0 as u64));
        assert!(!is_private(own, 0), "nothing is mapped there");
        assert!(!is_private(own, u64::MAX));
        assert!(!is_private(0, private.0 as u64), "no such process");
    }

    #[test]
    fn lines_are_read_whatever_the_path_is() {
        let line = b"7f00-7f10 rw-p 00000000 08:01 17   /a b\xff c";
        assert_eq!(parse(line), Some((0x7f00, 0x7f10, true)));
        assert_eq!(parse(b"7f00-7f10 rw-s 0"), Some((0x7f00, 0x7f10, false)));
        assert_eq!(parse(b"7f00-7f10 rw"), Some((0x7f00, 0x7f10, false)));
        for bad in [&b""[..], b"7f00 rw-p", b"x-y rw-p"] {
            assert_eq!(parse(bad), None);
        }
    }
}
