//! The Prometheus text format. A fresh registry for each snapshot, so that series of gone processes vanish.

use std::collections::{BTreeMap, btree_map::Entry};

use prometheus::{
    CounterVec, Encoder as _, GaugeVec, Opts, Registry, TextEncoder, core::Collector,
    process_collector::ProcessCollector,
};

use super::{
    evidence::rank,
    metrics::{self, Metric},
};
use crate::model::{
    Basis, Group, Growth, Health, Kind, Process, ProcessReport, Site, Snapshot, State, Verdict,
};

/// What groups beyond `--max-groups` are summed under.
const OTHER: &str = "other";

/// The snapshot as text, without the monitor's own `process_*`.
///
/// # Errors
/// Only when a metric's definition is wrong: a test renders each.
pub fn render(snapshot: &Snapshot) -> prometheus::Result<String> {
    encode(&registry(snapshot)?)
}

/// The whole of `/metrics`.
///
/// # Errors
/// As [`render`].
pub fn render_with_self(snapshot: &Snapshot) -> prometheus::Result<String> {
    let registry = registry(snapshot)?;
    registry.register(Box::new(ProcessCollector::for_self()))?;
    encode(&registry)
}

fn encode(registry: &Registry) -> prometheus::Result<String> {
    let mut text = Vec::new();
    TextEncoder::new().encode(&registry.gather(), &mut text)?;
    String::from_utf8(text).map_err(|error| prometheus::Error::Msg(error.to_string()))
}

fn registry(snapshot: &Snapshot) -> prometheus::Result<Registry> {
    let registry = Registry::new();
    let sheet = Sheet::new(&registry);
    processes(&sheet, &snapshot.processes)?;
    health(&sheet, &snapshot.health)?;
    Ok(registry)
}

fn processes(sheet: &Sheet<'_>, reports: &[ProcessReport]) -> prometheus::Result<()> {
    let tasks = sheet.gauge(&metrics::TASKS)?;
    let live = sheet.gauge(&metrics::LIVE_TASKS)?;
    let kept = sheet.gauge(&metrics::KEPT_TASKS)?;
    let blocked = sheet.gauge(&metrics::BLOCKED_TASKS)?;
    let oldest = sheet.gauge(&metrics::OLDEST_BLOCKED)?;
    let returned = sheet.counter(&metrics::RETURNED)?;
    let growth = sheet.gauge(&metrics::GROWTH)?;
    let verdict = sheet.gauge(&metrics::VERDICT)?;
    let spawned = sheet.counter(&metrics::SPAWNED)?;
    let exited = sheet.counter(&metrics::EXITED)?;
    let spawn_probes = sheet.gauge(&metrics::SPAWN_PROBES)?;
    let futex_waits = sheet.counter(&metrics::FUTEX_WAITS)?;
    let complete = sheet.gauge(&metrics::COMPLETE)?;
    let incomplete = sheet.gauge(&metrics::INCOMPLETE)?;
    for report in reports {
        let pid = report.process.id.pid.to_string();
        let labels = process_labels(&report.process, &pid);
        let with = |more: &[&str]| -> Vec<String> {
            labels
                .iter()
                .chain(more)
                .map(|label| (*label).to_owned())
                .collect()
        };
        for (kind, count) in &report.tasks {
            tasks.set(&with(&[kind.label()]), *count as f64);
        }
        for (gauge, is_kept) in [(&live, false), (&kept, true)] {
            for (labels, count) in live_counts(report, is_kept) {
                gauge.set(&with(&labels), count as f64);
            }
        }
        for (labels, series) in series(report) {
            let labels = with(&labels);
            if series.basis == Basis::Blocked {
                blocked.set(&labels, series.count as f64);
                oldest.set(&labels, series.oldest);
                returned.add(&labels, series.returned as f64);
            }
            let of_basis = [labels.as_slice(), &[series.basis.label().to_owned()]].concat();
            growth.set(&of_basis, series.per_hour);
            let of_verdict = [of_basis.as_slice(), &[series.verdict.label().to_owned()]].concat();
            verdict.set(&of_verdict, 1.0);
        }
        for kind in Kind::ALL {
            let others = || {
                report
                    .groups
                    .iter()
                    .filter(|group| !group.named && group.key.kind == kind)
            };
            if let Some(longest) = others().map(|group| group.oldest).max() {
                let labels = with(&[kind.label(), "", "", OTHER, "", ""]);
                blocked.set(&labels, others().map(|group| group.count as f64).sum());
                oldest.set(&labels, longest.as_secs_f64());
            }
        }
        for spawns in &report.spawns {
            let kind = spawns.kind.label();
            spawn_probes.set(&with(&[kind]), f64::from(u8::from(spawns.active)));
            for totals in &spawns.totals {
                let labels = with(&[
                    kind,
                    name(totals.entry.as_deref()),
                    name(totals.spawn_site.as_deref()),
                ]);
                spawned.add(&labels, totals.spawned as f64);
                exited.add(&labels, totals.exited as f64);
            }
        }
        if let Some(waits) = report.futex_waits {
            futex_waits.add(&with(&[]), waits as f64);
        }
        complete.set(&with(&[]), f64::from(u8::from(report.incomplete.is_empty())));
        for cause in &report.incomplete {
            incomplete.set(&with(&[cause.label()]), 1.0);
        }
    }
    Ok(())
}

fn health(sheet: &Sheet<'_>, health: &Health) -> prometheus::Result<()> {
    let runtime = [Kind::Thread.label()];
    sheet
        .gauge(&metrics::LAST_SWEEP)?
        .set(&runtime, health.swept_at.as_secs_f64());
    sheet
        .gauge(&metrics::SWEEP_DURATION)?
        .set(&runtime, health.sweep_duration.as_secs_f64());
    sheet
        .gauge(&metrics::BUILD_INFO)?
        .set(&[env!("CARGO_PKG_VERSION")], 1.0);
    let attached = sheet.gauge(&metrics::PROBE_ATTACHED)?;
    for probe in &health.probes {
        attached.set(&[probe.probe], f64::from(u8::from(probe.attached)));
    }
    let (entries, capacity) = (
        sheet.gauge(&metrics::MAP_ENTRIES)?,
        sheet.gauge(&metrics::MAP_CAPACITY)?,
    );
    for map in &health.maps {
        entries.set(&[map.map], map.entries as f64);
        capacity.set(&[map.map], map.capacity as f64);
    }
    let lost = sheet.counter(&metrics::LOST_EVENTS)?;
    for (cause, count) in &health.lost {
        lost.add(&[*cause], *count as f64);
    }
    let seconds = sheet.counter(&metrics::PROGRAM_SECONDS)?;
    let runs = sheet.counter(&metrics::PROGRAM_RUNS)?;
    for program in &health.programs {
        seconds.add(&[&program.program], program.run_time.as_secs_f64());
        runs.add(&[&program.program], program.runs as f64);
    }
    Ok(())
}

/// In the order of [`metrics::PROCESS_LABELS`]. A container without a name is told by its id.
fn process_labels<'a>(process: &'a Process, pid: &'a str) -> [&'a str; 7] {
    let pod = process.pod.as_ref();
    let named = pod
        .map(|pod| pod.container.as_str())
        .filter(|name| !name.is_empty());
    let container = named.or(process.container_id.as_deref()).unwrap_or_default();
    [
        pid,
        &process.comm,
        &process.exe,
        &process.workload,
        container,
        pod.map_or("", |pod| &pod.name),
        pod.map_or("", |pod| &pod.namespace),
    ]
}

/// What the series of one set of labels say.
struct Series {
    basis: Basis,
    count: usize,
    oldest: f64,
    returned: u64,
    per_hour: f64,
    verdict: Verdict,
}

/// Labels name functions: groups that differ in their lines alone are one there. Their counts are added up, and the
/// worst verdict holds.
fn series(report: &ProcessReport) -> BTreeMap<[&str; 6], Series> {
    let mut all: BTreeMap<[&str; 6], Series> = BTreeMap::new();
    let groups = report.groups.iter().filter(|group| group.named).map(|group| {
        let series = Series {
            basis: group.basis,
            count: group.count,
            oldest: group.oldest.as_secs_f64(),
            returned: group.returned,
            per_hour: per_hour(group.growth),
            verdict: group.verdict,
        };
        (group_labels(group), series)
    });
    let judged = report.live.iter().filter(|tasks| tasks.named);
    let live = judged.map(|tasks| {
        let series = Series {
            basis: Basis::Live,
            count: tasks.count,
            oldest: 0.0,
            returned: 0,
            per_hour: per_hour(tasks.growth),
            verdict: tasks.verdict,
        };
        let entry = name(tasks.entry.as_deref());
        let reason = if tasks.is_kept {
            State::Complete.label()
        } else {
            ""
        };
        ([tasks.kind.label(), reason, "", "", entry, ""], series)
    });
    for (labels, one) in groups.chain(live) {
        match all.entry(labels) {
            Entry::Vacant(entry) => {
                entry.insert(one);
            }
            Entry::Occupied(mut entry) => {
                let sum = entry.get_mut();
                sum.count += one.count;
                sum.oldest = sum.oldest.max(one.oldest);
                sum.returned += one.returned;
                sum.per_hour += one.per_hour;
                sum.verdict = std::cmp::min_by_key(sum.verdict, one.verdict, |verdict| rank(*verdict));
            }
        }
    }
    all
}

/// Of those that live, or of those that are kept.
fn live_counts(report: &ProcessReport, is_kept: bool) -> BTreeMap<[&str; 2], usize> {
    let mut all = BTreeMap::new();
    for tasks in report.live.iter().filter(|tasks| tasks.is_kept == is_kept) {
        *all.entry([tasks.kind.label(), name(tasks.entry.as_deref())])
            .or_insert(0) += tasks.count;
    }
    all
}

fn per_hour(growth: Option<Growth>) -> f64 {
    growth.map_or(0.0, |growth| growth.per_hour)
}

/// In the order of [`metrics::GROUP_LABELS`].
fn group_labels(group: &Group) -> [&str; 6] {
    let key = &group.key;
    [
        key.kind.label(),
        &key.reason,
        key.class.label(),
        name(key.block_site.as_deref()),
        name(key.entry.as_deref()),
        name(key.spawn_site.as_deref()),
    ]
}

fn name(site: Option<&Site>) -> &str {
    site.map_or("", |site| &site.function)
}

/// Makes metrics by their definitions.
struct Sheet<'a> {
    registry: &'a Registry,
}

struct Gauge(GaugeVec);
struct Counter(CounterVec);

impl<'a> Sheet<'a> {
    fn new(registry: &'a Registry) -> Self {
        Self { registry }
    }

    fn gauge(&self, metric: &Metric) -> prometheus::Result<Gauge> {
        let vector = GaugeVec::new(Opts::new(metric.name, metric.help), &metric.all_labels())?;
        self.register(vector).map(Gauge)
    }

    fn counter(&self, metric: &Metric) -> prometheus::Result<Counter> {
        let vector = CounterVec::new(Opts::new(metric.name, metric.help), &metric.all_labels())?;
        self.register(vector).map(Counter)
    }

    fn register<C: Collector + Clone + 'static>(&self, vector: C) -> prometheus::Result<C> {
        self.registry.register(Box::new(vector.clone()))?;
        Ok(vector)
    }
}

impl Gauge {
    fn set<V: AsRef<str> + std::fmt::Debug>(&self, labels: &[V], value: f64) {
        self.0.with_label_values(labels).set(value);
    }
}

impl Counter {
    fn add<V: AsRef<str> + std::fmt::Debug>(&self, labels: &[V], value: f64) {
        self.0.with_label_values(labels).inc_by(value);
    }
}
