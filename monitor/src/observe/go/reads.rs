//! Reads of a process's goroutines: the runtime's list of them, and what it points at.

use std::{
    collections::{HashMap, HashSet},
    ops::Range,
};

use super::{
    goroutine::{Decoded, Goroutine, Status},
    offsets::Offsets,
    program::{Program, Unknown},
    shapes::Shapes,
};
use crate::observe::memory::{
    Memory,
    gather::{Gathered, NEAR},
    space::{SpaceExt as _, word},
};

/// More goroutines than this are not walked.
const MAX_GOROUTINES: u64 = 4 << 20;
/// Of one stack, from its top; and of all that are read at once.
const MAX_STACK: u64 = 1 << 20;
const MAX_COPIED: u64 = 16 << 20;
/// Goroutines by which the layout is checked.
const CHECKED: usize = 256;
/// The list may be replaced while it is read.
const TRIES: usize = 3;

/// The addresses of all goroutines there ever were (`runtime.allgs` only grows).
pub fn list(program: &Program, bias: u64, memory: &mut Memory) -> Result<Vec<u64>, Unknown> {
    let unreadable = |what: String| Unknown::Unreadable(format!("{}: {what}", program.version));
    let at = |address: u64| address.wrapping_add(bias);
    for _ in 0..TRIES {
        // The length first: the list that is loaded afterwards is at least as long (runtime.atomicAllG).
        let length = memory.u64(at(program.list_length));
        let list = memory.u64(at(program.list));
        let (Some(length), Some(list)) = (length, list) else {
            return Err(unreadable("its list of goroutines is not in memory".to_owned()));
        };
        if length > MAX_GOROUTINES {
            return Err(unreadable(format!("it claims to have {length} goroutines")));
        }
        let Some(end) = list.checked_add(8 * length) else {
            return Err(unreadable("its list of goroutines is nowhere".to_owned()));
        };
        let mut addresses = Vec::with_capacity(length as usize);
        memory.parts(list..end, |address, bytes| {
            if address == list + 8 * addresses.len() as u64 {
                addresses.extend((0..bytes.len() / 8).filter_map(|number| word(bytes, 8 * number)));
            }
        });
        // Once it is replaced the old one may be used for something else.
        if memory.u64(at(program.list)) == Some(list) && addresses.len() as u64 == length {
            return Ok(addresses);
        }
    }
    Err(unreadable("its list of goroutines cannot be read".to_owned()))
}

/// Reads goroutines, and tells of each in the order of their addresses what it is.
pub fn read(
    offsets: &'static Offsets,
    memory: &mut Memory,
    addresses: &[u64],
    mut tell: impl FnMut(usize, Decoded),
) {
    let place = |address: &u64| *address..address.saturating_add(offsets.size);
    let places: Vec<Range<u64>> = addresses.iter().map(place).collect();
    let gathered = memory.gather(&places, NEAR);
    for (number, address) in addresses.iter().enumerate() {
        let decoded = gathered.get(number).map_or(Decoded::Invalid, |bytes| {
            Goroutine::decode(offsets, *address, bytes)
        });
        tell(number, decoded);
    }
}

/// Numbers of the threads that goroutines run on; 0 for those that run on none.
pub fn threads(program: &Program, memory: &mut Memory, goroutines: &[Goroutine]) -> Vec<u64> {
    let place = |goroutine: &Goroutine| {
        let at = goroutine.m.wrapping_add(program.offsets.procid);
        if goroutine.m == 0 || goroutine.status == Status::Waiting {
            0..0
        } else {
            at..at.saturating_add(8)
        }
    };
    let places: Vec<Range<u64>> = goroutines.iter().map(place).collect();
    if places.iter().all(Range::is_empty) {
        return vec![0; goroutines.len()];
    }
    let gathered = memory.gather(&places, 0);
    (0..goroutines.len())
        .map(|number| gathered.get(number).and_then(|bytes| word(bytes, 0)).unwrap_or(0))
        .collect()
}

/// Numbers of the bubbles that some of them are in, by address (runtime/synctest.go).
pub fn bubbles(program: &Program, memory: &mut Memory, goroutines: &[Goroutine]) -> HashMap<u64, u64> {
    let offsets = program.offsets;
    let mut bubbles: Vec<u64> = goroutines.iter().map(|goroutine| goroutine.bubble).collect();
    bubbles.retain(|bubble| *bubble != 0);
    bubbles.sort_unstable();
    bubbles.dedup();
    if bubbles.is_empty() {
        return HashMap::new();
    }
    let mut words = |addresses: &[u64], offset: usize| -> Vec<u64> {
        let at = |address: &u64| address.saturating_add(offset as u64);
        let places: Vec<Range<u64>> = addresses
            .iter()
            .map(|address| at(address)..at(address).saturating_add(8))
            .collect();
        let gathered = memory.gather(&places, 0);
        let read = |number| gathered.get(number).and_then(|bytes| word(bytes, 0)).unwrap_or(0);
        (0..places.len()).map(read).collect()
    };
    let numbers = match offsets.bubble_id {
        // Go 1.24 has no numbers for them: it tells the goroutine that they were made by.
        0 => {
            let roots = words(&bubbles, offsets.bubble_root);
            words(&roots, offsets.goid)
        }
        id => words(&bubbles, id),
    };
    bubbles.into_iter().zip(numbers).collect()
}

/// What there is of a goroutine's stack to be read.
#[derive(Clone, Copy)]
pub enum Standing<'a> {
    Stands(&'a Goroutine),
    /// It runs, has run meanwhile, or is gone.
    Moved,
    Unreadable,
}

impl Standing<'_> {
    /// The part of its stack that is in use.
    fn used(&self) -> Range<u64> {
        match self {
            Self::Stands(goroutine) => {
                let end = goroutine.sp.saturating_add(MAX_STACK);
                goroutine.sp..goroutine.stack.end.min(end)
            }
            _ => 0..0,
        }
    }
}

/// The order in which stacks lie in memory.
pub fn order(found: &[Standing<'_>]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..found.len()).collect();
    order.sort_unstable_by_key(|number| found[*number].used().start);
    order
}

/// Stacks that were read at once.
pub struct Read {
    /// Of each the part that was to be read.
    pub places: Vec<Range<u64>>,
    pub copied: Gathered,
}

/// The next stacks in this order, as many as are read at once: of those like one that is known a part, of the others what is
/// in use.
pub fn stacks(memory: &mut Memory, found: &[Standing<'_>], order: &[usize], shapes: &Shapes) -> Read {
    let mut places = Vec::new();
    let mut length = 0;
    for number in order {
        let standing = &found[*number];
        let part = match standing {
            Standing::Stands(goroutine) => shapes.get(goroutine).map(|alike| alike.place(goroutine)),
            _ => None,
        };
        let place = part.unwrap_or_else(|| standing.used());
        length += place.end.saturating_sub(place.start);
        if length > MAX_COPIED && !places.is_empty() {
            break;
        }
        places.push(if place.start < place.end { place } else { 0..0 });
    }
    let copied = memory.gather(&places, 0);
    Read { places, copied }
}

/// Whether the table of offsets fits: of a goroutine what it runs is a function's beginning, and so on.
pub fn check(program: &Program, bias: u64, memory: &mut Memory) -> Result<(), Unknown> {
    let addresses = list(program, bias, memory)?;
    let some = &addresses[..addresses.len().min(CHECKED)];
    let (mut live, mut sound) = (0, 0);
    let mut ids = HashSet::new();
    read(program.offsets, memory, some, |_, decoded| match decoded {
        Decoded::Dead => {}
        Decoded::Invalid => live += 1,
        Decoded::Live(goroutine) => {
            live += 1;
            let pc = goroutine.startpc.wrapping_sub(bias);
            let begins = program
                .functions
                .function(pc)
                .is_some_and(|function| function.entry == pc);
            sound += usize::from(begins && ids.insert(goroutine.id));
        }
    });
    match (live, sound) {
        // A program has at least its main goroutine and the runtime's, once it runs.
        (0, _) => Err(Unknown::Unreadable(format!(
            "{}: it has no goroutines yet",
            program.version
        ))),
        // One or the other may be changing just now.
        _ if 10 * sound >= 9 * live => Ok(()),
        _ => Err(Unknown::Layout(program.version.text.clone())),
    }
}
