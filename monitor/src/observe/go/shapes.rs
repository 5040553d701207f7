//! What stacks look like, so that of those like one that was unwound only a part is read, and none is unwound again.
//!
//! Where a goroutine stands tells how large its innermost frame is, for an instruction has one frame size
//! (runtime/symtab.go, `pcsp`): so it tells where the return address lies, which tells how large the next frame is, and so on.
//! Hence stacks of one size that stand at one instruction and have the same return addresses at the same places have the same
//! frames, whatever else is on them.
//!
//! It tells, too, that the stack was not read while it changed, if of those that wait for the same reason in the same function
//! only that one is known.

use std::{
    ops::Range,
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard},
};

use hashbrown::HashMap;

use super::{
    goroutine::{Goroutine, Status},
    stack::Pcs,
};
use crate::observe::memory::space::word;

/// Outlines of one process's goroutines that are remembered, stacks of each, and return addresses of all.
const MAX_OUTLINES: usize = 2_048;
const MAX_ALIKE: usize = 8;
const MAX_RETURNS: usize = 1 << 18;

/// What is known of a goroutine before its stack is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Outline {
    pc: u64,
    startpc: u64,
    /// Bytes of its stack.
    used: u64,
    reason: u8,
}

impl Outline {
    /// `None`: it does not wait, and may run at any moment.
    pub fn of(goroutine: &Goroutine) -> Option<Self> {
        let used = goroutine.stack.end.checked_sub(goroutine.sp)?;
        (goroutine.status == Status::Waiting).then_some(Self {
            pc: goroutine.pc,
            startpc: goroutine.startpc,
            used,
            reason: goroutine.reason,
        })
    }
}

/// A stack that was unwound. Distances are in bytes, down from the stack's upper end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shape {
    /// To the part that is read.
    part: Range<u64>,
    /// To each return address, and that address, the process's.
    returns: Vec<(u64, u64)>,
    pcs: Pcs,
}

impl Shape {
    /// Of a goroutine's stack with its return addresses at these places, the last one that of its outermost frame; `bytes`:
    /// the stack from its stack pointer upwards. `from_sp`: more of the next ones like it is needed than its return
    /// addresses.
    pub fn of(goroutine: &Goroutine, bytes: &[u8], places: &[u64], pcs: &Pcs, from_sp: bool) -> Option<Self> {
        let distance = |place: &u64| goroutine.stack.end.checked_sub(*place);
        let address = |place: &u64| word(bytes, usize::try_from(place.checked_sub(goroutine.sp)?).ok()?);
        let returns: Option<Vec<(u64, u64)>> = places
            .iter()
            .map(|place| Some((distance(place)?, address(place)?)))
            .collect();
        let returns = returns?;
        let first = if from_sp {
            distance(&goroutine.sp)?
        } else {
            returns.first()?.0
        };
        Some(Self {
            part: first..returns.last()?.0.checked_sub(8)?,
            returns,
            pcs: pcs.clone(),
        })
    }

    /// Whether a goroutine of the same outline has such a stack; `bytes`: what lies on it from the address `from` on.
    fn fits(&self, goroutine: &Goroutine, from: u64, bytes: &[u8]) -> bool {
        let top = goroutine.stack.end.wrapping_sub(from);
        self.returns.iter().all(|(distance, address)| {
            let at = usize::try_from(top.wrapping_sub(*distance)).unwrap_or(usize::MAX);
            word(bytes, at) == Some(*address)
        })
    }
}

/// The shapes of one outline.
#[derive(Debug)]
pub struct Alike(Vec<Shape>);

impl Alike {
    /// What is to be read of a goroutine's stack.
    pub fn place(&self, goroutine: &Goroutine) -> Range<u64> {
        let at = |distance: u64| goroutine.stack.end.saturating_sub(distance);
        let first = self.0.iter().map(|shape| shape.part.start).max().unwrap_or(0);
        let last = self.0.iter().map(|shape| shape.part.end).min().unwrap_or(0);
        at(first)..at(last)
    }

    /// The stack that a goroutine has, and whether that was not read while it changed; `bytes`: what lies on it from the
    /// address `from` on.
    pub fn find(&self, goroutine: &Goroutine, from: u64, bytes: &[u8]) -> Option<(&Pcs, bool)> {
        let shape = self.0.iter().find(|shape| shape.fits(goroutine, from, bytes))?;
        Some((&shape.pcs, self.0.len() == 1))
    }
}

/// Those of one process. By default none, and none is learned.
#[derive(Debug, Default)]
pub struct Shapes {
    room: usize,
    /// Return addresses.
    count: usize,
    /// `None`: there are too many of that outline.
    known: HashMap<Outline, Option<Alike>>,
}

impl Shapes {
    /// That are learned.
    pub fn new() -> Self {
        Self {
            room: MAX_OUTLINES,
            ..Self::default()
        }
    }

    /// Those that a goroutine's stack may have.
    pub fn get(&self, goroutine: &Goroutine) -> Option<&Alike> {
        self.known.get(&Outline::of(goroutine)?)?.as_ref()
    }

    /// Whether more are wanted of this outline.
    pub fn is_open(&self, outline: &Outline) -> bool {
        match self.known.get(outline) {
            Some(known) => known.is_some(),
            None => self.known.len() < self.room && self.count < MAX_RETURNS,
        }
    }

    /// Remembers a stack that has not changed while it was read.
    pub fn learn(&mut self, outline: Outline, shape: Shape) {
        if !self.is_open(&outline) {
            return;
        }
        let known = self
            .known
            .entry(outline)
            .or_insert_with(|| Some(Alike(Vec::new())));
        let Some(Alike(shapes)) = known else { return };
        if shapes.contains(&shape) {
            return;
        }
        self.count += shape.returns.len();
        shapes.push(shape);
        if shapes.len() > MAX_ALIKE || self.count > MAX_RETURNS {
            self.count -= shapes.iter().map(|shape| shape.returns.len()).sum::<usize>();
            *known = None;
        }
    }
}

/// Those of one process, for all who read its stacks.
#[derive(Clone, Debug)]
pub struct KnownShapes(Arc<RwLock<Shapes>>);

impl KnownShapes {
    pub fn new() -> Self {
        Self(Arc::new(RwLock::new(Shapes::new())))
    }

    pub fn read(&self) -> RwLockReadGuard<'_, Shapes> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// [`Shapes::learn`], each of these.
    pub fn learn(&self, shapes: impl ExactSizeIterator<Item = (Outline, Shape)>) {
        // Whoever reads is not held up for nothing.
        if shapes.len() == 0 {
            return;
        }
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        for (outline, shape) in shapes {
            known.learn(outline, shape);
        }
    }
}

#[cfg(test)]
mod tests;
