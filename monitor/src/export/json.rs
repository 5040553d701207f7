//! The JSON of `snapshot --format json` and `/api/v1/snapshot`: schema 1, to which fields are only added.

use std::{collections::BTreeMap, sync::Arc};

use serde::Serialize;

use super::evidence;
use crate::model::{
    Basis, Frame, Group, Growth, Kind, LiveTasks, Pod, ProcessReport, Site, Snapshot, Usual, Verdict,
    WaitClass,
};

#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Serialize)]
struct Document<'a> {
    schema: u32,
    taken_at: String,
    observed_seconds: f64,
    processes: Vec<ProcessJson<'a>>,
}

#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Serialize)]
struct ProcessJson<'a> {
    pid: u32,
    comm: &'a str,
    exe: &'a str,
    runtimes: Vec<&'static str>,
    go_version: Option<&'a str>,
    container_id: Option<&'a str>,
    pod: Option<&'a Pod>,
    complete: bool,
    incomplete: Vec<&'static str>,
    tasks: BTreeMap<Kind, usize>,
    threshold_seconds: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    futex_waits: Option<u64>,
    groups: Vec<GroupJson<'a>>,
    live: Vec<LiveJson<'a>>,
    /// Tasks that have ended and whose handles are kept: they are none of the others.
    kept: Vec<LiveJson<'a>>,
    deadlocks: Vec<DeadlockJson<'a>>,
}

/// Tasks, each of which waits for what the next one holds; the last one for the first.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Serialize)]
struct DeadlockJson<'a> {
    verdict: Verdict,
    ids: &'a [u64],
}

/// A group, here and wherever else one is told.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Serialize)]
pub struct GroupJson<'a> {
    kind: Kind,
    reason: &'a str,
    wait_class: WaitClass,
    count: usize,
    verdict: Verdict,
    basis: Basis,
    growth: Option<Growth>,
    returned: u64,
    usual: Option<Usual>,
    /// The same for people.
    evidence: String,
    blocked_seconds_min: f64,
    oldest_blocked_seconds: f64,
    entry: Option<SiteJson<'a>>,
    block_site: Option<SiteJson<'a>>,
    spawn_site: Option<SiteJson<'a>>,
    spawn_sites: Vec<SpawnSiteJson<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stack: Option<&'a [Frame]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stack_truncated: Option<bool>,
    ids: &'a [u64],
    ids_truncated: bool,
    waits_for: &'a [u64],
}

/// Live tasks by what they run, and whether those that are never long in one wait grow in number; or tasks that have run
/// the same, have ended and are kept.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Serialize)]
struct LiveJson<'a> {
    kind: Kind,
    entry: Option<SiteJson<'a>>,
    count: usize,
    verdict: Verdict,
    basis: Basis,
    growth: Option<Growth>,
    evidence: String,
    /// Where they were made, as far as that was seen, most of them first.
    spawn_sites: Vec<SpawnSiteJson<'a>>,
}

#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Serialize)]
struct SiteJson<'a> {
    function: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<u32>,
}

#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Serialize)]
struct SpawnSiteJson<'a> {
    #[serde(flatten)]
    site: SiteJson<'a>,
    count: usize,
}

/// How much is told: stacks and file names are for those only who may see the code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    /// Groups and names of functions.
    Names,
    /// Stacks and files as well.
    Stacks,
}

/// The snapshot as one line of JSON.
///
/// # Errors
/// Never in practice: every value has a JSON form.
pub fn render(snapshot: &Snapshot, detail: Detail) -> serde_json::Result<String> {
    serde_json::to_string(&document(snapshot, detail))
}

/// The same for people.
///
/// # Errors
/// As [`render`].
pub fn render_pretty(snapshot: &Snapshot, detail: Detail) -> serde_json::Result<String> {
    serde_json::to_string_pretty(&document(snapshot, detail))
}

fn document(snapshot: &Snapshot, detail: Detail) -> Document<'_> {
    Document {
        schema: 1,
        taken_at: humantime::format_rfc3339_millis(snapshot.taken_at).to_string(),
        observed_seconds: snapshot.observed.as_secs_f64(),
        processes: snapshot
            .processes
            .iter()
            .map(|report| process(report, detail))
            .collect(),
    }
}

fn process(report: &ProcessReport, detail: Detail) -> ProcessJson<'_> {
    ProcessJson {
        pid: report.process.id.pid,
        comm: &report.process.comm,
        exe: &report.process.exe,
        runtimes: report.runtimes.clone(),
        go_version: report.go_version.as_deref(),
        container_id: report.process.container_id.as_deref(),
        pod: report.process.pod.as_ref(),
        complete: report.incomplete.is_empty(),
        incomplete: report.incomplete.iter().map(|cause| cause.label()).collect(),
        tasks: report.tasks.iter().copied().collect(),
        threshold_seconds: report.threshold.as_secs_f64(),
        futex_waits: report.futex_waits,
        groups: report
            .groups
            .iter()
            .filter(|group| group.count > 0)
            .map(|one| group(one, detail))
            .collect(),
        live: live_or_kept(report, detail, false),
        kept: live_or_kept(report, detail, true),
        deadlocks: report
            .deadlocks
            .iter()
            .map(|ids| DeadlockJson {
                verdict: Verdict::Proven,
                ids,
            })
            .collect(),
    }
}

pub fn group(group: &Group, detail: Detail) -> GroupJson<'_> {
    let stack = group.stack.as_ref().filter(|_| detail == Detail::Stacks);
    GroupJson {
        kind: group.key.kind,
        reason: &group.key.reason,
        wait_class: group.key.class,
        count: group.count,
        verdict: group.verdict,
        basis: group.basis,
        growth: group.growth,
        returned: group.returned,
        usual: group.usual,
        evidence: evidence::of_group(group),
        blocked_seconds_min: group.youngest.as_secs_f64(),
        oldest_blocked_seconds: group.oldest.as_secs_f64(),
        entry: site(group.key.entry.as_deref(), detail),
        block_site: site(group.key.block_site.as_deref(), detail),
        spawn_site: site(group.key.spawn_site.as_deref(), detail),
        spawn_sites: spawn_sites(&group.spawn_sites, detail),
        stack: stack.map(|stack| stack.frames.as_slice()),
        stack_truncated: stack.map(|stack| stack.truncated),
        ids: &group.ids,
        ids_truncated: group.ids_truncated,
        waits_for: &group.waits_for,
    }
}

fn spawn_sites(sites: &[(Arc<Site>, usize)], detail: Detail) -> Vec<SpawnSiteJson<'_>> {
    let sites = sites.iter().map(|(made_at, count)| SpawnSiteJson {
        site: site_of(made_at, detail),
        count: *count,
    });
    sites.collect()
}

fn live_or_kept(report: &ProcessReport, detail: Detail, is_kept: bool) -> Vec<LiveJson<'_>> {
    let tasks = report.live.iter().filter(|tasks| tasks.is_kept == is_kept);
    tasks.map(|tasks| live(tasks, detail)).collect()
}

fn live(tasks: &LiveTasks, detail: Detail) -> LiveJson<'_> {
    LiveJson {
        kind: tasks.kind,
        entry: site(tasks.entry.as_deref(), detail),
        count: tasks.count,
        verdict: tasks.verdict,
        basis: Basis::Live,
        growth: tasks.growth,
        evidence: evidence::of_live(tasks),
        spawn_sites: spawn_sites(&tasks.spawn_sites, detail),
    }
}

fn site(site: Option<&Site>, detail: Detail) -> Option<SiteJson<'_>> {
    site.map(|site| site_of(site, detail))
}

fn site_of(site: &Site, detail: Detail) -> SiteJson<'_> {
    let shows_files = detail == Detail::Stacks;
    SiteJson {
        function: &site.function,
        file: site.file.as_deref().filter(|_| shows_files),
        line: site.line.filter(|_| shows_files),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_is_documented() {
        crate::export::schema::check::<Document<'static>>("snapshot");
    }
}
