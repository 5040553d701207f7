//! Wheels made by hand in this very process: whole ones, and such as no runtime ever made.

use std::{
    collections::HashMap,
    rc::Rc,
    task::{RawWaker, RawWakerVTable},
};

use proptest::prelude::*;

use super::*;
use crate::observe::{
    memory::Memory,
    programs::Placed,
    tokio::{lists::Search, program::Program, task::Vtable, wheels},
};

const VTABLE: u64 = 0x7000;
const LEVEL: usize = 130;
const WORDS: usize = 8;
const TASK: usize = 8;
/// What a waker's functions are is of no account.
static TABLE: RawWakerVTable = RawWakerVTable::new(again, nothing, nothing, nothing);

fn again(data: *const ()) -> RawWaker {
    RawWaker::new(data, &TABLE)
}

fn nothing(_: *const ()) {}

fn own_thread() -> u32 {
    // SAFETY: takes nothing, returns a number.
    unsafe { libc::gettid() as u32 }
}

fn placed() -> Placed<Program> {
    let program = Program::of_vtables(HashMap::from([(
        VTABLE,
        Vtable {
            functions: [0; 7],
            trailer: 80,
            id: 40,
            keeps_place: false,
        },
    )]));
    let bias = program.image.bias(std::process::id(), own_thread()).unwrap();
    Placed {
        bias,
        program: Rc::new(program),
        module: "app".into(),
    }
}

/// A handle, the levels of its wheel, timers, and tasks.
struct Made {
    handle: Vec<u64>,
    levels: Vec<u64>,
    timers: Vec<u64>,
    tasks: Vec<u128>,
    bias: u64,
}

impl Made {
    /// So many timers, each of a task of its own, spread over the slots.
    fn new(count: usize) -> Self {
        let mut made = Self {
            handle: vec![0; 512],
            levels: vec![0; 6 * LEVEL],
            timers: vec![0; WORDS * count],
            tasks: vec![0; TASK / 2 * count],
            bias: placed().bias,
        };
        made.handle[40] = made.levels.as_ptr() as u64;
        for level in 0..6 {
            made.levels[LEVEL * level + 128] = level as u64;
        }
        let mut slots: Vec<Vec<usize>> = vec![Vec::new(); 6 * 64];
        for number in 0..count {
            slots[7 * number % 380].push(number);
            let at = WORDS * number;
            made.timers[at + 2] = 1_000;
            made.timers[at + 4] = &raw const TABLE as u64;
            made.timers[at + 5] = made.task(number);
            made.tasks[TASK / 2 * number] = 0x40;
            let vtable = u128::from(VTABLE.wrapping_add(made.bias));
            made.tasks[TASK / 2 * number + 1] = vtable | 5 << 64;
        }
        for (slot, members) in slots.iter().enumerate() {
            for (place, number) in members.iter().enumerate() {
                let beside = |place: usize| members.get(place).map_or(0, |it| made.timer(*it));
                let links = (beside(place + 1), beside(place.wrapping_sub(1)));
                (made.timers[WORDS * number], made.timers[WORDS * number + 1]) = links;
            }
            if let (Some(last), Some(first)) = (members.first(), members.last()) {
                let at = LEVEL * (slot / 64) + 2 * (slot % 64);
                (made.levels[at], made.levels[at + 1]) = (made.timer(*first), made.timer(*last));
            }
        }
        made
    }

    fn timer(&self, number: usize) -> u64 {
        self.timers.as_ptr() as u64 + 8 * (WORDS * number) as u64
    }

    fn task(&self, number: usize) -> u64 {
        self.tasks.as_ptr() as u64 + 8 * (TASK * number) as u64
    }

    fn wheels(&self) -> Vec<Wheels> {
        let placed = placed();
        let mut memory = Memory::of(own_thread()).unwrap();
        let mut search = Search {
            placed: &placed,
            memory: &mut memory,
        };
        wheels::behind_all(&mut search, &[self.handle.as_ptr() as u64])
    }

    /// The tasks that wait, how many timers are unknown, and whether all were read.
    fn look(&self) -> (Vec<u64>, usize, bool) {
        let blocks = Blocks::new(Memory::of(own_thread()).unwrap());
        let mut timers = Timers::new(blocks, Wakers::new(placed()), &self.wheels(), true, None);
        while timers.advance() {}
        let (mut found, unknown) = timers.end();
        found.tasks.sort_unstable();
        (found.tasks, unknown.len(), found.is_whole)
    }
}

#[test]
fn all_timers_lead_to_their_tasks() {
    for count in [0, 1, 5, 2_000] {
        let made = Made::new(count);
        assert_eq!(made.wheels().len(), 1);
        let all: Vec<u64> = (0..count).map(|number| made.task(number)).collect();
        assert_eq!(made.look(), (all, 0, true), "{count}");
    }
}

#[test]
fn a_waker_that_is_no_tasks_is_unknown_and_no_waker_is_nobodys() {
    let mut made = Made::new(10);
    made.timers[WORDS * 3 + 5] = made.handle.as_ptr() as u64;
    made.timers[WORDS * 4 + 4] = made.handle.as_ptr() as u64;
    made.timers[WORDS * 5 + 4] = 0;
    let (tasks, unknown, is_whole) = made.look();
    assert_eq!((tasks.len(), unknown, is_whole), (7, 2, true));
}

#[test]
fn what_lies_in_a_list_is_told_by_its_queue() {
    let mut made = Made::new(3);
    // A node with a future of five words, and the one that its queue has of its own.
    let mut node = [0_u64; 12];
    let mut own = [0_u64; 12];
    let mut queue = [0_u64; 8];
    let data = |node: &[u64; 12]| node.as_ptr() as u64 + 16;
    queue[..2].copy_from_slice(&[1, 3]);
    queue[2..4].copy_from_slice(&[&raw const TABLE as u64, made.task(1)]);
    queue[5..].copy_from_slice(&[data(&own), data(&own), own.as_ptr() as u64]);
    (node[0], node[1], node[7]) = (1, 1, queue.as_ptr() as u64);
    (own[0], own[1], own[7]) = (1, 1, u64::MAX);
    made.timers[WORDS * 2 + 5] = data(&node);
    assert_eq!(made.look(), (vec![made.task(0), made.task(1)], 0, true));
    // Its own node must say that it is in none.
    own[7] = 7;
    std::hint::black_box(&own);
    assert_eq!(made.look().1, 1);
}

#[test]
fn what_is_no_wheel_is_none() {
    for (level, number) in [(1, 2), (5, 4), (0, 1)] {
        let mut made = Made::new(4);
        made.levels[LEVEL * level + 128] = number;
        assert!(made.wheels().is_empty());
    }
    let mut made = Made::new(4);
    made.levels[2] = 7;
    assert!(made.wheels().is_empty());
}

#[test]
fn a_circle_is_not_whole() {
    let mut made = Made::new(2_000);
    made.timers[0] = made.timer(0);
    assert!(!made.look().2);
}

proptest! {
    #[test]
    fn any_words_come_to_an_end(
        changes in prop::collection::vec((0_usize..4, any::<prop::sample::Index>(), 0_usize..40, any::<u64>()), 0..20),
    ) {
        let mut made = Made::new(40);
        let timers: Vec<u64> = (0..40).map(|number| made.timer(number)).collect();
        for (part, at, target, any) in changes {
            let value = match target % 4 {
                0 => any,
                1 => timers[target],
                2 => made.task(target),
                _ => any % 4,
            };
            let words = match part {
                0 => &mut made.timers,
                1 => &mut made.levels,
                _ => &mut made.handle,
            };
            let at = at.index(words.len());
            words[at] = value;
        }
        let (tasks, unknown, _) = made.look();
        prop_assert!(tasks.len() + unknown <= 6 * 64 * 40);
    }
}
