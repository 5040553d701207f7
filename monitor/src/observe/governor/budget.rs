//! What all probes of a process may take together, whatever they watch: threads, goroutines, tasks.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::model::ProcessId;

/// A share of one core for each process, and what those that have it together take of it.
pub struct Budget<K = ProcessId> {
    share: f64,
    ledger: Arc<Mutex<Ledger<K>>>,
}

struct Ledger<K> {
    members: usize,
    /// Share of a core that a member's probes took of late; who takes nothing is not there.
    taken: HashMap<(K, usize), f64>,
}

impl<K> Clone for Budget<K> {
    fn clone(&self) -> Self {
        Self {
            share: self.share,
            ledger: Arc::clone(&self.ledger),
        }
    }
}

impl<K: Copy + Eq + Hash> Budget<K> {
    pub fn new(share: f64) -> Self {
        let ledger = Ledger {
            members: 0,
            taken: HashMap::new(),
        };
        Self {
            share,
            ledger: Arc::new(Mutex::new(ledger)),
        }
    }

    /// A budget of its own that is so much of this one.
    pub fn part<P: Copy + Eq + Hash>(&self, part: f64) -> Budget<P> {
        Budget::new(self.share * part)
    }

    /// The number of one more that has it.
    pub(super) fn join(&self) -> usize {
        let mut ledger = self.ledger();
        ledger.members += 1;
        ledger.members - 1
    }

    /// Of two that take too much together the one that takes more has to stop; who takes too much alone, in any case.
    pub(super) fn is_exceeded(&self, key: K, member: usize, taken: f64) -> bool {
        let ledger = self.ledger();
        let of = |other| ledger.taken.get(&(key, other)).copied().unwrap_or(0.0);
        let others = (0..ledger.members).filter(|other| *other != member).map(of);
        let (sum, most) = others.fold((0.0, 0.0), |(sum, most), other: f64| {
            (sum + other, other.max(most))
        });
        taken > self.share || taken + sum > self.share && taken >= most
    }

    pub(super) fn note(&self, key: K, member: usize, taken: f64) {
        let mut ledger = self.ledger();
        if taken > 0.0 {
            ledger.taken.insert((key, member), taken);
        } else {
            ledger.taken.remove(&(key, member));
        }
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger<K>> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
