//! Names for the addresses of one file: blazesym over its symbols and its DWARF.
//!
//! blazesym opens files by path, and looks for others that they name. It is given `/proc/self/fd/N` of a file that
//! was checked, and DWARF only of files that name no others, unless they are the user's own.

use std::{
    cell::Cell,
    fs::File,
    os::fd::AsRawFd as _,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
};

use blazesym::symbolize::{
    CodeInfo, Input, Sym, Symbolized, Symbolizer,
    source::{Elf, Source},
};

use super::{debug_files::DebugFile, demangle::demangle, elf::Image, text::clean};

/// Longest path of a source file, in characters.
const MAX_PATH: usize = 512;

/// What is known of an address: functions that the compiler put into others first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Named {
    pub calls: Vec<Call>,
    /// Where the function begins that the address is in (not one put into it), in the file.
    pub start: Option<u64>,
}

impl Named {
    /// How much it takes.
    pub fn bytes(&self) -> usize {
        let text = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        let call = |call: &Call| size_of::<Call>() + text(&call.function) + text(&call.file);
        size_of::<Self>() + self.calls.iter().map(call).sum::<usize>()
    }
}

/// One of the functions at an address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Call {
    pub function: Option<String>,
    pub file: Option<String>,
    pub line: Option<u32>,
    pub inlined: bool,
}

/// The symbols of one file, and of the debug file that belongs to it.
pub struct Symbols {
    symbolizer: Symbolizer,
    sources: Vec<Origin>,
}

struct Origin {
    path: PathBuf,
    /// What a path to a descriptor stands for, until blazesym has opened it.
    file: Cell<Option<File>>,
    reads: Cell<Reads>,
}

/// What is read of a file: less of it when that turns out to be broken.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reads {
    Dwarf,
    Symbols,
    Nothing,
}

impl Reads {
    fn of(has_symbols: bool, has_dwarf: bool) -> Cell<Self> {
        Cell::new(match (has_symbols, has_dwarf) {
            (true, true) => Self::Dwarf,
            (true, false) => Self::Symbols,
            // They are looked at with DWARF as well.
            (false, _) => Self::Nothing,
        })
    }
}

impl Symbols {
    /// `folders` are where blazesym may look for what a debug file refers to.
    pub fn new(file: File, image: &Image, debug: Option<DebugFile>, folders: &[PathBuf]) -> Self {
        let symbolizer = Symbolizer::builder()
            // A path is opened once: the descriptor behind it is closed then.
            .enable_auto_reload(false)
            // See `demangle`.
            .enable_demangling(false)
            .set_debug_dirs(Some(folders))
            .build();
        let mut sources = Vec::new();
        if let Some(debug) = debug {
            sources.push(Origin {
                path: debug.path,
                file: Cell::new(None),
                reads: Reads::of(debug.image.has_symbols, debug.image.has_dwarf),
            });
        }
        sources.push(Origin {
            path: format!("/proc/self/fd/{}", file.as_raw_fd()).into(),
            file: Cell::new(Some(file)),
            reads: Reads::of(image.has_symbols, image.has_dwarf && !image.has_links),
        });
        Self { symbolizer, sources }
    }

    /// `address` is one of the file's own.
    pub fn name(&self, address: u64) -> Named {
        self.sources
            .iter()
            .find_map(|source| self.look_up(source, address))
            .unwrap_or_default()
    }

    /// The symbol at an address of the file, as it is written there.
    pub fn mangled(&self, address: u64) -> Option<String> {
        self.sources.iter().find_map(|source| {
            let has_symbols = source.reads.get() != Reads::Nothing;
            let symbol = has_symbols.then(|| self.symbol(source, Reads::Symbols, address))?;
            Some(symbol.ok()??.name.into_owned())
        })
    }

    fn look_up(&self, source: &Origin, address: u64) -> Option<Named> {
        if source.reads.get() == Reads::Dwarf {
            match self.symbol(source, Reads::Dwarf, address) {
                Ok(symbol) => return symbol.map(|symbol| self.describe_fully(source, &symbol, address)),
                // Symbols may be readable where DWARF is not.
                Err(_) => source.reads.set(Reads::Symbols),
            }
        }
        let symbol = self.symbol(source, source.reads.get(), address).ok().flatten()?;
        Some(describe(&symbol))
    }

    /// DWARF has but short names (`operator()`) for what belongs to a type without a name; the symbol has all of it.
    fn describe_fully(&self, source: &Origin, symbol: &Sym<'_>, address: u64) -> Named {
        let mut named = describe(symbol);
        if !is_mangled(&symbol.name)
            && let Ok(Some(full)) = self.symbol(source, Reads::Symbols, address)
            && is_mangled(&full.name)
            && let Some(own) = named.calls.last_mut()
        {
            own.function = Some(demangle(&full.name));
        }
        named
    }

    fn symbol(&self, source: &Origin, reads: Reads, address: u64) -> Result<Option<Sym<'_>>, Broken> {
        if reads == Reads::Nothing {
            return Ok(None);
        }
        let mut elf = Elf::new(&source.path);
        elf.debug_syms = reads == Reads::Dwarf;
        // It takes for granted that line tables refer to files that they list (0.2.7, dwarf/lines.rs).
        let found = catch_unwind(AssertUnwindSafe(|| {
            self.symbolizer
                .symbolize_single(&Source::Elf(elf), Input::VirtOffset(address))
        }));
        let Ok(found) = found else {
            if reads == Reads::Symbols {
                source.reads.set(Reads::Nothing);
            }
            return Err(Broken);
        };
        let found = found.map_err(|_| Broken)?;
        source.file.take();
        Ok(match found {
            Symbolized::Sym(symbol) => Some(symbol),
            Symbolized::Unknown(_) => None,
        })
    }
}

/// The file's own fault.
struct Broken;

fn is_mangled(symbol: &str) -> bool {
    symbol.starts_with("_Z") || symbol.starts_with("_R")
}

fn describe(symbol: &Sym<'_>) -> Named {
    let inlined = symbol.inlined.iter().rev().map(|function| Call {
        inlined: true,
        ..call(&function.name, function.code_info.as_ref())
    });
    let own = call(&symbol.name, symbol.code_info.as_deref());
    Named {
        calls: inlined.chain([own]).collect(),
        start: Some(symbol.addr),
    }
}

fn call(name: &str, place: Option<&CodeInfo<'_>>) -> Call {
    Call {
        function: Some(demangle(name)).filter(|name| !name.is_empty()),
        file: place.map(|place| path(&place.to_path())),
        line: place.and_then(|place| place.line).filter(|line| *line > 0),
        inlined: false,
    }
}

fn path(path: &Path) -> String {
    clean(&path.to_string_lossy(), MAX_PATH)
}
