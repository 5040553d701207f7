//! Labels of the goroutines of one look: each different set once.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use super::super::protocol::Record;
use crate::model::Labels;

/// What the labels of one process may take together, in bytes.
const MAX_BYTES: usize = 32 << 20;

#[derive(Default)]
pub struct Labelled {
    by_id: HashMap<u64, Arc<Labels>>,
    known: HashSet<Arc<Labels>>,
    bytes: usize,
}

impl Labelled {
    /// `numbers`: which of the sets each of the goroutines has.
    pub fn note(&mut self, records: &[Record], numbers: &[Option<u32>], sets: Vec<Labels>) {
        let sets: Vec<Arc<Labels>> = sets.into_iter().map(|labels| self.intern(labels)).collect();
        for (record, number) in records.iter().zip(numbers) {
            let labels = number.and_then(|number| sets.get(number as usize).cloned());
            self.by_id.extend(labels.map(|labels| (record.id, labels)));
        }
    }

    pub fn of(&self, id: u64) -> Option<Arc<Labels>> {
        self.by_id.get(&id).cloned()
    }

    /// What is too much is left out, and said to be.
    fn intern(&mut self, mut labels: Labels) -> Arc<Labels> {
        if let Some(known) = self.known.get(&labels) {
            return Arc::clone(known);
        }
        let pairs = labels.pairs.iter();
        let texts = pairs.map(|(key, value)| size_of::<(String, String)>() + key.len() + value.len());
        let bytes = size_of::<Labels>() + texts.sum::<usize>();
        if self.bytes + bytes > MAX_BYTES {
            labels = Labels {
                truncated: true,
                ..Labels::default()
            };
        } else {
            self.bytes += bytes;
        }
        let labels = Arc::new(labels);
        self.known.insert(Arc::clone(&labels));
        labels
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(value: &str) -> Labels {
        Labels {
            pairs: vec![("key".to_owned(), value.to_owned())],
            truncated: false,
        }
    }

    #[test]
    fn equal_sets_are_one_and_what_is_too_much_is_left_out() {
        let mut labelled = Labelled::default();
        assert!(Arc::ptr_eq(
            &labelled.intern(labels("a")),
            &labelled.intern(labels("a"))
        ));
        for number in 0..64 {
            let long = format!("{number:02}").repeat(MAX_BYTES / 64);
            let told = labelled.intern(labels(&long));
            assert_eq!(told.truncated, number >= 31, "{number}");
            assert_eq!(told.pairs.is_empty(), told.truncated);
        }
        assert!(labelled.bytes <= MAX_BYTES);
        assert!(!labelled.intern(labels("a")).truncated);
    }
}
