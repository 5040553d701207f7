//! A process's memory in blocks, each read once: tasks that were spawned one after the other lie side by side.

use std::collections::HashMap;

use crate::observe::memory::Memory;

/// What is read at once.
const BLOCK: u64 = 32 << 10;
/// Blocks that are kept: 64 MiB. When there are more, all of them are read anew as they are needed.
const MAX_BLOCKS: usize = 2 << 10;

/// One block: its bytes, and from where to where they are there.
type Block = (Vec<u8>, Vec<(usize, usize)>);

/// Copies of blocks.
pub struct Blocks {
    memory: Memory,
    blocks: HashMap<u64, Block>,
}

impl Blocks {
    pub fn new(memory: Memory) -> Self {
        Self {
            memory,
            blocks: HashMap::new(),
        }
    }

    /// Fills all of it, or says that not so many bytes are there.
    pub fn fill(&mut self, address: u64, bytes: &mut [u8]) -> bool {
        let (mut at, mut bytes) = (address, bytes);
        while !bytes.is_empty() {
            let (number, within) = (at / BLOCK, (at % BLOCK) as usize);
            let length = bytes.len().min(BLOCK as usize - within);
            let (now, later) = bytes.split_at_mut(length);
            let (block, parts) = self.block(number);
            let holds = |(start, end): &(usize, usize)| *start <= within && within + length <= *end;
            let Some(found) = block
                .get(within..within + length)
                .filter(|_| parts.iter().any(holds))
            else {
                return false;
            };
            now.copy_from_slice(found);
            bytes = later;
            let Some(next) = at.checked_add(length as u64) else {
                return bytes.is_empty();
            };
            at = next;
        }
        true
    }

    /// Forgets all of them.
    pub fn clear(&mut self) {
        self.blocks.clear();
    }

    /// Forgets what lies around an address: it may have changed.
    pub fn forget(&mut self, address: u64) {
        self.blocks.remove(&(address / BLOCK));
    }

    fn block(&mut self, number: u64) -> &Block {
        if self.blocks.len() >= MAX_BLOCKS && !self.blocks.contains_key(&number) {
            self.blocks.clear();
        }
        let memory = &mut self.memory;
        self.blocks.entry(number).or_insert_with(|| {
            let start = number.saturating_mul(BLOCK);
            let mut bytes = Vec::new();
            let mut parts = Vec::new();
            memory.parts(start..start.saturating_add(BLOCK), |address, part| {
                let at = (address - start) as usize;
                bytes.resize(bytes.len().max(at + part.len()), 0);
                bytes[at..at + part.len()].copy_from_slice(part);
                parts.push((at, at + part.len()));
            });
            (bytes, parts)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_in_several_blocks_is_put_together() {
        let words: Vec<u32> = (0..64 << 10).collect();
        let base = words.as_ptr() as u64;
        // SAFETY: takes nothing, returns a number.
        let mut blocks = Blocks::new(Memory::of(unsafe { libc::gettid() } as u32).unwrap());
        for from in [0, 1, 8_191, 20_000] {
            let mut bytes = vec![0; 80_000];
            assert!(blocks.fill(base + 4 * from, &mut bytes));
            let expected = words.iter().flat_map(|word| word.to_le_bytes());
            assert!(expected.skip(4 * from as usize).take(80_000).eq(bytes));
        }
        for nowhere in [0, 16, u64::MAX - 3, u64::MAX - 64] {
            assert!(!blocks.fill(nowhere, &mut [0; 8]), "{nowhere:#x}");
        }
        assert!(blocks.fill(nowhere(), &mut []));
    }

    const fn nowhere() -> u64 {
        16
    }

    #[test]
    fn what_was_forgotten_is_read_again() {
        let mut word = Box::new(7_u64);
        let address = &raw const *word as u64;
        // SAFETY: takes nothing, returns a number.
        let mut blocks = Blocks::new(Memory::of(unsafe { libc::gettid() } as u32).unwrap());
        let mut bytes = [0; 8];
        assert!(blocks.fill(address, &mut bytes));
        // SAFETY: the box is ours; the write is one that the compiler may not leave out.
        unsafe { (&raw mut *word).write_volatile(8) };
        assert!(blocks.fill(address, &mut bytes) && bytes == 7_u64.to_le_bytes());
        blocks.forget(address);
        assert!(blocks.fill(address, &mut bytes) && bytes == 8_u64.to_le_bytes());
    }
}
