//! Who is who, and what follows.

use std::collections::BTreeMap;

use super::*;
use crate::model::WaitClass;

const THRESHOLD: f64 = 60.0;

fn process(pid: u32) -> Of {
    let id = ProcessId {
        pid,
        start_boottime: 1,
        exec_id: 1,
    };
    (id, Kind::Thread)
}

fn group(reason: &'static str) -> Subject {
    Subject::Group(GroupKey {
        kind: Kind::Thread,
        reason: reason.into(),
        class: WaitClass::Internal,
        block_site: None,
        entry: None,
        spawn_site: None,
    })
}

/// A process whose tasks wait (since when, where) or do not.
struct World {
    judge: Judge,
    now: f64,
    tasks: BTreeMap<u64, Option<(f64, &'static str)>>,
}

impl World {
    /// It was started long ago.
    fn new() -> Self {
        Self {
            judge: Judge::new(Settings::DEFAULT),
            now: 1e6,
            tasks: BTreeMap::new(),
        }
    }

    fn block(&mut self, id: u64, place: &'static str) {
        self.tasks.insert(id, Some((self.now, place)));
    }

    /// One pass after so many seconds: what is said of a group, and of all that lives.
    fn pass(&mut self, seconds: f64, place: &'static str) -> [Judgement; 2] {
        self.now += seconds;
        let now = self.now;
        let is_blocked =
            |wait: &Option<(f64, &'static str)>| wait.filter(|(since, _)| now - since >= THRESHOLD);
        let mut subjects: Vec<(Subject, usize)> = vec![
            (group(place), 0),
            (Subject::Live(Kind::Thread, None), self.tasks.len()),
        ];
        let mut seen = Vec::new();
        for (id, wait) in &self.tasks {
            let group = is_blocked(wait).map(|(_, place)| {
                let subject = group(place);
                let index = subjects
                    .iter()
                    .position(|(known, _)| *known == subject)
                    .unwrap_or_else(|| {
                        subjects.push((subject, 0));
                        subjects.len() - 1
                    });
                subjects[index].1 += 1;
                index
            });
            seen.push(Seen {
                id: (*id, 1),
                group,
                entry: Some(1),
                age: wait.map_or(0.0, |(since, _)| now - since),
            });
        }
        let judged = self.judge.pass(now, process(1), THRESHOLD, &subjects, seen, true);
        [judged[0].clone(), judged[1].clone()]
    }

    /// Passes every ten seconds; `each` is told which, before.
    fn passes(&mut self, count: u32, place: &'static str, mut each: impl FnMut(&mut Self, u32)) -> Judgement {
        let mut last = Judgement::unknown();
        for index in 0..count {
            each(self, index);
            last = self.pass(10.0, place)[0].clone();
        }
        last
    }
}

#[test]
fn a_task_a_minute_that_never_comes_back_is_a_leak_within_a_quarter_of_an_hour() {
    let mut world = World::new();
    world.passes(100, "a", |_, _| {});
    let mut verdicts = Vec::new();
    let mut told = Judgement::unknown();
    for index in 0..6 * 15_u64 {
        if index.is_multiple_of(6) {
            world.block(1000 + index, "a");
        }
        told = world.pass(10.0, "a")[0].clone();
        if verdicts.last() != Some(&told.verdict) {
            verdicts.push(told.verdict);
        }
    }
    assert_eq!(verdicts, [Verdict::Stable, Verdict::Growing, Verdict::Leaking]);
    assert_eq!(told.returned, 0);
    let growth = told.growth.unwrap();
    assert!(growth.p < 0.05 && growth.to > growth.from, "{growth:?}");
}

#[test]
fn tasks_that_were_there_before_us_are_no_growth() {
    let mut world = World::new();
    // They work when we come, and fall idle one a minute: a pool after its day.
    for id in 0..100 {
        world.tasks.insert(id, None);
    }
    world.pass(10.0, "a");
    let told = world.passes(6 * 60, "a", |world, index| {
        if index.is_multiple_of(6) {
            world.block(u64::from(index) / 6, "a");
        }
    });
    assert_eq!(told.verdict, Verdict::Stable);
}

#[test]
fn a_pool_whose_members_come_back_is_stable_however_it_swings() {
    let mut world = World::new();
    world.pass(10.0, "a");
    // 30 are born; from then on they wait for two to ten minutes at a time.
    let mut random = fastrand::Rng::with_seed(5);
    for round in 0..6 * 60 * 12 {
        for id in 0..30 {
            if random.f64() < 0.03 {
                world.block(id, "a");
            }
        }
        let told = world.pass(10.0, "a")[0].clone();
        assert!(!told.verdict.is_alarm(), "round {round}: {told:?}");
    }
    let told = world.pass(10.0, "a")[0].clone();
    assert!(told.returned > 1000, "{told:?}");
    let usual = told.usual.unwrap();
    assert!((600.0..3600.0).contains(&usual.within_seconds), "{usual:?}");
}

#[test]
fn the_verdict_comes_down_when_nobody_comes_any_more() {
    let mut world = World::new();
    world.pass(10.0, "a");
    let leak = |world: &mut World, index: u32| {
        if index.is_multiple_of(6) {
            world.block(world.now as u64, "a");
        }
    };
    assert_eq!(world.passes(6 * 30, "a", leak).verdict, Verdict::Leaking);
    assert_eq!(world.passes(6 * 30, "a", |_, _| {}).verdict, Verdict::Stable);
    // And goes up again when it goes on.
    assert_eq!(world.passes(6 * 30, "a", leak).verdict, Verdict::Leaking);
}

#[test]
fn the_verdict_comes_down_when_they_come_back() {
    let mut world = World::new();
    world.pass(10.0, "a");
    world.passes(6 * 30, "a", |world, index| {
        if index.is_multiple_of(6) {
            world.block(1000 + u64::from(index), "a");
        }
    });
    world.tasks.clear();
    let told = world.passes(10, "a", |_, _| {});
    assert_eq!((told.verdict, told.staying), (Verdict::Stable, 0));
    assert!(told.returned >= 29, "{told:?}");
}

#[test]
fn a_signal_that_wakes_it_for_a_moment_brings_nobody_back() {
    let mut world = World::new();
    world.pass(10.0, "a");
    world.block(1, "a");
    world.passes(20, "a", |_, _| {});
    for _ in 0..50 {
        let wait = world.tasks.insert(1, None).unwrap();
        world.pass(10.0, "a");
        world.tasks.insert(1, wait);
        let told = world.pass(10.0, "a")[0].clone();
        assert_eq!(told.returned, 0);
    }
}

#[test]
fn who_is_away_for_two_passes_or_waits_anew_has_come_back() {
    let mut world = World::new();
    world.pass(10.0, "a");
    world.block(1, "a");
    world.block(2, "a");
    world.passes(20, "a", |_, _| {});
    world.tasks.insert(1, None);
    world.block(2, "a");
    assert_eq!(world.passes(2, "a", |_, _| {}).returned, 2);
    assert_eq!(world.passes(20, "a", |_, _| {}).returned, 2);
}

#[test]
fn a_wait_of_which_more_is_known_has_not_ended() {
    let mut world = World::new();
    world.pass(10.0, "nowhere");
    world.block(1, "nowhere");
    world.passes(20, "nowhere", |_, _| {});
    let since = world.tasks[&1].unwrap().0;
    world.tasks.insert(1, Some((since, "somewhere")));
    assert_eq!(world.passes(5, "nowhere", |_, _| {}).returned, 0);
    assert_eq!(world.passes(5, "somewhere", |_, _| {}).staying, 1);
}

#[test]
fn tasks_that_are_hidden_have_not_ended() {
    let mut world = World::new();
    world.pass(10.0, "a");
    world.block(1, "a");
    world.passes(20, "a", |_, _| {});
    let now = world.now + 10.0;
    let subjects = [(group("a"), 0)];
    let told = world.judge.pass(now, process(1), THRESHOLD, &subjects, [], false);
    assert_eq!((told[0].returned, told[0].staying), (0, 1));
}

#[test]
fn what_ticks_for_ever_is_judged_by_its_number() {
    let mut world = World::new();
    world.passes(100, "a", |_, _| {});
    let mut told = Judgement::unknown();
    for index in 0..6 * 60_u64 {
        if index.is_multiple_of(6) {
            world.tasks.insert(1000 + index, None);
        }
        told = world.pass(10.0, "a")[1].clone();
    }
    assert_eq!(told.verdict, Verdict::Leaking);
}

#[test]
fn a_busy_pool_that_grows_tenfold_with_the_days_load_is_stable() {
    let mut world = World::new();
    let passes = 6 * 60 * 12;
    for index in 0..passes {
        // From the bottom of the night to the top of the day; none of them ever rests.
        let angle = std::f64::consts::PI * (f64::from(index) / f64::from(passes) - 0.5);
        let busy = (200.0 * (0.55 + 0.45 * angle.sin())) as u64;
        for id in 0..busy {
            world.tasks.entry(id).or_insert(None);
        }
        let told = world.pass(10.0, "a")[1].clone();
        assert!(!told.verdict.is_alarm(), "pass {index}: {told:?}");
    }
    assert_eq!(world.tasks.len(), 199);
}

#[test]
fn what_grows_slowly_for_longer_than_a_day_does_is_found_at_last() {
    let mut world = World::new();
    for id in 0..500 {
        world.tasks.insert(id, None);
    }
    let mut found = None;
    for hour in 0..24_u64 {
        for minute in 0..60 {
            // 4 an hour: two of five hundred in a window.
            if minute % 15 == 0 {
                world.tasks.insert(1000 + 60 * hour + minute, None);
            }
            let told = world.pass(60.0, "a")[1].clone();
            if told.verdict.is_alarm() {
                found.get_or_insert(hour);
            }
        }
    }
    assert!(found.is_some_and(|hour| hour >= 14), "{found:?}");
}

#[test]
fn histories_are_bounded_and_those_that_grow_are_kept() {
    let mut judge = Judge::new(Settings::DEFAULT);
    let sites: Vec<Subject> = (0..200)
        .map(|site| Subject::Live(Kind::Thread, Some(Arc::new(site_called(format!("f{site}"))))))
        .collect();
    let subjects: Vec<(Subject, usize)> = sites.into_iter().map(|site| (site, 1)).collect();
    let leak = [(group("leak"), 0)];
    for minute in 0..30 {
        let now = 1e6 + 60.0 * f64::from(minute);
        let seen = (0..minute).map(|id| Seen {
            id: (id as u64, 1),
            group: Some(0),
            entry: None,
            age: 60.0 * f64::from(minute - id),
        });
        judge.pass(now, process(0), THRESHOLD, &leak, seen, true);
    }
    for pid in 1..=150 {
        judge.pass(1e6 + 1801.0, process(pid), THRESHOLD, &subjects, [], true);
    }
    let cases: usize = judge.books.values().map(|book| book.cases.len()).sum();
    assert!(cases <= MAX_CASES, "{cases}");
    assert_eq!(judge.lost().evicted as usize, 150 * 200 + 1 - cases);
    assert_eq!(judge.books[&process(0)].cases.len(), 1);
}

#[test]
fn a_judge_goes_on_where_another_has_stopped() {
    let mut world = World::new();
    world.pass(10.0, "a");
    let leak = |world: &mut World, index: u32| {
        if index.is_multiple_of(6) {
            world.block(world.now as u64, "a");
        }
    };
    world.passes(6 * 30, "a", leak);
    let bytes = postcard::to_allocvec(&world.judge.saved(1000)).unwrap();
    let mut other = Judge::new(Settings::DEFAULT);
    other.restore(postcard::from_bytes(&bytes).unwrap());
    world.judge = other;
    let told = world.pass(10.0, "a")[0].clone();
    assert_eq!((told.verdict, told.returned), (Verdict::Leaking, 0));
}

fn site_called(function: String) -> Site {
    Site {
        function,
        file: None,
        line: None,
    }
}
