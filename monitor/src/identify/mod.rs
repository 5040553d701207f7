//! Where in the code: the stacks of blocked threads, unwound and named from outside.
//!
//! x86-64 only, as the rest. A thread's registers come from the sweep; it is blocked and does not move, and it is
//! neither stopped nor traced. Its stack is read once, without touching a page that is not there. The code that it
//! stands in is read from the files themselves. `Inspector` is for a process that may be killed when it hangs.

mod call_site;
mod cfi;
mod debug_files;
mod debug_sections;
mod demangle;
mod elf;
mod entries;
mod file;
mod go_names;
mod guess;
mod inspector;
mod lru;
mod maps;
mod module;
mod module_files;
mod process;
mod prologue;
pub mod sites;
mod stack_memory;
mod stacks;
mod symbols;
pub mod text;
mod unwind;
mod worker;

use std::{io, path::PathBuf};

use serde::{Deserialize, Serialize};

pub(crate) use debug_sections::{DebugSections, Slice};
pub use demangle::MAX_NAME;
pub(crate) use file::{is_served, open_mapped, open_regular};
pub use inspector::{Identity, Inspector};
pub(crate) use lru::Lru;
pub(crate) use maps::Maps;
pub use maps::MapsError;
pub(crate) use module::Module;
pub use module_files::modules;
pub use stacks::{Identifier, New};
pub(crate) use text::clean;

pub use crate::model::Registers;

use crate::model::{Frame, Site};

/// Where distributions put debug information.
const DEBUG_DIR: &str = "/usr/lib/debug";
const MAX_FRAMES: usize = 128;

/// How stacks are to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Folders with separate debug files, by build-id below `.build-id` and by path.
    pub debug_dirs: Vec<PathBuf>,
    /// Frames of one stack, inlined ones included; what lies further out is left out.
    pub max_frames: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            debug_dirs: vec![PathBuf::from(DEBUG_DIR)],
            max_frames: MAX_FRAMES,
        }
    }
}

/// An address of code, and what it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CodeAddress {
    /// Where a function begins, or an instruction.
    Exact(u64),
    /// Where a call returns to: the call is what stands before it.
    Return(u64),
}

/// A thread's stack.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stack {
    /// Innermost first.
    pub frames: Vec<Frame>,
    /// There are more frames outside of the last: too many, or no way to them.
    pub truncated: bool,
}

impl Stack {
    /// See [`sites::block_site`].
    pub fn block_site(&self) -> Option<Site> {
        sites::block_site(&self.frames)
    }

    /// See [`sites::entry`]; not known where the outermost frames are missing.
    pub fn entry(&self) -> Option<Site> {
        if self.truncated {
            return None;
        }
        sites::entry(&self.frames)
    }
}

/// Why there is no stack, or no name.
#[derive(Debug, thiserror::Error)]
pub enum StackError {
    #[error("the process or its thread is gone")]
    Gone,
    #[error("its memory may not be looked at: {0}")]
    Denied(io::Error),
    #[error(transparent)]
    Map(MapsError),
    /// Swapped out, or served by somebody: nothing is faulted in.
    #[error("its stack is not in memory")]
    Absent,
    #[error("it runs 32-bit code, which is not unwound")]
    ThirtyTwoBit,
    #[error("its unwind information or symbols are so broken that a decoder gave up")]
    Decoder,
}

/// What an inspector holds, and what it had to let go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    pub processes: usize,
    pub modules: usize,
    pub module_bytes: usize,
    pub names: usize,
    pub name_bytes: usize,
    /// Entries that had to make room for others.
    pub evicted: u64,
    /// Targets at which a decoder gave up.
    pub panics: u64,
}
