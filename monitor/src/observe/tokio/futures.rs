//! What the futures of a program are: from its symbols where it has them, else from the places in its sources that its
//! panics would tell.

use std::{collections::HashSet, collections::VecDeque, ops::Range};

use iced_x86::{Code, Decoder, DecoderOptions, Instruction, Register};

use super::{
    locations,
    names::{body_of, future_of, short},
    program::Program,
    task::Vtable,
};
use crate::{
    identify::{Module, sites::is_library},
    model::Site,
    observe::{
        memory::{Memory, space::SpaceExt as _},
        programs::Placed,
    },
};

/// Functions that are looked into for one future, and how far they may be from its own.
const MAX_FUNCTIONS: usize = 48;
const MAX_DEPTH: u32 = 3;
/// Of one function.
const MAX_CODE: u64 = 64 << 10;
/// Longest symbol that is looked at.
const MAX_SYMBOL: usize = 16 << 10;

/// A program's code, as far as a future's functions lead into it.
pub struct Names<'a> {
    pub placed: &'a Placed<Program>,
    pub module: &'a Module,
    pub memory: &'a mut Memory,
}

/// What a function does that is of interest.
#[derive(Default)]
struct Function {
    calls: Vec<u64>,
    locations: Vec<Site>,
}

impl Function {
    /// Of the places that its panics would tell, the first that is the program's own.
    fn location(&self) -> Option<Site> {
        self.locations.iter().filter(|site| is_own(site)).min().cloned()
    }
}

impl Names<'_> {
    /// What a future is.
    pub fn future(&mut self, vtable: &Vtable) -> Option<Site> {
        let own = self.symbol(vtable.poll()).and_then(|symbol| future_of(&symbol));
        if let Some(name) = own {
            return Some(named(&name));
        }
        if self.placed.program.is_freed_as_others(vtable)
            && let Some(nearest) = self.nearest(vtable.poll())
        {
            return Some(nearest);
        }
        self.first(vtable.dealloc(), future_of)
            .or_else(|| self.first(vtable.poll(), polled))
            .or_else(|| self.first(vtable.functions[vtable.functions.len() - 1], future_of))
            .map(|name| named(&name))
            .or_else(|| self.location(vtable.poll()))
    }

    /// The place in the program's own sources that a function tells of itself, before the call that returns to an address of
    /// its, if it can: whoever spawns a task hands on where that stands.
    pub fn caller(&mut self, returns_to: u64) -> Option<Site> {
        let range = self.module.function_range(returns_to.wrapping_sub(1))?;
        let code = self.code(&range);
        let (mut before, mut any) = (None, None);
        for instruction in &mut Decoder::with_ip(64, &code, range.start, DecoderOptions::NONE) {
            let Some(site) =
                constant(&instruction).and_then(|at| locations::read(self.placed, self.memory, at))
            else {
                continue;
            };
            if !is_own(&site) {
                continue;
            }
            if instruction.ip() < returns_to {
                before = Some(site);
            } else if any.is_none() {
                any = Some(site);
            }
        }
        before.or(any)
    }

    fn symbol(&self, address: u64) -> Option<String> {
        let symbol = self.module.symbols.mangled(address)?;
        if symbol.len() > MAX_SYMBOL {
            return None;
        }
        let demangled = rustc_demangle::try_demangle(&symbol).ok()?;
        let mut text = crate::identify::text::Bounded::new(MAX_SYMBOL);
        // An error is the cut.
        let _ = std::fmt::Write::write_fmt(&mut text, format_args!("{demangled:#}"));
        Some(text.finish())
    }

    /// What the nearest function says that is called from one.
    fn first(&mut self, from: u64, says: impl Fn(&str) -> Option<String>) -> Option<String> {
        self.walk(from, |this, address, _| {
            this.symbol(address).and_then(|symbol| says(&symbol))
        })
    }

    /// The place in the program's own sources that a panic of the nearest function would tell.
    fn location(&mut self, from: u64) -> Option<Site> {
        self.walk(from, |_, _, function| function.location())
    }

    /// What the nearest function says by its symbol, or by a panic.
    fn nearest(&mut self, from: u64) -> Option<Site> {
        self.walk(from, |this, address, function| {
            let polled = this.symbol(address).and_then(|symbol| polled(&symbol));
            polled.map(|name| named(&name)).or_else(|| function.location())
        })
    }

    /// Goes through functions from one on, nearest first, until one of them says something.
    fn walk<T>(&mut self, from: u64, mut says: impl FnMut(&Self, u64, &Function) -> Option<T>) -> Option<T> {
        let mut seen = HashSet::from([from]);
        let mut queue = VecDeque::from([(from, 0)]);
        while let Some((address, depth)) = queue.pop_front() {
            let function = self.read(address);
            if let Some(said) = says(self, address, &function) {
                return Some(said);
            }
            if depth == MAX_DEPTH {
                continue;
            }
            for call in function.calls {
                if seen.len() < MAX_FUNCTIONS && seen.insert(call) {
                    queue.push_back((call, depth + 1));
                }
            }
        }
        None
    }

    fn read(&mut self, address: u64) -> Function {
        let range = self
            .module
            .function_range(address)
            .filter(|range| range.start == address);
        let end = range.map_or(address.saturating_add(512), |range| range.end);
        let range = address..end;
        let code = self.code(&range);
        let mut function = Function::default();
        let mut pointers = Vec::new();
        for instruction in &mut Decoder::with_ip(64, &code, address, DecoderOptions::NONE) {
            if let Some(target) = self.target(&instruction, &range) {
                function.calls.push(target);
            }
            pointers.extend(constant(&instruction));
        }
        let locations = pointers
            .into_iter()
            .filter_map(|pointer| locations::read(self.placed, self.memory, pointer));
        function.locations = locations.collect();
        function
    }

    /// Of a function, so much at most.
    fn code(&self, range: &Range<u64>) -> Vec<u8> {
        let length = range.end.saturating_sub(range.start).min(MAX_CODE);
        self.placed.program.image.some(range.start, length as usize, 16)
    }

    /// Where an instruction calls or jumps to, if that is another function.
    fn target(&self, instruction: &Instruction, range: &Range<u64>) -> Option<u64> {
        let target = match instruction.code() {
            Code::Call_rel32_64 | Code::Jmp_rel32_64 | Code::Jmp_rel8_64 => instruction.near_branch_target(),
            Code::Call_rm64 | Code::Jmp_rm64 if instruction.memory_base() == Register::RIP => {
                locations::pointer(self.placed, self.memory, instruction.memory_displacement64())?
            }
            _ => return None,
        };
        let is_code = self
            .placed
            .program
            .image
            .is_in(target, |segment| segment.executable);
        (is_code && !range.contains(&target)).then_some(target)
    }
}

/// The future that a function on the way of a poll is of.
fn polled(symbol: &str) -> Option<String> {
    future_of(symbol).or_else(|| body_of(symbol))
}

fn named(name: &str) -> Site {
    Site {
        function: short(name),
        file: None,
        line: None,
    }
}

/// What an instruction takes the address of.
fn constant(instruction: &Instruction) -> Option<u64> {
    let is_constant = instruction.code() == Code::Lea_r64_m && instruction.memory_base() == Register::RIP;
    is_constant.then(|| instruction.memory_displacement64())
}

/// Whether a source is the program's: libraries come from registries, the standard library from where it was built.
fn is_own(site: &Site) -> bool {
    let file = site.file.as_deref().unwrap_or_default();
    !is_library(file) && !file.contains("/library/") && !file.starts_with("library/")
}
