//! What is mapped where in a process: `/proc/PID/task/TID/maps` (fs/proc/task_mmu.c, `show_map_vma`).
//!
//! Of a *live thread*: when the first one has left by pthread_exit, `/proc/PID/maps` is empty. Names in it are
//! the target's own, any bytes up to the length of a path.

use std::{
    fs::File,
    io::{self, Read},
    ops::Range,
    rc::Rc,
};

use super::text::clean;

/// More than `vm.max_map_count` allows anywhere we know of (distributions raise it to 1,048,576 at most).
const MAX_MAPPINGS: usize = 1 << 20;
/// A path of 4096 bytes of which each may be written as `\012`, and the numbers before it.
const MAX_LINE: usize = 4 * 4096 + 128;
const CHUNK: usize = 64 * 1024;
/// Longest name of a module, in characters: that of a file.
const MAX_NAME: usize = 255;

#[derive(Debug, thiserror::Error)]
pub enum MapsError {
    #[error("the process is gone")]
    Gone,
    #[error("its memory map cannot be read: {0}")]
    Unreadable(io::Error),
    #[error("its memory map is malformed")]
    Malformed,
    #[error("it has more than {MAX_MAPPINGS} mappings")]
    TooMany,
}

/// Where the code of a mapping comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    File,
    Vdso,
    /// Memory that no file stands behind: code made at run time.
    Anonymous,
}

/// A mapping that code can run in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Code {
    pub range: Range<u64>,
    /// Where in the file it begins.
    pub offset: u64,
    /// Major and minor number, inode: only to see whether the mapping is still the same.
    pub file: (u64, u64),
    pub origin: Origin,
    /// Last part of its path, cleaned; empty for anonymous memory.
    pub name: Rc<str>,
    /// The folders of its path as the process sees it: something to look for debug files by, nothing to open.
    pub folder: Rc<str>,
}

/// The map of a process at one time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Maps {
    /// By address.
    code: Vec<Code>,
    /// Everything that can be read, by address.
    readable: Vec<Range<u64>>,
    /// Parts of files that can be read and nothing else, and where in the file they begin; by address.
    constants: Vec<(Range<u64>, u64)>,
}

impl Maps {
    /// # Errors
    /// When the thread is gone, or its map cannot be read or understood.
    pub fn read(pid: u32, tid: u32) -> Result<Self, MapsError> {
        let failed = |error: io::Error| match error.raw_os_error() {
            Some(libc::ENOENT | libc::ESRCH) => MapsError::Gone,
            _ => MapsError::Unreadable(error),
        };
        let mut file = File::open(format!("/proc/{pid}/task/{tid}/maps")).map_err(failed)?;
        let mut reader = Lines::default();
        let mut chunk = vec![0; CHUNK];
        loop {
            match file.read(&mut chunk) {
                Ok(0) => break,
                Ok(read) => reader.feed(&chunk[..read])?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(failed(error)),
            }
        }
        let maps = reader.finish()?;
        // A process that is ending has no memory any more.
        if maps.readable.is_empty() && maps.code.is_empty() {
            return Err(MapsError::Gone);
        }
        Ok(maps)
    }

    /// Index and mapping of the code at an address.
    pub fn code_at(&self, address: u64) -> Option<(usize, &Code)> {
        let index = self.code.partition_point(|code| code.range.end <= address);
        let code = self.code.get(index)?;
        code.range.contains(&address).then_some((index, code))
    }

    /// End of the readable mapping that an address is in.
    pub fn readable_until(&self, address: u64) -> Option<u64> {
        let index = self.readable.partition_point(|range| range.end <= address);
        let range = self.readable.get(index)?;
        range.contains(&address).then_some(range.end)
    }

    /// The mapping of a file's constants that an address is in, and where in the file it begins.
    pub fn constants_at(&self, address: u64) -> Option<&(Range<u64>, u64)> {
        let index = self.constants.partition_point(|(range, _)| range.end <= address);
        let found = self.constants.get(index)?;
        found.0.contains(&address).then_some(found)
    }

    pub fn code(&self) -> &[Code] {
        &self.code
    }
}

/// Puts lines together of what is read.
#[derive(Default)]
struct Lines {
    rest: Vec<u8>,
    maps: Maps,
    count: usize,
}

impl Lines {
    fn feed(&mut self, mut bytes: &[u8]) -> Result<(), MapsError> {
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            let (line, rest) = bytes.split_at(end);
            if self.rest.is_empty() {
                self.add(line)?;
            } else {
                let mut whole = std::mem::take(&mut self.rest);
                whole.extend_from_slice(line);
                self.add(&whole)?;
            }
            bytes = rest.get(1..).unwrap_or_default();
        }
        self.rest.extend_from_slice(bytes);
        if self.rest.len() > MAX_LINE {
            return Err(MapsError::Malformed);
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Maps, MapsError> {
        if !self.rest.is_empty() {
            let line = std::mem::take(&mut self.rest);
            self.add(&line)?;
        }
        // The kernel lists them in order. While a process changes its map a mapping may be told twice.
        self.maps.code.sort_by_key(|code| code.range.end);
        self.maps.readable.sort_by_key(|range| range.end);
        self.maps.constants.sort_by_key(|(range, _)| range.end);
        Ok(self.maps)
    }

    fn add(&mut self, line: &[u8]) -> Result<(), MapsError> {
        self.count += 1;
        if self.count > MAX_MAPPINGS {
            return Err(MapsError::TooMany);
        }
        let entry = parse(line).ok_or(MapsError::Malformed)?;
        if entry.readable {
            match self.maps.readable.last_mut() {
                // A stack of which a part was given another name is still one stack.
                Some(last) if last.end == entry.range.start && last.end > last.start => {
                    // Never over the guard page between two threads: that cannot be read.
                    last.end = entry.range.end;
                }
                _ => self.maps.readable.push(entry.range.clone()),
            }
        }
        if entry.readable && !entry.writable && !entry.executable && entry.file != (0, 0) {
            self.maps.constants.push((entry.range.clone(), entry.offset));
        }
        if entry.executable {
            let code = self.describe(entry);
            self.maps.code.push(code);
        }
        Ok(())
    }

    fn describe(&self, entry: Entry<'_>) -> Code {
        let path = entry.path.strip_suffix(b" (deleted)").unwrap_or(entry.path);
        let origin = match path {
            b"[vdso]" => Origin::Vdso,
            // memfd and shared memory have an inode; named anonymous memory (`[anon:…]`) has none.
            _ if entry.file != (0, 0) && !path.is_empty() => Origin::File,
            _ => Origin::Anonymous,
        };
        let (folder, name) = match origin {
            Origin::File => {
                let at = path.iter().rposition(|byte| *byte == b'/').map_or(0, |at| at + 1);
                path.split_at(at)
            }
            Origin::Vdso => (&path[..0], path),
            Origin::Anonymous => (&path[..0], &path[..0]),
        };
        Code {
            range: entry.range,
            offset: entry.offset,
            file: entry.file,
            origin,
            name: clean(&String::from_utf8_lossy(name), MAX_NAME).into(),
            folder: String::from_utf8_lossy(folder).into(),
        }
    }
}

/// One line: `START-END PERMISSIONS OFFSET MAJOR:MINOR INODE   PATH`.
struct Entry<'a> {
    range: Range<u64>,
    readable: bool,
    writable: bool,
    executable: bool,
    offset: u64,
    file: (u64, u64),
    path: &'a [u8],
}

fn parse(line: &[u8]) -> Option<Entry<'_>> {
    let mut fields = line.splitn(6, |byte| *byte == b' ');
    let (start, end) = split(fields.next()?, b'-')?;
    let permissions = fields.next()?;
    let offset = hexadecimal(fields.next()?)?;
    let (major, minor) = split(fields.next()?, b':')?;
    let inode = decimal(fields.next()?)?;
    let range = hexadecimal(start)?..hexadecimal(end)?;
    if range.start >= range.end || permissions.len() < 3 {
        return None;
    }
    Some(Entry {
        readable: permissions.first() == Some(&b'r'),
        writable: permissions.get(1) == Some(&b'w'),
        executable: permissions.get(2) == Some(&b'x'),
        range,
        offset,
        file: (hexadecimal(major)? << 32 | hexadecimal(minor)?, inode),
        path: fields.next().unwrap_or_default().trim_ascii_start(),
    })
}

fn split(text: &[u8], at: u8) -> Option<(&[u8], &[u8])> {
    let at = text.iter().position(|byte| *byte == at)?;
    Some((text.get(..at)?, text.get(at + 1..)?))
}

fn hexadecimal(text: &[u8]) -> Option<u64> {
    u64::from_str_radix(digits(text)?, 16).ok()
}

fn decimal(text: &[u8]) -> Option<u64> {
    digits(text)?.parse().ok()
}

/// The standard library would take a sign as well.
fn digits(text: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(text).ok()?;
    text.bytes().all(|byte| byte.is_ascii_hexdigit()).then_some(text)
}

#[cfg(test)]
mod tests;
