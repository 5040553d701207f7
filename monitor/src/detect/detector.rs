//! From what the runtimes' observers saw to a report with verdicts.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::Arc,
    time::Duration,
};

use serde::{Deserialize, Serialize};

use super::{
    Settings,
    groups::{Entry, Grouping, empty_group, keep_first, no_live_tasks, site, sort_sites},
    judge::{Book, Judge, Judgement, Lost, Of, Seen, Subject},
    kept::Kept,
    names::Names,
};
use crate::model::{
    Cause, Group, GroupKey, Kind, LiveTasks, Observation, Process, ProcessId, ProcessReport, Task, Verdict,
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
    kept: Kept,
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

/// Members that are kept over a restart.
const MOST_SAVED: usize = 1_000_000;

impl Detector {
    pub fn new(limits: Limits, settings: Settings) -> Self {
        Self {
            limits,
            groups: Names::new(limits.max_groups),
            entries: Names::new(limits.max_groups),
            judge: Judge::new(settings),
            kept: Kept::default(),
        }
    }

    /// Forgets processes that are gone.
    pub fn retain(&mut self, alive: &HashSet<ProcessId>) {
        self.groups.retain(alive);
        self.entries.retain(alive);
        self.judge.retain(alive);
        self.kept.retain(alive);
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
        let count = observations.iter().map(|observation| observation.tasks.len());
        let mut grouping = Grouping::new(count.sum(), self.limits.max_ids);
        for task in tasks() {
            if !task.is_kept {
                *kinds.entry(task.kind).or_insert(0) += 1;
            }
            grouping.take(task, self.limits.threshold, &deadlocked);
        }
        let incomplete: BTreeSet<_> = observations.iter().flat_map(|o| &o.incomplete).copied().collect();
        self.name(process.id, &mut grouping);
        self.judge(now, process.id, &mut grouping, tasks(), &incomplete);
        let mut groups = grouping.groups;
        groups.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.key.cmp(&b.key)));
        for group in &mut groups {
            sort_sites(&mut group.spawn_sites);
            keep_first(&mut group.ids, self.limits.max_ids);
            group.ids_truncated = group.count > self.limits.max_ids;
            group.waits_for.sort_unstable();
            group.waits_for.truncate(self.limits.max_ids);
        }
        let mut report = ProcessReport {
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
            runtimes: Vec::new(),
            go_version: None,
        };
        self.kept.fill(&mut report);
        report
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
            let entry = entry_of(tasks);
            if self.entries.take(process, &entry) {
                let subject = match entry.is_kept {
                    false => Subject::Live(entry.kind, entry.site),
                    true => Subject::Kept(entry.kind, entry.site),
                };
                of_live[index] = Some(add(tasks.kind, subject, tasks.count));
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
        let mut others: BTreeMap<(Kind, bool), usize> = BTreeMap::new();
        let mut shown: Vec<LiveTasks> = Vec::new();
        for mut tasks in live {
            if named.contains(&entry_of(&tasks)) {
                sort_sites(&mut tasks.spawn_sites);
                shown.push(tasks);
            } else {
                *others.entry((tasks.kind, tasks.is_kept)).or_insert(0) += tasks.count;
            }
        }
        shown.extend(others.into_iter().map(|((kind, is_kept), count)| LiveTasks {
            count,
            named: false,
            ..no_live_tasks(Entry {
                kind,
                site: Some(Arc::new(site(OTHER.to_owned()))),
                is_kept,
            })
        }));
        shown.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.entry.cmp(&b.entry)));
        shown
    }
}

fn entry_of(tasks: &LiveTasks) -> Entry {
    Entry {
        kind: tasks.kind,
        site: tasks.entry.clone(),
        is_kept: tasks.is_kept,
    }
}

#[cfg(test)]
mod tests;
