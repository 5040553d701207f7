//! Stacks of goroutines, whether a timer ends their waits, and what they are labelled as.

use std::collections::{HashMap, HashSet};

use super::{
    super::{
        goroutine::{Decoded, Goroutine, Status},
        labels::{self, Form},
        poll,
        program::{Program, Unknown},
        protocol::{MAX_STACKS, Outcome, Stacks, Wanted},
        reading, reads,
        stack::{Copied, Pcs},
        timers,
    },
    Inspector, memory,
};
use crate::{
    model::Labels,
    observe::{
        helper::Who,
        memory::{Memory, space::Space as _},
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
        let mut found = reads::read(placed.program.offsets, &mut memory, &addresses);
        for (wanted, found) in wanted.iter().zip(&mut found) {
            match found {
                Decoded::Live(goroutine) if is_still(goroutine, wanted) => {}
                Decoded::Invalid => {}
                _ => *found = Decoded::Dead,
            }
        }
        let read = reading::Stacks::of(&mut memory, found);
        Ok(self.unwound(who, &placed, &mut memory, read))
    }

    /// Stacks of all of these that do not run, and the labels of all. They may run at any moment: they are looked at once
    /// more when all has been read.
    pub(super) fn whole_stacks(
        &mut self,
        who: Who,
        placed: &Placed<Program>,
        memory: &mut Memory,
        goroutines: &[Goroutine],
        read: reading::Stacks,
    ) -> Stacks {
        let Placed { bias, program, .. } = placed;
        let image = program.functions.space();
        let constant = |address: u64, bytes: &mut [u8]| {
            let own = address.wrapping_sub(*bias);
            image.is_in(own, |segment| !segment.writable) && image.fill(own, bytes)
        };
        let sets = goroutines.iter().map(|goroutine| goroutine.labels).collect();
        let known = labels::read(Form::of(program.version.minor), memory, sets, constant);
        let mut answer = self.unwound(who, placed, memory, read);
        let addresses: Vec<u64> = goroutines.iter().map(|goroutine| goroutine.address).collect();
        let later = reads::read(program.offsets, memory, &addresses);
        // As long as a goroutine has them, nothing else can lie there.
        let still = goroutines.iter().zip(&later).map(|(before, found)| match found {
            Decoded::Live(now) if (now.id, now.labels) == (before.id, before.labels) => now.labels,
            _ => 0,
        });
        (answer.labelled, answer.labels) = numbered(still, known);
        for ((before, found), outcome) in goroutines.iter().zip(&later).zip(&mut answer.outcomes) {
            match found {
                Decoded::Live(now) if is_still(now, &wanted(before)) => {}
                _ => *outcome = Outcome::Moved,
            }
        }
        answer
    }

    /// The stacks of those that live, the first of which have been read.
    fn unwound(
        &mut self,
        who: Who,
        placed: &Placed<Program>,
        memory: &mut Memory,
        read: reading::Stacks,
    ) -> Stacks {
        let reading::Stacks {
            found,
            order,
            mut count,
            mut copied,
        } = read;
        let Placed { bias, program, .. } = placed;
        let mut answer = Stacks {
            outcomes: vec![Outcome::Moved; found.len()],
            ..Stacks::default()
        };
        let timed = self.timed(who, placed, memory, &found);
        answer.timers_unread = matches!(&self.timers, Some((_, None)));
        let mut numbers = HashMap::new();
        let mut rest = order.as_slice();
        loop {
            let (now, later) = rest.split_at(count);
            rest = later;
            for (place, number) in now.iter().enumerate() {
                let goroutine = match &found[*number] {
                    Decoded::Live(goroutine) => goroutine,
                    Decoded::Dead => continue,
                    Decoded::Invalid => {
                        answer.outcomes[*number] = Outcome::Unreadable;
                        continue;
                    }
                };
                let Some(bytes) = copied.get(place) else {
                    answer.outcomes[*number] = Outcome::Unreadable;
                    continue;
                };
                let copied = Copied {
                    goroutine,
                    bytes,
                    bias: *bias,
                    goexit: &program.goexit,
                };
                let pcs = copied.unwind(&program.functions);
                let next = answer.stacks.len() as u32;
                let index = *numbers.entry(pcs).or_insert_with_key(|pcs: &Pcs| {
                    answer.stacks.push(pcs.clone());
                    next
                });
                let is_io = program.waits_for(goroutine) == Some(poll::REASON);
                answer.outcomes[*number] = Outcome::Stack {
                    number: index,
                    has_deadline: timed.contains(number)
                        || is_io && poll::has_deadline(program.offsets, memory, goroutine, bytes),
                };
            }
            if rest.is_empty() {
                return answer;
            }
            (count, copied) = reads::stacks(memory, &found, rest);
        }
    }

    /// Of these goroutines the numbers of those that a timer will wake.
    fn timed(
        &mut self,
        who: Who,
        placed: &Placed<Program>,
        memory: &mut Memory,
        found: &[Decoded],
    ) -> HashSet<usize> {
        let Placed { bias, program, .. } = placed;
        let (numbers, lists): (Vec<usize>, Vec<u64>) = found
            .iter()
            .enumerate()
            .filter_map(|(number, found)| match found {
                Decoded::Live(goroutine) => Some((number, goroutine)),
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

/// Of each address the number of its set, and the sets by number.
fn numbered(
    addresses: impl Iterator<Item = u64>,
    mut sets: HashMap<u64, Labels>,
) -> (Vec<Option<u32>>, Vec<Labels>) {
    let (mut numbers, mut told) = (HashMap::new(), Vec::new());
    let one = |address: u64| {
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
