//! Walks over the small lists that tokio keeps things in: two links at the beginning of each thing, to the one before and the
//! one behind (tokio/src/util/linked_list.rs, the same from 1.28 to 1.54).
//!
//! A list changes while it is walked. New things are put in front, so whatever stays in it all the time is met on the way
//! from its end, as long as of two neighbours each knows the other; where one does not, both are read anew.

use super::{blocks::Blocks, lists::is_pointer};
use crate::observe::memory::space::word;

/// How often a walk begins anew, and how often it goes on from where it was.
const TRIES: u32 = 32;
const MENDS: u32 = 256;

/// How a walk ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Whole,
    /// It changes too fast, or is none.
    Broken,
    /// There are more than are wanted.
    Cut,
}

/// Goes through a list from its end. `ends`: where its first and its last one stand. `visit` is told of each at least once,
/// with its first bytes; so many are wanted.
pub fn walk<const N: usize>(
    blocks: &mut Blocks,
    ends: u64,
    wanted: usize,
    mut visit: impl FnMut(&mut Blocks, u64, &[u8; N]),
) -> End {
    let (mut left, mut mends) = (wanted, 0);
    for _ in 0..TRIES {
        let Some((first, last)) = pair(blocks, ends) else {
            return End::Broken;
        };
        if first == 0 && last == 0 {
            return End::Whole;
        }
        // The one that was met last, and the one behind it.
        let (mut met, mut behind, mut at) = (0, 0, last);
        let mut bytes = [0; N];
        while is_pointer(at) {
            let links = blocks.fill(at, &mut bytes).then(|| links(&bytes)).flatten();
            if let Some((before, _)) = links.filter(|(_, next)| *next == met)
                && (before != 0 || is_first(blocks, ends, at))
            {
                if left == 0 {
                    return End::Cut;
                }
                left -= 1;
                visit(blocks, at, &bytes);
                if before == 0 {
                    return End::Whole;
                }
                (behind, met, at) = (met, at, before);
                continue;
            }
            // It has just gone, or somebody between the two.
            mends += 1;
            blocks.forget(at);
            if met == 0 || mends > MENDS {
                break;
            }
            blocks.forget(met);
            match pair(blocks, met) {
                Some((0, next)) if next == behind && is_first(blocks, ends, met) => return End::Whole,
                Some((before, next)) if next == behind => at = before,
                // So has the one that was met.
                _ => break,
            }
        }
        blocks.forget(ends);
    }
    End::Broken
}

fn pair(blocks: &mut Blocks, at: u64) -> Option<(u64, u64)> {
    let mut both = [0; 16];
    blocks.fill(at, &mut both).then(|| links(&both)).flatten()
}

fn links(bytes: &[u8]) -> Option<(u64, u64)> {
    Some((word(bytes, 0)?, word(bytes, 8)?))
}

/// Whether a list begins with this. What has left a list has none before it, either.
fn is_first(blocks: &mut Blocks, ends: u64, at: u64) -> bool {
    let begins = |blocks: &mut Blocks| pair(blocks, ends).is_some_and(|(first, _)| first == at);
    begins(blocks) || {
        blocks.forget(ends);
        begins(blocks)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::observe::memory::Memory;

    /// So many things of four words side by side, in one list, the first one last; behind them its ends.
    fn made(count: usize) -> Vec<u64> {
        let mut words = vec![0; 4 * count + 2];
        let base = words.as_ptr() as u64;
        let at = |index: usize| base + 32 * index as u64;
        for index in 0..count {
            words[4 * index] = if index + 1 < count { at(index + 1) } else { 0 };
            words[4 * index + 1] = index.checked_sub(1).map_or(0, at);
            words[4 * index + 2] = index as u64;
        }
        if count > 0 {
            words[4 * count] = at(count - 1);
            words[4 * count + 1] = at(0);
        }
        words
    }

    fn met(words: &[u64], wanted: usize) -> (Vec<u64>, End) {
        // SAFETY: takes nothing, returns a number.
        let mut blocks = Blocks::new(Memory::of(unsafe { libc::gettid() } as u32).unwrap());
        let ends = words.as_ptr() as u64 + 8 * (words.len() as u64 - 2);
        let mut met = Vec::new();
        let end = walk(&mut blocks, ends, wanted, |_, _, bytes: &[u8; 24]| {
            met.push(word(bytes, 16).unwrap());
        });
        (met, end)
    }

    #[test]
    fn all_are_met_from_the_end() {
        for count in [0, 1, 2, 5_000] {
            let all: Vec<u64> = (0..count).collect();
            assert_eq!(met(&made(count as usize), 1 << 20), (all, End::Whole), "{count}");
        }
        assert_eq!(met(&made(9), 3), (vec![0, 1, 2], End::Cut));
    }

    #[test]
    fn a_circle_and_a_dead_end_are_no_lists() {
        let mut words = made(50);
        words[4 * 49] = words.as_ptr() as u64;
        assert_eq!(met(&words, 1 << 20).1, End::Broken);
        let mut words = made(50);
        words[4 * 20] = 0;
        assert_eq!(met(&words, 1 << 20).1, End::Broken);
        let mut words = made(50);
        words[4 * 20] = 0x1_2340;
        assert_eq!(met(&words, 1 << 20).1, End::Broken);
        // A whole circle of those that know each other.
        let mut words = made(50);
        let base = words.as_ptr() as u64;
        (words[1], words[4 * 49]) = (base + 32 * 49, base);
        assert_eq!(met(&words, 1 << 20).1, End::Broken);
    }

    proptest! {
        #[test]
        fn any_links_come_to_an_end(changes in prop::collection::vec((0_usize..42, 0_u64..12, any::<u64>()), 0..12)) {
            let mut words = made(10);
            let base = words.as_ptr() as u64;
            for (index, target, any) in changes {
                words[index] = match target {
                    10 => 0,
                    11 => any,
                    target => base + 32 * target,
                };
            }
            let (met, end) = met(&words, 1_000);
            prop_assert!(met.len() <= 1_000);
            prop_assert!(end != End::Cut || met.len() == 1_000);
        }
    }
}
