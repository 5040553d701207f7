//! A cache with two bounds, how many and how large, that forgets what was not asked for the longest.

use std::{collections::HashMap, hash::Hash};

/// What is put out when it is full: an eighth, so that finding the oldest costs little per entry.
const SHARE: usize = 8;

pub struct Lru<K, V> {
    entries: HashMap<K, Entry<V>>,
    max_entries: usize,
    max_bytes: usize,
    bytes: usize,
    clock: u64,
    evicted: u64,
}

struct Entry<V> {
    value: V,
    bytes: usize,
    used: u64,
}

impl<K: Clone + Eq + Hash, V> Lru<K, V> {
    pub fn new(max_entries: usize, max_bytes: usize) -> Self {
        Self {
            entries: HashMap::new(),
            max_entries,
            max_bytes,
            bytes: 0,
            clock: 0,
            evicted: 0,
        }
    }

    pub fn get(&mut self, key: &K) -> Option<&mut V> {
        let entry = self.entries.get_mut(key)?;
        self.clock += 1;
        entry.used = self.clock;
        Some(&mut entry.value)
    }

    /// Puts it in and makes room for it; what had to go for that is handed back. What is larger than the whole
    /// cache stays until the next one comes.
    pub fn insert(&mut self, key: K, value: V, bytes: usize) -> Vec<(K, V)> {
        self.remove(&key);
        let gone = self.make_room(bytes);
        self.clock += 1;
        let used = self.clock;
        self.bytes += bytes;
        self.entries.insert(key, Entry { value, bytes, used });
        gone
    }

    pub fn remove(&mut self, key: &K) -> Option<V> {
        let entry = self.entries.remove(key)?;
        self.bytes -= entry.bytes;
        Some(entry.value)
    }

    /// Keeps what the condition holds for.
    pub fn retain(&mut self, mut keep: impl FnMut(&K, &V) -> bool) {
        let bytes = &mut self.bytes;
        self.entries.retain(|key, entry| {
            let keep = keep(key, &entry.value);
            if !keep {
                *bytes -= entry.bytes;
            }
            keep
        });
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many had to go for others so far.
    pub fn evicted(&self) -> u64 {
        self.evicted
    }

    fn make_room(&mut self, bytes: usize) -> Vec<(K, V)> {
        let fits = |count: usize, used: usize| count < self.max_entries && used + bytes <= self.max_bytes;
        if fits(self.entries.len(), self.bytes) {
            return Vec::new();
        }
        let mut by_age: Vec<_> = self
            .entries
            .iter()
            .map(|(key, entry)| (entry.used, key.clone()))
            .collect();
        by_age.sort_unstable_by_key(|(used, _)| *used);
        let share = (self.entries.len() / SHARE).max(1);
        let (mut count, mut used) = (self.entries.len(), self.bytes);
        let mut gone = Vec::new();
        for (_, key) in by_age {
            if gone.len() >= share && count < self.max_entries && used + bytes <= self.max_bytes {
                break;
            }
            if let Some(entry) = self.entries.remove(&key) {
                count -= 1;
                used -= entry.bytes;
                gone.push((key, entry.value));
            }
        }
        self.bytes = used;
        self.evicted += gone.len() as u64;
        gone
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_goes_first() {
        let mut cache = Lru::new(3, 100);
        for (key, value) in [(1, "a"), (2, "b"), (3, "c")] {
            assert!(cache.insert(key, value, 1).is_empty());
        }
        assert_eq!(cache.get(&1), Some(&mut "a"));
        assert_eq!(cache.insert(4, "d", 1), [(2, "b")]);
        assert_eq!((cache.len(), cache.bytes(), cache.evicted()), (3, 3, 1));
        assert_eq!(cache.get(&2), None);
    }

    #[test]
    fn bytes_are_a_bound_too() {
        let mut cache = Lru::new(100, 10);
        for key in 0..5 {
            cache.insert(key, (), 2);
        }
        assert_eq!(cache.insert(5, (), 7).len(), 4);
        assert_eq!((cache.len(), cache.bytes()), (2, 9));
        // Too large for the cache: it has it to itself, and goes with the next.
        assert_eq!(cache.insert(6, (), 50).len(), 2);
        assert_eq!((cache.len(), cache.bytes()), (1, 50));
        assert_eq!(cache.insert(7, (), 1).len(), 1);
        assert_eq!((cache.len(), cache.bytes()), (1, 1));
    }

    #[test]
    fn a_key_counts_once() {
        let mut cache = Lru::new(4, 100);
        cache.insert("a", 1, 10);
        cache.insert("a", 2, 20);
        assert_eq!((cache.len(), cache.bytes()), (1, 20));
        cache.insert("b", 3, 5);
        cache.retain(|key, _| *key == "b");
        assert_eq!((cache.len(), cache.bytes()), (1, 5));
        assert_eq!(cache.remove(&"b"), Some(3));
        assert_eq!((cache.len(), cache.bytes(), cache.evicted()), (0, 0, 0));
    }

    #[test]
    fn a_large_cache_makes_room_for_many_at_once() {
        let mut cache = Lru::new(800, usize::MAX);
        for key in 0..800 {
            cache.insert(key, (), 0);
        }
        assert_eq!(cache.insert(800, (), 0).len(), 100);
        assert_eq!(cache.len(), 701);
    }
}
