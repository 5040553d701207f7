//! The JSON of `snapshot --format json` and `/api/v1/snapshot`: schema 1, to which fields are only added.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::model::{Basis, Group, Kind, ProcessReport, Site, Snapshot, Verdict, WaitClass};

#[derive(Serialize)]
struct Document<'a> {
    schema: u32,
    taken_at: String,
    observed_seconds: f64,
    processes: Vec<ProcessJson<'a>>,
}

#[derive(Serialize)]
struct ProcessJson<'a> {
    pid: u32,
    comm: &'a str,
    exe: &'a str,
    runtimes: [&'a str; 0],
    container_id: Option<&'a str>,
    complete: bool,
    incomplete: Vec<&'static str>,
    tasks: BTreeMap<Kind, usize>,
    threshold_seconds: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    futex_waits: Option<u64>,
    groups: Vec<GroupJson<'a>>,
}

#[derive(Serialize)]
struct GroupJson<'a> {
    kind: Kind,
    reason: &'a str,
    wait_class: WaitClass,
    count: usize,
    verdict: Verdict,
    basis: Basis,
    blocked_seconds_min: f64,
    oldest_blocked_seconds: f64,
    entry: Option<&'a Site>,
    block_site: Option<&'a Site>,
    spawn_site: Option<&'a Site>,
    ids: &'a [u64],
    ids_truncated: bool,
}

/// The snapshot as one line of JSON.
///
/// # Errors
/// Never in practice: every value has a JSON form.
pub fn render(snapshot: &Snapshot) -> serde_json::Result<String> {
    serde_json::to_string(&document(snapshot))
}

/// The same for people.
///
/// # Errors
/// As [`render`].
pub fn render_pretty(snapshot: &Snapshot) -> serde_json::Result<String> {
    serde_json::to_string_pretty(&document(snapshot))
}

fn document(snapshot: &Snapshot) -> Document<'_> {
    Document {
        schema: 1,
        taken_at: humantime::format_rfc3339_millis(snapshot.taken_at).to_string(),
        observed_seconds: snapshot.observed.as_secs_f64(),
        processes: snapshot.processes.iter().map(process).collect(),
    }
}

fn process(report: &ProcessReport) -> ProcessJson<'_> {
    ProcessJson {
        pid: report.process.id.pid,
        comm: &report.process.comm,
        exe: &report.process.exe,
        runtimes: [],
        container_id: report.process.container_id.as_deref(),
        complete: report.incomplete.is_empty(),
        incomplete: report.incomplete.iter().map(|cause| cause.label()).collect(),
        tasks: report.tasks.iter().copied().collect(),
        threshold_seconds: report.threshold.as_secs_f64(),
        futex_waits: report.futex_waits,
        groups: report
            .groups
            .iter()
            .filter(|group| group.count > 0)
            .map(group)
            .collect(),
    }
}

fn group(group: &Group) -> GroupJson<'_> {
    GroupJson {
        kind: group.key.kind,
        reason: &group.key.reason,
        wait_class: group.key.class,
        count: group.count,
        verdict: group.verdict,
        basis: group.basis,
        blocked_seconds_min: group.youngest.as_secs_f64(),
        oldest_blocked_seconds: group.oldest.as_secs_f64(),
        entry: group.key.entry.as_ref(),
        block_site: group.key.block_site.as_ref(),
        spawn_site: group.key.spawn_site.as_ref(),
        ids: &group.ids,
        ids_truncated: group.ids_truncated,
    }
}
