//! Who made a thread and what it runs, from what the spawn probe saw; and where that probe is to be put.

use std::{
    fs::{self, File},
    os::unix::fs::MetadataExt as _,
    path::PathBuf,
    sync::Arc,
};

use object::{
    LittleEndian, Object as _, ObjectSegment as _, ObjectSymbol as _,
    read::{ReadCache, elf::ElfFile64},
};

use super::{
    Inspector, Known, Origin as CodeOrigin, StackMemory,
    starts::{Source, Start},
    walk,
};
use crate::{
    identify::{StackError, file, sites},
    model::Frame,
    observe::{
        helper::{Birth, NamedBirth, SpawnPoint},
        thread::spawns::Origin,
    },
};

/// The function that all C libraries make threads by.
const SYMBOL: &str = "pthread_create";
/// Files that may have it, by the beginnings of their names; beside them the program itself, when it is static.
const LIBRARIES: [&str; 4] = ["libc.", "libc-", "libpthread", "ld-musl"];
/// Symbols that are looked through.
const MAX_SYMBOLS: usize = 4 << 20;

impl Inspector {
    /// Where a process's `pthread_create`s are: file offsets for a uprobe.
    ///
    /// # Errors
    /// When nothing can be told of this process.
    pub fn spawn_points(&mut self, pid: u32, tid: u32) -> Result<Vec<SpawnPoint>, StackError> {
        self.guarded(|this| {
            this.refresh_or_read(pid, tid)?;
            let target = this.target(pid, tid).ok_or(StackError::Gone)?;
            let program = fs::metadata(format!("/proc/{tid}/exe"))
                .map(|exe| exe.ino())
                .unwrap_or(0);
            let mut points: Vec<SpawnPoint> = Vec::new();
            let mut seen = Vec::new();
            for code in target.process.maps.code() {
                let may_have_it = LIBRARIES.iter().any(|library| code.name.starts_with(library));
                if code.origin != CodeOrigin::File
                    || seen.contains(&code.file)
                    || !(may_have_it || code.file.1 == program)
                {
                    continue;
                }
                seen.push(code.file);
                let Ok(file) = file::open_mapped(tid, code.range.start, code.range.end) else {
                    continue;
                };
                // The kernel reads a file to put a probe into it, for the monitor itself: that must not hang.
                if file::is_served(&file) {
                    continue;
                }
                let path = PathBuf::from(format!(
                    "/proc/{pid}/map_files/{:x}-{:x}",
                    code.range.start, code.range.end
                ));
                let is_code = |offset: &u64| {
                    target.process.maps.code().iter().any(|other| {
                        let length = other.range.end - other.range.start;
                        other.file == code.file && (other.offset..other.offset + length).contains(offset)
                    })
                };
                points.extend(
                    offset_of(file)
                        .filter(is_code)
                        .map(|offset| SpawnPoint { file: path, offset }),
                );
            }
            Ok(points)
        })
    }

    /// Who made a thread, and what it runs.
    ///
    /// # Errors
    /// When nothing can be told of this process.
    pub fn birth(&mut self, birth: &Birth) -> Result<NamedBirth, StackError> {
        if birth.registers.ip == 0 {
            // Not made by pthread_create: nothing was seen.
            return Ok(NamedBirth::default());
        }
        let frames = self.guarded(|this| this.creator(birth))?;
        let (entry, source) = self.start(&Start {
            pid: birth.pid,
            tid: birth.creator,
            routine: birth.start_routine,
            argument: birth.argument,
            argument_words: birth.argument_words,
        });
        // The first frame is pthread_create itself.
        let caller = frames.get(1..2).and_then(sites::block_site);
        let is_plain = source == Source::Routine && caller.is_some();
        let spawn_site = caller.or_else(|| sites::block_site(&frames));
        Ok(NamedBirth {
            origin: Origin {
                entry: entry.map(Arc::new),
                spawn_site: spawn_site.map(Arc::new),
            },
            is_plain,
        })
    }

    /// The creator's stack, from the copy that the probe made.
    fn creator(&mut self, birth: &Birth) -> Result<Vec<Frame>, StackError> {
        let (pid, tid, registers) = (birth.pid, birth.creator, birth.registers);
        self.prepare(pid, tid, |process| process.code_at(registers.ip).is_some())?;
        let max_frames = self.max_frames;
        let mut target = self.target(pid, tid).ok_or(StackError::Gone)?;
        let (maps, pages) = (target.process.maps.clone(), target.process.pages.clone());
        let mut memory = StackMemory::copied(tid, &pages, &maps, registers.sp, birth.stack.clone());
        let known = Known {
            ip: registers.ip,
            sp: registers.sp,
            bp: registers.bp,
            di: None,
        };
        let walked = walk(&mut target, &mut memory, known, max_frames);
        let mut frames = Vec::new();
        for place in &walked.places {
            frames.extend(target.frames(*place));
        }
        self.let_go();
        Ok(frames)
    }
}

/// Offset of the function in its file.
fn offset_of(file: File) -> Option<u64> {
    let cache = ReadCache::new(file);
    let elf = ElfFile64::<LittleEndian, _>::parse(&cache).ok()?;
    let symbols = elf.dynamic_symbols().chain(elf.symbols()).take(MAX_SYMBOLS);
    let address = symbols.into_iter().find_map(|symbol| {
        let is_it = symbol.is_definition() && symbol.name_bytes() == Ok(SYMBOL.as_bytes());
        is_it.then(|| symbol.address())
    })?;
    elf.segments().find_map(|segment| {
        let (offset, length) = segment.file_range();
        let within = address
            .checked_sub(segment.address())
            .filter(|within| *within < length)?;
        offset.checked_add(within)
    })
}
