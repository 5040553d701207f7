//! What a test has left behind: blocked tasks that nobody allows. Pure.

use std::collections::HashSet;

use regex::Regex;

use super::runtimes::is_runtimes_own;
use crate::model::{Group, Kind, ProcessReport, Snapshot, WaitClass};

/// What is no fault.
#[derive(Clone, Debug, Default)]
pub struct Allowed {
    /// Kinds that are looked at; empty: all.
    pub kinds: Vec<Kind>,
    /// Only what has one of these on its stack, as its entry or as the place where it was made; empty: everything.
    pub deny: Vec<Regex>,
    /// What has one of these there is no fault.
    pub allow: Vec<Regex>,
    /// What was made at one of these is no fault.
    pub allow_created_by: Vec<Regex>,
    /// Tasks that were there before: pid, kind and id.
    pub before: HashSet<(u32, Kind, u64)>,
}

/// A group of which something is left behind.
#[derive(Clone, Debug)]
pub struct Leftover {
    pub pid: u32,
    pub comm: String,
    /// With only those of its tasks that are a fault.
    pub group: Group,
}

/// All that is left behind, most first. Groups that wait for the world are left out unless they are denied by name.
pub fn leftovers(snapshot: &Snapshot, allowed: &Allowed) -> Vec<Leftover> {
    let mut found = Vec::new();
    for report in &snapshot.processes {
        for group in report
            .groups
            .iter()
            .filter(|group| is_fault(report, group, allowed))
        {
            let pid = report.process.id.pid;
            let is_new = |id: &&u64| !allowed.before.contains(&(pid, group.key.kind, **id));
            let ids: Vec<u64> = group.ids.iter().filter(is_new).copied().collect();
            if ids.is_empty() {
                continue;
            }
            found.push(Leftover {
                pid,
                comm: report.process.comm.clone(),
                group: Group {
                    count: ids.len(),
                    ids,
                    ..group.clone()
                },
            });
        }
    }
    found.sort_by(|a, b| {
        b.group
            .count
            .cmp(&a.group.count)
            .then_with(|| a.group.key.cmp(&b.group.key))
    });
    found
}

fn is_fault(report: &ProcessReport, group: &Group, allowed: &Allowed) -> bool {
    let any = |list: &[Regex], names: &[&str]| {
        list.iter()
            .any(|regex| names.iter().any(|name| regex.is_match(name)))
    };
    let names = names(group);
    let made_at: Vec<&str> = group
        .key
        .spawn_site
        .iter()
        .chain(group.spawn_sites.iter().map(|(site, _)| site))
        .map(|site| site.function.as_str())
        .collect();
    let is_denied = any(&allowed.deny, &names);
    let is_looked_at = allowed.kinds.is_empty() || allowed.kinds.contains(&group.key.kind);
    let is_meant = if allowed.deny.is_empty() {
        group.key.class == WaitClass::Internal && !is_runtimes_own(report, group)
    } else {
        is_denied
    };
    is_looked_at && is_meant && !any(&allowed.allow, &names) && !any(&allowed.allow_created_by, &made_at)
}

/// Every function that a group is known by.
fn names(group: &Group) -> Vec<&str> {
    let key = &group.key;
    let sites = [&key.block_site, &key.entry, &key.spawn_site]
        .into_iter()
        .flatten();
    let made_at = group.spawn_sites.iter().map(|(site, _)| site);
    let frames = group.stack.iter().flat_map(|stack| &stack.frames);
    sites
        .chain(made_at)
        .map(|site| site.function.as_str())
        .chain(frames.filter_map(|frame| frame.function.as_deref()))
        .collect()
}
