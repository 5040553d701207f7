//! The inspector: caches of processes, modules and names, and one stack or name at a time.

mod births;
mod closures;
mod starts;

pub use starts::Votes;

use std::{
    ops::Range,
    panic::{AssertUnwindSafe, catch_unwind},
    rc::Rc,
};

use super::{
    CodeAddress, Counters, Options, Registers, Stack, StackError,
    cfi::Known,
    debug_sections::DebugSections,
    lru::Lru,
    maps::Origin,
    module::{Missing, Module, Modules, Placed},
    process::Process,
    stack_memory::StackMemory,
    symbols::Named,
    unwind::{Place, walk},
};
use crate::model::Frame;

/// Processes whose maps are kept.
const MAX_PROCESSES: usize = 128;
/// Addresses whose names are kept, and what these may take.
const MAX_NAMES: usize = 64 << 10;
const MAX_NAME_BYTES: usize = 32 << 20;

/// Names of modules that are no files.
const JIT: &str = "[jit]";
const JAVA: &str = "[java]";

/// Unwinds and names the stacks of other processes' threads. Nothing is stopped, traced or changed.
///
/// It belongs into a process that may hang or die: files of targets are mapped and may be cut short meanwhile
/// (SIGBUS), and pages may go between the look at them and the read.
pub struct Inspector {
    max_frames: usize,
    processes: Lru<u32, Process>,
    modules: Modules,
    /// By module and address in its file.
    names: Lru<(u64, u64), Rc<Named>>,
    panics: u64,
    /// The process that was named last.
    now: Option<(u32, Identity)>,
}

/// What tells a process from every other one with its pid: CLOCK_BOOTTIME ns of its start, and how often it has called
/// exec.
pub type Identity = (u64, u64);

impl Inspector {
    pub fn new(options: Options) -> Self {
        Self {
            max_frames: options.max_frames,
            processes: Lru::new(MAX_PROCESSES, usize::MAX),
            modules: Modules::new(options.debug_dirs),
            names: Lru::new(MAX_NAMES, MAX_NAME_BYTES),
            panics: 0,
            now: None,
        }
    }

    /// The stack of a thread that is blocked, whose registers are told: innermost frame first, inlined ones each
    /// by itself.
    ///
    /// # Errors
    /// When nothing can be told of this thread; the next one may do.
    pub fn stack(&mut self, pid: u32, tid: u32, registers: Registers) -> Result<Stack, StackError> {
        self.guarded(|this| {
            let fresh = this.prepare(pid, tid, |process| {
                process.code_at(registers.ip).is_some() && process.maps.readable_until(registers.sp).is_some()
            })?;
            match this.unwind(pid, tid, registers) {
                // Perhaps it has mapped more since its map was read, or is gone.
                Ok((_, true)) | Err(StackError::Absent) if !fresh => {
                    this.refresh(pid, tid)?;
                    this.unwind(pid, tid, registers).map(|(stack, _)| stack)
                }
                told => told.map(|(stack, _)| stack),
            }
        })
    }

    /// The functions at an address of a process's code.
    ///
    /// # Errors
    /// When nothing can be told of this process.
    pub fn name(&mut self, pid: u32, tid: u32, address: CodeAddress) -> Result<Vec<Frame>, StackError> {
        let address = match address {
            CodeAddress::Exact(address) => address,
            CodeAddress::Return(address) => address.wrapping_sub(1),
        };
        self.guarded(|this| {
            this.prepare(pid, tid, |process| process.code_at(address).is_some())?;
            let mut target = this.target(pid, tid).ok_or(StackError::Gone)?;
            Ok(target.frames(Place {
                address,
                guessed: false,
            }))
        })
    }

    /// The file whose code is at an address of a process.
    pub(crate) fn module(&mut self, pid: u32, tid: u32, address: u64) -> Option<Rc<Module>> {
        let module = self.guarded(|this| {
            this.prepare(pid, tid, |process| process.code_at(address).is_some())?;
            let mut target = this.target(pid, tid).ok_or(StackError::Gone)?;
            let placed = target.place(address).and_then(Result::ok);
            Ok(placed.map(|placed| placed.module))
        });
        module.ok().flatten()
    }

    /// All DWARF of the file whose code is at an address of a process.
    pub(crate) fn debug_sections(&mut self, pid: u32, tid: u32, address: u64) -> Option<DebugSections> {
        let sections = self.guarded(|this| {
            this.prepare(pid, tid, |process| process.code_at(address).is_some())?;
            let process = this.processes.get(&pid).ok_or(StackError::Gone)?;
            let code = process.code_at(address).ok_or(StackError::Absent)?;
            let file = this.modules.debug_file(tid, code);
            Ok(file.and_then(|file| DebugSections::read(&file)))
        });
        sections.ok().flatten()
    }

    /// Says which process a pid stands for from now on: what was known of another one under the same pid (before an exec,
    /// or a process that has ended) is forgotten. Without it that is noticed within a second.
    pub fn now_stands_for(&mut self, pid: u32, identity: Identity) {
        self.now = Some((pid, identity));
        let is_another = |known: &mut Process| {
            known
                .identity
                .replace(identity)
                .is_some_and(|known| known != identity)
        };
        if self.processes.get(&pid).is_some_and(is_another) {
            self.forget(pid);
        }
    }

    /// Forgets the map of a process.
    pub fn forget(&mut self, pid: u32) {
        self.processes.remove(&pid);
    }

    /// What the caches hold.
    pub fn counters(&self) -> Counters {
        Counters {
            processes: self.processes.len(),
            modules: self.modules.len(),
            module_bytes: self.modules.bytes(),
            names: self.names.len(),
            name_bytes: self.names.bytes(),
            evicted: self.processes.evicted() + self.modules.evicted() + self.names.evicted(),
            panics: self.panics,
        }
    }

    /// The decoders of other people's that we use on a target's bytes may have an assertion that does not hold.
    fn guarded<T>(&mut self, work: impl FnOnce(&mut Self) -> Result<T, StackError>) -> Result<T, StackError> {
        let done = catch_unwind(AssertUnwindSafe(|| work(self)));
        done.unwrap_or_else(|_| {
            // Whatever was being changed may be half done.
            self.panics += 1;
            self.processes.retain(|_, _| false);
            self.names.retain(|_, _| false);
            self.modules.clear();
            Err(StackError::Decoder)
        })
    }

    /// Sees to it that the map of a process is known, and fits. Whether it was read just now.
    fn prepare(&mut self, pid: u32, tid: u32, fits: impl Fn(&Process) -> bool) -> Result<bool, StackError> {
        match self.processes.get(&pid) {
            Some(process) if !process.is_stale() && fits(process) => Ok(false),
            Some(_) => self.refresh(pid, tid).map(|()| true),
            None => {
                let mut process = Process::read(pid, tid)?;
                process.identity = self
                    .now
                    .filter(|(now, _)| *now == pid)
                    .map(|(_, identity)| identity);
                self.processes.insert(pid, process, 0);
                Ok(true)
            }
        }
    }

    /// Sees to it that the map of a process is what it is now.
    fn refresh_or_read(&mut self, pid: u32, tid: u32) -> Result<(), StackError> {
        let fresh = self.prepare(pid, tid, |_| true)?;
        if fresh { Ok(()) } else { self.refresh(pid, tid) }
    }

    fn refresh(&mut self, pid: u32, tid: u32) -> Result<(), StackError> {
        let refreshed = match self.processes.get(&pid) {
            Some(process) => process.refresh(pid, tid),
            None => Err(StackError::Gone),
        };
        if refreshed.is_err() {
            self.processes.remove(&pid);
        }
        refreshed
    }

    /// The stack, and whether the way was lost.
    fn unwind(&mut self, pid: u32, tid: u32, registers: Registers) -> Result<(Stack, bool), StackError> {
        let max_frames = self.max_frames;
        let mut target = self.target(pid, tid).ok_or(StackError::Gone)?;
        if let Some(Err(Missing::ThirtyTwoBit)) = target.place(registers.ip) {
            return Err(StackError::ThirtyTwoBit);
        }
        let (maps, pages) = (target.process.maps.clone(), target.process.pages.clone());
        let mut memory = StackMemory::new(tid, &pages, &maps, registers.sp);
        if memory.word(registers.sp).is_none() {
            return Err(StackError::Absent);
        }
        let known = Known {
            ip: registers.ip,
            sp: registers.sp,
            bp: registers.bp,
            di: None,
        };
        let walked = walk(&mut target, &mut memory, known, max_frames);
        let lost = !walked.complete && walked.places.len() < max_frames;
        let mut frames = Vec::with_capacity(walked.places.len() + 8);
        for place in &walked.places {
            frames.extend(target.frames(*place));
        }
        let truncated = !walked.complete || frames.len() > max_frames;
        frames.truncate(max_frames);
        self.let_go();
        Ok((Stack { frames, truncated }, lost))
    }

    fn target(&mut self, pid: u32, tid: u32) -> Option<Target<'_>> {
        Some(Target {
            tid,
            process: self.processes.get(&pid)?,
            modules: &mut self.modules,
            names: &mut self.names,
        })
    }

    /// What had to leave the cache of modules must not live on in processes.
    fn let_go(&mut self) {
        let gone = self.modules.take_gone();
        if !gone.is_empty() {
            self.processes.retain(|_, process| !process.holds(&gone));
            self.names.retain(|(module, _), _| !gone.contains(module));
        }
    }
}

/// One thread's process, and all that is known of its code.
pub struct Target<'a> {
    pub tid: u32,
    pub process: &'a mut Process,
    modules: &'a mut Modules,
    names: &'a mut Lru<(u64, u64), Rc<Named>>,
}

impl Target<'_> {
    /// The module at an address; `None` where there is no code.
    pub fn place(&mut self, address: u64) -> Option<Result<Placed, Missing>> {
        self.process.place(self.tid, address, self.modules)
    }

    /// The symbol at an address.
    pub fn function(&mut self, address: u64) -> Option<String> {
        let named = self.named(address)?.0;
        named.calls.last()?.function.clone()
    }

    /// Where the function at an address begins.
    pub fn function_start(&mut self, address: u64) -> Option<u64> {
        let (named, bias) = self.named(address)?;
        Some(named.start?.wrapping_add(bias))
    }

    /// Whether a function begins at an address, as symbols tell, or, of a stripped file, its unwind information.
    pub fn begins(&mut self, address: u64) -> bool {
        if self.function_start(address) == Some(address) {
            return true;
        }
        self.function_range(address)
            .is_some_and(|range| range.start == address)
    }

    /// From where to where the function goes that an address is in, as unwind information tells.
    pub fn function_range(&mut self, address: u64) -> Option<Range<u64>> {
        let placed = self.place(address)?.ok()?;
        let range = placed.module.function_range(address.wrapping_sub(placed.bias))?;
        let there = |own: u64| own.wrapping_add(placed.bias);
        Some(there(range.start)..there(range.end))
    }

    /// What is to be shown of a place: one frame, and one more for each function put into it.
    pub fn frames(&mut self, place: Place) -> Vec<Frame> {
        let named = self.named(place.address);
        let Some(code) = self.process.code_at(place.address) else {
            return vec![Frame {
                guessed: place.guessed,
                ..nowhere()
            }];
        };
        let within = place.address - code.range.start;
        let (module, offset) = match code.origin {
            Origin::Anonymous if self.process.runs_java => (JAVA, within),
            Origin::Anonymous => (JIT, within),
            Origin::File | Origin::Vdso => (&*code.name, code.offset.wrapping_add(within)),
        };
        let frame = Frame {
            module: module.to_owned(),
            offset,
            guessed: place.guessed,
            ..nowhere()
        };
        match named {
            Some((named, _)) if !named.calls.is_empty() => {
                let one = |call: &super::symbols::Call| Frame {
                    function: call.function.clone(),
                    file: call.file.clone(),
                    line: call.line,
                    inlined: call.inlined,
                    ..frame.clone()
                };
                named.calls.iter().map(one).collect()
            }
            _ => vec![frame],
        }
    }

    fn named(&mut self, address: u64) -> Option<(Rc<Named>, u64)> {
        let placed = self.place(address)?.ok()?;
        let own = address.wrapping_sub(placed.bias);
        let key = (placed.module.id, own);
        if let Some(named) = self.names.get(&key) {
            return Some((named.clone(), placed.bias));
        }
        let mut named = placed.module.symbols.name(own);
        if named.calls.is_empty()
            && let Some(code) = self.process.code_at(address)
            && let Some(told) = placed.module.go_names.name(self.tid, code, placed.bias, own)
        {
            named = told;
        }
        let named = Rc::new(named);
        self.names.insert(key, named.clone(), named.bytes());
        Some((named, placed.bias))
    }
}

fn nowhere() -> Frame {
    Frame {
        function: None,
        file: None,
        line: None,
        inlined: false,
        module: String::new(),
        offset: 0,
        guessed: false,
    }
}
