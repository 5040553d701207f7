//! What a task awaits: from its future to the one that is awaited in there, and on to the last, which nobody in the program
//! is but a runtime or the kernel wakes.

mod kinds;

use std::{collections::HashSet, ops::Range};

pub use kinds::{Holds, Kinds};
use kinds::{bare, leads_on, pointee};

use super::{
    blocks::Blocks,
    cell,
    program::Program,
    reasons::{Leaf, is_list, leaf},
    task::Vtable,
    types::{Part, Reader, Shape, Tag, Variant},
};
use crate::observe::programs::Placed;

/// Futures within one another, and all that are looked at of one task.
const MAX_DEPTH: u16 = 96;
const MAX_NODES: usize = 256;
/// Futures of one list that are looked at.
const MAX_LISTED: usize = 64;
/// Types that are gone through for one task.
const MAX_STEPS: u32 = 16 << 10;
/// Types around the stage of a cell.
const MAX_NESTING: u32 = 16;
/// The stage of a cell that holds a future.
const RUNNING: &str = "Running";
/// Of the closures of `select!` and `join!`: what futures they poll, and, of the former, which of them no more.
const FUTURES: [&str; 2] = ["_ref__futures", "futures"];
const TURNED_OFF: &str = "_ref__disabled";

/// A future that is awaited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Node {
    /// The place of its type in `.debug_info`.
    pub of_type: u64,
    /// Where it stands, of an async function or block.
    pub state: Option<u64>,
    /// How many are around it.
    pub depth: u16,
    /// Of one that awaits no other future that is known: what is in it.
    pub holds: Holds,
}

/// Several futures that are awaited at once, by a macro of tokio's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Together {
    Select,
    Join,
}

/// All that a task awaits. Tasks for which it is the same wait for the same at the same place.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Trace {
    /// From the outermost on; of several that are awaited at once, each with what is in it.
    pub nodes: Vec<Node>,
    pub together: Option<Together>,
    /// There are more.
    pub is_cut: bool,
}

impl Trace {
    /// Puts what was found of one of several futures, from a place on, at this depth: how many types were around it is of no
    /// account, and those beside it are not in it.
    fn level(&mut self, from: usize, depth: u16) {
        let Some(found) = self.nodes.get_mut(from..) else {
            return;
        };
        let least = found.iter().map(|node| node.depth).min().unwrap_or(depth);
        for node in found {
            node.depth = node.depth - least + depth;
        }
    }
}

/// Follows futures through a process's memory.
pub struct Tracer<'a, 'b> {
    pub placed: &'b Placed<Program>,
    pub blocks: &'b mut Blocks,
    pub types: Reader<'a>,
    pub kinds: &'b mut Kinds,
    /// The task that was awaited by its handle.
    pub joined: Option<u64>,
    /// For this task.
    pub steps: u32,
}

impl Tracer<'_, '_> {
    /// What the task at an address awaits; `None` when its type is not known.
    pub fn trace(&mut self, vtable: &Vtable, address: u64) -> Option<Trace> {
        (self.joined, self.steps) = (None, 0);
        let future = self.types.future(vtable.poll())?;
        let (of_type, at) = self.future_in(future, address)?;
        let mut trace = Trace::default();
        self.follow(of_type, at, 0, &mut trace);
        Some(trace)
    }

    /// Where the future lies in its cell, while it has not ended.
    fn future_in(&mut self, future: u64, address: u64) -> Option<(u64, u64)> {
        let cell = self.types.cell(future)?;
        let (core, offset) = self.member(cell, "core")?;
        let (mut of_type, more) = self.member(core, "stage")?;
        let mut at = address.wrapping_add(offset + more);
        for _ in 0..MAX_NESTING {
            let layout = self.types.layout(of_type)?;
            match &layout.shape {
                Shape::Structure(parts) => {
                    let part = parts.first()?;
                    (of_type, at) = (part.of_type, at.wrapping_add(part.offset));
                }
                Shape::Enumeration { tag, variants } => {
                    let variant = self.variant(*tag, variants, at)?;
                    // Before 1.44 its value has the variant's name, too.
                    (variant.part.name == RUNNING || variant.value == variants.first()?.value)
                        .then_some(())?;
                    let (inside, offset) = self.first_member(variant.part.of_type)?;
                    return Some((inside, at.wrapping_add(variant.part.offset + offset)));
                }
                _ => return None,
            }
        }
        None
    }

    fn member(&mut self, of_type: u64, name: &str) -> Option<(u64, u64)> {
        let layout = self.types.layout(of_type)?;
        let Shape::Structure(parts) = &layout.shape else {
            return None;
        };
        let part = parts.iter().find(|part| part.name == name)?;
        Some((part.of_type, part.offset))
    }

    fn first_member(&mut self, of_type: u64) -> Option<(u64, u64)> {
        let layout = self.types.layout(of_type)?;
        let Shape::Structure(parts) = &layout.shape else {
            return None;
        };
        let part = parts.first()?;
        Some((part.of_type, part.offset))
    }

    fn follow(&mut self, of_type: u64, at: u64, depth: u16, trace: &mut Trace) {
        self.steps += 1;
        if depth >= MAX_DEPTH || trace.nodes.len() >= MAX_NODES || self.steps > MAX_STEPS {
            trace.is_cut = true;
            return;
        }
        let Some(layout) = self.types.layout(of_type) else {
            return;
        };
        let node = |state| Node {
            of_type,
            state,
            depth,
            holds: Holds::Nothing,
        };
        if let Some(known) = leaf(&layout.name) {
            if known == Leaf::JoinHandle {
                self.joined = self.joined_by(at);
            }
            trace.nodes.push(node(None));
            return;
        }
        match &layout.shape {
            Shape::Coroutine { tag, states } => {
                let state = self.tag(*tag, at);
                trace.nodes.push(node(Some(state.unwrap_or(u64::MAX))));
                let state = states.iter().find(|known| Some(known.value) == state);
                if let Some(awaits) = state.and_then(|state| state.awaits.as_ref()) {
                    let before = trace.nodes.len();
                    self.follow(awaits.of_type, at.wrapping_add(awaits.offset), depth + 1, trace);
                    self.end(awaits.of_type, depth + 1, before, trace);
                }
            }
            Shape::Pointer(target) if leads_on(&layout.name) => {
                if let Some(address) = self.word(at).filter(|address| *address != 0) {
                    self.follow(*target, address, depth, trace);
                }
            }
            Shape::Dyn { data, vtable } => {
                let words = (
                    self.word(at.wrapping_add(*data)),
                    self.word(at.wrapping_add(*vtable)),
                );
                let (Some(data), Some(vtable)) = words else { return };
                match self.types.of_vtable(vtable.wrapping_sub(self.placed.bias)) {
                    Some(inside) => self.follow(inside, data, depth, trace),
                    None => trace.nodes.push(node(None)),
                }
            }
            Shape::Enumeration { tag, variants } => {
                if let Some(variant) = self.variant(*tag, variants, at)
                    && self.kinds.leads(&mut self.types, variant.part.of_type)
                {
                    self.follow(
                        variant.part.of_type,
                        at.wrapping_add(variant.part.offset),
                        depth + 1,
                        trace,
                    );
                }
            }
            Shape::Structure(_) if is_list(&layout.name) => {
                // What is not as it should be has none.
                let _ = self.listed(of_type, at, depth + 1, trace);
            }
            Shape::Structure(parts) => {
                let has = |name: &str| parts.iter().any(|part| part.name == name);
                let is_macros = layout.name.contains("{closure") || layout.name.contains("{async block");
                if is_macros && FUTURES.into_iter().any(has) {
                    let together = if has(TURNED_OFF) {
                        Together::Select
                    } else {
                        Together::Join
                    };
                    trace.together.get_or_insert(together);
                    let branches = parts.iter().find(|part| FUTURES.contains(&part.name.as_str()));
                    if let Some(branches) = branches.filter(|_| together == Together::Select) {
                        self.select(branches, at, depth + 1, trace);
                        return;
                    }
                }
                let mut is_leaf = true;
                // A union's parts lie at the same place.
                let mut seen: Vec<Range<u64>> = Vec::new();
                for part in parts {
                    let place = part.offset..part.offset + 1;
                    if seen.contains(&place) || !self.kinds.leads(&mut self.types, part.of_type) {
                        continue;
                    }
                    seen.push(place);
                    is_leaf = false;
                    let before = trace.nodes.len();
                    self.follow(part.of_type, at.wrapping_add(part.offset), depth + 1, trace);
                    trace.level(before, depth + 1);
                }
                if is_leaf {
                    self.end(of_type, depth, trace.nodes.len(), trace);
                }
            }
            Shape::Pointer(_) | Shape::Other => trace.nodes.push(node(None)),
        }
    }

    /// The futures of a `select!`, each of which is one, whether it is known what it awaits or not. `branches`: what refers
    /// to the tuple of them.
    fn select(&mut self, branches: &Part, at: u64, depth: u16, trace: &mut Trace) {
        let Some(at) = self.word(at.wrapping_add(branches.offset)) else {
            return;
        };
        let Some(Shape::Pointer(tuple)) = self.types.layout(branches.of_type).map(|it| it.shape.clone())
        else {
            return;
        };
        let Some(Shape::Structure(futures)) = self.types.layout(tuple).map(|it| it.shape.clone()) else {
            return;
        };
        for future in futures {
            let before = trace.nodes.len();
            if self.kinds.leads(&mut self.types, future.of_type) {
                self.follow(future.of_type, at.wrapping_add(future.offset), depth + 1, trace);
            }
            self.end(future.of_type, depth + 1, before, trace);
            trace.level(before, depth + 1);
        }
    }

    /// The futures of a `FuturesUnordered`, which are a list (futures-util 0.3, src/stream/futures_unordered/task.rs). Of those
    /// that await the same one is told.
    fn listed(&mut self, list: u64, at: u64, depth: u16, trace: &mut Trace) -> Option<()> {
        let (head, head_at) = self.member(list, "head_all")?;
        let task = pointee(&mut self.types, head)?;
        let (future, future_at) = self.member(task, "future")?;
        let (_, next_at) = self.member(task, "next_all")?;
        let mut told: HashSet<Vec<Node>> = HashSet::new();
        let mut next = self.word(at.wrapping_add(head_at))?;
        for _ in 0..MAX_LISTED {
            if next == 0 {
                return Some(());
            }
            let before = trace.nodes.len();
            self.follow(future, next.wrapping_add(future_at), depth, trace);
            trace.level(before, depth);
            if !told.insert(trace.nodes.get(before..)?.to_vec()) {
                trace.nodes.truncate(before);
            }
            next = self.word(next.wrapping_add(next_at))?;
        }
        trace.is_cut = true;
        Some(())
    }

    /// Notes a future in which none was found that it awaits. `before`: how many there were before it was looked for one.
    fn end(&mut self, of_type: u64, depth: u16, before: usize, trace: &mut Trace) {
        if trace.nodes.len() == before && !trace.is_cut {
            let of_type = bare(&mut self.types, of_type);
            let holds = self.kinds.holds(&mut self.types, of_type);
            trace.nodes.push(Node {
                of_type,
                state: None,
                depth,
                holds,
            });
        }
    }

    /// The number of the task that a handle is of: its one word points to it.
    fn joined_by(&mut self, at: u64) -> Option<u64> {
        let address = self.word(at)?;
        let joined = cell::read(self.blocks, self.placed, address)?;
        Some(joined.record.id)
    }

    fn variant<'v>(&mut self, tag: Option<Tag>, variants: &'v [Variant], at: u64) -> Option<&'v Variant> {
        let Some(tag) = tag else {
            return variants.first();
        };
        let value = self.tag(tag, at)?;
        variants
            .iter()
            .find(|variant| variant.value == Some(value))
            .or_else(|| variants.iter().find(|variant| variant.value.is_none()))
    }

    fn tag(&mut self, tag: Tag, at: u64) -> Option<u64> {
        let mut bytes = [0; 8];
        let size = (tag.size as usize).min(bytes.len());
        let at = at.checked_add(tag.offset)?;
        self.blocks.fill(at, bytes.get_mut(..size)?).then_some(())?;
        Some(u64::from_le_bytes(bytes))
    }

    fn word(&mut self, at: u64) -> Option<u64> {
        let mut bytes = [0; 8];
        self.blocks.fill(at, &mut bytes).then_some(())?;
        Some(u64::from_le_bytes(bytes))
    }
}
