//! Reports of a few passes.

use super::*;
use crate::{
    detect::groups::entry_of,
    model::{ProcessId, Site, Stack, Wait, WaitClass},
};

fn process() -> Arc<Process> {
    Arc::new(Process {
        id: ProcessId {
            pid: 7,
            start_boottime: 1,
            exec_id: 1,
        },
        comm: "api".to_owned(),
        exe: String::new(),
        workload: String::new(),
        container_id: None,
        pod: None,
    })
}

fn task(id: u64, reason: &'static str, seconds: u64) -> Task {
    let wait = Wait {
        reason: reason.into(),
        class: WaitClass::Internal,
        age: Duration::from_secs(seconds),
        anchor: None,
    };
    Task {
        kind: Kind::Thread,
        id,
        start: 0,
        wait: Some(wait),
        name: None,
        stack: None,
        entry: None,
        spawn_site: None,
        is_kept: false,
        waits_for: None,
        facts: None,
    }
}

fn observed(tasks: Vec<Task>) -> [Observation; 1] {
    [Observation {
        process: process(),
        tasks,
        incomplete: BTreeSet::new(),
        deadlocks: Vec::new(),
        futex_waits: None,
    }]
}

const LIMITS: Limits = Limits {
    threshold: Duration::from_secs(10),
    max_groups: 5,
    max_ids: 2,
};

fn detector(max_groups: usize) -> Detector {
    Detector::new(Limits { max_groups, ..LIMITS }, Settings::DEFAULT)
}

#[test]
fn a_task_is_blocked_from_the_threshold_on() {
    let observed = observed(vec![
        task(1, "futex", 9),
        task(2, "futex", 10),
        task(3, "read", 11),
    ]);
    let report = detector(5).report(0.0, &process(), &observed);
    let counts: Vec<_> = report
        .groups
        .iter()
        .map(|g| (g.key.reason.as_ref(), g.count))
        .collect();
    assert_eq!(counts, [("futex", 1), ("read", 1)]);
    assert_eq!(report.tasks, [(Kind::Thread, 3)]);
}

#[test]
fn a_group_tells_its_youngest_and_oldest_and_some_ids() {
    let observed = observed(vec![
        task(3, "futex", 30),
        task(1, "futex", 10),
        task(2, "futex", 20),
    ]);
    let report = detector(5).report(0.0, &process(), &observed);
    let group = &report.groups[0];
    assert_eq!((group.youngest.as_secs(), group.oldest.as_secs()), (10, 30));
    assert_eq!(
        (group.ids.as_slice(), group.ids_truncated),
        ([1, 2].as_slice(), true)
    );
}

#[test]
fn of_many_ids_the_first_are_told_however_they_come() {
    let backwards = observed((1..=5_000).rev().map(|id| task(id, "futex", 30)).collect());
    let report = detector(5).report(0.0, &process(), &backwards);
    let group = &report.groups[0];
    assert_eq!(
        (group.count, group.ids.as_slice(), group.ids_truncated),
        (5_000, [1, 2].as_slice(), true)
    );
}

#[test]
fn a_thread_without_a_function_is_known_by_its_name() {
    let site = |function: &str| {
        Some(Arc::new(Site {
            function: function.to_owned(),
            file: None,
            line: None,
        }))
    };
    let stack = |entry| {
        Some(Arc::new(Stack {
            frames: Vec::new(),
            truncated: false,
            block_site: None,
            entry,
        }))
    };
    let named = |entry, name: &str| Task {
        stack: stack(entry),
        name: Some(name.into()),
        ..task(1, "futex", 1)
    };
    assert_eq!(entry_of(&named(site("worker"), "w1")), site("worker"));
    assert_eq!(
        entry_of(&named(site("[java]"), "pool-1-thread-12")),
        site("pool-#-thread-#")
    );
    assert_eq!(entry_of(&named(None, "GC 2")), site("GC #"));
    assert_eq!(entry_of(&task(1, "futex", 1)), None);
}

#[test]
fn a_named_group_stays_at_zero_when_it_has_drained() {
    let mut detector = detector(5);
    detector.report(0.0, &process(), &observed(vec![task(1, "futex", 30)]));
    let report = detector.report(1.0, &process(), &observed(vec![]));
    let groups: Vec<_> = report
        .groups
        .iter()
        .map(|g| (g.key.reason.as_ref(), g.count, g.named))
        .collect();
    assert_eq!(groups, [("futex", 0, true)]);
}

#[test]
fn groups_beyond_the_bound_have_no_name_however_big_they_grow() {
    let mut detector = detector(1);
    detector.report(0.0, &process(), &observed(vec![task(1, "read", 30)]));
    let later = observed(vec![
        task(1, "read", 31),
        task(2, "futex", 30),
        task(3, "futex", 30),
    ]);
    let report = detector.report(1.0, &process(), &later);
    let groups: Vec<_> = report
        .groups
        .iter()
        .map(|g| (g.key.reason.as_ref(), g.count, g.named))
        .collect();
    assert_eq!(groups, [("futex", 2, false), ("read", 1, true)]);
}

#[test]
fn what_cannot_be_seen_now_is_told_as_it_was() {
    let goroutine = |id| Task {
        kind: Kind::Goroutine,
        ..task(id, "chan send", 30)
    };
    let threads = || vec![task(7, "futex", 30)];
    let seen = |tasks: Vec<Task>, causes: &[Cause]| {
        let mut observed = observed([threads(), tasks].concat());
        observed[0].incomplete.extend(causes);
        observed
    };
    let mut detector = detector(5);
    detector.report(0.0, &process(), &seen(vec![goroutine(1), goroutine(2)], &[]));
    let counts = |report: &ProcessReport| -> Vec<(Kind, usize)> {
        let groups = report.groups.iter();
        groups.map(|group| (group.key.kind, group.count)).collect()
    };
    let late = detector.report(10.0, &process(), &seen(vec![], &[Cause::GoroutinesPending]));
    assert_eq!(counts(&late), [(Kind::Goroutine, 2), (Kind::Thread, 1)]);
    assert_eq!(late.tasks, [(Kind::Thread, 1), (Kind::Goroutine, 2)]);
    let live: usize = late.live.iter().map(|tasks| tasks.count).sum();
    assert_eq!(live, 3);
    // What was seen of some is told, and what has really gone is gone.
    let some = detector.report(
        20.0,
        &process(),
        &seen(vec![goroutine(1)], &[Cause::GoroutinesUnreadable]),
    );
    assert_eq!(counts(&some), [(Kind::Thread, 1), (Kind::Goroutine, 1)]);
    let none = detector.report(30.0, &process(), &seen(vec![], &[]));
    assert_eq!(counts(&none), [(Kind::Thread, 1), (Kind::Goroutine, 0)]);
    assert_eq!(none.tasks, [(Kind::Thread, 1)]);
}

#[test]
fn what_is_kept_of_tasks_that_have_ended_is_counted_apart() {
    let site = |function: &str| {
        Some(Arc::new(Site {
            function: function.to_owned(),
            file: None,
            line: None,
        }))
    };
    let fetch = |id, is_kept, spawn_site: &str| Task {
        kind: Kind::Tokio,
        start: u64::from(is_kept),
        wait: None,
        entry: site("fetch"),
        spawn_site: site(spawn_site),
        is_kept,
        ..task(id, "", 0)
    };
    let tasks = vec![
        fetch(1, false, "main"),
        fetch(2, true, "retry"),
        fetch(3, true, "main"),
        fetch(4, true, "main"),
    ];
    let report = detector(5).report(0.0, &process(), &observed(tasks));
    assert_eq!(report.tasks, [(Kind::Tokio, 1)]);
    let live: Vec<_> = report
        .live
        .iter()
        .map(|tasks| {
            let made_at = tasks.made_at().map(|site| site.function.as_str());
            (tasks.is_kept, tasks.count, made_at)
        })
        .collect();
    assert_eq!(live, [(true, 3, Some("main")), (false, 1, Some("main"))]);
    assert!(report.groups.is_empty());
}
