//! What stacks that were read say: each is like one that is known, or is unwound.

use std::collections::HashSet;

use hashbrown::HashMap;

use super::super::{
    goroutine::Goroutine,
    poll,
    program::Program,
    protocol::Outcome,
    reads::{self, Read, Standing},
    shapes::{Outline, Shape, Shapes},
    stack::{Copied, Pcs, Unwound},
};
use crate::observe::{memory::Memory, programs::Placed};

/// What is known of some goroutines' stacks.
#[derive(Debug, Default)]
pub struct Told {
    pub outcomes: Vec<Outcome>,
    /// Each once.
    pub stacks: Vec<Pcs>,
    /// Of whom it is known that the stack was not read while it changed.
    pub is_sound: Vec<bool>,
    /// Stacks that the next ones may be told by, of the goroutines with these numbers.
    pub shapes: Vec<(usize, Outline, Shape)>,
}

pub struct Unwinding<'a> {
    placed: &'a Placed<Program>,
    found: &'a [Standing<'a>],
    /// Who is woken by a timer.
    timed: HashSet<usize>,
    told: Told,
    numbers: HashMap<Pcs, u32>,
    /// Of each stack with an outline one is enough.
    has_shape: HashSet<(Outline, u32)>,
    unwound: Unwound,
}

impl<'a> Unwinding<'a> {
    pub fn new(placed: &'a Placed<Program>, found: &'a [Standing<'a>], timed: HashSet<usize>) -> Self {
        Self {
            placed,
            found,
            timed,
            told: Told {
                outcomes: vec![Outcome::Moved; found.len()],
                is_sound: vec![false; found.len()],
                ..Told::default()
            },
            numbers: HashMap::new(),
            has_shape: HashSet::new(),
            unwound: Unwound::default(),
        }
    }

    /// All of them, in this order, the first of which have been read.
    pub fn all(mut self, memory: &mut Memory, order: &[usize], first: Read, known: &Shapes) -> Told {
        let unlike = self.some(memory, order, Some(first), (known, known));
        self.some(memory, &unlike, None, (&Shapes::default(), known));
        self.told
    }

    /// Those with these numbers, the `first` of which may have been read, the others in parts where one of `parts` is like
    /// them. Returns those of which a part was read that is like nothing that is known.
    fn some(
        &mut self,
        memory: &mut Memory,
        numbers: &[usize],
        mut first: Option<Read>,
        (parts, known): (&Shapes, &Shapes),
    ) -> Vec<usize> {
        let (mut rest, mut unlike) = (numbers, Vec::new());
        while !rest.is_empty() {
            let read = first
                .take()
                .unwrap_or_else(|| reads::stacks(memory, self.found, rest, parts));
            let (now, later) = rest.split_at(read.places.len());
            unlike.extend(self.take(memory, now, &read, known));
            rest = later;
        }
        unlike
    }

    fn take(&mut self, memory: &mut Memory, numbers: &[usize], read: &Read, known: &Shapes) -> Vec<usize> {
        let mut unlike = Vec::new();
        let mut on_network = Vec::new();
        for (at, (number, place)) in numbers.iter().zip(&read.places).enumerate() {
            let goroutine = match self.found[*number] {
                Standing::Stands(goroutine) => goroutine,
                Standing::Moved => continue,
                Standing::Unreadable => {
                    self.told.outcomes[*number] = Outcome::Unreadable;
                    continue;
                }
            };
            let Some(bytes) = read.copied.get(at) else {
                self.told.outcomes[*number] = Outcome::Unreadable;
                continue;
            };
            let alike = known.get(goroutine);
            let stack = match alike.and_then(|alike| alike.find(goroutine, place.start, bytes)) {
                Some((pcs, is_sound)) => {
                    self.told.is_sound[*number] = is_sound;
                    numbered(&mut self.numbers, &mut self.told.stacks, pcs)
                }
                None if place.start != goroutine.sp => {
                    unlike.push(*number);
                    continue;
                }
                None => self.unwind(*number, goroutine, bytes, known),
            };
            self.told.outcomes[*number] = Outcome::Stack {
                number: stack,
                has_deadline: self.timed.contains(number),
            };
            if self.is_on_network(goroutine) {
                on_network.push((*number, goroutine, bytes));
            }
        }
        for limited in poll::have_deadlines(self.placed.program.offsets, memory, &on_network) {
            if let Outcome::Stack { has_deadline, .. } = &mut self.told.outcomes[limited] {
                *has_deadline = true;
            }
        }
        unlike
    }

    /// Number of the stack.
    fn unwind(&mut self, number: usize, goroutine: &Goroutine, bytes: &[u8], known: &Shapes) -> u32 {
        let program = &self.placed.program;
        let copied = Copied {
            goroutine,
            bytes,
            bias: self.placed.bias,
            goexit: &program.goexit,
        };
        copied.unwind(&program.functions, &mut self.unwound);
        let Unwound { pcs, places } = &self.unwound;
        let stack = numbered(&mut self.numbers, &mut self.told.stacks, pcs);
        let outline = Outline::of(goroutine).filter(|outline| !pcs.truncated && known.is_open(outline));
        if let Some(outline) = outline
            && self.has_shape.insert((outline, stack))
            && let Some(shape) = Shape::of(goroutine, bytes, places, pcs, self.is_on_network(goroutine))
        {
            self.told.shapes.push((number, outline, shape));
        }
        stack
    }

    /// Then more is looked for on its stack.
    fn is_on_network(&self, goroutine: &Goroutine) -> bool {
        self.placed.program.waits_for(goroutine) == Some(poll::REASON)
    }
}

fn numbered(numbers: &mut HashMap<Pcs, u32>, stacks: &mut Vec<Pcs>, pcs: &Pcs) -> u32 {
    // Looked up for each stack: few are new.
    if let Some(known) = numbers.get(pcs) {
        return *known;
    }
    let next = stacks.len() as u32;
    stacks.push(pcs.clone());
    numbers.insert(pcs.clone(), next);
    next
}
