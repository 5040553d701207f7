//! Tasks of one process that had a handle when they ended, until a look has told whether that is kept. Pure.

use std::collections::HashMap;

use crate::observe::bpf::TokioBirth;

/// When there are so many no more are taken in; there are more only where looks do not come back.
const MANY: usize = 1 << 16;

/// By where they lay.
#[derive(Default)]
pub struct Ended(HashMap<u64, One>);

struct One {
    birth: TokioBirth,
    /// A look is under way that is to tell of it.
    is_asked: bool,
}

impl Ended {
    pub fn has_room(&self) -> bool {
        self.0.len() < MANY
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// One has ended. Who lay there before is gone.
    pub fn insert(&mut self, address: u64, birth: TokioBirth) {
        let is_asked = false;
        self.0.insert(address, One { birth, is_asked });
    }

    /// Where they lay, for a look.
    pub fn ask(&mut self) -> Vec<u64> {
        for one in self.0.values_mut() {
            one.is_asked = true;
        }
        self.0.keys().copied().collect()
    }

    /// Of one that the look which was asked has found kept.
    pub fn birth(&self, address: u64) -> Option<TokioBirth> {
        let one = self.0.get(&address).filter(|one| one.is_asked)?;
        Some(one.birth)
    }

    /// The look has told of all that it was asked for.
    pub fn answered(&mut self) {
        self.0.retain(|_, one| !one.is_asked);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn birth(at: u64) -> TokioBirth {
        TokioBirth { pc: 1, at }
    }

    #[test]
    fn what_ends_while_a_look_is_under_way_is_asked_for_by_the_next() {
        let mut ended = Ended::default();
        ended.insert(128, birth(1));
        ended.insert(256, birth(2));
        assert_eq!(ended.birth(128), None);
        let mut asked = ended.ask();
        asked.sort_unstable();
        assert_eq!(asked, [128, 256]);
        // The memory of one is another's by now.
        ended.insert(256, birth(3));
        assert_eq!((ended.birth(128), ended.birth(256)), (Some(birth(1)), None));
        ended.answered();
        assert_eq!(ended.ask(), [256]);
        assert_eq!(ended.birth(256), Some(birth(3)));
        ended.answered();
        assert!(ended.is_empty() && ended.has_room());
    }
}
