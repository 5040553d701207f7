//! Who is who: which tasks of a process are blocked where, since when, and which of them came back.
//!
//! Identity beats counting. A pool under a load that rises and falls has members that come back; those of a leak never
//! do. So growth is made of members that were born while we watched, have come to a wait for the first time, and have
//! been in it for longer than nearly all such first waits that ever ended.

mod roster;

use hashbrown::HashMap;
use roster::Roster;
use serde::{Deserialize, Serialize};

use super::case::{Case, Settings};

/// Of the waits that ended, the share that tells how long one must last to be thought of as staying, ...
const ENDED: f64 = 0.95;
/// ... and how many times that long.
const TIMES: f64 = 3.0;
/// As few endings say nothing of the others.
const FEWEST_ENDINGS: f64 = 3.0;
/// Seconds by which the age of one wait may be told differently in two passes.
const SLACK: f64 = 1.0;

/// A place where a member may be: index of a case in its book.
pub type Place = u32;
pub const NOWHERE: Place = Place::MAX;

/// A task: its id, and what tells it from an earlier one.
pub type MemberId = (u64, u64);

/// What is remembered of a live task. Small, for there may be millions; times are seconds since its book was begun.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Member {
    /// When it was first seen.
    first: f32,
    /// When it was last seen in its wait.
    seen: f32,
    /// Of its wait, when the wait was first seen past the threshold and last.
    met: f32,
    age: f32,
    /// Where it is blocked.
    place: Place,
    /// Where it last came back from.
    left: Place,
    /// The case of what it runs.
    entry: Place,
    /// Low bits of the pass that saw it last.
    pass: u16,
    flags: u8,
}

/// Born while we watched.
const FRESH: u8 = 1;
/// Counted as one that stays where it is blocked.
const SETTLED: u8 = 2;
/// Of these, one that came for the first time.
const CAME: u8 = 4;
/// Has been blocked past the threshold.
const RESTED: u8 = 8;
/// Counted as one of those that live long and never rest.
const RESTLESS: u8 = 16;
/// Of these, one that is fresh.
const RESTLESS_CAME: u8 = 32;
/// Was not met in its wait in the last pass.
const MISSED: u8 = 64;

impl Member {
    fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// What has happened in one case since the last pass.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Moves {
    came: usize,
    net: i64,
}

/// A task as the pass saw it.
#[derive(Clone, Copy, Debug)]
pub struct Sight {
    pub id: MemberId,
    /// The case of its group while it is blocked, else [`NOWHERE`].
    pub place: Place,
    /// The case of what it runs, or [`NOWHERE`].
    pub entry: Place,
    /// Of its wait, seconds.
    pub age: f64,
}

/// The tasks of one process.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Members {
    members: Roster<Member>,
    passes: u64,
    #[serde(skip)]
    moves: HashMap<Place, Moves>,
}

impl Members {
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// A case has been given up: its members are nowhere.
    pub fn forget(&mut self, place: Place) {
        for member in self.members.values_mut() {
            if member.place == place {
                member.place = NOWHERE;
                member.flags &= !(SETTLED | CAME);
            }
            if member.entry == place {
                member.entry = NOWHERE;
                member.flags &= !(RESTLESS | RESTLESS_CAME);
            }
            if member.left == place {
                member.left = NOWHERE;
            }
        }
    }

    /// Takes a pass down. `now`: seconds since the book was begun. `room`: members that may be added. `is_whole`: a
    /// task that is not in `sights` has ended. Returns how many had no room.
    pub fn pass(
        &mut self,
        now: f64,
        threshold: f64,
        sights: impl IntoIterator<Item = Sight>,
        cases: &mut HashMap<Place, Case>,
        room: usize,
        is_whole: bool,
    ) -> usize {
        self.moves.clear();
        let is_first = self.passes == 0;
        self.passes += 1;
        let pass = self.passes as u16;
        let settling: HashMap<Place, f64> = cases
            .iter()
            .map(|(place, case)| (*place, settling_age(case, threshold)))
            .collect();
        let settling = |place: Place| settling.get(&place).copied().unwrap_or(f64::INFINITY);
        let most = self.members.len() + room;
        let mut refused = 0;
        let fresh = Member {
            first: now as f32,
            seen: now as f32,
            met: 0.0,
            age: 0.0,
            place: NOWHERE,
            left: NOWHERE,
            entry: NOWHERE,
            pass,
            flags: if is_first { 0 } else { FRESH },
        };
        let mut meeting = self.members.meet();
        for sight in sights {
            let has_room = meeting.len() < most;
            let Some(member) = meeting.member(sight.id, || has_room.then_some(fresh)) else {
                refused += 1;
                continue;
            };
            member.pass = pass;
            let mut books = Books {
                moves: &mut self.moves,
                cases,
            };
            books.follow(member, &sight, now);
            books.settle(member, settling);
            books.run(member, &sight, now, threshold, settling);
        }
        drop(meeting);
        if is_whole {
            let (moves, cases) = (&mut self.moves, cases);
            self.members.retain(|member| {
                let lives = member.pass == pass;
                if !lives {
                    let mut books = Books { moves, cases };
                    books.leave(member);
                    books.end(member, now);
                }
                lives
            });
        }
        refused
    }

    /// Gives every case its evidence of the pass.
    pub fn weigh(&self, now: f64, settings: &Settings, cases: &mut HashMap<Place, Case>) {
        for (place, case) in cases {
            let moves = self.moves.get(place).copied().unwrap_or_default();
            case.evidence.add(now, moves.came, moves.net, settings.block());
        }
    }

    /// Of the members that are blocked at a place: ages of their waits when first seen and last, seconds.
    pub fn ages(&self, place: Place) -> impl Iterator<Item = (f64, f64)> {
        let here = self.members.values().filter(move |member| member.place == place);
        here.map(|member| (f64::from(member.met), f64::from(member.age)))
    }
}

/// From which age on a wait is thought of as one that stays: longer than nearly all that ended.
fn settling_age(case: &Case, threshold: f64) -> f64 {
    let usual = case
        .first_waits
        .ended_within(ENDED)
        .filter(|_| case.first_waits.endings() >= FEWEST_ENDINGS);
    usual.map_or(threshold, |age| (TIMES * age).max(threshold))
}

/// What members do to the cases.
struct Books<'a> {
    moves: &'a mut HashMap<Place, Moves>,
    cases: &'a mut HashMap<Place, Case>,
}

impl Books<'_> {
    /// Into a wait, out of one, or on in the same.
    fn follow(&mut self, member: &mut Member, sight: &Sight, now: f64) {
        let since_seen = now - f64::from(member.seen);
        let is_same_wait = member.place != NOWHERE && sight.age >= since_seen - SLACK;
        if sight.place == NOWHERE {
            if member.place != NOWHERE {
                // A signal may have woken it for a moment: it has come back only if it is away twice.
                if member.has(MISSED) {
                    self.leave(member);
                } else {
                    member.flags |= MISSED;
                }
            }
            return;
        }
        if member.place != sight.place {
            if is_same_wait {
                // It has not moved: more is known of where it is.
                self.unsettle(member);
                member.place = sight.place;
            } else {
                self.leave(member);
                member.place = sight.place;
                member.met = sight.age as f32;
            }
        } else if !is_same_wait {
            self.leave(member);
            member.place = sight.place;
            member.met = sight.age as f32;
        }
        member.flags = (member.flags | RESTED) & !MISSED;
        member.age = sight.age as f32;
        member.seen = now as f32;
    }

    /// Counts it once it has been blocked for longer than what usually ends.
    fn settle(&mut self, member: &mut Member, settling: impl Fn(Place) -> f64) {
        let place = member.place;
        if place != NOWHERE && !member.has(SETTLED) && f64::from(member.age) >= settling(place) {
            let is_new = member.has(FRESH) && member.left != place;
            self.count(member, place, (SETTLED, CAME), is_new);
        }
    }

    /// Takes it out of its group's count without a word on whether its wait has ended.
    fn unsettle(&mut self, member: &mut Member) {
        self.uncount(member, member.place, (SETTLED, CAME));
    }

    /// One more in a case. Flags: that it is counted, and that it is new there.
    fn count(&mut self, member: &mut Member, place: Place, (counted, came): (u8, u8), is_new: bool) {
        member.flags |= counted;
        let moves = self.moves.entry(place).or_default();
        moves.net += 1;
        if is_new {
            member.flags |= came;
            moves.came += 1;
            if let Some(case) = self.cases.get_mut(&place) {
                case.staying += 1;
            }
        }
    }

    fn uncount(&mut self, member: &mut Member, place: Place, (counted, came): (u8, u8)) {
        if member.has(counted) {
            self.moves.entry(place).or_default().net -= 1;
        }
        if member.has(came)
            && let Some(case) = self.cases.get_mut(&place)
        {
            case.staying = case.staying.saturating_sub(1);
        }
        member.flags &= !(counted | came);
    }

    /// Its wait has ended.
    fn leave(&mut self, member: &mut Member) {
        if member.place == NOWHERE {
            return;
        }
        self.unsettle(member);
        if let Some(case) = self.cases.get_mut(&member.place) {
            case.returned += 1;
            let (met, age) = (f64::from(member.met), f64::from(member.age));
            case.survival.end(met, age);
            if member.has(FRESH) && member.left != member.place {
                case.first_waits.end(met, age);
            }
        }
        member.left = member.place;
        member.place = NOWHERE;
        member.flags &= !MISSED;
    }

    /// Of those that are never long in one wait: counts it once it has lived for longer than what usually ends.
    fn run(
        &mut self,
        member: &mut Member,
        sight: &Sight,
        now: f64,
        threshold: f64,
        settling: impl Fn(Place) -> f64,
    ) {
        if member.entry != sight.entry {
            self.calm(member);
            member.entry = sight.entry;
        }
        if member.has(RESTED) {
            self.calm(member);
            return;
        }
        let life = now - f64::from(member.first);
        let entry = member.entry;
        if entry != NOWHERE && !member.has(RESTLESS) && life >= settling(entry).max(2.0 * threshold) {
            let is_new = member.has(FRESH);
            self.count(member, entry, (RESTLESS, RESTLESS_CAME), is_new);
        }
    }

    fn calm(&mut self, member: &mut Member) {
        self.uncount(member, member.entry, (RESTLESS, RESTLESS_CAME));
    }

    /// It has ended.
    fn end(&mut self, member: &mut Member, now: f64) {
        self.calm(member);
        if let Some(case) = self.cases.get_mut(&member.entry).filter(|_| !member.has(RESTED)) {
            let life = now - f64::from(member.first);
            case.first_waits.end(0.0, life);
        }
    }
}
