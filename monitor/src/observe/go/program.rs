//! What is to be known of a Go program before its goroutines can be read, found without symbols: its version, its
//! table of functions, where the runtime keeps its list of goroutines, and what it calls the reasons of their waits.
//!
//! All of it is the same in every process of the file, but some of it stands in memory only (a relocatable program's
//! pointers), so it is read with the first process. Addresses are the linker's.

use std::ops::Range;

use iced_x86::{Code, Decoder, DecoderOptions, Register};

use super::{
    buildinfo::{self, Version},
    goroutine::{Goroutine, Status},
    offsets::{self, Offsets},
    pclntab::{Function, Header, Pclntab},
};
use crate::observe::{
    image::{Image, Segment},
    memory::{
        Memory,
        space::{Space as _, SpaceExt as _},
    },
};

pub use crate::observe::programs::Unknown;

/// A text that only the table of wait reasons refers to (`runtime.waitReasonStrings`), and its place in it.
const KNOWN_REASON: (&str, u64) = ("GC assist marking", 1);
/// More than there ever were.
const MAX_REASONS: u64 = 64;
const MAX_REASON: u64 = 48;
/// Bytes of the function that the list of goroutines is found in.
const MAX_CODE: usize = 256;
/// Places that may look like a table before a program is given up.
const MAX_CANDIDATES: usize = 64;

/// Functions that the runtime treats in a way of its own, by `internal/abi.FuncID`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Marked {
    pub wrapper: Option<u8>,
    pub panic: Option<u8>,
    pub signal_panic: Option<u8>,
    pub wrapper_panic: Option<u8>,
    /// Run the program's finalizers and cleanups; tracebacks show them from Go 1.25 on, before they had other names.
    pub finalizers: [Option<u8>; 2],
}

/// A Go program.
pub struct Program {
    pub version: Version,
    pub offsets: &'static Offsets,
    pub functions: Pclntab<Image>,
    /// `runtime.allglen` and `runtime.allgptr`.
    pub list_length: u64,
    pub list: u64,
    /// Texts by number.
    pub reasons: Vec<String>,
    pub marked: Marked,
    /// Every goroutine's outermost frame returns into it.
    pub goexit: Range<u64>,
    /// The program's own first function.
    pub main: Option<Function>,
    /// `runtime.main`, which calls it.
    pub runtime_main: Option<u64>,
    /// What makes a goroutine, and what clears one away.
    pub spawn: Option<Function>,
    pub exit: Option<Function>,
    /// Where the standard library's sources were (`/usr/local/go/src/`).
    pub library: Option<String>,
}

impl Program {
    /// The runtime's text for what a goroutine waits for; `None` of one that does not wait.
    pub fn waits_for(&self, goroutine: &Goroutine) -> Option<&str> {
        let reason = self.reasons.get(usize::from(goroutine.reason));
        reason
            .map(String::as_str)
            .filter(|_| goroutine.status == Status::Waiting)
    }

    /// Where an address is in the program's file; the address itself where it is in none of its segments.
    pub fn file_offset(&self, address: u64) -> u64 {
        let segments = self.functions.space().segments().iter();
        let inside = |segment: &&Segment| {
            (segment.address..segment.address.saturating_add(segment.file_size)).contains(&address)
        };
        segments
            .clone()
            .find(inside)
            .map_or(address, |segment| address - segment.address + segment.offset)
    }

    /// `bias`: how far behind the linker's addresses the process has the program.
    ///
    /// # Errors
    /// When it is none that is understood, whole and sound.
    pub fn read(image: Image, bias: u64, memory: &mut Memory) -> Result<Self, Unknown> {
        let version = buildinfo::find(&image).ok_or(Unknown::Other)?;
        let unreadable = |what: &str| Unknown::Unreadable(format!("{version}: {what}"));
        let offsets = offsets::of(version.minor).ok_or_else(|| Unknown::Layout(version.text.clone()))?;
        let header = find_header(&image).ok_or_else(|| unreadable("no table of functions"))?;
        let (text, gofunc) = find_module(&image, &header, bias, memory, offsets)
            .ok_or_else(|| unreadable("no description of its module"))?;
        let reasons =
            find_reasons(&image, bias, memory).ok_or_else(|| unreadable("no texts of wait reasons"))?;
        let functions = Pclntab::new(image, header, text, gofunc);
        let [
            for_each,
            goexit,
            switch,
            panic,
            signal_panic,
            wrapper_panic,
            runtime_main,
            main,
            finalizers,
            cleanups,
            spawn,
            destroy,
            exit,
        ] = functions.find([
            "runtime.forEachGRace",
            "runtime.goexit",
            "runtime.systemstack_switch",
            "runtime.gopanic",
            "runtime.sigpanic",
            "runtime.panicwrap",
            "runtime.main",
            "main.main",
            "runtime.runFinalizers",
            "runtime.runCleanups",
            "runtime.newproc1",
            "runtime.gdestroy",
            "runtime.goexit0",
        ]);
        let goexit = goexit.ok_or_else(|| unreadable("no runtime.goexit"))?;
        let (list_length, list) = for_each
            .and_then(|function| find_list(&functions, &function))
            .ok_or_else(|| unreadable("no list of goroutines"))?;
        let id = |function: Option<Function>| function.map(|function| function.id);
        let library = runtime_main.as_ref().and_then(|function| {
            let (file, _) = functions.line(function, function.entry);
            Some(file?.strip_suffix("runtime/proc.go")?.to_owned()).filter(|folder| !folder.is_empty())
        });
        Ok(Self {
            offsets,
            list_length,
            list,
            reasons,
            marked: Marked {
                // The compiler's wrappers have no function of that name; the list of ids goes on with them.
                wrapper: id(switch).and_then(|id| id.checked_add(1)),
                panic: id(panic),
                signal_panic: id(signal_panic),
                wrapper_panic: id(wrapper_panic),
                finalizers: [id(finalizers), id(cleanups)],
            },
            goexit: goexit.entry..goexit.end,
            main,
            runtime_main: runtime_main.map(|function| function.entry),
            spawn,
            // From Go 1.22 on the latter calls the former, and others do too.
            exit: destroy.or(exit),
            library,
            functions,
            version,
        })
    }
}

fn find_header(image: &Image) -> Option<Header> {
    let mut found = None;
    let mut left = MAX_CANDIDATES;
    // Some linkers put constants into the segment of the code.
    for executable in [false, true] {
        for pattern in Header::patterns() {
            let mut visit = |address| {
                found = Header::read(image, address);
                left = left.saturating_sub(1);
                found.is_none() && left > 0
            };
            image.search(
                &pattern,
                8,
                |segment| segment.executable == executable,
                &mut visit,
            );
            if found.is_some() {
                return found;
            }
        }
    }
    None
}

/// `moduledata.text` and `.gofunc`: the module's description begins with the address of the table's header and
/// that of its names.
fn find_module(
    image: &Image,
    header: &Header,
    bias: u64,
    memory: &mut Memory,
    offsets: &Offsets,
) -> Option<(u64, u64)> {
    let wanted = header.address.wrapping_add(bias).to_le_bytes();
    let mut candidates = Vec::new();
    search_data(image, bias, memory, &wanted, &mut candidates);
    candidates.into_iter().find_map(|address| {
        let word =
            |offset: u64| Some(data(image, bias, memory, address.checked_add(offset)?)?.wrapping_sub(bias));
        // funcnametab, and pclntable: the parts of the table that are its first and its last.
        if word(8)? != header.names || word(104)? != header.functions {
            return None;
        }
        let (text, gofunc) = (word(offsets.module_text)?, word(offsets.module_gofunc)?);
        let is_code = image.is_in(text, |segment| segment.executable);
        (is_code && image.is_in(gofunc, |_| true)).then_some((text, gofunc))
    })
}

/// Addresses in the process at which the bytes stand in the program's data, aligned to words.
fn search_data(image: &Image, bias: u64, memory: &mut Memory, wanted: &[u8; 8], found: &mut Vec<u64>) {
    let mut visit = |address: u64| {
        found.push(address.wrapping_add(bias));
        found.len() < MAX_CANDIDATES
    };
    if !image.is_relocatable {
        image.search(wanted, 8, |segment| !segment.executable, &mut visit);
        return;
    }
    // The loader writes the pointers of such a program: they stand in memory only.
    let finder = memchr::memmem::Finder::new(wanted);
    for segment in image.segments().iter().filter(|segment| segment.writable) {
        let start = segment.address.wrapping_add(bias);
        let Some(end) = start.checked_add(segment.file_size) else {
            continue;
        };
        memory.parts(start..end, |at, bytes| {
            for offset in finder.find_iter(bytes) {
                let address = at + offset as u64;
                if address.is_multiple_of(8) && found.len() < MAX_CANDIDATES {
                    found.push(address);
                }
            }
        });
    }
}

/// A word of the program's data that nobody changes once it runs. Where it stands in the file, its page need not be in
/// memory.
fn data(image: &Image, bias: u64, memory: &Memory, address: u64) -> Option<u64> {
    if image.is_relocatable {
        memory.u64(address)
    } else {
        image.u64(address.wrapping_sub(bias))
    }
}

/// `runtime.waitReasonStrings`, found by one of its texts.
fn find_reasons(image: &Image, bias: u64, memory: &mut Memory) -> Option<Vec<String>> {
    let (text, number) = KNOWN_REASON;
    let mut texts = Vec::new();
    let is_constant = |segment: &Segment| !segment.writable;
    image.search(text.as_bytes(), 1, is_constant, |address| {
        texts.push(address);
        texts.len() < MAX_CANDIDATES
    });
    for address in texts {
        let wanted = address.wrapping_add(bias).to_le_bytes();
        let mut candidates = Vec::new();
        search_data(image, bias, memory, &wanted, &mut candidates);
        let table = candidates
            .into_iter()
            .filter_map(|candidate| read_reasons(image, bias, memory, candidate.checked_sub(16 * number)?));
        if let Some(table) = table.max_by_key(Vec::len) {
            return Some(table);
        }
    }
    None
}

fn read_reasons(image: &Image, bias: u64, memory: &Memory, table: u64) -> Option<Vec<String>> {
    let mut reasons = Vec::new();
    for number in 0..MAX_REASONS {
        let at = table.checked_add(16 * number)?;
        let length = data(image, bias, memory, at.checked_add(8)?);
        let (Some(address), Some(length)) = (data(image, bias, memory, at), length) else {
            break;
        };
        // The first one is empty, and the only one.
        if (length == 0) != (number == 0) || length > MAX_REASON {
            break;
        }
        let mut text = vec![0; length as usize];
        if !text.is_empty() && !image.fill(address.wrapping_sub(bias), &mut text) {
            break;
        }
        let Ok(text) = String::from_utf8(text) else { break };
        if !text.chars().all(|c| c.is_ascii_graphic() || c == ' ') {
            break;
        }
        reasons.push(text);
    }
    let (known, number) = KNOWN_REASON;
    (reasons.get(number as usize).map(String::as_str) == Some(known)).then_some(reasons)
}

/// The list's length and the list itself: the first two words that `runtime.forEachGRace` loads
/// (`atomicAllG`, runtime/proc.go).
fn find_list(functions: &Pclntab<Image>, function: &Function) -> Option<(u64, u64)> {
    let length = usize::try_from(function.end.checked_sub(function.entry)?).ok()?;
    let code = functions.space().some(function.entry, length.min(MAX_CODE), 1);
    let mut loads = Decoder::with_ip(64, &code, function.entry, DecoderOptions::NONE)
        .into_iter()
        .filter(|instruction| {
            instruction.code() == Code::Mov_r64_rm64 && instruction.memory_base() == Register::RIP
        })
        .map(|instruction| instruction.memory_displacement64());
    let (length, list) = (loads.next()?, loads.next()?);
    let is_data = |address| functions.space().is_in(address, |segment| segment.writable);
    (is_data(length) && is_data(list)).then_some((length, list))
}
