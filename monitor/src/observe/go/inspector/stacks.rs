//! Stacks of goroutines, whether a timer ends their waits, and what they are labelled as.

use std::collections::{HashMap, HashSet};

use super::{
    super::{
        goroutine::{Decoded, Goroutine, Status},
        labels::{self, Form},
        poll,
        program::{Program, Unknown},
        protocol::{MAX_STACKS, Outcome, Stacks, Wanted},
        reads::{read, some_stacks},
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
    /// `again`: those that have run while their stacks were read are told to have.
    pub(super) fn stacks(&mut self, who: Who, wanted: &[Wanted], again: bool) -> Result<Stacks, Unknown> {
        let wanted = &wanted[..wanted.len().min(MAX_STACKS)];
        let Placed { bias, program, .. } = self.program(who)?;
        let mut memory = memory(who)?;
        let addresses: Vec<u64> = wanted.iter().map(|wanted| wanted.address).collect();
        let mut found = read(&program, &mut memory, &addresses);
        let sets: Vec<u64> = found.iter().map(labels_of).collect();
        let known = match again {
            true => {
                let image = program.functions.space();
                let constant = |address: u64, bytes: &mut [u8]| {
                    let own = address.wrapping_sub(bias);
                    image.is_in(own, |segment| !segment.writable) && image.fill(own, bytes)
                };
                let form = Form::of(program.version.minor);
                labels::read(form, &mut memory, sets.clone(), constant)
            }
            false => HashMap::new(),
        };
        for (wanted, found) in wanted.iter().zip(&mut found) {
            match found {
                Decoded::Live(goroutine) if is_still(goroutine, wanted) => {}
                Decoded::Invalid => {}
                _ => *found = Decoded::Dead,
            }
        }
        let mut answer = Stacks {
            outcomes: vec![Outcome::Moved; wanted.len()],
            ..Stacks::default()
        };
        let timed = self.timed(who, &program, bias, &mut memory, &found);
        answer.timers_unread = matches!(&self.timers, Some((_, None)));
        let mut numbers = HashMap::new();
        let mut order: Vec<usize> = (0..found.len()).collect();
        order.sort_unstable_by_key(|number| match &found[*number] {
            Decoded::Live(goroutine) => goroutine.sp,
            _ => 0,
        });
        let mut rest = order.as_slice();
        while !rest.is_empty() {
            let (some, places) = some_stacks(&found, rest);
            let (now, later) = rest.split_at(some);
            rest = later;
            let copied = memory.gather(&places, 0);
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
                    bias,
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
                        || is_io && poll::has_deadline(program.offsets, &mut memory, goroutine, bytes),
                };
            }
        }
        if again {
            let later = read(&program, &mut memory, &addresses);
            // As long as a goroutine has them, nothing else can lie there.
            let still = wanted
                .iter()
                .zip(&later)
                .zip(&sets)
                .map(|((wanted, found), set)| {
                    let is_same = matches!(found, Decoded::Live(goroutine) if goroutine.id == wanted.id);
                    if is_same && labels_of(found) == *set {
                        *set
                    } else {
                        0
                    }
                });
            (answer.labelled, answer.labels) = numbered(still, known);
            for ((wanted, found), outcome) in wanted.iter().zip(later).zip(&mut answer.outcomes) {
                match found {
                    Decoded::Live(goroutine) if is_still(&goroutine, wanted) => {}
                    _ => *outcome = Outcome::Moved,
                }
            }
        }
        Ok(answer)
    }

    /// Of these goroutines the numbers of those that a timer will wake.
    fn timed(
        &mut self,
        who: Who,
        program: &Program,
        bias: u64,
        memory: &mut Memory,
        found: &[Decoded],
    ) -> HashSet<usize> {
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
            let set = match timers::are_hidden(program, bias, memory) {
                true => timers::set(program, bias, memory, now),
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

/// Address of its labels, or 0.
fn labels_of(found: &Decoded) -> u64 {
    match found {
        Decoded::Live(goroutine) => goroutine.labels,
        Decoded::Dead | Decoded::Invalid => 0,
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

fn is_still(goroutine: &Goroutine, wanted: &Wanted) -> bool {
    goroutine.id == wanted.id
        && goroutine.seq == wanted.seq
        && goroutine.place() == wanted.place
        && goroutine.status != Status::Running
}
