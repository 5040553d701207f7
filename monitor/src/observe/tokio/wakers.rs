//! Whom a waker wakes. It is two words (core's `RawWaker`): a table of four functions, and what they are given. A task's own
//! is given the task; that of a `FuturesUnordered` the node that the future is in, which knows the queue, which has the
//! waker of whoever polled it last (futures-util 0.3, src/stream/futures_unordered/{task,ready_to_run_queue}.rs).

use std::collections::HashMap;

use super::{
    blocks::Blocks,
    lists::is_pointer,
    program::Program,
    task::{HEADER, Header},
};
use crate::observe::{
    memory::space::{Space as _, word},
    programs::Placed,
};

/// Lists of futures within one another.
const MAX_DEPTH: usize = 8;
/// Of a node that is looked through for its queue: the future may stand before it.
const NODE: u64 = 8 << 10;
/// Nodes that are looked through at each look.
const MAX_SEARCHES: u32 = 1_024;
/// Tables that are remembered.
const MAX_TABLES: usize = 4_096;
/// What is counted has two counts before it.
const COUNTS: u64 = 16;
const MAX_COUNT: u64 = 1 << 24;
/// What a node says that is in no queue (alloc's `Weak::new`).
const NO_QUEUE: u64 = u64::MAX;
/// A queue, with its counts: a waker with its state, the first and the last that are ready, and a node of its own.
const QUEUE: usize = 64;

/// Two words that wake somebody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waker {
    pub table: u64,
    pub data: u64,
}

/// Of the wakers of one process, at one look.
pub struct Wakers {
    placed: Placed<Program>,
    /// Whether there is a table.
    tables: HashMap<u64, bool>,
    /// How far into a node its queue is told, by the table of its waker.
    queues: HashMap<u64, u64>,
    searches: u32,
}

impl Wakers {
    pub fn new(placed: Placed<Program>) -> Self {
        Self {
            placed,
            tables: HashMap::new(),
            queues: HashMap::new(),
            searches: 0,
        }
    }

    /// The first waker among some words, from one of them on, and at which it is.
    pub fn first(&mut self, blocks: &mut Blocks, bytes: &[u8], from: usize) -> Option<(usize, Waker)> {
        (from..bytes.len() / 8).find_map(|index| Some((index, self.at(blocks, bytes, index)?)))
    }

    /// The waker whose table is told at a word.
    pub fn at(&mut self, blocks: &mut Blocks, bytes: &[u8], index: usize) -> Option<Waker> {
        let table = word(bytes, 8 * index)?;
        if !self.is_table(blocks, table) {
            return None;
        }
        // The compiler orders the two.
        let beside = [
            index.checked_add(1),
            index.checked_sub(1).filter(|before| *before >= 2),
        ];
        let mut data = beside.into_iter().flatten().filter_map(|it| word(bytes, 8 * it));
        let data = data.find(|data| is_pointer(*data)).unwrap_or(0);
        Some(Waker { table, data })
    }

    /// The task that a waker wakes; `None` when it is not known whom.
    pub fn task(&mut self, blocks: &mut Blocks, waker: Waker) -> Option<u64> {
        let mut waker = waker;
        for _ in 0..MAX_DEPTH {
            if self.is_task(blocks, waker.data) {
                return Some(waker.data);
            }
            waker = self.polled_by(blocks, waker)?;
        }
        None
    }

    pub fn is_task(&self, blocks: &mut Blocks, address: u64) -> bool {
        let mut bytes = [0; HEADER as usize];
        let is_there = Header::is_place(address) && blocks.fill(address, &mut bytes);
        let header = Header::decode(&bytes).filter(|_| is_there);
        header.is_some_and(|header| {
            let vtable = header.vtable.wrapping_sub(self.placed.bias);
            self.placed.program.vtable(vtable).is_some()
        })
    }

    /// Whether four functions stand at an address of the program's constants.
    fn is_table(&mut self, blocks: &mut Blocks, address: u64) -> bool {
        let bias = self.placed.bias;
        let image = &self.placed.program.image;
        let linked = address.wrapping_sub(bias);
        if !address.is_multiple_of(8) || !image.is_in(linked, |segment| !segment.executable) {
            return false;
        }
        if let Some(known) = self.tables.get(&address) {
            return *known;
        }
        let mut bytes = [0; 32];
        let is_there =
            blocks.fill(address, &mut bytes) || !image.is_relocatable && image.fill(linked, &mut bytes);
        let is_table = is_there
            && bytes.chunks_exact(8).all(|function| {
                let function = word(function, 0).unwrap_or(0).wrapping_sub(bias);
                image.is_in(function, |segment| segment.executable)
            });
        if self.tables.len() < MAX_TABLES {
            self.tables.insert(address, is_table);
        }
        is_table
    }

    /// Of a waker that a future in a list was given: that of the list.
    fn polled_by(&mut self, blocks: &mut Blocks, waker: Waker) -> Option<Waker> {
        let known = self.queues.get(&waker.table).copied();
        if let Some(found) = known.and_then(|at| self.queue(blocks, waker.data, at)) {
            return Some(found);
        }
        self.searches += 1;
        if self.searches > MAX_SEARCHES || !is_pointer(waker.data) {
            return None;
        }
        let (at, found) = (0..NODE)
            .step_by(8)
            .find_map(|at| Some((at, self.queue(blocks, waker.data, at)?)))?;
        if self.queues.len() < MAX_TABLES {
            self.queues.insert(waker.table, at);
        }
        Some(found)
    }

    /// The waker of a queue that a node tells of at a place. The queue has a node of its own, which tells of none there, and
    /// a first and a last one.
    fn queue(&mut self, blocks: &mut Blocks, node: u64, at: u64) -> Option<Waker> {
        let queue = read(blocks, node.checked_add(at)?).filter(|queue| is_pointer(*queue))?;
        let mut bytes = [0; QUEUE];
        blocks.fill(queue, &mut bytes).then_some(())?;
        let is_counted = [0, 8].into_iter().all(|count| {
            let count = word(&bytes, count);
            count.is_some_and(|count| (1..MAX_COUNT).contains(&count))
        });
        if !is_counted {
            return None;
        }
        let (mut has_own, mut ends) = (false, 0);
        for node in bytes.chunks_exact(8).skip(2).filter_map(|node| word(node, 0)) {
            let mut told = |node: u64| {
                let node = Some(node).filter(|node| is_pointer(*node));
                read(blocks, node?.checked_add(at)?)
            };
            has_own |= told(node.wrapping_add(COUNTS)) == Some(NO_QUEUE);
            ends += u32::from(told(node).is_some_and(|told| told == queue || told == NO_QUEUE));
        }
        if !has_own || ends < 2 {
            return None;
        }
        self.first(blocks, &bytes, 2).map(|(_, waker)| waker)
    }
}

fn read(blocks: &mut Blocks, at: u64) -> Option<u64> {
    let mut bytes = [0; 8];
    blocks.fill(at, &mut bytes).then_some(())?;
    Some(u64::from_le_bytes(bytes))
}
