//! The labels that a program gives its goroutines (`runtime/pprof.Do`, `SetGoroutineLabels`): who they work for.
//!
//! `g.labels` leads to a `runtime/pprof.labelMap`. Up to Go 1.23 that is a `map[string]string` (runtime/pprof/label.go;
//! runtime/map.go: `hmap`, `bmap`), from 1.24 on a list of pairs (runtime/pprof/label.go; from 1.26 on `Set` of
//! internal/runtime/pprof/label). Once a goroutine has a set it is never changed, and most share one: each is read once a
//! question.

use std::{collections::HashMap, ops::Range};

use crate::{
    model::Labels,
    observe::memory::{Memory, space::word},
};

/// Labels of one set, and bytes of a key or value.
const MAX_LABELS: usize = 32;
const MAX_TEXT: u64 = 256;
/// What the texts of one answer may take together.
const MAX_TEXTS: usize = 1 << 20;
/// What a pair takes in a message beside its texts.
const OVERHEAD: usize = 8;

/// A pair of strings, and a string.
const PAIR: u64 = 32;
const STRING: usize = 16;

/// `hmap` up to and with `oldbuckets`; `bmap` of two strings a pair: eight hashes' tops, keys, values, the next one.
const MAP: u64 = 32;
const SLOTS: usize = 8;
const BUCKET: u64 = 8 + 2 * (SLOTS * STRING) as u64 + 8;
/// log2 of the buckets of a map that has [`MAX_LABELS`] pairs, and how many may hang behind one another.
const MAX_SHIFT: u8 = 4;
const MAX_OVERFLOWS: usize = 4;
/// `minTopHash`: smaller ones mark a slot as empty, or moved elsewhere.
const MIN_TOP: u8 = 5;

/// How a program keeps them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Map,
    List,
}

impl Form {
    /// That of Go 1.MINOR.
    pub const fn of(minor: u32) -> Self {
        if minor < 24 { Self::Map } else { Self::List }
    }
}

/// Where a text is.
type Text = (u64, u64);

/// Sets that are being read.
#[derive(Default)]
struct Found {
    /// Key and value, and whose they are.
    pairs: Vec<(usize, Text, Text)>,
    /// Of which sets there is more than that.
    truncated: Vec<bool>,
}

/// The sets at these addresses. `constant`: fills in the bytes of a constant of the program at an address of the process,
/// whose page it may never have touched.
pub fn read(
    form: Form,
    memory: &mut Memory,
    mut sets: Vec<u64>,
    constant: impl Fn(u64, &mut [u8]) -> bool,
) -> HashMap<u64, Labels> {
    sets.retain(|address| *address != 0);
    sets.sort_unstable();
    sets.dedup();
    if sets.is_empty() {
        return HashMap::new();
    }
    let mut found = Found {
        pairs: Vec::new(),
        truncated: vec![false; sets.len()],
    };
    match form {
        Form::List => lists(memory, &sets, &mut found),
        Form::Map => maps(memory, &sets, &mut found),
    }
    let mut told: Vec<Labels> = found
        .truncated
        .iter()
        .map(|truncated| Labels {
            pairs: Vec::new(),
            truncated: *truncated,
        })
        .collect();
    let places = found.pairs.iter().flat_map(|(_, key, value)| [*key, *value]);
    let mut texts = texts(memory, &places.collect::<Vec<_>>(), constant).into_iter();
    let mut left = MAX_TEXTS;
    for (set, ..) in &found.pairs {
        let (key, value) = (texts.next().flatten(), texts.next().flatten());
        let Some(labels) = told.get_mut(*set) else {
            continue;
        };
        let Some(((key, key_cut), (value, value_cut))) = key.zip(value) else {
            labels.truncated = true;
            continue;
        };
        let size = key.len() + value.len() + OVERHEAD;
        if size > left {
            labels.truncated = true;
            continue;
        }
        left -= size;
        labels.truncated |= key_cut || value_cut;
        labels.pairs.push((key, value));
    }
    if form == Form::Map {
        // A map has no order.
        told.iter_mut().for_each(|labels| labels.pairs.sort());
    }
    sets.into_iter().zip(told).collect()
}

/// `[]label`: its beginning and its length.
fn lists(memory: &mut Memory, sets: &[u64], found: &mut Found) {
    let heads = gather(memory, sets.iter().map(|set| (*set, STRING as u64)));
    let mut lists = Vec::with_capacity(sets.len());
    for (set, head) in heads.iter().enumerate() {
        let Some((list, count)) = head.as_deref().and_then(|head| text(head, 0)) else {
            found.truncated[set] = true;
            lists.push((0, 0));
            continue;
        };
        let known = count.min(MAX_LABELS as u64);
        found.truncated[set] = known < count;
        lists.push((list, PAIR * known));
    }
    for (set, bytes) in gather(memory, lists.iter().copied()).iter().enumerate() {
        let Some(bytes) = bytes else {
            found.truncated[set] |= lists[set].1 > 0;
            continue;
        };
        let pairs = (0..bytes.len() / PAIR as usize).map(|number| PAIR as usize * number);
        let pairs = pairs.filter_map(|at| Some((set, text(bytes, at)?, text(bytes, at + STRING)?)));
        found.pairs.extend(pairs);
    }
}

/// A map: of what it is (its address), of its buckets, and, while it grows, of those it had.
fn maps(memory: &mut Memory, sets: &[u64], found: &mut Found) {
    let heads = gather(memory, sets.iter().map(|set| (*set, 8)));
    let at = |head: &Option<Vec<u8>>| head.as_deref().and_then(|head| word(head, 0)).unwrap_or(0);
    let addresses: Vec<u64> = heads.iter().map(at).collect();
    let maps = gather(
        memory,
        addresses
            .iter()
            .map(|map| (*map, if *map == 0 { 0 } else { MAP })),
    );
    let mut counts = vec![0; sets.len()];
    let mut buckets: Vec<(usize, u64)> = Vec::new();
    for (set, map) in maps.iter().enumerate() {
        let known = map.as_deref().and_then(|map| {
            let shift = *map.get(9)?;
            Some((word(map, 0)?, shift, word(map, 16)?, word(map, 24)?))
        });
        let Some((count, shift, now, before)) = known else {
            // A nil map has no labels; everything else has a place.
            found.truncated[set] = heads[set].is_none() || addresses[set] != 0;
            continue;
        };
        counts[set] = count;
        let some = shift.min(MAX_SHIFT);
        found.truncated[set] = some < shift;
        let one = |base: u64, number: u64| (set, base.saturating_add(BUCKET * number));
        if now != 0 && count > 0 {
            buckets.extend((0..1 << some).map(|number| one(now, number)));
        }
        if before != 0 && count > 0 {
            buckets.extend((0..(1 << some) / 2).map(|number| one(before, number)));
        }
    }
    let mut have = vec![0; sets.len()];
    for _ in 0..MAX_OVERFLOWS {
        let read = gather(memory, buckets.iter().map(|(_, bucket)| (*bucket, BUCKET)));
        let mut next = Vec::new();
        for ((set, _), bytes) in buckets.iter().zip(read) {
            let Some(bytes) = bytes else { continue };
            for slot in (0..SLOTS).filter(|slot| bytes[*slot] >= MIN_TOP) {
                let key = text(&bytes, SLOTS + STRING * slot);
                let value = text(&bytes, SLOTS + STRING * (SLOTS + slot));
                if let Some((key, value)) = key.zip(value)
                    && have[*set] < MAX_LABELS
                {
                    have[*set] += 1;
                    found.pairs.push((*set, key, value));
                }
            }
            next.extend(
                word(&bytes, BUCKET as usize - 8)
                    .filter(|it| *it != 0)
                    .map(|it| (*set, it)),
            );
        }
        if next.is_empty() {
            break;
        }
        buckets = next;
    }
    for (set, count) in counts.iter().enumerate() {
        found.truncated[set] |= have[set] as u64 != *count;
    }
}

/// Texts, each with whether there was more of it; `None` of one that cannot be read.
fn texts(
    memory: &mut Memory,
    places: &[Text],
    constant: impl Fn(u64, &mut [u8]) -> bool,
) -> Vec<Option<(String, bool)>> {
    let known = |length: u64| length.min(MAX_TEXT);
    let read = gather(
        memory,
        places.iter().map(|(address, length)| (*address, known(*length))),
    );
    let one = |((address, length), bytes): (&Text, Option<Vec<u8>>)| {
        let from_file = || {
            let mut bytes = vec![0; known(*length) as usize];
            constant(*address, &mut bytes).then_some(bytes)
        };
        let bytes = match length {
            0 => Vec::new(),
            _ => bytes.or_else(from_file)?,
        };
        let mut text = String::from_utf8_lossy(&bytes).into_owned();
        let is_cut = *length > MAX_TEXT;
        if is_cut {
            text.push('…');
        }
        Some((text, is_cut))
    };
    places.iter().zip(read).map(one).collect()
}

/// A string, or a slice: where it begins, and how long it is.
fn text(bytes: &[u8], at: usize) -> Option<Text> {
    Some((word(bytes, at)?, word(bytes, at + 8)?))
}

/// The bytes of places that are given by address and length, as far as they can be read.
fn gather(memory: &mut Memory, places: impl Iterator<Item = (u64, u64)>) -> Vec<Option<Vec<u8>>> {
    let places: Vec<Range<u64>> = places
        .map(|(address, length)| address..address.saturating_add(length))
        .collect();
    // In their order in memory that costs the least.
    let mut order: Vec<usize> = (0..places.len()).collect();
    order.sort_unstable_by_key(|number| places[*number].start);
    let sorted: Vec<Range<u64>> = order.iter().map(|number| places[*number].clone()).collect();
    let gathered = memory.gather(&sorted, 0);
    let mut bytes = vec![None; places.len()];
    for (place, number) in order.into_iter().enumerate() {
        bytes[number] = gathered.get(place).map(<[u8]>::to_vec);
    }
    bytes
}

#[cfg(test)]
mod tests;
