//! What is kept of a process between two of its stacks: its map, and which module is where in it.

use std::{
    collections::HashMap,
    io,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use framehop::{
    Unwinder as _,
    x86_64::{CacheX86_64, UnwinderX86_64},
};

use super::{
    StackError,
    inspector::{Identity, Votes},
    maps::{Code, Maps, MapsError},
    module::{Missing, Modules, Placed},
};
use crate::{model::Site, observe::memory::present::Pages};

/// How long a map is believed. A thread that blocks keeps what it stands on; new ones bring new mappings, and what
/// is not found in the map is looked for in a new one.
const MAP_LIFETIME: Duration = Duration::from_secs(1);
/// Processes are told apart by this file of theirs being mapped.
const JVM: &str = "libjvm.so";

/// A process, as its map was when it was read.
pub struct Process {
    pub maps: Rc<Maps>,
    read_at: Instant,
    pub pages: Rc<Pages>,
    pub unwinder: UnwinderX86_64<Arc<[u8]>>,
    pub rules: CacheX86_64,
    /// By index of the code mapping, when it was first asked for.
    placed: HashMap<usize, Result<Placed, Missing>>,
    pub runs_java: bool,
    /// Which process it is, where that was said.
    pub identity: Option<Identity>,
    /// Where the C library's descriptors of threads have their start routine.
    pub votes: Votes,
    /// What the closures of Rust threads are, by their one method.
    pub closures: HashMap<u64, Option<Site>>,
}

impl Process {
    /// # Errors
    /// When it is gone or cannot be read.
    pub fn read(pid: u32, tid: u32) -> Result<Self, StackError> {
        let maps = Maps::read(pid, tid)?;
        let pages = Pages::of(tid).map_err(unreadable)?;
        Ok(Self {
            runs_java: maps.code().iter().any(|code| &*code.name == JVM),
            maps: Rc::new(maps),
            read_at: Instant::now(),
            pages: Rc::new(pages),
            unwinder: UnwinderX86_64::new(),
            rules: CacheX86_64::new(),
            placed: HashMap::new(),
            identity: None,
            votes: Votes::default(),
            closures: HashMap::new(),
        })
    }

    /// Whether the map is too old to be believed.
    pub fn is_stale(&self) -> bool {
        self.read_at.elapsed() > MAP_LIFETIME
    }

    /// Reads the map again. Modules stay where code has stayed.
    ///
    /// # Errors
    /// When it is gone or cannot be read.
    pub fn refresh(&mut self, pid: u32, tid: u32) -> Result<(), StackError> {
        let fresh = Self::read(pid, tid)?;
        if fresh.maps.code() == self.maps.code() {
            self.maps = fresh.maps;
            self.pages = fresh.pages;
            self.read_at = fresh.read_at;
        } else {
            *self = Self {
                identity: self.identity,
                ..fresh
            };
        }
        Ok(())
    }

    /// The module at an address, made known to framehop. `None` where there is no code.
    pub fn place(
        &mut self,
        tid: u32,
        address: u64,
        modules: &mut Modules,
    ) -> Option<Result<Placed, Missing>> {
        let (index, code) = self.maps.code_at(address)?;
        if let Some(placed) = self.placed.get(&index) {
            return Some(placed.clone());
        }
        let placed = modules.place(tid, code);
        if let Ok(placed) = &placed
            && let Some(frames) = placed.frames(code.range.clone())
        {
            self.unwinder.add_module(frames);
        }
        self.placed.insert(index, placed.clone());
        Some(placed)
    }

    pub fn code_at(&self, address: u64) -> Option<&Code> {
        self.maps.code_at(address).map(|(_, code)| code)
    }

    /// Whether it has one of these modules.
    pub fn holds(&self, ids: &[u64]) -> bool {
        let held = self.placed.values().flatten();
        held.into_iter().any(|placed| ids.contains(&placed.module.id))
    }
}

impl From<MapsError> for StackError {
    fn from(error: MapsError) -> Self {
        match error {
            MapsError::Gone => Self::Gone,
            MapsError::Unreadable(error) => unreadable(error),
            MapsError::Malformed | MapsError::TooMany => Self::Map(error),
        }
    }
}

fn unreadable(error: io::Error) -> StackError {
    match error.raw_os_error() {
        Some(libc::ENOENT | libc::ESRCH) => StackError::Gone,
        _ => StackError::Denied(error),
    }
}
