//! What is to be known of a Go program before its goroutines can be read, found without symbols: its version, its
//! table of functions, where the runtime keeps its list of goroutines, and what it calls the reasons of their waits.
//!
//! All of it is the same in every process of the file, but some of it stands in memory only (a relocatable program's
//! pointers), so it is read with the first process. Addresses are the linker's.

use std::ops::Range;

use super::{
    buildinfo::{self, Version},
    code,
    goroutine::{Goroutine, Status},
    offsets::{self, Offsets},
    pclntab::{Function, Pclntab},
    table::{self, MAX_CANDIDATES, data, search_data},
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

/// Where variables are that GODEBUG sets (half words of `runtime.debug`); `None`: not there, or not found.
#[derive(Clone, Copy, Debug, Default)]
pub struct Switches {
    /// Whether tracebacks have labels; from Go 1.26 on.
    pub traceback_labels: Option<u64>,
    /// Whether timers' channels are as they were before Go 1.23; up to 1.26.
    pub async_timers: Option<u64>,
}

/// A Go program.
pub struct Program {
    pub version: Version,
    pub offsets: &'static Offsets,
    pub functions: Pclntab<Image>,
    /// `runtime.allglen` and `runtime.allgptr`.
    pub list_length: u64,
    pub list: u64,
    /// `runtime.allp`, a slice.
    pub processors: Option<u64>,
    pub switches: Switches,
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

    /// Whether its tracebacks have labels.
    pub fn traces_labels(&self, bias: u64, memory: &Memory) -> bool {
        let switch = self.switches.traceback_labels;
        match switch.and_then(|address| memory.u32(address.wrapping_add(bias))) {
            Some(switch) => switch == 1,
            // What it is when nobody sets it.
            None => self.version.minor >= 27,
        }
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
        let place = table::find(&image, offsets, bias, memory).map_err(unreadable)?;
        let reasons =
            find_reasons(&image, bias, memory).ok_or_else(|| unreadable("no texts of wait reasons"))?;
        let functions = Pclntab::new(image, place.header, place.text, place.gofunc);
        let [
            for_each,
            goexit,
            defer_return,
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
            trace_header,
            sleep_until,
            stop_timer,
        ] = functions.find([
            "runtime.forEachGRace",
            "runtime.goexit",
            "runtime.deferreturn",
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
            "runtime.goroutineheader",
            "runtime.timeSleepUntil",
            "runtime.(*timer).stop",
        ]);
        let goexit = goexit.ok_or_else(|| unreadable("no runtime.goexit"))?;
        let (list_length, list) = for_each
            .and_then(|function| code::list(&functions, &function))
            .ok_or_else(|| unreadable("no list of goroutines"))?;
        let id = |function: Option<Function>| function.map(|function| function.id);
        let library = runtime_main.as_ref().and_then(|function| {
            let (file, _) = functions.line(function, function.entry);
            Some(file?.strip_suffix("runtime/proc.go")?.to_owned()).filter(|folder| !folder.is_empty())
        });
        let within = |first: u32, last: u32| (first..=last).contains(&version.minor);
        let switches = Switches {
            traceback_labels: trace_header
                .filter(|_| within(26, u32::MAX))
                .and_then(|function| code::traceback_labels(&functions, &function, offsets)),
            async_timers: stop_timer
                .filter(|_| within(23, 26))
                .and_then(|function| code::async_timers(&functions, &function)),
        };
        Ok(Self {
            offsets,
            processors: sleep_until.and_then(|function| code::processors(&functions, &function)),
            switches,
            list_length,
            list,
            reasons,
            marked: Marked {
                // It counts as one of the compiler's wrappers (cmd/internal/objabi/funcid.go).
                wrapper: id(defer_return),
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
