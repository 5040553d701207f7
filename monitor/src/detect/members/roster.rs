//! What is remembered of each of many tasks. A list in the order of their ids: a table of a million would have room for two,
//! and tasks come in that order.

use std::cmp::Ordering;

use hashbrown::HashMap;
use serde::{Deserialize, Serialize};

use super::MemberId;

/// In rising order of the ids, each once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Roster<M>(Vec<(MemberId, M)>);

impl<M> Default for Roster<M> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<M> Roster<M> {
    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn values(&self) -> impl Iterator<Item = &M> {
        self.0.iter().map(|(_, member)| member)
    }

    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut M> {
        self.0.iter_mut().map(|(_, member)| member)
    }

    pub fn retain(&mut self, mut stays: impl FnMut(&mut M) -> bool) {
        self.0.retain_mut(|(_, member)| stays(member));
    }

    /// Begins to meet tasks, one by one; in rising order of their ids it takes the least time.
    pub fn meet(&mut self) -> Meeting<'_, M> {
        Meeting {
            known: &mut self.0,
            at: 0,
            new: Vec::new(),
            others: HashMap::new(),
        }
    }
}

/// Those that are known, and those that come to it: they belong to it once this is dropped.
pub struct Meeting<'a, M> {
    known: &'a mut Vec<(MemberId, M)>,
    /// Behind the one that was met last.
    at: usize,
    /// In rising order, ...
    new: Vec<(MemberId, M)>,
    /// ... and those that did not come in it.
    others: HashMap<MemberId, M>,
}

impl<M> Meeting<'_, M> {
    pub fn len(&self) -> usize {
        self.known.len() + self.new.len() + self.others.len()
    }

    /// What is remembered of a task; of one that is new what `first` says, if it says anything.
    pub fn member(&mut self, id: MemberId, first: impl FnOnce() -> Option<M>) -> Option<&mut M> {
        if let Some(at) = self.find(id) {
            self.at = at + 1;
            return Some(&mut self.known[at].1);
        }
        let is_last = self.new.last().is_none_or(|(last, _)| *last < id);
        if is_last {
            self.new.push((id, first()?));
            return self.new.last_mut().map(|(_, member)| member);
        }
        if let Ok(at) = self.new.binary_search_by_key(&id, |(id, _)| *id) {
            return Some(&mut self.new[at].1);
        }
        if !self.others.contains_key(&id) {
            self.others.insert(id, first()?);
        }
        self.others.get_mut(&id)
    }

    fn find(&self, id: MemberId) -> Option<usize> {
        let (met, rest) = self.known.split_at(self.at);
        match rest.first().map(|(next, _)| next.cmp(&id)) {
            Some(Ordering::Equal) => return Some(self.at),
            // Between two that are known.
            Some(Ordering::Greater) if met.last().is_none_or(|(last, _)| *last < id) => return None,
            _ => {}
        }
        self.known.binary_search_by_key(&id, |(id, _)| *id).ok()
    }
}

impl<M> Drop for Meeting<'_, M> {
    fn drop(&mut self) {
        if self.known.is_empty() {
            *self.known = std::mem::take(&mut self.new);
        }
        self.known.append(&mut self.new);
        self.known.extend(self.others.drain());
        // Ids rise, mostly: then there is nothing to do.
        if !self.known.is_sorted_by_key(|(id, _)| *id) {
            self.known.sort_unstable_by_key(|(id, _)| *id);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// In whatever order they come, and however often: as in a map.
        #[test]
        fn each_is_remembered_once(
            passes in prop::collection::vec(prop::collection::vec((0_u64..40, 0_u64..2), 0..60), 1..6),
            is_sorted in any::<bool>(),
            most in 20_usize..80,
        ) {
            let (mut roster, mut expected) = (Roster::default(), BTreeMap::new());
            for mut ids in passes {
                if is_sorted {
                    ids.sort_unstable();
                }
                let mut meeting = roster.meet();
                for id in ids {
                    let has_room = meeting.len() < most;
                    prop_assert_eq!(has_room, expected.len() < most);
                    if has_room {
                        *expected.entry(id).or_insert(0) += 1;
                    } else if let Some(count) = expected.get_mut(&id) {
                        *count += 1;
                    }
                    if let Some(count) = meeting.member(id, || has_room.then_some(0)) {
                        *count += 1;
                    }
                }
                drop(meeting);
                let listed: Vec<(MemberId, i32)> = expected.clone().into_iter().collect();
                prop_assert_eq!(&roster.0, &listed);
                roster.retain(|count| *count % 3 != 0);
                expected.retain(|_, count| *count % 3 != 0);
            }
            prop_assert_eq!(roster.len(), expected.len());
        }
    }
}
