//! Lists made by hand in this very process: whole ones, and such as no runtime ever made.

use std::{collections::HashMap, rc::Rc};

use proptest::prelude::*;

use super::*;
use crate::observe::{memory::Memory, tokio::task::Vtable};

const VTABLE: u64 = 0x7000;
const OWNER: u64 = 5;
const ID: usize = 5;
const TRAILER: usize = 10;
const WORDS: usize = 16;

/// Cells side by side, and the ends of one list of them.
struct Made {
    cells: Vec<u128>,
    ends: Box<[u64; 2]>,
}

impl Made {
    /// So many, in one list, the last one first.
    fn new(count: usize) -> Self {
        let mut made = Self {
            // Aligned as cells are.
            cells: vec![0; count * WORDS / 2],
            ends: Box::new([0, 0]),
        };
        for index in 0..count {
            made.set(index, 0, 0x40);
            made.set(index, 2, VTABLE);
            made.set(index, 3, OWNER);
            made.set(index, ID, 100 + index as u64);
            let at = |index: usize| if index < count { made.at(index) } else { 0 };
            let (before, behind) = (at(index + 1), at(index.wrapping_sub(1)));
            made.link(index, before, behind);
        }
        if count > 0 {
            made.ends = Box::new([made.at(count - 1), made.at(0)]);
        }
        made
    }

    fn at(&self, index: usize) -> u64 {
        self.cells.as_ptr() as u64 + (8 * WORDS * index) as u64
    }

    fn set(&mut self, index: usize, word: usize, value: u64) {
        let at = index * WORDS + word;
        let shift = 64 * (at % 2);
        let cell = &mut self.cells[at / 2];
        *cell = *cell & !(u128::from(u64::MAX) << shift) | u128::from(value) << shift;
    }

    fn link(&mut self, index: usize, before: u64, behind: u64) {
        self.set(index, TRAILER, before);
        self.set(index, TRAILER + 1, behind);
    }

    fn seen(&self) -> Seen {
        let at = self.ends.as_ptr() as u64;
        Seen {
            list: List::single(at, OWNER),
            count: Some((self.cells.len() * 2 / WORDS) as u64),
            ends: vec![Ends {
                at,
                first: self.ends[0],
                last: self.ends[1],
            }],
        }
    }

    /// The numbers of the tasks that a walk finds, and whether it says that some are missing.
    fn walk(&self) -> (Vec<u64>, bool) {
        self.walk_knowing(None)
    }

    fn walk_knowing(&self, known: Option<HashMap<u64, u64>>) -> (Vec<u64>, bool) {
        let vtable = Vtable {
            functions: [0; 7],
            trailer: 8 * TRAILER as u64,
            id: 8 * ID as u64,
            keeps_place: false,
        };
        let placed = Placed {
            bias: 0,
            program: Rc::new(Program::of_vtables(HashMap::from([(VTABLE, vtable)]))),
            module: "app".into(),
        };
        // SAFETY: takes nothing, returns a number.
        let memory = Memory::of(unsafe { libc::gettid() } as u32).unwrap();
        let mut walk = Walk::new(placed, Blocks::new(memory), vec![self.seen()], known);
        let mut ids = Vec::new();
        loop {
            let mut records = Vec::new();
            let is_more = walk.some(7, &mut records);
            ids.extend(records.iter().map(|record| record.id));
            if !is_more {
                let count = self.seen().count;
                return (ids, walk.is_incomplete(|_| count));
            }
        }
    }
}

#[test]
fn a_whole_list_is_found_from_its_end() {
    for count in [0, 1, 2, 50, 3_000] {
        let expected: Vec<u64> = (0..count as u64).map(|index| 100 + index).collect();
        assert_eq!(Made::new(count).walk(), (expected, false));
    }
}

#[test]
fn a_circle_comes_to_its_end_and_is_said() {
    let mut made = Made::new(500);
    let (first, last) = (made.at(0), made.at(499));
    made.link(499, first, made.at(498));
    made.link(0, made.at(1), last);
    let (ids, is_incomplete) = made.walk();
    // All that the list says to have were found.
    assert_eq!((ids.len(), is_incomplete), (500, false));
    let mut made = Made::new(500);
    let here = made.at(100);
    made.link(100, here, here);
    // It is not behind the one that leads to it.
    assert_eq!(made.walk(), ((100..200).collect(), true));
}

#[test]
fn what_leads_nowhere_ends_the_walk_and_is_said() {
    for nowhere in [16, 1 << 40, u64::MAX - 15, 0x10001] {
        let mut made = Made::new(500);
        let behind = made.at(98);
        made.link(99, nowhere, behind);
        assert_eq!(made.walk(), ((100..200).collect(), true), "{nowhere:#x}");
    }
}

#[test]
fn what_is_no_task_of_the_list_is_none() {
    for (word, value) in [(0, 0), (0, 3), (2, VTABLE + 8), (3, OWNER + 1)] {
        let mut made = Made::new(500);
        made.set(50, word, value);
        assert_eq!(made.walk(), ((100..150).collect(), true), "{word} {value}");
    }
}

/// Tasks that were there before are found where they are, though nothing leads there any more; others under their addresses
/// are not taken for them.
#[test]
fn what_was_known_is_found_though_its_list_is_broken() {
    let mut made = Made::new(500);
    let known: HashMap<u64, u64> = (0..400)
        .map(|index| (made.at(index), 100 + index as u64))
        .collect();
    let behind = made.at(98);
    made.link(99, 1 << 40, behind);
    made.set(300, ID, 7);
    made.set(301, 0, 0);
    let (mut ids, is_incomplete) = made.walk_knowing(Some(known));
    ids.sort_unstable();
    let expected: Vec<u64> = (100..500).filter(|id| ![400, 401].contains(id)).collect();
    // There may be more beyond the break that nobody has seen yet.
    assert_eq!((ids, is_incomplete), (expected, true));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_links_come_to_an_end_and_tell_each_task_once(links in prop::collection::vec((0_usize..40, 0_usize..40), 40)) {
        let mut made = Made::new(40);
        for (index, (before, behind)) in links.into_iter().enumerate() {
            let (before, behind) = (made.at(before), made.at(behind));
            made.link(index, before, behind);
        }
        let (mut ids, _) = made.walk();
        let count = ids.len();
        ids.sort_unstable();
        ids.dedup();
        prop_assert_eq!(ids.len(), count);
    }
}
