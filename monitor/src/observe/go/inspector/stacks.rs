//! Stacks of goroutines, whether a timer ends their waits, and what they are labelled as.

use std::collections::{HashMap, HashSet};

use super::{
    super::{
        goroutine::{Decoded, Goroutine, Status},
        labels::{self, Form},
        program::{Program, Unknown},
        protocol::{MAX_STACKS, Outcome, Stacks, Wanted},
        reading,
        reads::{self, Standing},
        timers,
    },
    Inspector, Look, memory,
    unwinding::{Told, Unwinding},
};
use crate::{
    model::Labels,
    observe::{
        helper::Who,
        memory::{Memory, present::copied, space::Space as _},
        monotonic,
        programs::Placed,
    },
};

impl Inspector {
    pub(super) fn stacks(&mut self, who: Who, wanted: &[Wanted]) -> Result<Stacks, Unknown> {
        let wanted = &wanted[..wanted.len().min(MAX_STACKS)];
        let placed = self.program(who)?;
        let mut memory = memory(who)?;
        let addresses: Vec<u64> = wanted.iter().map(|wanted| wanted.address).collect();
        let mut read = Vec::with_capacity(addresses.len());
        reads::read(placed.program.offsets, &mut memory, &addresses, |_, decoded| {
            read.push(decoded);
        });
        let mut found: Vec<Standing<'_>> = Vec::with_capacity(read.len());
        for (wanted, decoded) in wanted.iter().zip(&read) {
            found.push(match decoded {
                Decoded::Live(goroutine) if is_still(goroutine, wanted) => Standing::Stands(goroutine),
                Decoded::Invalid => Standing::Unreadable,
                _ => Standing::Moved,
            });
        }
        let look = Look {
            who,
            placed: &placed,
            known: self.known_shapes(who),
        };
        let read = reading::Stacks::of(&mut memory, &found, &look.known.read());
        let told = self.unwound(&look, &mut memory, &found, read);
        Ok(self.answer_of(told))
    }

    /// Stacks of all of these that do not run, and the labels of all.
    pub(super) fn whole_stacks(
        &mut self,
        look: &Look<'_>,
        memory: &mut Memory,
        goroutines: &[Goroutine],
        read: reading::Stacks,
    ) -> Stacks {
        let Placed { bias, program, .. } = look.placed;
        let image = program.functions.space();
        let constant = |address: u64, bytes: &mut [u8]| {
            let own = address.wrapping_sub(*bias);
            image.is_in(own, |segment| !segment.writable) && image.fill(own, bytes)
        };
        let sets = goroutines.iter().map(|goroutine| goroutine.labels).collect();
        let known = labels::read(Form::of(program.version.minor), memory, sets, constant);
        let told = self.unwound(look, memory, &reading::standing(goroutines), read);
        let still = still_labelled(program, memory, goroutines);
        let mut answer = self.answer_of(told);
        (answer.labelled, answer.labels) = numbered(still.into_iter(), known);
        answer
    }

    /// The stacks of those that live, the first of which have been read. They may run at any moment: those that may have are
    /// looked at once more when all has been read.
    fn unwound(
        &mut self,
        look: &Look<'_>,
        memory: &mut Memory,
        found: &[Standing<'_>],
        read: reading::Stacks,
    ) -> Told {
        let timed = self.timed(look.who, look.placed, memory, found);
        let unwinding = Unwinding::new(look.placed, found, timed);
        let mut told = unwinding.all(memory, &read.order, read.read, &look.known.read());
        let is_doubtful =
            |number: &usize| !told.is_sound[*number] && told.outcomes[*number] != Outcome::Moved;
        let (doubtful, before): (Vec<usize>, Vec<&Goroutine>) = (0..found.len())
            .filter(is_doubtful)
            .filter_map(|number| match found[number] {
                Standing::Stands(goroutine) => Some((number, goroutine)),
                _ => None,
            })
            .unzip();
        let addresses: Vec<u64> = before.iter().map(|goroutine| goroutine.address).collect();
        reads::read(look.placed.program.offsets, memory, &addresses, |at, later| {
            let stands = matches!(&later, Decoded::Live(now) if is_still(now, &wanted(before[at])));
            if !stands {
                told.outcomes[doubtful[at]] = Outcome::Moved;
            }
        });
        let mut shapes = std::mem::take(&mut told.shapes);
        shapes.retain(|(number, ..)| told.outcomes[*number] != Outcome::Moved);
        look.known
            .learn(shapes.into_iter().map(|(_, outline, shape)| (outline, shape)));
        told
    }

    fn answer_of(&self, told: Told) -> Stacks {
        Stacks {
            outcomes: told.outcomes,
            stacks: told.stacks,
            timers_unread: matches!(&self.timers, Some((_, None))),
            copied: copied(),
            ..Stacks::default()
        }
    }

    /// Of these goroutines the numbers of those that a timer will wake.
    fn timed(
        &mut self,
        who: Who,
        placed: &Placed<Program>,
        memory: &mut Memory,
        found: &[Standing<'_>],
    ) -> HashSet<usize> {
        let Placed { bias, program, .. } = placed;
        let (numbers, lists): (Vec<usize>, Vec<u64>) = found
            .iter()
            .enumerate()
            .filter_map(|(number, found)| match found {
                Standing::Stands(goroutine) => Some((number, *goroutine)),
                _ => None,
            })
            .filter(|(_, goroutine)| program.waits_for(goroutine).is_some_and(timers::may_end))
            .map(|(number, goroutine)| (number, goroutine.waiting))
            .unzip();
        if lists.is_empty() {
            return HashSet::new();
        }
        let now = monotonic();
        // Once a look: whoever waits has set its timers before.
        if self.timers.as_ref().is_none_or(|(of, _)| *of != who) {
            let set = match timers::are_hidden(program, *bias, memory) {
                true => timers::set(program, *bias, memory, now),
                false => Some(HashSet::new()),
            };
            self.timers = Some((who, set));
        }
        let none = HashSet::new();
        let hidden = self
            .timers
            .as_ref()
            .and_then(|(_, set)| set.as_ref())
            .unwrap_or(&none);
        let ends = timers::end_by_themselves(program.offsets, memory, &lists, hidden, now);
        let numbers = numbers.into_iter().zip(ends);
        numbers
            .filter(|(_, ends)| *ends)
            .map(|(number, _)| number)
            .collect()
    }
}

/// The labels that each of these has had all the time, or 0: as long as it has them, nothing else can lie there.
fn still_labelled(program: &Program, memory: &mut Memory, goroutines: &[Goroutine]) -> Vec<u64> {
    let mut still = vec![0; goroutines.len()];
    let labelled: Vec<usize> = (0..goroutines.len())
        .filter(|number| goroutines[*number].labels != 0)
        .collect();
    let addresses: Vec<u64> = labelled
        .iter()
        .map(|number| goroutines[*number].address)
        .collect();
    reads::read(program.offsets, memory, &addresses, |at, later| {
        let before = &goroutines[labelled[at]];
        if matches!(&later, Decoded::Live(now) if (now.id, now.labels) == (before.id, before.labels)) {
            still[labelled[at]] = before.labels;
        }
    });
    still
}

/// Of each address the number of its set, and the sets by number.
fn numbered(
    addresses: impl Iterator<Item = u64>,
    mut sets: HashMap<u64, Labels>,
) -> (Vec<Option<u32>>, Vec<Labels>) {
    let (mut numbers, mut told) = (HashMap::new(), Vec::new());
    let one = |address: u64| {
        if address == 0 {
            return None;
        }
        if let Some(labels) = sets.remove(&address) {
            numbers.insert(address, told.len() as u32);
            told.push(labels);
        }
        numbers.get(&address).copied()
    };
    (addresses.map(one).collect(), told)
}

/// As it was.
fn wanted(goroutine: &Goroutine) -> Wanted {
    Wanted {
        address: goroutine.address,
        id: goroutine.id,
        seq: goroutine.seq,
        place: goroutine.place(),
    }
}

fn is_still(goroutine: &Goroutine, wanted: &Wanted) -> bool {
    goroutine.id == wanted.id
        && goroutine.seq == wanted.seq
        && goroutine.place() == wanted.place
        && goroutine.status != Status::Running
}
