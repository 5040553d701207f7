//! How many series there can be, and that what has a name keeps it. No kernel: the detector and the renderer alone.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use taskleak::{
    detect::{Detector, Limits, Settings},
    export::{metrics::METRICS, prometheus},
    model::{
        Health, Kind, Observation, Process, ProcessId, ProcessReport, Site, Snapshot, Stack, Task, Wait,
        WaitClass,
    },
};

const PROCESSES: u32 = 200;
const SITES: u64 = 1000;
const MAX_GROUPS: usize = 50;
const KINDS: [Kind; 3] = Kind::ALL;
/// Seconds.
const THRESHOLD: u64 = 60;

fn detector(max_groups: usize) -> Detector {
    let limits = Limits {
        threshold: Duration::from_secs(THRESHOLD),
        max_groups,
        max_ids: 10,
    };
    Detector::new(limits, Settings::DEFAULT)
}

fn process(pid: u32) -> Arc<Process> {
    let id = ProcessId {
        pid,
        start_boottime: 1,
        exec_id: 1,
    };
    Arc::new(Process {
        id,
        comm: "api".to_owned(),
        exe: "/app/api".to_owned(),
        workload: "api.service".to_owned(),
        container_id: None,
        pod: Default::default(),
    })
}

fn site(name: String) -> Option<Arc<Site>> {
    Some(Arc::new(Site {
        function: name,
        file: None,
        line: None,
    }))
}

/// A task at a site of its own, which runs an entry of its own; it runs when it has no age.
fn task(kind: Kind, id: u64, place: u64, age: Option<u64>) -> Task {
    let stack = Stack {
        frames: Vec::new(),
        truncated: false,
        block_site: site(format!("site_{place}")),
        entry: None,
    };
    Task {
        kind,
        id,
        start: 1,
        wait: age.map(|age| Wait {
            reason: "futex".into(),
            class: WaitClass::Internal,
            age: Duration::from_secs(age),
            anchor: None,
        }),
        name: None,
        stack: Some(Arc::new(stack)),
        entry: site(format!("entry_{place}")),
        spawn_site: None,
        is_kept: false,
        waits_for: None,
        facts: None,
    }
}

fn report(detector: &mut Detector, now: u64, process: &Arc<Process>, tasks: Vec<Task>) -> ProcessReport {
    let observation = Observation {
        process: Arc::clone(process),
        tasks,
        incomplete: BTreeSet::new(),
        deadlocks: Vec::new(),
        futex_waits: Some(now),
    };
    detector.report(now as f64, process, &[observation])
}

/// Series and their values, by metric.
fn rendered(processes: Vec<ProcessReport>) -> BTreeMap<String, BTreeMap<String, f64>> {
    let snapshot = Snapshot {
        taken_at: UNIX_EPOCH,
        observed: Duration::ZERO,
        processes,
        health: Health::default(),
    };
    let text = prometheus::render(&snapshot).unwrap();
    let mut metrics: BTreeMap<String, BTreeMap<String, f64>> = BTreeMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (series, value) = line.rsplit_once(' ').unwrap();
        let (metric, labels) = series.split_once('{').unwrap();
        let of_metric = metrics.entry(metric.to_owned()).or_default();
        let before = of_metric.insert(labels.to_owned(), value.parse().unwrap());
        assert_eq!(before, None, "twice: {line}");
    }
    metrics
}

/// Two passes, each over other sites: the first fifty of a process take the names, for good.
#[test]
fn series_are_bounded_however_many_sites_there_are() {
    let mut detector = detector(MAX_GROUPS);
    for pass in 0..2 {
        let mut reports = Vec::new();
        for pid in 1..=PROCESSES {
            // Of each kind as many.
            let tasks = (0..SITES).map(|n| {
                let kind = KINDS[n as usize % KINDS.len()];
                task(kind, pass * SITES + n, pass * SITES + n, Some(THRESHOLD))
            });
            reports.push(report(
                &mut detector,
                10 * (pass + 1),
                &process(pid),
                tasks.collect(),
            ));
        }
        let metrics = rendered(reports);
        let kinds = KINDS.len();
        // Those of a process.
        let expected = |metric: &str| match metric {
            "taskleak_tasks" => kinds,
            "taskleak_process_complete" | "taskleak_futex_waits_total" => 1,
            // The named ones, and what is left of each kind.
            "taskleak_blocked_tasks" | "taskleak_oldest_blocked_seconds" => MAX_GROUPS + kinds,
            "taskleak_returned_tasks_total" => MAX_GROUPS,
            // An entry has no series when nobody runs it.
            "taskleak_live_tasks" if pass > 0 => kinds,
            "taskleak_live_tasks" => MAX_GROUPS + kinds,
            "taskleak_growth_tasks_per_hour" | "taskleak_verdict" if pass > 0 => MAX_GROUPS,
            // Of both bases.
            "taskleak_growth_tasks_per_hour" | "taskleak_verdict" => 2 * MAX_GROUPS,
            _ => 0,
        };
        let of_processes = METRICS
            .iter()
            .filter(|metric| metric.all_labels().contains(&"pid"));
        for metric in of_processes {
            let series = metrics.get(metric.name).map_or(0, BTreeMap::len);
            assert_eq!(
                series,
                PROCESSES as usize * expected(metric.name),
                "{} in pass {pass}",
                metric.name
            );
        }
        // Nothing is lost of the numbers.
        for metric in ["taskleak_blocked_tasks", "taskleak_live_tasks"] {
            let sum: f64 = metrics[metric].values().sum();
            assert_eq!(
                sum,
                f64::from(PROCESSES) * SITES as f64,
                "{metric} in pass {pass}"
            );
        }
    }
    // Processes that are gone take their names with them.
    detector.retain(&HashSet::new());
    let reports = vec![report(
        &mut detector,
        100,
        &process(1),
        vec![task(Kind::Thread, 1, 5000, Some(THRESHOLD))],
    )];
    let blocked = &rendered(reports)["taskleak_blocked_tasks"];
    assert_eq!(blocked.len(), 1);
    assert!(
        blocked
            .keys()
            .all(|labels| labels.contains("block_site=\"site_5000\"")),
        "{blocked:?}"
    );
}

/// Eight sites take turns in filling and draining, and five names are to be had.
#[test]
fn a_name_is_kept_and_counters_never_fall() {
    const NAMES: usize = 5;
    const PLACES: u64 = 8;
    let mut detector = detector(NAMES);
    let process = process(7);
    let mut random = fastrand::Rng::with_seed(11);
    // Of each of the tasks (ten a site): since when it waits.
    let mut waits: Vec<Option<u64>> = vec![None; PLACES as usize * 10];
    let place_of = |task: usize| task as u64 / 10;
    let mut known: BTreeMap<String, f64> = BTreeMap::new();
    let mut returned_by_place: BTreeMap<u64, f64> = BTreeMap::new();
    let (mut drained, mut refilled) = (0, 0);
    for pass in 0..40 {
        let now = 10_000 + pass * THRESHOLD;
        // Every turn takes two passes: a task has come back when it is not met in its wait twice.
        let is_second = pass % 2 == 1;
        for place in (0..PLACES).filter(|_| !is_second) {
            // Three sites come first, all eight are there from the second turn on.
            let is_full = if pass == 0 { place < 3 } else { random.bool() };
            for wait in &mut waits[place as usize * 10..][..10] {
                match (is_full, wait.is_some()) {
                    (true, false) => *wait = Some(now - THRESHOLD),
                    (false, true) => {
                        *wait = None;
                        *returned_by_place.entry(place).or_default() += 1.0;
                    }
                    _ => {}
                }
            }
        }
        let tasks = waits.iter().enumerate().map(|(index, since)| {
            let age = since.map(|since| now - since);
            task(Kind::Thread, index as u64, place_of(index), age)
        });
        let metrics = rendered(vec![report(&mut detector, now, &process, tasks.collect())]);
        let blocked = &metrics["taskleak_blocked_tasks"];
        let returned = &metrics["taskleak_returned_tasks_total"];
        assert!(returned.len() <= NAMES, "{returned:#?}");
        for (labels, before) in &known {
            let now = returned
                .get(labels)
                .unwrap_or_else(|| panic!("{labels} has lost its name"));
            assert!(now >= before, "{labels} fell from {before} to {now}");
            assert!(blocked.contains_key(labels), "{labels} is counted no more");
        }
        known.clone_from(returned);
        // A site is counted under its name or under `other`, and never under both.
        let waiting = waits.iter().flatten().count() as f64;
        assert_eq!(blocked.values().sum::<f64>(), waiting, "pass {pass}");
        for place in 0..PLACES {
            let label = format!("block_site=\"site_{place}\"");
            let Some((labels, count)) = blocked.iter().find(|(labels, _)| labels.contains(&label)) else {
                continue;
            };
            let waiting = (0..waits.len()).filter(|task| place_of(*task) == place && waits[*task].is_some());
            assert_eq!(*count, waiting.count() as f64, "{labels} in pass {pass}");
            let expected = returned_by_place.get(&place).copied().unwrap_or_default();
            if is_second {
                assert_eq!(returned[labels], expected, "{labels} in pass {pass}");
            }
            drained += usize::from(*count == 0.0);
            refilled += usize::from(*count > 0.0 && expected > 0.0);
        }
    }
    assert_eq!(known.len(), NAMES);
    assert!(drained > 0 && refilled > 0, "{drained} {refilled}");
}
