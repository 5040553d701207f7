//! All cases of all processes: bounded, and asked once a pass.

use std::{collections::HashSet, sync::Arc};

use hashbrown::HashMap;
use serde::{Deserialize, Serialize};

use super::{
    case::{Case, Settings},
    members::{MemberId, Members, NOWHERE, Place, Sight},
};
use crate::model::{GroupKey, Growth, Kind, ProcessId, Site, Usual, Verdict};

/// Cases that are kept, of all processes together: some 2 KiB each.
const MAX_CASES: usize = 20_000;
/// Tasks whose identity is kept: some 60 bytes each.
const MAX_MEMBERS: usize = 4_000_000;
/// Share of the waits that end by which the usual length of one is told.
const USUAL: f64 = 0.99;
/// As few endings say nothing of what is usual.
const FEWEST_ENDINGS: f64 = 20.0;

/// Whose tasks a book is of.
pub type Of = (ProcessId, Kind);

/// What is on trial.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Subject {
    /// The blocked tasks of a group.
    Group(GroupKey),
    /// The live tasks that run the same and are never long in one wait.
    Live(Kind, Option<Arc<Site>>),
    /// Those that have run the same, have ended and are kept.
    Kept(Kind, Option<Arc<Site>>),
}

/// What is to be said of a subject.
#[derive(Clone, Debug, PartialEq)]
pub struct Judgement {
    pub verdict: Verdict,
    pub growth: Option<Growth>,
    /// Counts of the short window, oldest first.
    pub recent: Vec<f32>,
    pub returned: u64,
    pub usual: Option<Usual>,
    /// Members that came while we watched, and stay.
    pub staying: usize,
}

/// What could not be kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lost {
    /// Histories that made room for others.
    pub evicted: u64,
    /// Tasks whose identity found no room, in all passes.
    pub members: u64,
}

/// A process's cases of one kind.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Book {
    /// Seconds, on the clock of the caller.
    began: f64,
    places: HashMap<Subject, Place>,
    cases: HashMap<Place, Case>,
    next: Place,
    members: Members,
}

/// One task of a process in a pass.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    pub id: MemberId,
    /// Index of its group among the subjects of the pass while it is blocked.
    pub group: Option<usize>,
    /// Index of what it runs among the subjects of the pass.
    pub entry: Option<usize>,
    /// Seconds.
    pub age: f64,
}

/// Judges all counts of all processes.
pub struct Judge {
    settings: Settings,
    books: HashMap<Of, Book>,
    /// Of all books.
    cases: usize,
    members: usize,
    lost: Lost,
}

impl Judge {
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            books: HashMap::new(),
            cases: 0,
            members: 0,
            lost: Lost::default(),
        }
    }

    pub fn settings(&self) -> Settings {
        self.settings
    }

    pub fn lost(&self) -> Lost {
        self.lost
    }

    /// One pass over one process's tasks of one kind. `now`: seconds of CLOCK_BOOTTIME. `subjects`: what is judged,
    /// with its count; the judgements come in their order. What was judged before and is none of them counts 0.
    pub fn pass(
        &mut self,
        now: f64,
        of: Of,
        threshold: f64,
        subjects: &[(Subject, usize)],
        tasks: impl IntoIterator<Item = Seen>,
        is_whole: bool,
    ) -> Vec<Judgement> {
        self.make_room(subjects.len(), now);
        let book = self.books.entry(of).or_insert_with(|| Book {
            began: now,
            ..Book::default()
        });
        let (cases, members) = (book.cases.len(), book.members.len());
        let at = now - book.began;
        let places: Vec<Place> = subjects
            .iter()
            .map(|(subject, _)| book.place(subject, &self.settings, at))
            .collect();
        let place = |index: Option<usize>| {
            index
                .and_then(|index| places.get(index).copied())
                .unwrap_or(NOWHERE)
        };
        let sights = tasks.into_iter().map(|seen| Sight {
            id: seen.id,
            place: place(seen.group),
            entry: place(seen.entry),
            age: seen.age,
        });
        let room = MAX_MEMBERS.saturating_sub(self.members);
        let refused = book
            .members
            .pass(at, threshold, sights, &mut book.cases, room, is_whole);
        self.lost.members += refused as u64;
        self.cases += book.cases.len() - cases;
        self.members = self.members + book.members.len() - members;
        book.members.weigh(at, &self.settings, &mut book.cases);
        let counts: HashMap<Place, usize> = places
            .iter()
            .copied()
            .zip(subjects.iter().map(|(_, count)| *count))
            .collect();
        if is_whole {
            for (place, case) in &mut book.cases {
                case.history
                    .push(at, counts.get(place).copied().unwrap_or(0) as f64);
            }
        }
        let settings = &self.settings;
        let born = of.0.start_boottime as f64 * 1e-9 - book.began;
        let judged = subjects.iter().zip(&places);
        judged
            .map(|((subject, _), place)| book.judgement(subject, *place, settings, born))
            .collect()
    }

    /// Every book. Of more members than `most` none is kept: who then is there after a restart counts as having been
    /// there before.
    pub fn saved(&self, most: usize) -> Vec<(Of, Book)> {
        let kept = |book: &Book| Book {
            members: if self.members > most {
                Members::default()
            } else {
                book.members.clone()
            },
            ..book.clone()
        };
        self.books.iter().map(|(id, book)| (*id, kept(book))).collect()
    }

    /// Takes books that were saved, of the same boot and with the same settings.
    pub fn restore(&mut self, saved: Vec<(Of, Book)>) {
        self.books.extend(saved);
        self.count();
    }

    /// Forgets processes that are gone.
    pub fn retain(&mut self, alive: &HashSet<ProcessId>) {
        self.books.retain(|(process, _), _| alive.contains(process));
        self.count();
    }

    fn count(&mut self) {
        self.cases = self.books.values().map(|book| book.cases.len()).sum();
        self.members = self.books.values().map(|book| book.members.len()).sum();
    }

    /// Gives up the histories that have not changed for the longest time, none that grows.
    fn make_room(&mut self, wanted: usize, now: f64) {
        if self.cases + wanted <= MAX_CASES {
            return;
        }
        let mut idle: Vec<(f64, Of, Place)> = self
            .books
            .iter()
            .flat_map(|(id, book)| {
                let quiet = book
                    .cases
                    .iter()
                    .filter(|(_, case)| case.evidence.run().is_none());
                quiet.map(|(place, case)| (now - book.began - case.history.changed, *id, *place))
            })
            .collect();
        idle.sort_unstable_by(|a, b| b.0.total_cmp(&a.0));
        let surplus = self.cases + wanted - MAX_CASES;
        for (_, of, place) in idle.into_iter().take(surplus.max(MAX_CASES / 10)) {
            if let Some(book) = self.books.get_mut(&of) {
                book.cases.remove(&place);
                book.places.retain(|_, known| *known != place);
                book.members.forget(place);
                self.lost.evicted += 1;
            }
        }
        self.count();
    }
}

impl Book {
    fn place(&mut self, subject: &Subject, settings: &Settings, now: f64) -> Place {
        if let Some(place) = self.places.get(subject) {
            return *place;
        }
        let place = self.next;
        self.next += 1;
        self.places.insert(subject.clone(), place);
        self.cases.insert(place, Case::new(settings, now));
        place
    }

    fn judgement(&mut self, subject: &Subject, place: Place, settings: &Settings, born: f64) -> Judgement {
        let Some(case) = self.cases.get_mut(&place) else {
            return Judgement::unknown();
        };
        let settings = match subject {
            Subject::Group(_) => *settings,
            Subject::Live(..) | Subject::Kept(..) => settings.for_live(),
        };
        let finding = case.judge(&settings, born, true, true);
        let usual = match subject {
            Subject::Group(_) if case.survival.endings() >= FEWEST_ENDINGS => {
                case.survival.ended_within(USUAL).map(|within| Usual {
                    share: USUAL,
                    within_seconds: within,
                    beyond: self.members.ages(place).filter(|(_, age)| *age > within).count(),
                    survive: case.survival.survivors(within, self.members.ages(place)),
                })
            }
            _ => None,
        };
        Judgement {
            verdict: finding.verdict,
            growth: finding.growth,
            recent: case.history.recent().to_vec(),
            returned: case.returned,
            usual,
            staying: case.staying,
        }
    }
}

impl Judgement {
    /// Of what has no history.
    pub fn unknown() -> Self {
        Self {
            verdict: Verdict::Unknown,
            growth: None,
            recent: Vec::new(),
            returned: 0,
            usual: None,
            staying: 0,
        }
    }
}

#[cfg(test)]
mod tests;
