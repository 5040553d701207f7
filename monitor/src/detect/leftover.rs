//! What a test has left behind: tasks that nobody allows, judged one by one. Pure.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use regex::Regex;

use super::{
    groups::{add, empty_group, entry_of},
    runtimes::is_runtimes_own,
};
use crate::model::{Group, GroupKey, Kind, ProcessTasks, Reason, Task, WaitClass};

/// What is no fault.
#[derive(Clone, Debug, Default)]
pub struct Allowed {
    /// Kinds that are looked at; empty: all.
    pub kinds: Vec<Kind>,
    /// Only what has one of these on its stack, as its entry or as the place where it was made; empty: everything that is
    /// blocked in its own program.
    pub deny: Vec<Regex>,
    /// What has one of these there is no fault.
    pub allow: Vec<Regex>,
    /// What was made at one of these is no fault.
    pub allow_created_by: Vec<Regex>,
    /// Tasks that were there before: pid, kind and id.
    pub before: HashSet<(u32, Kind, u64)>,
}

/// Tasks that are left behind at the same place.
#[derive(Clone, Debug)]
pub struct Leftover {
    pub pid: u32,
    pub comm: String,
    pub group: Group,
}

/// All that is left behind in a process, most first. Without a list of what is denied that is what has been blocked for
/// `threshold`, and does not wait for the world; with one, whatever is on it and lives, blocked or not.
pub fn leftovers(told: &ProcessTasks, threshold: Duration, allowed: &Allowed) -> Vec<Leftover> {
    let pid = told.process.id.pid;
    let mut found: Vec<Leftover> = Vec::new();
    let mut places = HashMap::new();
    let is_fault = |task: &&Task| {
        !allowed.before.contains(&(pid, task.kind, task.id)) && allowed.is_fault(told, task, threshold)
    };
    for task in told.tasks.iter().filter(is_fault) {
        let key = key_of(task);
        let place = *places.entry(key).or_insert_with_key(|key| {
            found.push(Leftover {
                pid,
                comm: told.process.comm.clone(),
                group: empty_group(key.clone()),
            });
            found.len() - 1
        });
        add(&mut found[place].group, task, task.age().unwrap_or_default());
    }
    sort(&mut found);
    found
}

/// Most first, whichever process they are of.
pub fn sort(found: &mut [Leftover]) {
    found.sort_by(|a, b| {
        b.group
            .count
            .cmp(&a.group.count)
            .then_with(|| a.group.key.cmp(&b.group.key))
    });
}

impl Allowed {
    fn is_fault(&self, told: &ProcessTasks, task: &Task, threshold: Duration) -> bool {
        let any = |list: &[Regex], names: &[&str]| {
            list.iter()
                .any(|regex| names.iter().any(|name| regex.is_match(name)))
        };
        let is_looked_at = self.kinds.is_empty() || self.kinds.contains(&task.kind);
        // What has ended is not left behind.
        if !is_looked_at || task.is_kept {
            return false;
        }
        let entry = entry_of(task);
        let names = names(task, entry.as_ref().map(|entry| entry.function.as_str()));
        let is_meant = if self.deny.is_empty() {
            is_stuck(task, threshold) && !is_runtimes_own(told, task)
        } else {
            any(&self.deny, &names)
        };
        let made_at: Vec<&str> = task
            .spawn_site
            .iter()
            .map(|site| site.function.as_str())
            .collect();
        is_meant && !any(&self.allow, &names) && !any(&self.allow_created_by, &made_at)
    }
}

/// Blocked for so long, and not by the world.
fn is_stuck(task: &Task, threshold: Duration) -> bool {
    task.wait
        .as_ref()
        .is_some_and(|wait| wait.age >= threshold && wait.class == WaitClass::Internal)
}

fn key_of(task: &Task) -> GroupKey {
    let doing = || Reason::Static(task.state().label());
    GroupKey {
        kind: task.kind,
        reason: task.reason().cloned().unwrap_or_else(doing),
        // What does not wait, or not for long, does so by its own program's doing.
        class: task.wait.as_ref().map_or(WaitClass::Internal, |wait| wait.class),
        block_site: task.stack.as_ref().and_then(|stack| stack.block_site.clone()),
        entry: entry_of(task),
        spawn_site: task.spawn_site.clone(),
    }
}

/// Every function that a task is known by.
fn names<'a>(task: &'a Task, entry: Option<&'a str>) -> Vec<&'a str> {
    let stack = task.stack.as_ref();
    let block_site = stack.and_then(|stack| stack.block_site.as_ref());
    let sites = block_site.into_iter().chain(task.spawn_site.as_ref());
    let frames = stack.into_iter().flat_map(|stack| &stack.frames);
    sites
        .map(|site: &Arc<_>| site.function.as_str())
        .chain(entry)
        .chain(frames.filter_map(|frame| frame.function.as_deref()))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, time::UNIX_EPOCH};

    use super::*;
    use crate::model::{Facts, Frame, Process, ProcessId, Site, Stack, State, Wait};

    fn site(function: &str) -> Arc<Site> {
        Arc::new(Site {
            function: function.to_owned(),
            file: None,
            line: None,
        })
    }

    /// A goroutine with these functions on its stack, innermost first; blocked for so many seconds in a wait of this class.
    fn task(id: u64, functions: &[&str], wait: Option<(WaitClass, u64)>) -> Task {
        let frame = |function: &&str| Frame {
            function: Some((*function).to_owned()),
            file: None,
            line: None,
            inlined: false,
            module: "api".to_owned(),
            offset: 0,
            guessed: false,
        };
        Task {
            kind: Kind::Goroutine,
            id,
            start: 0,
            wait: wait.map(|(class, seconds)| Wait {
                reason: Reason::Static("select"),
                class,
                age: Duration::from_secs(seconds),
                anchor: None,
            }),
            name: None,
            stack: (!functions.is_empty()).then(|| {
                Arc::new(Stack {
                    frames: functions.iter().map(frame).collect(),
                    truncated: false,
                    block_site: functions.first().map(|function| site(function)),
                    entry: None,
                })
            }),
            entry: Some(site("main.worker")),
            spawn_site: Some(site("main.handle")),
            is_kept: false,
            waits_for: None,
            facts: Some(Box::new(Facts {
                state: if wait.is_some() {
                    State::Waiting
                } else {
                    State::Running
                },
                reason: None,
                age: None,
                anchor: None,
                made: None,
                made_by: None,
                references: None,
                trace: None,
            })),
        }
    }

    fn told() -> ProcessTasks {
        ProcessTasks {
            process: Arc::new(Process {
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
            }),
            taken_at: UNIX_EPOCH,
            go_version: Some("go1.27.3".to_owned()),
            tasks: vec![
                task(
                    1,
                    &["main.wait", "main.logsContainer"],
                    Some((WaitClass::Internal, 5)),
                ),
                task(
                    2,
                    &["main.wait", "main.execContainer"],
                    Some((WaitClass::Internal, 5)),
                ),
                task(3, &["main.accept"], Some((WaitClass::External, 5))),
                task(4, &["main.wait"], Some((WaitClass::Internal, 0))),
                task(5, &[], None),
            ],
            incomplete: BTreeSet::new(),
            is_gone: false,
            modules: Vec::new(),
        }
    }

    fn ids(allowed: &Allowed) -> Vec<u64> {
        let found = leftovers(&told(), Duration::from_secs(1), allowed);
        let mut ids: Vec<u64> = found
            .iter()
            .flat_map(|leftover| leftover.group.ids.clone())
            .collect();
        ids.sort_unstable();
        ids
    }

    fn regexes(texts: &[&str]) -> Vec<Regex> {
        texts.iter().map(|text| Regex::new(text).unwrap()).collect()
    }

    #[test]
    fn without_a_list_it_is_what_is_blocked_in_its_own_program() {
        assert_eq!(ids(&Allowed::default()), [1, 2]);
        let found = leftovers(&told(), Duration::from_secs(1), &Allowed::default());
        assert_eq!((found.len(), found[0].group.count), (1, 2));
    }

    #[test]
    fn each_task_is_known_by_its_own_stack_and_not_its_groups() {
        let deny = |text| Allowed {
            deny: regexes(&[text]),
            ..Allowed::default()
        };
        assert_eq!(ids(&deny("logsContainer")), [1]);
        assert_eq!(ids(&deny("execContainer")), [2]);
        let allow = Allowed {
            allow: regexes(&["logsContainer"]),
            ..Allowed::default()
        };
        assert_eq!(ids(&allow), [2]);
    }

    #[test]
    fn what_is_denied_is_a_fault_while_it_lives() {
        let deny = |text| Allowed {
            deny: regexes(&[text]),
            ..Allowed::default()
        };
        assert_eq!(ids(&deny("^main.accept$")), [3]);
        // The one that runs has no stack: it is known by what it runs, and by who made it.
        assert_eq!(ids(&deny("^main.worker$")), [1, 2, 3, 4, 5]);
        assert_eq!(ids(&deny("^main.handle$")), [1, 2, 3, 4, 5]);
        let but = Allowed {
            before: HashSet::from([(7, Kind::Goroutine, 5), (8, Kind::Goroutine, 4)]),
            ..deny("^main.worker$")
        };
        assert_eq!(ids(&but), [1, 2, 3, 4]);
        let by = Allowed {
            allow_created_by: regexes(&["handle"]),
            ..deny("^main.worker$")
        };
        assert!(ids(&by).is_empty());
        let threads = Allowed {
            kinds: vec![Kind::Thread],
            ..Allowed::default()
        };
        assert!(ids(&threads).is_empty());
    }
}
