//! From tasks to groups, and from groups to verdicts.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use serde::{Deserialize, Serialize};

use super::{
    Settings,
    judge::{Book, Judge, Judgement, Lost, Of, Seen, Subject},
    names::Names,
};
use crate::model::{
    Basis, Cause, Group, GroupKey, Kind, LiveTasks, Observation, Process, ProcessId, ProcessReport, Site,
    Task, Verdict, Wait,
};

/// What entries beyond the bound are summed under.
const OTHER: &str = "other";

/// Bounds of a report.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// A task is blocked when its wait is at least this old.
    pub threshold: Duration,
    /// Groups of a process that have names, and what is run that has.
    pub max_groups: usize,
    /// Ids that are kept of a group.
    pub max_ids: usize,
}

/// What is remembered from pass to pass.
pub struct Detector {
    limits: Limits,
    groups: Names<GroupKey>,
    entries: Names<Entry>,
    judge: Judge,
}

/// What is kept over a restart of the monitor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Saved {
    settings: Settings,
    threshold: Duration,
    groups: Vec<(ProcessId, Vec<GroupKey>)>,
    entries: Vec<(ProcessId, Vec<Entry>)>,
    books: Vec<(Of, Book)>,
}

impl Default for Saved {
    fn default() -> Self {
        Self {
            settings: Settings::DEFAULT,
            threshold: Duration::ZERO,
            groups: Vec::new(),
            entries: Vec::new(),
            books: Vec::new(),
        }
    }
}

/// Of a task: its kind, and what it runs.
type Entry = (Kind, Option<Arc<Site>>);

/// Members that are kept over a restart.
const MOST_SAVED: usize = 1_000_000;

/// Groups as they are met, and where each task belongs.
#[derive(Default)]
struct Grouping {
    groups: Vec<Group>,
    index: HashMap<GroupKey, usize>,
    live: Vec<LiveTasks>,
    live_index: HashMap<Entry, usize>,
    /// Of each task: its group while it is blocked (else [`NO_GROUP`]), and what it runs. There may be millions.
    placed: Vec<(u32, u32)>,
    max_ids: usize,
}

const NO_GROUP: u32 = u32::MAX;
/// Ids of a group that are gathered before all but the first ones are dropped.
const GATHERED_IDS: usize = 1_024;

impl Detector {
    pub fn new(limits: Limits, settings: Settings) -> Self {
        Self {
            limits,
            groups: Names::new(limits.max_groups),
            entries: Names::new(limits.max_groups),
            judge: Judge::new(settings),
        }
    }

    /// Forgets processes that are gone.
    pub fn retain(&mut self, alive: &HashSet<ProcessId>) {
        self.groups.retain(alive);
        self.entries.retain(alive);
        self.judge.retain(alive);
    }

    /// What a later monitor can go on from.
    pub fn saved(&self) -> Saved {
        Saved {
            settings: self.judge.settings(),
            threshold: self.limits.threshold,
            groups: self.groups.saved(),
            entries: self.entries.saved(),
            books: self.judge.saved(MOST_SAVED),
        }
    }

    /// Goes on from what an earlier monitor has saved, if that judged in the same way. Whether it did.
    pub fn restore(&mut self, saved: Saved) -> bool {
        let is_same = saved.settings == self.judge.settings() && saved.threshold == self.limits.threshold;
        if is_same {
            self.groups.restore(saved.groups);
            self.entries.restore(saved.entries);
            self.judge.restore(saved.books);
        }
        is_same
    }

    /// What could not be kept.
    pub fn lost(&self) -> Lost {
        self.judge.lost()
    }

    /// One process's report from what the runtimes' observers said of it. `now`: seconds on a clock that never stands
    /// still.
    pub fn report(
        &mut self,
        now: f64,
        process: &Arc<Process>,
        observations: &[Observation],
    ) -> ProcessReport {
        let deadlocks: Vec<Vec<u64>> = observations.iter().flat_map(|o| &o.deadlocks).cloned().collect();
        let deadlocked: HashSet<u64> = deadlocks.iter().flatten().copied().collect();
        let tasks = || observations.iter().flat_map(|observation| &observation.tasks);
        let mut kinds = BTreeMap::new();
        let mut grouping = Grouping {
            max_ids: self.limits.max_ids,
            placed: Vec::with_capacity(observations.iter().map(|it| it.tasks.len()).sum()),
            ..Grouping::default()
        };
        for task in tasks() {
            *kinds.entry(task.kind).or_insert(0) += 1;
            grouping.take(task, self.limits.threshold, &deadlocked);
        }
        let incomplete: BTreeSet<_> = observations.iter().flat_map(|o| &o.incomplete).copied().collect();
        self.name(process.id, &mut grouping);
        self.judge(now, process.id, &mut grouping, tasks(), &incomplete);
        let mut groups = grouping.groups;
        groups.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.key.cmp(&b.key)));
        for group in &mut groups {
            group
                .spawn_sites
                .sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
            keep_first(&mut group.ids, self.limits.max_ids);
            group.ids_truncated = group.count > self.limits.max_ids;
            group.waits_for.sort_unstable();
            group.waits_for.truncate(self.limits.max_ids);
        }
        ProcessReport {
            process: Arc::clone(process),
            threshold: self.limits.threshold,
            tasks: kinds.into_iter().collect(),
            live: self.live(process.id, grouping.live),
            groups,
            incomplete,
            futex_waits: observations
                .iter()
                .find_map(|observation| observation.futex_waits),
            deadlocks,
            spawns: Vec::new(),
            go_version: None,
        }
    }

    /// Gives names, the biggest groups first, and adds the named groups that have drained.
    fn name(&mut self, process: ProcessId, grouping: &mut Grouping) {
        let mut order: Vec<usize> = (0..grouping.groups.len()).collect();
        order.sort_by(|a, b| {
            let (a, b) = (&grouping.groups[*a], &grouping.groups[*b]);
            b.count.cmp(&a.count).then_with(|| a.key.cmp(&b.key))
        });
        for index in order {
            let group = &mut grouping.groups[index];
            group.named = self.groups.take(process, &group.key);
        }
        for key in self.groups.of(process) {
            if !grouping.index.contains_key(key) {
                grouping.groups.push(Group {
                    named: true,
                    ..empty_group(key.clone())
                });
            }
        }
    }

    /// Judges what has a name.
    fn judge<'a>(
        &mut self,
        now: f64,
        process: ProcessId,
        grouping: &mut Grouping,
        tasks: impl Iterator<Item = &'a Task> + Clone,
        incomplete: &BTreeSet<Cause>,
    ) {
        // Each kind by itself: that goroutines cannot be read says nothing of threads.
        let mut subjects: BTreeMap<Kind, Vec<(Subject, usize)>> = BTreeMap::new();
        let mut add = |kind: Kind, subject: Subject, count: usize| {
            let of_kind = subjects.entry(kind).or_default();
            of_kind.push((subject, count));
            of_kind.len() - 1
        };
        let of_group = |group: &Group| {
            let subject = group.named.then(|| Subject::Group(group.key.clone()))?;
            Some(add(group.key.kind, subject, group.count))
        };
        let of_groups: Vec<Option<usize>> = grouping.groups.iter().map(of_group).collect();
        let mut live: Vec<usize> = (0..grouping.live.len()).collect();
        live.sort_by_key(|index| std::cmp::Reverse(grouping.live[*index].count));
        let mut of_live = vec![None; grouping.live.len()];
        for index in live {
            let tasks = &grouping.live[index];
            let entry = (tasks.kind, tasks.entry.clone());
            if self.entries.take(process, &entry) {
                of_live[index] = Some(add(tasks.kind, Subject::Live(entry.0, entry.1), tasks.count));
            }
        }
        let threshold = self.limits.threshold.as_secs_f64();
        let mut judgements: BTreeMap<Kind, Vec<Judgement>> = BTreeMap::new();
        for (kind, subjects) in &subjects {
            let placed = tasks.clone().zip(&grouping.placed);
            let seen = placed
                .filter(|(task, _)| task.kind == *kind)
                .map(|(task, (group, entry))| Seen {
                    id: (task.id, task.start),
                    group: of_groups.get(*group as usize).copied().flatten(),
                    entry: of_live[*entry as usize],
                    age: task.wait.as_ref().map_or(0.0, |wait| wait.age.as_secs_f64()),
                });
            let is_whole = !incomplete.iter().any(|cause| cause.hides(*kind));
            let told = self
                .judge
                .pass(now, (process, *kind), threshold, subjects, seen, is_whole);
            judgements.insert(*kind, told);
        }
        let judged = |kind: Kind, subject: &Option<usize>| {
            let told = subject.and_then(|index| judgements.get(&kind)?.get(index).cloned());
            told.unwrap_or_else(Judgement::unknown)
        };
        for (group, subject) in grouping.groups.iter_mut().zip(&of_groups) {
            let judgement = judged(group.key.kind, subject);
            if group.verdict != Verdict::Proven {
                group.verdict = judgement.verdict;
            }
            group.recent = judgement.recent;
            group.growth = judgement.growth;
            group.returned = judgement.returned;
            group.usual = judgement.usual;
        }
        for (tasks, subject) in grouping.live.iter_mut().zip(&of_live) {
            let judgement = judged(tasks.kind, subject);
            tasks.verdict = judgement.verdict;
            tasks.growth = judgement.growth;
        }
    }

    /// What is run by live tasks, the most first; what has no name is summed.
    fn live(&self, process: ProcessId, live: Vec<LiveTasks>) -> Vec<LiveTasks> {
        let named: HashSet<_> = self.entries.of(process).collect();
        let mut others: BTreeMap<Kind, usize> = BTreeMap::new();
        let mut shown: Vec<LiveTasks> = Vec::new();
        for tasks in live {
            if named.contains(&(tasks.kind, tasks.entry.clone())) {
                shown.push(tasks);
            } else {
                *others.entry(tasks.kind).or_insert(0) += tasks.count;
            }
        }
        shown.extend(others.into_iter().map(|(kind, count)| LiveTasks {
            count,
            named: false,
            ..no_live_tasks(kind, Some(Arc::new(site(OTHER.to_owned()))))
        }));
        shown.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.entry.cmp(&b.entry)));
        shown
    }
}

impl Grouping {
    fn take(&mut self, task: &Task, threshold: Duration, deadlocked: &HashSet<u64>) {
        let entry = entry_of(task);
        let wait = task.wait.as_ref().filter(|wait| wait.age >= threshold);
        let group = wait.map(|wait| {
            let key = key_of(task, wait, entry.clone());
            let groups = &mut self.groups;
            let index = *self.index.entry(key).or_insert_with_key(|key| {
                groups.push(empty_group(key.clone()));
                groups.len() - 1
            });
            let group = &mut self.groups[index];
            add(group, task, wait.age);
            if group.ids.len() >= GATHERED_IDS.max(2 * self.max_ids) {
                keep_first(&mut group.ids, self.max_ids);
            }
            if deadlocked.contains(&task.id) {
                group.verdict = Verdict::Proven;
            }
            index
        });
        let live = &mut self.live;
        let index = *self
            .live_index
            .entry((task.kind, entry))
            .or_insert_with_key(|(kind, entry)| {
                live.push(no_live_tasks(*kind, entry.clone()));
                live.len() - 1
            });
        self.live[index].count += 1;
        let group = group.map_or(NO_GROUP, |index| index as u32);
        self.placed.push((group, index as u32));
    }
}

fn keep_first(ids: &mut Vec<u64>, count: usize) {
    ids.sort_unstable();
    ids.truncate(count);
}

fn no_live_tasks(kind: Kind, entry: Option<Arc<Site>>) -> LiveTasks {
    LiveTasks {
        kind,
        entry,
        count: 0,
        named: true,
        verdict: Verdict::Unknown,
        growth: None,
    }
}

fn site(function: String) -> Site {
    Site {
        function,
        file: None,
        line: None,
    }
}

fn key_of(task: &Task, wait: &Wait, entry: Option<Arc<Site>>) -> GroupKey {
    GroupKey {
        kind: task.kind,
        reason: wait.reason.clone(),
        class: wait.class,
        block_site: task.stack.as_ref().and_then(|stack| stack.block_site.clone()),
        entry,
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
        (_, Some(name)) => Some(Arc::new(site(fold(name)))),
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
        recent: Vec::new(),
        growth: None,
        returned: 0,
        usual: None,
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
        .as_ref()
        .and_then(|chain| chain.first())
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
            waits_for: None,
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
}
