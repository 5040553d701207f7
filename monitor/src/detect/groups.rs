//! From tasks to groups.

use std::{collections::HashSet, sync::Arc, time::Duration};

use hashbrown::HashMap;
use serde::{Deserialize, Serialize};

use crate::model::{Basis, Group, GroupKey, Kind, LiveTasks, Site, Task, Verdict, Wait};

/// What tasks run, or have run.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Entry {
    pub kind: Kind,
    pub site: Option<Arc<Site>>,
    /// They have ended, and are kept.
    pub is_kept: bool,
}

/// Groups as they are met, and where each task belongs.
#[derive(Default)]
pub struct Grouping {
    pub groups: Vec<Group>,
    pub index: HashMap<GroupKey, usize>,
    pub live: Vec<LiveTasks>,
    live_index: HashMap<Entry, usize>,
    /// Of each task: its group while it is blocked (else [`NO_GROUP`]), and what it runs. There may be millions.
    pub placed: Vec<(u32, u32)>,
    max_ids: usize,
}

const NO_GROUP: u32 = u32::MAX;
/// Ids of a group that are gathered before all but the first ones are dropped.
const GATHERED_IDS: usize = 1_024;

impl Grouping {
    /// For so many tasks.
    pub fn new(tasks: usize, max_ids: usize) -> Self {
        Self {
            placed: Vec::with_capacity(tasks),
            max_ids,
            ..Self::default()
        }
    }

    pub fn take(&mut self, task: &Task, threshold: Duration, deadlocked: &HashSet<u64>) {
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
            .entry(Entry {
                kind: task.kind,
                site: entry,
                is_kept: task.is_kept,
            })
            .or_insert_with_key(|entry| {
                live.push(no_live_tasks(entry.clone()));
                live.len() - 1
            });
        let live = &mut self.live[index];
        live.count += 1;
        if let Some(site) = &task.spawn_site {
            count_site(&mut live.spawn_sites, site);
        }
        let group = group.map_or(NO_GROUP, |index| index as u32);
        self.placed.push((group, index as u32));
    }
}

/// The lowest ids, in their order.
pub fn keep_first(ids: &mut Vec<u64>, count: usize) {
    ids.sort_unstable();
    ids.truncate(count);
}

pub fn no_live_tasks(entry: Entry) -> LiveTasks {
    LiveTasks {
        kind: entry.kind,
        entry: entry.site,
        is_kept: entry.is_kept,
        count: 0,
        spawn_sites: Vec::new(),
        named: true,
        verdict: Verdict::Unknown,
        growth: None,
    }
}

pub fn site(function: String) -> Site {
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
        // Of others it is known only if their birth was seen: that would split a group by when we came.
        spawn_site: task.spawn_site.clone().filter(|_| task.kind == Kind::Goroutine),
    }
}

/// What the task runs. Where no function of it is named (an interpreter's thread, a stripped program), the thread's
/// own name, with its numbers folded: the threads of a pool are one entry.
pub fn entry_of(task: &Task) -> Option<Arc<Site>> {
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

pub fn empty_group(key: GroupKey) -> Group {
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

/// Counts a task in.
pub fn add(group: &mut Group, task: &Task, age: Duration) {
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
        count_site(&mut group.spawn_sites, site);
    }
}

fn count_site(sites: &mut Vec<(Arc<Site>, usize)>, site: &Arc<Site>) {
    match sites.iter_mut().find(|(known, _)| known == site) {
        Some((_, count)) => *count += 1,
        None => sites.push((Arc::clone(site), 1)),
    }
}

/// Most first.
pub fn sort_sites(sites: &mut [(Arc<Site>, usize)]) {
    sites.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
}
