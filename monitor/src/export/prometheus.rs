//! The Prometheus text format. A fresh registry for each snapshot, so that series of gone processes vanish.

use prometheus::{
    CounterVec, Encoder as _, GaugeVec, Opts, Registry, TextEncoder, core::Collector,
    process_collector::ProcessCollector,
};

use super::metrics::{self, Metric};
use crate::model::{Group, Health, Kind, Process, ProcessReport, Site, Snapshot};

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
    let blocked = sheet.gauge(&metrics::BLOCKED_TASKS)?;
    let oldest = sheet.gauge(&metrics::OLDEST_BLOCKED)?;
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
        for (kind, entry, count) in &report.live {
            live.set(&with(&[kind.label(), name(entry.as_deref())]), *count as f64);
        }
        for group in report.groups.iter().filter(|group| group.named) {
            let labels = with(&group_labels(group));
            blocked.set(&labels, group.count as f64);
            oldest.set(&labels, group.oldest.as_secs_f64());
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
        if let Some(spawns) = &report.spawns {
            let thread = Kind::Thread.label();
            spawn_probes.set(&with(&[thread]), f64::from(u8::from(spawns.active)));
            for totals in &spawns.totals {
                let labels = with(&[
                    thread,
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

/// In the order of [`metrics::PROCESS_LABELS`]. Names of containers and pods are not known yet.
fn process_labels<'a>(process: &'a Process, pid: &'a str) -> [&'a str; 7] {
    [pid, &process.comm, &process.exe, &process.workload, "", "", ""]
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
