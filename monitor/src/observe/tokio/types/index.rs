//! One look at all of a program's debug information: which type each vtable's future is, which types the vtables of `dyn
//! Future`s belong to, where cells are described, and which modules types are in.

use std::{
    collections::{HashMap, HashSet},
    time::Instant,
};

use gimli::{Abbreviation, AttributeValue, EntriesRaw, Operation, Unit, UnitHeader};

use super::crates::Crates;
use crate::identify::{DebugSections, Slice};

/// Modules and variables of one program that are kept.
const MAX_SPANS: usize = 4 << 20;
const MAX_VARIABLES: usize = 1 << 20;
/// Where cells are described.
const CELLS: &str = "tokio::runtime::task::core";
const NOWHERE: u32 = u32::MAX;

/// A module: from where to where its entries go.
struct Span {
    start: u64,
    end: u64,
    parent: u32,
    name: u32,
}

/// What was found. All places are offsets into `.debug_info`.
#[derive(Default)]
pub struct Index {
    /// Where units begin.
    pub units: Vec<u64>,
    next_unit: usize,
    spans: Vec<Span>,
    names: HashMap<Vec<u8>, u32>,
    texts: Vec<String>,
    /// By the address of a poll function: the type of its future.
    pub polls: HashMap<u64, u64>,
    /// The same where the type stands with the function's declaration.
    declared: Vec<(u64, u64)>,
    declarations: HashMap<u64, u64>,
    /// By the address of a vtable: the type that it is the vtable of.
    pub vtables: HashMap<u64, u64>,
    containing: HashMap<u64, u64>,
    variables: Vec<(u64, u64)>,
    /// By a future's type: the type of its cell.
    pub cells: HashMap<u64, u64>,
    pub crates: Crates,
    is_done: bool,
}

/// What is known of the entries around one.
#[derive(Default)]
struct Around {
    /// Modules that are open, and their depth.
    spans: Vec<(isize, u32)>,
    /// A function whose first type parameter is looked for: its depth, its address (0: a declaration), its own place.
    function: Option<(isize, u64, u64)>,
    /// A cell whose first type parameter is looked for.
    cell: Option<(isize, u64)>,
}

/// The attributes that are of interest.
#[derive(Default)]
struct Attributes<'a> {
    name: Option<Slice<'a>>,
    low_pc: Option<u64>,
    of_type: Option<u64>,
    declared_at: Option<u64>,
    containing: Option<u64>,
    address: Option<u64>,
}

impl Index {
    /// Where the unit begins that a place lies in.
    pub fn unit_of(&self, at: u64) -> Option<u64> {
        let number = self.units.partition_point(|start| *start <= at);
        self.units.get(number.checked_sub(1)?).copied()
    }

    /// Goes on until then. Whether it is done. `polls`: the addresses of the poll functions that are looked for.
    pub fn advance(&mut self, sections: &DebugSections, polls: &HashSet<u64>, until: Instant) -> bool {
        let dwarf = sections.dwarf();
        if self.units.is_empty() {
            let mut headers = dwarf.units();
            while let Ok(Some(header)) = headers.next() {
                self.units.extend(offset_of(&header));
            }
        }
        while !self.is_done {
            let Some(start) = self.units.get(self.next_unit) else {
                self.finish();
                break;
            };
            let start = *start;
            self.next_unit += 1;
            let header = dwarf
                .debug_info
                .header_from_offset(gimli::DebugInfoOffset(start as usize));
            // What is broken is left out.
            if let Ok(unit) = header.and_then(|header| dwarf.unit(header)) {
                let _ = self.unit(&dwarf, &unit, start, polls);
            }
            if Instant::now() > until {
                break;
            }
        }
        self.is_done
    }

    /// The full name of something that has this name of its own: `app::stuck::f`.
    pub fn path(&self, at: u64, name: &str) -> String {
        let mut parts = vec![name];
        let mut span = self.span_at(at);
        while let Some(found) = self.spans.get(span as usize) {
            parts.push(self.texts.get(found.name as usize).map_or("", String::as_str));
            span = found.parent;
        }
        parts.reverse();
        parts.join("::")
    }

    /// The innermost module around an entry.
    fn span_at(&self, at: u64) -> u32 {
        let mut index = self.spans.partition_point(|span| span.start <= at);
        while let Some(before) = index.checked_sub(1) {
            index = before;
            let span = &self.spans[index];
            if at < span.end {
                return index as u32;
            }
            // It does not lie in this one, but perhaps in what is around it.
            if span.parent == NOWHERE {
                return NOWHERE;
            }
            index = span.parent as usize + 1;
        }
        NOWHERE
    }

    fn unit<'a>(
        &mut self,
        dwarf: &gimli::Dwarf<Slice<'a>>,
        unit: &Unit<Slice<'a>>,
        start: u64,
        polls: &HashSet<u64>,
    ) -> gimli::Result<()> {
        let text =
            |text: Option<Slice<'_>>| String::from_utf8_lossy(text.unwrap_or_default().slice()).into_owned();
        self.crates.add(&text(unit.name), &text(unit.comp_dir));
        let mut around = Around::default();
        let mut entries = unit.entries_raw(None)?;
        while !entries.is_empty() {
            let at = start + entries.next_offset().0 as u64;
            let depth = entries.next_depth();
            let Some(abbreviation) = entries.read_abbreviation()? else {
                continue;
            };
            self.close(&mut around, depth, at);
            match abbreviation.tag() {
                gimli::DW_TAG_namespace => {
                    let found = read(dwarf, unit, start, &mut entries, abbreviation)?;
                    self.open(&mut around, depth, at, found.name);
                }
                gimli::DW_TAG_subprogram => {
                    let found = read(dwarf, unit, start, &mut entries, abbreviation)?;
                    match (
                        found.low_pc.filter(|address| polls.contains(address)),
                        found.declared_at,
                    ) {
                        (Some(address), Some(declaration)) => self.declared.push((address, declaration)),
                        (Some(address), None) => around.function = Some((depth, address, at)),
                        (None, _) => around.function = Some((depth, 0, at)),
                    }
                }
                gimli::DW_TAG_structure_type => {
                    let found = read(dwarf, unit, start, &mut entries, abbreviation)?;
                    if let Some(containing) = found.containing {
                        self.containing.insert(at, containing);
                    }
                    let is_cell = found.name.is_some_and(|name| name.starts_with(b"Cell<"));
                    if is_cell && self.is_in_cells(&around) {
                        around.cell = Some((depth, at));
                    }
                }
                gimli::DW_TAG_template_type_parameter => {
                    let found = read(dwarf, unit, start, &mut entries, abbreviation)?;
                    self.parameter(&mut around, depth, found.of_type);
                }
                gimli::DW_TAG_variable if depth <= 3 && self.variables.len() < MAX_VARIABLES => {
                    let found = read(dwarf, unit, start, &mut entries, abbreviation)?;
                    let is_vtable = found.name.is_some_and(|name| name.ends_with(b"{vtable}"));
                    if let (true, Some(address), Some(of_type)) = (is_vtable, found.address, found.of_type) {
                        self.variables.push((address, of_type));
                    }
                }
                _ => entries.skip_attributes(abbreviation.attributes())?,
            }
        }
        let end = entries.next_offset().0 as u64 + start;
        self.close(&mut around, isize::MIN, end);
        Ok(())
    }

    /// The first type parameter of what is around: of a poll function or a cell, its future.
    fn parameter(&mut self, around: &mut Around, depth: isize, of_type: Option<u64>) {
        let Some(of_type) = of_type else { return };
        if let Some((outer, address, at)) = around.function
            && outer + 1 == depth
        {
            around.function = None;
            match address {
                // Declarations are many; only those that somebody refers to are of use, but that comes later.
                0 if self.declarations.len() < MAX_VARIABLES => {
                    self.declarations.insert(at, of_type);
                }
                0 => {}
                address => {
                    self.polls.insert(address, of_type);
                }
            }
        }
        if let Some((outer, at)) = around.cell
            && outer + 1 == depth
        {
            around.cell = None;
            self.cells.insert(of_type, at);
        }
    }

    fn open(&mut self, around: &mut Around, depth: isize, at: u64, name: Option<Slice<'_>>) {
        if self.spans.len() >= MAX_SPANS {
            return;
        }
        let name = name.map_or(&b""[..], |name| name.slice());
        let next = self.texts.len() as u32;
        let name = match self.names.get(name) {
            Some(known) => *known,
            None => {
                self.names.insert(name.to_vec(), next);
                self.texts.push(String::from_utf8_lossy(name).into_owned());
                next
            }
        };
        let parent = around.spans.last().map_or(NOWHERE, |(_, span)| *span);
        around.spans.push((depth, self.spans.len() as u32));
        self.spans.push(Span {
            start: at,
            end: u64::MAX,
            parent,
            name,
        });
    }

    fn close(&mut self, around: &mut Around, depth: isize, at: u64) {
        while let Some((outer, span)) = around.spans.last()
            && *outer >= depth
        {
            if let Some(span) = self.spans.get_mut(*span as usize) {
                span.end = at;
            }
            around.spans.pop();
        }
        if around.function.is_some_and(|(outer, ..)| outer >= depth) {
            around.function = None;
        }
        if around.cell.is_some_and(|(outer, _)| outer >= depth) {
            around.cell = None;
        }
    }

    fn is_in_cells(&self, around: &Around) -> bool {
        let mut wanted = CELLS.rsplit("::");
        let mut names = around.spans.iter().rev().map(|(_, span)| {
            let name = self.spans.get(*span as usize).map(|span| span.name);
            name.and_then(|name| self.texts.get(name as usize))
        });
        wanted.all(|part| names.next().flatten().is_some_and(|name| name == part)) && names.next().is_none()
    }

    /// Puts together what stood in several places.
    fn finish(&mut self) {
        for (address, declaration) in std::mem::take(&mut self.declared) {
            if let Some(of_type) = self.declarations.get(&declaration) {
                self.polls.insert(address, *of_type);
            }
        }
        for (address, of_type) in std::mem::take(&mut self.variables) {
            if let Some(containing) = self.containing.get(&of_type) {
                self.vtables.insert(address, *containing);
            }
        }
        self.declarations = HashMap::new();
        self.containing = HashMap::new();
        self.names = HashMap::new();
        self.is_done = true;
    }
}

fn offset_of(header: &UnitHeader<Slice<'_>>) -> Option<u64> {
    header.debug_info_offset().map(|offset| offset.0 as u64)
}

fn read<'a>(
    dwarf: &gimli::Dwarf<Slice<'a>>,
    unit: &Unit<Slice<'a>>,
    start: u64,
    entries: &mut EntriesRaw<'_, Slice<'a>>,
    abbreviation: &Abbreviation,
) -> gimli::Result<Attributes<'a>> {
    let mut found = Attributes::default();
    for specification in abbreviation.attributes() {
        let attribute = entries.read_attribute(*specification)?;
        match attribute.name() {
            gimli::DW_AT_name => found.name = dwarf.attr_string(unit, attribute.value()).ok(),
            gimli::DW_AT_low_pc => found.low_pc = dwarf.attr_address(unit, attribute.value())?,
            gimli::DW_AT_type => found.of_type = reference(attribute.value(), start),
            gimli::DW_AT_specification | gimli::DW_AT_abstract_origin => {
                found.declared_at = reference(attribute.value(), start);
            }
            gimli::DW_AT_containing_type => found.containing = reference(attribute.value(), start),
            gimli::DW_AT_location => {
                if let AttributeValue::Exprloc(expression) = attribute.value() {
                    found.address = address_of(dwarf, unit, expression);
                }
            }
            _ => {}
        }
    }
    Ok(found)
}

/// Where a variable stands that stands in one place.
fn address_of<'a>(
    dwarf: &gimli::Dwarf<Slice<'a>>,
    unit: &Unit<Slice<'a>>,
    expression: gimli::Expression<Slice<'a>>,
) -> Option<u64> {
    let mut operations = expression.operations(unit.encoding());
    match operations.next().ok()?? {
        Operation::Address { address } => Some(address),
        Operation::AddressIndex { index } => dwarf.address(unit, index).ok(),
        _ => None,
    }
}

/// The entry that an attribute refers to.
pub fn reference(value: AttributeValue<Slice<'_>>, start: u64) -> Option<u64> {
    match value {
        AttributeValue::UnitRef(offset) => Some(start + offset.0 as u64),
        AttributeValue::DebugInfoRef(offset) => Some(offset.0 as u64),
        _ => None,
    }
}
