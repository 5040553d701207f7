//! How a type lies in memory, as far as a future that somebody awaits may lie in it.

use std::{cell::RefCell, collections::HashMap, rc::Rc};

use gimli::{
    AttributeValue, DebugInfoOffset, DebuggingInformationEntry, Dwarf, EntriesTreeNode, Unit, UnitOffset,
};

use super::index::{Index, reference};
use crate::{
    identify::{Slice, clean},
    observe::tokio::names::readable,
};

/// Members and variants of one type that are looked at.
const MAX_PARTS: usize = 4_096;
/// Longest path of a source file, in characters.
const MAX_PATH: usize = 512;
const MAX_NAME: usize = 512;

/// A part of a type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    pub name: String,
    pub offset: u64,
    /// The place of its type in `.debug_info`.
    pub of_type: u64,
}

/// A line of a source.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Line {
    pub file: Option<String>,
    pub line: Option<u32>,
}

/// A state of an async function or block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suspended {
    pub value: u64,
    /// Where it awaits; of the state before it has begun, where it is defined.
    pub at: Line,
    pub awaits: Option<Part>,
    /// Whether it awaits something.
    pub is_suspended: bool,
}

/// A number that tells states or variants apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tag {
    pub offset: u64,
    pub size: u64,
}

/// One of an enumeration's variants; without a value it is that of all other values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variant {
    pub value: Option<u64>,
    pub part: Part,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shape {
    /// An async function or block.
    Coroutine {
        tag: Tag,
        states: Vec<Suspended>,
    },
    Enumeration {
        tag: Option<Tag>,
        variants: Vec<Variant>,
    },
    Structure(Vec<Part>),
    /// Of one word.
    Pointer(u64),
    /// To something of which but the vtable is known: where the two words are.
    Dyn {
        data: u64,
        vtable: u64,
    },
    Other,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// With its path, readable.
    pub name: String,
    pub shape: Shape,
}

/// The variants of a type with their values and lines, and what tells them apart.
type Variants = (Option<Tag>, Vec<(Option<u64>, Part, Line)>);

/// One unit of the debug information.
pub struct Source<'a, 'b> {
    pub dwarf: &'b Dwarf<Slice<'a>>,
    pub units: &'b Units<'a>,
    pub unit: Rc<Unit<Slice<'a>>>,
    pub start: u64,
    pub index: &'b Index,
}

/// Units by where they begin, as they were needed.
#[derive(Default)]
pub struct Units<'a>(RefCell<HashMap<u64, Option<Rc<Unit<Slice<'a>>>>>>);

impl<'a, 'b> Source<'a, 'b> {
    /// The unit that has a place.
    pub fn of(at: u64, dwarf: &'b Dwarf<Slice<'a>>, units: &'b Units<'a>, index: &'b Index) -> Option<Self> {
        let start = index.unit_of(at)?;
        let unit = units
            .0
            .borrow_mut()
            .entry(start)
            .or_insert_with(|| {
                let header = dwarf
                    .debug_info
                    .header_from_offset(DebugInfoOffset(start as usize));
                header.and_then(|header| dwarf.unit(header)).ok().map(Rc::new)
            })
            .clone();
        Some(Self {
            dwarf,
            units,
            unit: unit?,
            start,
            index,
        })
    }

    /// The unit that has a place, which may be another one: types that several use stand in one of them.
    fn at(&self, at: u64) -> Option<Self> {
        Self::of(at, self.dwarf, self.units, self.index)
    }

    fn offset(&self, at: u64) -> Option<UnitOffset> {
        Some(UnitOffset(at.checked_sub(self.start)? as usize))
    }
}

impl<'a> Source<'a, '_> {
    /// The layout of the type at a place of this unit.
    pub fn layout(&self, at: u64) -> gimli::Result<Layout> {
        let mut tree = self.unit.entries_tree(self.offset(at))?;
        let node = tree.root()?;
        let entry = node.entry();
        let own = self.name(entry);
        let tag = entry.tag();
        let target = self.type_of(entry);
        let shape = match tag {
            gimli::DW_TAG_pointer_type => target.map_or(Shape::Other, Shape::Pointer),
            gimli::DW_TAG_structure_type => self.structure(node, &own)?,
            gimli::DW_TAG_union_type => Shape::Structure(self.parts(node)?.0),
            _ => Shape::Other,
        };
        let path = match tag {
            gimli::DW_TAG_pointer_type => own,
            _ => self.index.path(at, &own),
        };
        Ok(Layout {
            name: clean(&readable(&path), MAX_NAME),
            shape,
        })
    }

    fn structure(&self, node: EntriesTreeNode<'_, '_, Slice<'a>>, name: &str) -> gimli::Result<Shape> {
        let (parts, variants) = self.parts(node)?;
        let Some((tag, variants)) = variants else {
            let place = |name: &str| {
                parts
                    .iter()
                    .find(|part| part.name == name)
                    .map(|part| part.offset)
            };
            return Ok(match (place("pointer"), place("vtable")) {
                (Some(data), Some(vtable)) if name.contains("dyn ") => Shape::Dyn { data, vtable },
                _ => Shape::Structure(parts),
            });
        };
        if !(name.starts_with("{async_") || name.starts_with("{coroutine")) {
            let plain = |(value, part, _): (Option<u64>, Part, Line)| Variant { value, part };
            return Ok(Shape::Enumeration {
                tag,
                variants: variants.into_iter().map(plain).collect(),
            });
        }
        let mut states = Vec::with_capacity(variants.len());
        for (value, part, at) in variants {
            let Some(value) = value else { continue };
            let Some(source) = self.at(part.of_type) else {
                continue;
            };
            let mut tree = source.unit.entries_tree(source.offset(part.of_type))?;
            let node = tree.root()?;
            let is_suspended = source.name(node.entry()).starts_with("Suspend");
            let (members, _) = source.parts(node)?;
            let awaits = members.into_iter().find(|member| member.name == "__awaitee");
            states.push(Suspended {
                value,
                at,
                awaits: awaits.map(|awaits| Part {
                    offset: awaits.offset + part.offset,
                    ..awaits
                }),
                is_suspended,
            });
        }
        Ok(tag.map_or(Shape::Other, |tag| Shape::Coroutine { tag, states }))
    }

    /// The members of a type, and its variants with what tells them apart.
    fn parts(
        &self,
        node: EntriesTreeNode<'_, '_, Slice<'a>>,
    ) -> gimli::Result<(Vec<Part>, Option<Variants>)> {
        let mut parts = Vec::new();
        let mut variants = None;
        let mut children = node.children();
        while let Some(child) = children.next()? {
            match child.entry().tag() {
                gimli::DW_TAG_member if parts.len() < MAX_PARTS => parts.extend(self.part(child.entry())),
                gimli::DW_TAG_variant_part => variants = Some(self.variants(child)?),
                _ => {}
            }
        }
        Ok((parts, variants))
    }

    fn variants(&self, node: EntriesTreeNode<'_, '_, Slice<'a>>) -> gimli::Result<Variants> {
        let mut tag = None;
        let mut variants = Vec::new();
        let mut children = node.children();
        while let Some(child) = children.next()? {
            match child.entry().tag() {
                gimli::DW_TAG_member => {
                    let size = self.type_of(child.entry()).and_then(|of_type| self.size(of_type));
                    let offset = number(child.entry(), gimli::DW_AT_data_member_location);
                    tag = size.map(|size| Tag {
                        offset: offset.unwrap_or(0),
                        size: size.clamp(1, 8),
                    });
                }
                gimli::DW_TAG_variant if variants.len() < MAX_PARTS => {
                    let value = number(child.entry(), gimli::DW_AT_discr_value);
                    let mut members = child.children();
                    while let Some(member) = members.next()? {
                        if let Some(part) = self.part(member.entry()) {
                            variants.push((value, part, self.line(member.entry())));
                            break;
                        }
                    }
                }
                _ => {}
            }
        }
        Ok((tag, variants))
    }

    fn part(&self, entry: &DebuggingInformationEntry<Slice<'a>>) -> Option<Part> {
        (entry.tag() == gimli::DW_TAG_member).then_some(())?;
        Some(Part {
            name: self.name(entry),
            offset: number(entry, gimli::DW_AT_data_member_location).unwrap_or(0),
            of_type: self.type_of(entry)?,
        })
    }

    fn size(&self, of_type: u64) -> Option<u64> {
        let source = self.at(of_type)?;
        let entry = source.unit.entry(source.offset(of_type)?).ok()?;
        number(&entry, gimli::DW_AT_byte_size)
    }

    fn line(&self, entry: &DebuggingInformationEntry<Slice<'a>>) -> Line {
        let line = number(entry, gimli::DW_AT_decl_line).and_then(|line| u32::try_from(line).ok());
        let file = match entry.attr_value(gimli::DW_AT_decl_file) {
            Some(AttributeValue::FileIndex(index)) => Some(index),
            Some(value) => value.udata_value(),
            None => None,
        };
        Line {
            file: file.and_then(|file| self.file(file)),
            line: line.filter(|line| *line > 0),
        }
    }

    fn file(&self, index: u64) -> Option<String> {
        let header = self.unit.line_program.as_ref()?.header();
        let file = header.file(index)?;
        let text = |value| {
            let text = self.dwarf.attr_string(&self.unit, value).ok()?;
            Some(text.to_string_lossy().into_owned())
        };
        let name = text(file.path_name())?;
        let folder = file.directory(header).and_then(text).unwrap_or_default();
        let mut path = if name.starts_with('/') || folder.is_empty() {
            name
        } else {
            format!("{folder}/{name}")
        };
        if !path.starts_with('/')
            && let Some(made_in) = &self.unit.comp_dir
        {
            path = format!("{}/{path}", made_in.to_string_lossy());
        }
        Some(clean(&path, MAX_PATH))
    }

    fn name(&self, entry: &DebuggingInformationEntry<Slice<'a>>) -> String {
        let name = entry
            .attr_value(gimli::DW_AT_name)
            .and_then(|value| self.dwarf.attr_string(&self.unit, value).ok());
        name.map_or_else(String::new, |name| name.to_string_lossy().into_owned())
    }

    fn type_of(&self, entry: &DebuggingInformationEntry<Slice<'a>>) -> Option<u64> {
        reference(entry.attr_value(gimli::DW_AT_type)?, self.start)
    }
}

fn number(entry: &DebuggingInformationEntry<Slice<'_>>, name: gimli::DwAt) -> Option<u64> {
    let value = entry.attr_value(name)?;
    // A tag may be negative.
    value
        .udata_value()
        .or_else(|| value.sdata_value().map(|value| value as u64))
}
