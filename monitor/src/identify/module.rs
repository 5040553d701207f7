//! A file with code, as unwinding and naming use it, and the cache of them: one for all processes that map it.

use std::{
    ffi::CStr,
    fs::File,
    io::{self, Write as _},
    ops::Range,
    os::fd::FromRawFd as _,
    path::PathBuf,
    rc::Rc,
    sync::Arc,
};

use framehop::{ExplicitModuleSectionInfo, Module as Frames};

use super::{
    cfi::{Cfi, Plain},
    debug_files,
    elf::{ElfError, Image, Section, build_id_of},
    file::{FileKey, open_mapped},
    go_names::GoNames,
    lru::Lru,
    maps::{Code, Origin},
    symbols::Symbols,
};
use crate::observe::memory::present;

/// Files that are kept, with up to four descriptors each.
const MAX_MODULES: usize = 256;
/// What their unwind sections may take together.
const MAX_BYTES: usize = 256 << 20;
/// The kernel's is two pages.
const MAX_VDSO: u64 = 64 << 10;

/// Unwind information and symbols of one file.
pub struct Module {
    /// Tells it from every other one that ever was.
    pub id: u64,
    pub symbols: Symbols,
    pub go_names: GoNames,
    pub cfi: Option<Cfi>,
    image: Image,
}

/// A module where a process has mapped it.
#[derive(Clone)]
pub struct Placed {
    pub module: Rc<Module>,
    /// To be taken off an address in the process to get the one in the file.
    pub bias: u64,
}

/// Why there is no module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// Code without a file.
    Anonymous,
    /// The file cannot be opened or understood.
    Unreadable,
    /// It is a file of 32-bit code.
    ThirtyTwoBit,
}

impl Module {
    /// From where to where the function goes that an address of the file is in, as unwind information tells.
    pub fn function_range(&self, address: u64) -> Option<Range<u64>> {
        self.cfi.as_ref()?.function_range(address)
    }

    /// How to get from a place in the file that a call returns to, to the frame outside.
    pub fn plain(&self, returns_to: u64) -> Option<Plain> {
        self.cfi.as_ref()?.plain(returns_to.wrapping_sub(1))
    }

    /// Beginnings of functions, as unwind information tells, so many at most.
    pub fn functions(&self, most: usize) -> Vec<u64> {
        self.cfi
            .as_ref()
            .map(|cfi| cfi.functions(most))
            .unwrap_or_default()
    }
}

impl Placed {
    /// What framehop is to know of this mapping. Its sections are shared, not copied.
    pub fn frames(&self, range: Range<u64>) -> Option<Frames<Arc<[u8]>>> {
        let cfi = self.module.cfi.as_ref()?;
        let svma = |section: &Option<Section>| {
            let section = section.as_ref()?;
            Some(section.address..section.address.saturating_add(section.data.len() as u64))
        };
        let image = &self.module.image;
        let at = |address: Option<u64>| address.map(|address| address..address.saturating_add(1));
        let info = ExplicitModuleSectionInfo {
            base_svma: range.start.wrapping_sub(self.bias),
            text_svma: at(image.text),
            got_svma: at(image.got),
            eh_frame_svma: svma(&image.eh_frame),
            eh_frame: cfi.eh_frame().cloned(),
            eh_frame_hdr_svma: svma(&image.eh_frame_hdr),
            eh_frame_hdr: cfi.eh_frame_hdr().cloned(),
            debug_frame: cfi.debug_frame().cloned(),
            ..ExplicitModuleSectionInfo::default()
        };
        Some(Frames::new(String::new(), range.clone(), range.start, info))
    }
}

/// All modules that are known.
pub struct Modules {
    known: Lru<FileKey, Rc<Module>>,
    /// The kernel maps the same one into every process; a compatible one may come with another time namespace.
    vdso: Option<(Vec<u8>, Rc<Module>)>,
    debug_folders: Vec<PathBuf>,
    next_id: u64,
    /// Of those that had to go, until somebody asks.
    gone: Vec<u64>,
}

impl Modules {
    pub fn new(debug_folders: Vec<PathBuf>) -> Self {
        Self {
            known: Lru::new(MAX_MODULES, MAX_BYTES),
            vdso: None,
            debug_folders,
            next_id: 0,
            gone: Vec::new(),
        }
    }

    /// The module of a mapping of the process that the live thread `tid` belongs to.
    ///
    /// # Errors
    /// Why there is none.
    pub fn place(&mut self, tid: u32, code: &Code) -> Result<Placed, Missing> {
        let module = match code.origin {
            Origin::Anonymous => return Err(Missing::Anonymous),
            Origin::File => self.of_file(tid, code)?,
            Origin::Vdso => self.of_vdso(tid, code)?,
        };
        let bias = module
            .image
            .bias(code.range.start, code.offset)
            .ok_or(Missing::Unreadable)?;
        Ok(Placed { module, bias })
    }

    /// The file that has the debug information of a mapping: its own, or the one that was put aside.
    pub fn debug_file(&self, tid: u32, code: &Code) -> Option<File> {
        let file = open_mapped(tid, code.range.start, code.range.end).ok()?;
        let image = Image::parse(&file).ok()?;
        if image.has_dwarf && !image.has_links {
            return Some(file);
        }
        let found = debug_files::find(&self.debug_folders, &image, &code.folder)?;
        found.image.has_dwarf.then_some(found.file)
    }

    /// Modules that had to make room for others since the last call. Whoever still holds one should let it go.
    pub fn take_gone(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.gone)
    }

    /// Forgets all of them.
    pub fn clear(&mut self) {
        self.known.retain(|_, _| false);
        self.vdso = None;
    }

    pub fn len(&self) -> usize {
        self.known.len()
    }

    pub fn bytes(&self) -> usize {
        self.known.bytes()
    }

    pub fn evicted(&self) -> u64 {
        self.known.evicted()
    }

    fn of_file(&mut self, tid: u32, code: &Code) -> Result<Rc<Module>, Missing> {
        let file = open_mapped(tid, code.range.start, code.range.end).map_err(|_| Missing::Unreadable)?;
        let metadata = file.metadata().map_err(|_| Missing::Unreadable)?;
        let key = FileKey::new(&metadata, build_id_of(&file).unwrap_or_default());
        if let Some(module) = self.known.get(&key) {
            return Ok(module.clone());
        }
        let module = self.load(file, &code.folder)?;
        let bytes = module.image.bytes() + module.cfi.as_ref().map_or(0, Cfi::bytes);
        let gone = self.known.insert(key, module.clone(), bytes);
        self.gone.extend(gone.iter().map(|(_, module)| module.id));
        Ok(module)
    }

    fn load(&mut self, file: File, folder: &str) -> Result<Rc<Module>, Missing> {
        let image = Image::parse(&file).map_err(|error| match error {
            ElfError::Malformed => Missing::Unreadable,
            ElfError::ThirtyTwoBit => Missing::ThirtyTwoBit,
        })?;
        let debug = if image.has_dwarf && !image.has_links {
            None
        } else {
            debug_files::find(&self.debug_folders, &image, folder)
        };
        self.next_id += 1;
        Ok(Rc::new(Module {
            id: self.next_id,
            go_names: GoNames::default(),
            symbols: Symbols::new(file, &image, debug, &self.debug_folders),
            cfi: Cfi::new(&image),
            image,
        }))
    }

    /// From memory: no file stands behind it. Its pages are the kernel's own, reading them cannot hang.
    fn of_vdso(&mut self, tid: u32, code: &Code) -> Result<Rc<Module>, Missing> {
        let range = code.range.clone();
        let length = range.end.saturating_sub(range.start);
        if length > MAX_VDSO {
            return Err(Missing::Unreadable);
        }
        let mut bytes = vec![0; length as usize];
        if present::read(tid, std::slice::from_ref(&range), &mut bytes) != bytes.len() {
            return Err(Missing::Unreadable);
        }
        if let Some((known, module)) = &self.vdso
            && *known == bytes
        {
            return Ok(module.clone());
        }
        let file = in_memory(c"vdso", &bytes).map_err(|_| Missing::Unreadable)?;
        let module = self.load(file, "")?;
        if let Some((_, old)) = self.vdso.replace((bytes, module.clone())) {
            self.gone.push(old.id);
        }
        Ok(module)
    }
}

/// A file that exists in memory only: blazesym reads files.
fn in_memory(name: &CStr, content: &[u8]) -> io::Result<File> {
    // SAFETY: the name is a string that lives through the call.
    let descriptor = unsafe { libc::memfd_create(name.as_ptr(), libc::MFD_CLOEXEC) };
    if descriptor == -1 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor was made just now, and nobody else has it.
    let mut file = unsafe { File::from_raw_fd(descriptor) };
    file.write_all(content)?;
    Ok(file)
}
