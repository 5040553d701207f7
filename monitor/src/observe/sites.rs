//! Places in a program's code by number, and their names: each is asked for once.

use std::{collections::HashMap, sync::Arc};

use crate::model::Site;

/// Places of one process.
const MAX_SITES: usize = 100_000;

/// Places in the code by number.
#[derive(Debug, Default)]
pub struct Sites {
    numbers: HashMap<u64, u32>,
    sites: Vec<(u64, Option<Arc<Site>>)>,
    /// How many of them have been named.
    named: usize,
    last: Option<(u64, u32)>,
}

impl Sites {
    /// The number of an address.
    pub fn number(&mut self, pc: u64) -> u32 {
        if let Some((known, number)) = self.last
            && known == pc
        {
            return number;
        }
        if self.sites.len() >= MAX_SITES && !self.numbers.contains_key(&pc) {
            return u32::MAX;
        }
        let next = self.sites.len() as u32;
        let number = *self.numbers.entry(pc).or_insert(next);
        if number == next {
            self.sites.push((pc, None));
        }
        self.last = Some((pc, number));
        number
    }

    /// Some that have no name yet.
    pub fn unnamed(&self, count: usize) -> Vec<u64> {
        self.sites[self.named..]
            .iter()
            .take(count)
            .map(|(pc, _)| *pc)
            .collect()
    }

    /// Their names, in the order in which [`Self::unnamed`] told them.
    pub fn name(&mut self, names: Vec<Option<Site>>) {
        for name in names {
            if let Some((_, site)) = self.sites.get_mut(self.named) {
                *site = name.map(Arc::new);
                self.named += 1;
            }
        }
    }

    /// The name of an address that has a number.
    pub fn named(&self, pc: u64) -> Option<Arc<Site>> {
        self.site(*self.numbers.get(&pc)?).cloned()
    }

    /// The name of a place, by its number.
    pub fn site(&self, number: u32) -> Option<&Arc<Site>> {
        self.sites.get(number as usize)?.1.as_ref()
    }
}
