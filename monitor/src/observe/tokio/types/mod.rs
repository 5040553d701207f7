//! The types of a program, from its debug information.

mod crates;
mod index;
mod layout;

use std::{
    collections::{HashMap, HashSet},
    rc::Rc,
    time::Instant,
};

use gimli::Dwarf;

pub use layout::{Layout, Line, Part, Shape, Suspended, Tag, Variant};

use crate::{
    identify::{DebugSections, Slice},
    model::Site,
    observe::tokio::names::short,
};
use index::Index;
use layout::{Source, Units};

/// Types that are kept.
const MAX_LAYOUTS: usize = 64 << 10;

/// The debug information of one program. Read in steps: there may be a lot of it.
pub struct Types {
    sections: DebugSections,
    index: Index,
    is_indexed: bool,
    layouts: HashMap<u64, Option<Rc<Layout>>>,
}

impl Types {
    pub fn new(sections: DebugSections) -> Self {
        Self {
            sections,
            index: Index::default(),
            is_indexed: false,
            layouts: HashMap::new(),
        }
    }

    /// Goes on reading until then. Whether it is done. `polls`: see [`Reader::future`].
    pub fn advance(&mut self, polls: &HashSet<u64>, until: Instant) -> bool {
        if !self.is_indexed {
            self.is_indexed = self.index.advance(&self.sections, polls, until);
        }
        self.is_indexed
    }

    /// What it takes in memory.
    pub fn bytes(&self) -> usize {
        self.sections.bytes()
    }

    /// Looks types up, as many as are wanted at a time.
    pub fn open(&mut self) -> Reader<'_> {
        Reader {
            dwarf: self.sections.dwarf(),
            units: Units::default(),
            index: &mut self.index,
            layouts: &mut self.layouts,
        }
    }
}

/// The types of a program, while they are looked up.
pub struct Reader<'a> {
    dwarf: Dwarf<Slice<'a>>,
    units: Units<'a>,
    index: &'a mut Index,
    layouts: &'a mut HashMap<u64, Option<Rc<Layout>>>,
}

impl Reader<'_> {
    /// The type of the future that a poll function polls.
    pub fn future(&self, poll: u64) -> Option<u64> {
        self.index.polls.get(&poll).copied()
    }

    /// The type of the future that a poll function polls, and where it is defined.
    pub fn site(&mut self, poll: u64) -> Option<Site> {
        let of_type = self.future(poll)?;
        let layout = self.layout(of_type)?;
        let defined = match &layout.shape {
            Shape::Coroutine { states, .. } => states.first().map(|state| state.at.clone()),
            _ => None,
        };
        let defined = defined.unwrap_or_default();
        Some(Site {
            function: short(&layout.name),
            file: defined.file,
            line: defined.line,
        })
    }

    /// Whether something of this name is the program's own; `None` when its debug information does not tell.
    pub fn owns(&self, name: &str) -> Option<bool> {
        self.index.crates.own(name)
    }

    /// The type that a vtable of a `dyn Trait` belongs to.
    pub fn of_vtable(&self, address: u64) -> Option<u64> {
        self.index.vtables.get(&address).copied()
    }

    /// The type of the cell that a future's type lives in.
    pub fn cell(&mut self, future: u64) -> Option<u64> {
        if let Some(cell) = self.index.cells.get(&future) {
            return Some(*cell);
        }
        // Each unit describes the types that it uses: another one may have the cell.
        let name = self.layout(future)?.name.clone();
        let candidates: Vec<(u64, u64)> = self.index.cells.iter().map(|(of, cell)| (*of, *cell)).collect();
        let found = candidates.into_iter().find_map(|(of, cell)| {
            let is_same = self.layout(of).is_some_and(|layout| layout.name == name);
            is_same.then_some(cell)
        });
        if let Some(cell) = found {
            self.index.cells.insert(future, cell);
        }
        found
    }

    /// How a type lies in memory.
    pub fn layout(&mut self, at: u64) -> Option<Rc<Layout>> {
        if let Some(layout) = self.layouts.get(&at) {
            return layout.clone();
        }
        if self.layouts.len() >= MAX_LAYOUTS {
            self.layouts.clear();
        }
        let layout = self.read(at).map(Rc::new);
        self.layouts.insert(at, layout.clone());
        layout
    }

    fn read(&self, at: u64) -> Option<Layout> {
        let source = Source::of(at, &self.dwarf, &self.units, self.index)?;
        source.layout(at).ok()
    }
}

#[cfg(test)]
mod tests;
