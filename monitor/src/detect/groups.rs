//! From tasks to groups.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::Arc,
    time::Duration,
};

use super::Names;
use crate::model::{
    Basis, Group, GroupKey, Kind, Observation, Process, ProcessReport, Site, Task, Verdict, Wait,
};

/// Bounds of a report.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// A task is blocked when its wait is at least this old.
    pub threshold: Duration,
    /// Ids that are kept of a group.
    pub max_ids: usize,
}

/// One process's report from what the runtimes' observers said of it.
pub fn report(
    process: &Arc<Process>,
    observations: &[Observation],
    names: &mut Names,
    limits: Limits,
) -> ProcessReport {
    let deadlocks: Vec<Vec<u64>> = observations.iter().flat_map(|o| &o.deadlocks).cloned().collect();
    let deadlocked: HashSet<u64> = deadlocks.iter().flatten().copied().collect();
    let mut tasks = BTreeMap::new();
    let mut live = BTreeMap::new();
    let mut groups: BTreeMap<GroupKey, Group> = BTreeMap::new();
    for task in observations.iter().flat_map(|observation| &observation.tasks) {
        *tasks.entry(task.kind).or_insert(0) += 1;
        *live.entry((task.kind, entry_of(task))).or_insert(0) += 1;
        if let Some(wait) = task.wait.as_ref().filter(|wait| wait.age >= limits.threshold) {
            let key = key_of(task, wait);
            let group = groups
                .entry(key)
                .or_insert_with_key(|key| empty_group(key.clone()));
            add(group, task, wait.age);
            if deadlocked.contains(&task.id) {
                group.verdict = Verdict::Proven;
            }
        }
    }
    let mut groups: Vec<Group> = groups.into_values().collect();
    groups.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.key.cmp(&b.key)));
    for group in &mut groups {
        group.named = names.take(process.id, &group.key);
        group
            .spawn_sites
            .sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        group.ids.sort_unstable();
        group.ids_truncated = group.ids.len() > limits.max_ids;
        group.ids.truncate(limits.max_ids);
        group.waits_for.sort_unstable();
        group.waits_for.truncate(limits.max_ids);
    }
    let drained: Vec<Group> = names
        .of(process.id)
        .filter(|key| !groups.iter().any(|group| group.key == **key))
        .map(|key| Group {
            named: true,
            ..empty_group(key.clone())
        })
        .collect();
    groups.extend(drained);
    ProcessReport {
        process: Arc::clone(process),
        threshold: limits.threshold,
        tasks: tasks.into_iter().collect(),
        live: live
            .into_iter()
            .map(|((kind, entry), count)| (kind, entry, count))
            .collect(),
        groups,
        incomplete: observations
            .iter()
            .flat_map(|o| &o.incomplete)
            .copied()
            .collect::<BTreeSet<_>>(),
        futex_waits: observations
            .iter()
            .find_map(|observation| observation.futex_waits),
        deadlocks,
        spawns: None,
    }
}

fn key_of(task: &Task, wait: &Wait) -> GroupKey {
    GroupKey {
        kind: task.kind,
        reason: wait.reason.clone(),
        class: wait.class,
        block_site: task.stack.as_ref().and_then(|stack| stack.block_site.clone()),
        entry: entry_of(task),
        // A thread's is known only if its birth was seen: that would split a group by when we came.
        spawn_site: task.spawn_site.clone().filter(|_| task.kind != Kind::Thread),
    }
}

/// What the task runs. Where no function of it is named (an interpreter's thread, a stripped program), the thread's
/// own name, with its numbers folded: the threads of a pool are one entry.
fn entry_of(task: &Task) -> Option<Arc<Site>> {
    let of_stack = || task.stack.as_ref().and_then(|stack| stack.entry.as_ref());
    let known = task.entry.as_ref().or_else(of_stack);
    // With its stack still to come a task would change its group.
    if known.is_none() && task.stack.is_none() {
        return None;
    }
    match (known, &task.name) {
        (Some(entry), _) if !entry.function.starts_with('[') => Some(Arc::clone(entry)),
        (_, Some(name)) => Some(Arc::new(Site {
            function: fold(name),
            file: None,
            line: None,
        })),
        (entry, None) => entry.cloned(),
    }
}

/// `pool-1-thread-12` → `pool-#-thread-#`.
fn fold(name: &str) -> String {
    let mut folded = String::with_capacity(name.len());
    for c in name.chars() {
        match c {
            '0'..='9' if folded.ends_with('#') => {}
            '0'..='9' => folded.push('#'),
            c => folded.push(c),
        }
    }
    folded
}

fn empty_group(key: GroupKey) -> Group {
    Group {
        key,
        count: 0,
        youngest: Duration::ZERO,
        oldest: Duration::ZERO,
        ids: Vec::new(),
        ids_truncated: false,
        verdict: Verdict::Unknown,
        basis: Basis::Blocked,
        named: false,
        stack: None,
        spawn_sites: Vec::new(),
        waits_for: Vec::new(),
    }
}

fn add(group: &mut Group, task: &Task, age: Duration) {
    group.youngest = if group.count == 0 {
        age
    } else {
        group.youngest.min(age)
    };
    group.oldest = group.oldest.max(age);
    group.count += 1;
    group.ids.push(task.id);
    if group.stack.is_none() {
        group.stack.clone_from(&task.stack);
    }
    if let Some(holder) = task
        .waits_for
        .first()
        .filter(|holder| !group.waits_for.contains(holder))
    {
        group.waits_for.push(*holder);
    }
    if let Some(site) = &task.spawn_site {
        match group.spawn_sites.iter_mut().find(|(known, _)| known == site) {
            Some((_, count)) => *count += 1,
            None => group.spawn_sites.push((site.clone(), 1)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ProcessId, Stack, WaitClass};

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
            wait: Some(wait),
            name: None,
            stack: None,
            entry: None,
            spawn_site: None,
            waits_for: Box::default(),
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
        max_ids: 2,
    };

    #[test]
    fn a_task_is_blocked_from_the_threshold_on() {
        let observed = observed(vec![
            task(1, "futex", 9),
            task(2, "futex", 10),
            task(3, "read", 11),
        ]);
        let report = report(&process(), &observed, &mut Names::new(5), LIMITS);
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
        let report = report(&process(), &observed, &mut Names::new(5), LIMITS);
        let group = &report.groups[0];
        assert_eq!((group.youngest.as_secs(), group.oldest.as_secs()), (10, 30));
        assert_eq!(
            (group.ids.as_slice(), group.ids_truncated),
            ([1, 2].as_slice(), true)
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
        let mut names = Names::new(5);
        report(
            &process(),
            &observed(vec![task(1, "futex", 30)]),
            &mut names,
            LIMITS,
        );
        let report = report(&process(), &observed(vec![]), &mut names, LIMITS);
        let groups: Vec<_> = report
            .groups
            .iter()
            .map(|g| (g.key.reason.as_ref(), g.count, g.named))
            .collect();
        assert_eq!(groups, [("futex", 0, true)]);
    }

    #[test]
    fn groups_beyond_the_bound_have_no_name_however_big_they_grow() {
        let mut names = Names::new(1);
        report(
            &process(),
            &observed(vec![task(1, "read", 30)]),
            &mut names,
            LIMITS,
        );
        let later = observed(vec![
            task(1, "read", 31),
            task(2, "futex", 30),
            task(3, "futex", 30),
        ]);
        let report = report(&process(), &later, &mut names, LIMITS);
        let groups: Vec<_> = report
            .groups
            .iter()
            .map(|g| (g.key.reason.as_ref(), g.count, g.named))
            .collect();
        assert_eq!(groups, [("futex", 2, false), ("read", 1, true)]);
    }
}
