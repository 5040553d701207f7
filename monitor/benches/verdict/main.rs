//! Verdicts on simulated processes: false alarms, and how soon leaks are found, beside the rules that people write by
//! hand, on the same series. `cargo xtask bench --only verdict` runs it. The seed is fixed.

mod naive;
mod simulate;

use std::{collections::BTreeMap, sync::Mutex, time::Instant};

use fastrand::Rng;
use naive::{Rule, Watcher};
use simulate::{Kind, Process, THRESHOLD};
use taskleak::{
    detect::{Judge, Seen, Settings, Subject, series::SeriesJudge},
    model::{GroupKey, Kind as TaskKind, ProcessId, Verdict, WaitClass},
};

const INTERVAL: f64 = 10.0;
const DAY: f64 = 86_400.0;
/// Of the samples so many are missing.
const MISSING: f64 = 0.02;
/// Minutes by which one may be later and still be as soon: a block and an interval.
const SAME: f64 = 0.5;
/// Alarms within this time are one.
const APART: f64 = 3600.0;

/// Verdicts by how much evidence is asked for, in parts of what is asked for by default. The first is the verdict as it
/// is; the others are of blocked counts alone, which is all that the rules see.
const DIALS: [f64; 8] = [1.0, 0.0, 0.1, 0.25, 0.5, 0.75, 1.0, 1.5];
const DEFAULT_DIAL: usize = 0;
/// Every so many healthy processes are watched at all dials and by the rules, the others by the verdict alone.
const COMPARED: u64 = 5;

/// Alarms of one process of the verdict at each dial, and of each rule.
struct Outcome {
    kind: Kind,
    days: f64,
    is_compared: bool,
    alarms: Vec<Vec<f64>>,
}

fn main() {
    let scale = std::env::var("TASKLEAK_BENCH_SCALE")
        .ok()
        .and_then(|text| text.parse::<f64>().ok())
        .unwrap_or(1.0);
    let healthy = (230.0 * scale).ceil() as u64;
    let leaks = (40.0 * scale).ceil() as u64;
    let mut work: Vec<(Kind, u64)> = Vec::new();
    for kind in Kind::HEALTHY {
        work.extend((0..healthy).map(|seed| (kind, seed)));
    }
    for kind in Kind::LEAKS {
        work.extend((0..leaks).map(|seed| (kind, seed)));
    }
    println!(
        "{} healthy processes for a day each, {} leaking ones; a sample every {INTERVAL} s, {} % missing",
        healthy * Kind::HEALTHY.len() as u64,
        leaks * Kind::LEAKS.len() as u64,
        MISSING * 100.0
    );
    let begun = Instant::now();
    let outcomes = in_parallel(work);
    report(&outcomes);
    recorded();
    println!("({:.0} s)", begun.elapsed().as_secs_f64());
}

fn in_parallel(work: Vec<(Kind, u64)>) -> Vec<Outcome> {
    let (work, outcomes) = (Mutex::new(work), Mutex::new(Vec::new()));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let Some((kind, seed)) = work.lock().unwrap().pop() else {
                        break;
                    };
                    let outcome = watch(kind, seed);
                    outcomes.lock().unwrap().push(outcome);
                }
            });
        }
    });
    outcomes.into_inner().unwrap()
}

/// One process, and everybody who watches it.
fn watch(kind: Kind, seed: u64) -> Outcome {
    let mut process = Process::new(kind, seed * 1000 + kind as u64);
    let mut random = Rng::with_seed(seed);
    let rules = Rule::all();
    let is_compared = Kind::LEAKS.contains(&kind) || seed.is_multiple_of(COMPARED);
    let mut judges: Vec<Judge> = DIALS.map(|dial| Judge::new(settings(dial))).into();
    let mut watchers: Vec<Watcher> = rules.iter().map(|rule| Watcher::new(*rule)).collect();
    if !is_compared {
        judges.truncate(1);
        watchers.clear();
    }
    let mut alarms = vec![Vec::new(); DIALS.len() + rules.len()];
    let mut last = vec![f64::NEG_INFINITY; alarms.len()];
    let subject = Subject::Group(GroupKey {
        kind: TaskKind::Thread,
        reason: "futex".into(),
        class: WaitClass::Internal,
        block_site: None,
        entry: None,
        spawn_site: None,
    });
    let (mut now, until) = (0.0, kind.healthy_for() + kind.watched());
    while now < until {
        now += INTERVAL * (0.9 + 0.2 * random.f64());
        process.advance(now);
        if random.f64() < MISSING {
            continue;
        }
        let count = process.blocked();
        let subjects = [
            (subject.clone(), count),
            (Subject::Live(TaskKind::Thread, None), process.tasks.len()),
        ];
        let id = ProcessId {
            pid: 1,
            start_boottime: (process.started * 1e9) as u64,
            exec_id: 1,
        };
        let seen: Vec<Seen> = process
            .tasks
            .iter()
            .map(|task| {
                let age = task.waits_since.map_or(0.0, |since| now - since);
                Seen {
                    id: (task.id, 1),
                    group: (age >= THRESHOLD).then_some(0),
                    entry: Some(1),
                    age,
                }
            })
            .collect();
        let mut hold = |index: usize, holds: bool| {
            if holds {
                if now - last[index] > APART {
                    alarms[index].push(now);
                }
                last[index] = now;
            }
        };
        for (index, judge) in judges.iter_mut().enumerate() {
            judge.retain(&[id].into());
            let judgements = judge.pass(
                now,
                (id, TaskKind::Thread),
                THRESHOLD,
                &subjects,
                seen.iter().copied(),
                true,
            );
            let heard = if index == DEFAULT_DIAL {
                judgements.len()
            } else {
                1
            };
            let alarms = judgements.iter().take(heard).map(|judgement| judgement.verdict);
            hold(index, alarms.into_iter().any(Verdict::is_alarm));
        }
        for (index, watcher) in watchers.iter_mut().enumerate() {
            hold(DIALS.len() + index, watcher.sample(now, count as f64));
        }
    }
    Outcome {
        kind,
        days: until / DAY,
        is_compared,
        alarms,
    }
}

fn settings(dial: f64) -> Settings {
    let default = Settings::DEFAULT;
    Settings {
        min_growth: (default.min_growth * dial).max(1.0),
        growing: default.growing * dial,
        leaking: default.leaking * dial,
        lasting: default.lasting * dial.min(1.0),
        significant: if dial < 0.4 { 1.0 } else { default.significant },
        ..default
    }
}

/// False alarms in 1,000 process-days, by kind and of all.
fn false_alarms(outcomes: &[Outcome], index: usize) -> (BTreeMap<Kind, f64>, f64) {
    let mut by_kind: BTreeMap<Kind, (f64, f64)> = BTreeMap::new();
    for outcome in outcomes.iter().filter(|outcome| {
        Kind::HEALTHY.contains(&outcome.kind) && (index == DEFAULT_DIAL || outcome.is_compared)
    }) {
        let sum = by_kind.entry(outcome.kind).or_default();
        sum.0 += outcome.alarms[index].len() as f64;
        sum.1 += outcome.days;
    }
    let all = by_kind
        .values()
        .fold((0.0, 0.0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
    let rates = by_kind
        .into_iter()
        .map(|(kind, (alarms, days))| (kind, 1000.0 * alarms / days))
        .collect();
    (rates, 1000.0 * all.0 / all.1)
}

/// Minutes until half, nine in ten, and all were found; infinite if not.
fn found(outcomes: &[Outcome], kind: Kind, index: usize) -> [f64; 3] {
    let mut times: Vec<f64> = outcomes
        .iter()
        .filter(|outcome| outcome.kind == kind)
        .map(|outcome| {
            let mut after = outcome.alarms[index].iter().map(|time| time - kind.healthy_for());
            after
                .find(|time| *time > 0.0)
                .map_or(f64::INFINITY, |time| time / 60.0)
        })
        .collect();
    times.sort_by(f64::total_cmp);
    let at = |share: f64| times[((times.len() as f64 * share).ceil() as usize).clamp(1, times.len()) - 1];
    [at(0.5), at(0.9), at(1.0)]
}

fn report(outcomes: &[Outcome]) {
    println!("\nFalse alarms in 1,000 process-days (default evidence)");
    let (by_kind, all) = false_alarms(outcomes, DEFAULT_DIAL);
    for (kind, rate) in by_kind {
        println!("  {:<16} {rate:>8.1}", format!("{kind:?}"));
    }
    println!("  {:<16} {all:>8.1}   goal: below 1", "all");
    println!("\nMinutes until found: half, nine in ten, all");
    for kind in Kind::LEAKS {
        let [half, most, all] = found(outcomes, kind, DEFAULT_DIAL);
        let goal = match kind {
            Kind::LeakMinutely | Kind::LeakYoung => "   goal: 15",
            Kind::LeakHourly => "   goal: 1440",
            _ => "",
        };
        println!(
            "  {:<16} {half:>8.1} {most:>8.1} {all:>8.1}{goal}",
            format!("{kind:?}")
        );
    }
    println!(
        "\nBeside rules on counts: false alarms in 1,000 process-days; minutes until half of the leaks were found\n\
         (1/h, 1/min, 1/s), and those of the verdict with as many false alarms or fewer"
    );
    let kinds = [Kind::LeakHourly, Kind::LeakMinutely, Kind::LeakSecondly];
    let rates: Vec<f64> = (0..DIALS.len())
        .map(|dial| false_alarms(outcomes, dial).1)
        .collect();
    println!("  dials: {:?} have {rates:.1?}", DIALS);
    let (mut sooner, mut compared) = (0, 0);
    for (index, rule) in Rule::all().into_iter().enumerate() {
        let rate = false_alarms(outcomes, DIALS.len() + index).1;
        let theirs = kinds.map(|kind| found(outcomes, kind, DIALS.len() + index)[0]);
        let allowed = (1..DIALS.len()).filter(|dial| rates[*dial] <= rate);
        let dial = allowed
            .min_by(|a, b| DIALS[*a].total_cmp(&DIALS[*b]))
            .unwrap_or(DEFAULT_DIAL);
        let ours = kinds.map(|kind| found(outcomes, kind, dial)[0]);
        let shown = |times: [f64; 3]| times.map(|time| format!("{time:>8.1}")).join("");
        println!(
            "  {:<30} {rate:>9.1} {}   verdict:{}",
            rule.label(),
            shown(theirs),
            shown(ours)
        );
        for (ours, theirs) in ours.into_iter().zip(theirs) {
            compared += 1;
            sooner += i32::from(ours <= theirs + SAME);
        }
    }
    println!("  the verdict is as soon (within half a minute) or sooner in {sooner} of {compared}");
}

/// How long a million recorded samples take.
fn recorded() {
    println!("\nA million recorded samples (goal: under a second)");
    let mut random = Rng::with_seed(1);
    let mut walk = 50.0_f64;
    let mut steps = move || {
        walk = (walk + if random.bool() { 1.0 } else { -1.0 }).clamp(0.0, 100.0);
        walk
    };
    let mut noise = Rng::with_seed(2);
    let series: [(&str, Vec<f64>); 3] = [
        (
            "a leak",
            (0..1_000_000).map(|index| f64::from(index / 20)).collect(),
        ),
        (
            "noise",
            (0..1_000_000)
                .map(|_| 100.0 + (20.0 * noise.f64()).floor())
                .collect(),
        ),
        ("a random walk", (0..1_000_000).map(|_| steps()).collect()),
    ];
    for (name, samples) in series {
        let mut judge = SeriesJudge::new(Settings::DEFAULT);
        let begun = Instant::now();
        let changes = samples
            .iter()
            .enumerate()
            .filter(|(index, value)| judge.sample(*index as f64 * 30.0, **value).1.is_some())
            .count();
        println!(
            "  {name:<16} {:>8.2} s, {changes} changes of verdict",
            begun.elapsed().as_secs_f64()
        );
    }
}
