//! Tasks of one kind of one process, counted by what they run and where they were made. The kernel counts by address; here
//! the addresses get names. Pure.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    model::SpawnTotals,
    observe::{
        bpf::SpawnCount,
        thread::spawns::{MAX_ORIGINS, Origin},
    },
};

/// What is counted by: where a task was made, and what it runs (0: it is not known, or not always the same). Addresses are
/// the process's.
pub type Place = (u64, u64);

/// Places that are named at once.
const MAX_NAMED: usize = 256;

#[derive(Default)]
struct Site {
    count: SpawnCount,
    /// As it was named, and what it was named by.
    origin: Option<(Place, Origin)>,
}

#[derive(Default)]
pub struct Books {
    /// By the address behind the call.
    sites: BTreeMap<u64, Site>,
    /// Origins that have totals of their own: the first ones. The rest is summed under `other`.
    origins: BTreeSet<Origin>,
}

impl Books {
    /// What the kernel has counted since the process is known, at places of the program.
    pub fn count(&mut self, counts: Vec<(u64, SpawnCount)>) {
        for (pc, count) in counts {
            self.sites.entry(pc).or_default().count = count;
        }
    }

    /// Some of the places that have no name, or another one by now.
    pub fn unnamed(&self) -> Vec<Place> {
        let place = |(pc, site): (&u64, &Site)| {
            let place = place(*pc, &site.count);
            (site.origin.as_ref().map(|(named, _)| *named) != Some(place)).then_some(place)
        };
        self.sites.iter().filter_map(place).take(MAX_NAMED).collect()
    }

    pub fn name(&mut self, named: Vec<(Place, Origin)>) {
        for (place, origin) in named {
            let Some(site) = self.sites.get_mut(&place.0) else {
                continue;
            };
            let origin = if self.origins.len() < MAX_ORIGINS || self.origins.contains(&origin) {
                origin
            } else {
                Origin::other()
            };
            self.origins.insert(origin.clone());
            site.origin = Some((place, origin));
        }
    }

    /// What is known of those that were made at a place.
    pub fn origin(&self, pc: u64) -> Option<&Origin> {
        let (_, origin) = self.sites.get(&pc)?.origin.as_ref()?;
        Some(origin)
    }

    /// Of the places that have a name.
    pub fn totals(&self) -> Vec<SpawnTotals> {
        let mut totals: BTreeMap<&Origin, (u64, u64)> = BTreeMap::new();
        for site in self.sites.values() {
            if let Some((_, origin)) = &site.origin {
                let sum = totals.entry(origin).or_default();
                sum.0 += site.count.spawned;
                sum.1 += site.count.exited;
            }
        }
        let one = |(origin, (spawned, exited)): (&Origin, (u64, u64))| SpawnTotals {
            entry: origin.entry.clone(),
            spawn_site: origin.spawn_site.clone(),
            spawned,
            exited,
        };
        totals.into_iter().map(one).collect()
    }
}

/// What its tasks run is part of it when it is the same for all.
fn place(pc: u64, count: &SpawnCount) -> Place {
    (pc, if count.is_mixed == 0 { count.runs } else { 0 })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn counted(spawned: u64, exited: u64, runs: u64, is_mixed: u64) -> SpawnCount {
        SpawnCount {
            spawned,
            exited,
            runs,
            is_mixed,
        }
    }

    fn site(name: String) -> Option<Arc<crate::model::Site>> {
        Some(Arc::new(crate::model::Site {
            function: name,
            file: None,
            line: None,
        }))
    }

    /// Names by address: `made1` and `run2`.
    fn name_all(books: &mut Books) -> usize {
        let places = books.unnamed();
        let named = places.iter().map(|place| {
            let origin = Origin {
                entry: if place.1 == 0 {
                    None
                } else {
                    site(format!("run{}", place.1))
                },
                spawn_site: site(format!("made{}", place.0)),
            };
            (*place, origin)
        });
        let named: Vec<_> = named.collect();
        books.name(named);
        places.len()
    }

    fn told(books: &Books) -> Vec<(String, String, u64, u64)> {
        let name = |site: &Option<Arc<crate::model::Site>>| {
            site.as_ref().map_or(String::new(), |site| site.function.clone())
        };
        let one = |totals: SpawnTotals| {
            (
                name(&totals.entry),
                name(&totals.spawn_site),
                totals.spawned,
                totals.exited,
            )
        };
        books.totals().into_iter().map(one).collect()
    }

    #[test]
    fn a_place_is_told_once_it_has_a_name_and_asked_for_once() {
        let mut books = Books::default();
        books.count(vec![(1, counted(5, 2, 7, 0)), (2, counted(3, 3, 8, 0))]);
        assert_eq!(told(&books), []);
        assert_eq!(books.unnamed(), [(1, 7), (2, 8)]);
        name_all(&mut books);
        books.count(vec![(1, counted(6, 4, 7, 0))]);
        assert_eq!(books.unnamed(), []);
        assert_eq!(
            told(&books),
            [
                ("run7".into(), "made1".into(), 6, 4),
                ("run8".into(), "made2".into(), 3, 3)
            ]
        );
    }

    #[test]
    fn the_entry_is_told_only_where_it_is_always_the_same() {
        let mut books = Books::default();
        books.count(vec![(1, counted(5, 2, 0, 0))]);
        name_all(&mut books);
        assert_eq!(told(&books), [(String::new(), "made1".into(), 5, 2)]);
        books.count(vec![(1, counted(6, 2, 7, 0))]);
        assert_eq!(name_all(&mut books), 1);
        assert_eq!(told(&books), [("run7".into(), "made1".into(), 6, 2)]);
        books.count(vec![(1, counted(7, 3, 7, 1))]);
        assert_eq!(name_all(&mut books), 1);
        assert_eq!(told(&books), [(String::new(), "made1".into(), 7, 3)]);
    }

    #[test]
    fn origins_are_bounded_and_nothing_is_lost() {
        let mut books = Books::default();
        books.count((0..1_000).map(|pc| (pc, counted(2, 1, 7, 0))).collect());
        while name_all(&mut books) > 0 {}
        let totals = books.totals();
        assert_eq!(totals.len(), MAX_ORIGINS + 1);
        let sum = |of: fn(&SpawnTotals) -> u64| totals.iter().map(of).sum::<u64>();
        assert_eq!((sum(|it| it.spawned), sum(|it| it.exited)), (2_000, 1_000));
        let other = totals.iter().find(|it| it.entry.is_none()).unwrap();
        assert_eq!(other.spawned, 2 * (1_000 - MAX_ORIGINS as u64));
    }
}
