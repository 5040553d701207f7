//! Programs of one runtime, by file, and the processes that run them: read once, looked up each time.

use std::{fs, rc::Rc, sync::Arc};

use serde::{Deserialize, Serialize};

use super::{
    helper::Who,
    image::{Image, ImageKey},
    memory::Memory,
};
use crate::identify::{Lru, clean};

/// Programs and processes that are kept.
const MAX_PROGRAMS: usize = 64;
const MAX_PROCESSES: usize = 256;
/// Longest name of a program, in characters: that of a file.
const MAX_NAME: usize = 255;

/// Why a process's tasks cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum Unknown {
    /// It does not have this runtime.
    #[error("another program")]
    Other,
    /// Its version of the runtime is not known, or its structures are not where they should be.
    #[error("{0}: layout not known")]
    Layout(String),
    #[error("{0}")]
    Unreadable(String),
}

/// A program where a process has it.
pub struct Placed<P> {
    /// How far behind the linker's addresses.
    pub bias: u64,
    pub program: Rc<P>,
    /// Its file's name.
    pub module: Arc<str>,
}

impl<P> Clone for Placed<P> {
    fn clone(&self) -> Self {
        Self {
            bias: self.bias,
            program: Rc::clone(&self.program),
            module: Arc::clone(&self.module),
        }
    }
}

/// A process, and what it is told each time.
type Process<P> = (Who, Result<Placed<P>, Unknown>);

pub struct Programs<P> {
    programs: Lru<ImageKey, Result<Rc<P>, Unknown>>,
    processes: Lru<u32, Process<P>>,
}

impl<P> Default for Programs<P> {
    fn default() -> Self {
        Self {
            programs: Lru::new(MAX_PROGRAMS, usize::MAX),
            processes: Lru::new(MAX_PROCESSES, usize::MAX),
        }
    }
}

impl<P> Programs<P> {
    /// The program of a process; `read` makes it of its file when it is met for the first time.
    ///
    /// # Errors
    /// What `read` says, or that it cannot be opened.
    pub fn of(
        &mut self,
        who: Who,
        read: impl FnOnce(Image, u64, &mut Memory) -> Result<P, Unknown>,
    ) -> Result<Placed<P>, Unknown> {
        if let Some((known, placed)) = self.processes.get(&who.pid)
            && known.process() == who.process()
        {
            return placed.clone();
        }
        let placed = self.place(who, read);
        // What could not be read may be readable later: a program that has only just begun has nothing to show.
        if !matches!(placed, Err(Unknown::Unreadable(_))) {
            self.processes.insert(who.pid, (who, placed.clone()), 0);
        }
        placed
    }

    fn place(
        &mut self,
        who: Who,
        read: impl FnOnce(Image, u64, &mut Memory) -> Result<P, Unknown>,
    ) -> Result<Placed<P>, Unknown> {
        let failed = |error: std::io::Error| Unknown::Unreadable(error.to_string());
        let (file, key) = Image::open(who.pid, who.tid).map_err(failed)?;
        if let Some(Err(unknown)) = self.programs.get(&key) {
            return Err(unknown.clone());
        }
        let image = Image::parse(file).ok_or(Unknown::Other)?;
        let bias = image.bias(who.pid, who.tid).map_err(failed)?;
        let path = fs::read_link(format!("/proc/{}/task/{}/exe", who.pid, who.tid)).unwrap_or_default();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let module = clean(name.strip_suffix(" (deleted)").unwrap_or(&name), MAX_NAME).into();
        if let Some(Ok(program)) = self.programs.get(&key) {
            let program = Rc::clone(program);
            return Ok(Placed {
                bias,
                program,
                module,
            });
        }
        let mut memory = Memory::of(who.tid).map_err(failed)?;
        let program = read(image, bias, &mut memory).map(Rc::new);
        if !matches!(program, Err(Unknown::Unreadable(_))) {
            self.programs.insert(key, program.clone(), 0);
        }
        program.map(|program| Placed {
            bias,
            program,
            module,
        })
    }
}
