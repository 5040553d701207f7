//! A program's file: its segments, read at the addresses that the linker gave them. Section headers are not
//! needed: a stripped program may have none.

use std::{
    cell::RefCell,
    collections::HashMap,
    fs::{self, File},
    io,
    ops::Range,
    os::unix::fs::{FileExt as _, MetadataExt as _},
    path::Path,
    rc::Rc,
};

use object::{
    LittleEndian as E, U64,
    elf::{self, FileHeader64, ProgramHeader64},
    pod,
};

use super::memory::space::{Space, word};
use crate::identify::open_regular;

/// A linker makes about a dozen.
const MAX_SEGMENTS: usize = 64;
/// The auxiliary vector has some twenty entries.
const MAX_AUXV: usize = 4096;
/// What is read at once.
const CHUNK: usize = 16 << 10;
/// Parts of a file that are kept: 1 MiB.
const MAX_CHUNKS: usize = 64;

/// A segment that is mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    pub offset: u64,
    pub file_size: u64,
    pub address: u64,
    pub memory_size: u64,
    pub writable: bool,
    pub executable: bool,
}

/// What tells one version of a file from every other one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ImageKey {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
}

/// An ELF file of x86-64.
pub struct Image {
    file: File,
    segments: Vec<Segment>,
    /// What the loader makes read-only once it has written its pointers.
    pub relocated: Option<Range<u64>>,
    /// The thread-local variables: how large, and how aligned.
    pub thread_locals: Option<(u64, u64)>,
    /// Where it begins to run, as the linker numbered it.
    pub entry: u64,
    /// Whether it can be loaded anywhere.
    pub is_relocatable: bool,
    chunks: RefCell<HashMap<u64, Rc<[u8]>>>,
}

impl Image {
    /// The executable of a process, whatever its mounts. `tid`: any live thread of it.
    ///
    /// # Errors
    /// When it cannot be opened, or is no regular file.
    pub fn open(pid: u32, tid: u32) -> io::Result<(File, ImageKey)> {
        let file = open_regular(Path::new(&format!("/proc/{pid}/task/{tid}/exe")))?;
        let metadata = file.metadata()?;
        let key = ImageKey {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
        };
        Ok((file, key))
    }

    /// `None` for what is no ELF file of x86-64, or a broken one.
    pub fn parse(file: File) -> Option<Self> {
        let mut bytes = [0; size_of::<FileHeader64<E>>()];
        file.read_exact_at(&mut bytes, 0).ok()?;
        let (header, _) = pod::from_bytes::<FileHeader64<E>>(&bytes).ok()?;
        let is_ours = header.e_ident.magic == elf::ELFMAG
            && header.e_ident.class == elf::ELFCLASS64
            && header.e_ident.data == elf::ELFDATA2LSB
            && header.e_machine.get(E) == elf::EM_X86_64;
        if !is_ours || usize::from(header.e_phentsize.get(E)) != size_of::<ProgramHeader64<E>>() {
            return None;
        }
        let count = usize::from(header.e_phnum.get(E)).min(MAX_SEGMENTS);
        let mut table = vec![0; count * size_of::<ProgramHeader64<E>>()];
        file.read_exact_at(&mut table, header.e_phoff.get(E)).ok()?;
        let (headers, _) = pod::slice_from_bytes::<ProgramHeader64<E>>(&table, count).ok()?;
        let number = |value: U64<E>| value.get(E);
        let loaded = headers
            .iter()
            .filter(|header| header.p_type.get(E) == elf::PT_LOAD);
        let segments = loaded.map(|header| {
            let flags = header.p_flags.get(E);
            Segment {
                offset: number(header.p_offset),
                file_size: number(header.p_filesz).min(number(header.p_memsz)),
                address: number(header.p_vaddr),
                memory_size: number(header.p_memsz),
                writable: flags & elf::PF_W != 0,
                executable: flags & elf::PF_X != 0,
            }
        });
        let of_type = |kind: u32| headers.iter().find(|header| header.p_type.get(E) == kind);
        Some(Self {
            segments: segments.collect(),
            relocated: of_type(elf::PT_GNU_RELRO).map(|header| {
                let start = number(header.p_vaddr);
                start..start.saturating_add(number(header.p_memsz))
            }),
            thread_locals: of_type(elf::PT_TLS)
                .map(|header| (number(header.p_memsz), number(header.p_align).max(1))),
            entry: number(header.e_entry),
            is_relocatable: header.e_type.get(E) == elf::ET_DYN,
            file,
            chunks: RefCell::default(),
        })
    }

    /// How far behind the linker's addresses a process has it: `AT_ENTRY` of its auxiliary vector.
    ///
    /// # Errors
    /// When that cannot be read.
    pub fn bias(&self, pid: u32, tid: u32) -> io::Result<u64> {
        if !self.is_relocatable {
            return Ok(0);
        }
        let auxv = fs::read(format!("/proc/{pid}/task/{tid}/auxv"))?;
        let auxv = &auxv[..auxv.len().min(MAX_AUXV)];
        (0..auxv.len() / 16)
            .find(|pair| word(auxv, 16 * pair) == Some(libc::AT_ENTRY))
            .and_then(|pair| word(auxv, 16 * pair + 8))
            .map(|found| found.wrapping_sub(self.entry))
            .ok_or_else(|| io::Error::other("no auxiliary vector"))
    }

    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// Where in the file an address stands.
    pub fn offset(&self, address: u64) -> Option<u64> {
        let holds =
            |segment: &&Segment| address >= segment.address && address - segment.address < segment.file_size;
        let segment = self.segments.iter().find(holds)?;
        segment.offset.checked_add(address - segment.address)
    }

    /// Whether an address lies in a segment for which the condition holds.
    pub fn is_in(&self, address: u64, condition: impl Fn(&Segment) -> bool) -> bool {
        let holds = |segment: &&Segment| {
            address >= segment.address && address - segment.address < segment.memory_size
        };
        self.segments.iter().filter(holds).any(condition)
    }

    /// Addresses at which the bytes stand in the file, in segments for which the condition holds, aligned so, as
    /// long as the visitor says `true`.
    pub fn search(
        &self,
        pattern: &[u8],
        align: u64,
        wanted: impl Fn(&Segment) -> bool,
        mut visit: impl FnMut(u64) -> bool,
    ) {
        const STEP: usize = 1 << 20;
        let finder = memchr::memmem::Finder::new(pattern);
        let overlap = pattern.len().saturating_sub(1);
        let mut bytes = vec![0; STEP + overlap];
        for segment in self.segments.iter().filter(|segment| wanted(segment)) {
            let mut done = 0;
            while done < segment.file_size {
                let length = (segment.file_size - done).min(bytes.len() as u64) as usize;
                let read = self.read_some(segment.offset.saturating_add(done), &mut bytes[..length]);
                for at in finder.find_iter(&bytes[..read]) {
                    let address = segment.address.wrapping_add(done + at as u64);
                    // What begins in the overlap is found again in the next step.
                    if at < STEP && address.is_multiple_of(align) && !visit(address) {
                        return;
                    }
                }
                if read < length {
                    break;
                }
                done += STEP as u64;
            }
        }
    }

    /// Shows the program's code, so much at most, piece by piece: each goes so many bytes into the next one.
    pub fn code(&self, overlap: usize, most: u64, mut visit: impl FnMut(&[u8], u64)) {
        const STEP: u64 = 1 << 20;
        let mut left = most;
        for segment in self.segments.iter().filter(|segment| segment.executable) {
            let mut at = segment.address;
            let end = segment.address.saturating_add(segment.file_size);
            while at < end && left > 0 {
                let length = (end - at).min(STEP.saturating_add(overlap as u64));
                left = left.saturating_sub(length);
                let mut bytes = vec![0; length as usize];
                if self.fill(at, &mut bytes) {
                    visit(&bytes, at);
                }
                at = at.saturating_add(STEP);
            }
        }
    }

    fn read_some(&self, offset: u64, bytes: &mut [u8]) -> usize {
        let mut known = 0;
        while known < bytes.len() {
            match self
                .file
                .read_at(&mut bytes[known..], offset.saturating_add(known as u64))
            {
                Ok(read) if read > 0 => known += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                _ => break,
            }
        }
        known
    }

    fn chunk(&self, number: u64) -> Rc<[u8]> {
        let mut chunks = self.chunks.borrow_mut();
        if let Some(chunk) = chunks.get(&number) {
            return Rc::clone(chunk);
        }
        if chunks.len() >= MAX_CHUNKS {
            chunks.clear();
        }
        let mut bytes = vec![0; CHUNK];
        let read = self.read_some(number.saturating_mul(CHUNK as u64), &mut bytes);
        bytes.truncate(read);
        let chunk: Rc<[u8]> = bytes.into();
        chunks.insert(number, Rc::clone(&chunk));
        chunk
    }
}

/// At the linker's addresses, of what is in the file.
impl Space for Image {
    fn fill(&self, address: u64, bytes: &mut [u8]) -> bool {
        let length = bytes.len() as u64;
        let holds = |segment: &&Segment| {
            let at = address.wrapping_sub(segment.address);
            address >= segment.address && at < segment.file_size && length <= segment.file_size - at
        };
        let Some(segment) = self.segments.iter().find(holds) else {
            return false;
        };
        let Some(mut offset) = segment.offset.checked_add(address - segment.address) else {
            return false;
        };
        let mut bytes = bytes;
        while !bytes.is_empty() {
            let chunk = self.chunk(offset / CHUNK as u64);
            let at = (offset % CHUNK as u64) as usize;
            let Some(found) = chunk.get(at..).filter(|found| !found.is_empty()) else {
                return false;
            };
            let taken = found.len().min(bytes.len());
            let (now, later) = bytes.split_at_mut(taken);
            now.copy_from_slice(&found[..taken]);
            bytes = later;
            offset += taken as u64;
        }
        true
    }
}
