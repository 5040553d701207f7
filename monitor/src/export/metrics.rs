//! Every metric that there is: name, kind, labels, help. docs/METRICS.md is made from this table.

use std::fmt::Write as _;

/// `pid` and who it is; always all of them, empty where unknown.
pub const PROCESS_LABELS: [&str; 7] = [
    "pid",
    "comm",
    "exe",
    "workload",
    "target_container",
    "target_pod",
    "target_namespace",
];
/// What a group's members have in common.
pub const GROUP_LABELS: [&str; 6] = [
    "kind",
    "reason",
    "wait_class",
    "block_site",
    "entry",
    "spawn_site",
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    Gauge,
    Counter,
}

/// Which labels a metric has before its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Of the monitor: none.
    Monitor,
    Process,
    /// Process and group labels.
    Group,
}

#[derive(Debug)]
pub struct Metric {
    pub name: &'static str,
    pub kind: MetricKind,
    pub scope: Scope,
    pub labels: &'static [&'static str],
    pub help: &'static str,
}

impl Metric {
    /// All labels in their order.
    pub fn all_labels(&self) -> Vec<&'static str> {
        let before: &[&[&str]] = match self.scope {
            Scope::Monitor => &[],
            Scope::Process => &[&PROCESS_LABELS],
            Scope::Group => &[&PROCESS_LABELS, &GROUP_LABELS],
        };
        before
            .iter()
            .copied()
            .flatten()
            .chain(self.labels)
            .copied()
            .collect()
    }
}

macro_rules! metrics {
    ($($id:ident: $kind:ident $scope:ident $name:literal $labels:tt $help:literal;)*) => {
        $(pub const $id: Metric = Metric {
            name: $name,
            kind: MetricKind::$kind,
            scope: Scope::$scope,
            labels: &$labels,
            help: $help,
        };)*
        /// In the order of docs/METRICS.md.
        pub const METRICS: &[&Metric] = &[$(&$id),*];
    };
}

metrics! {
    TASKS: Gauge Process "taskleak_tasks" ["kind"]
        "Live tasks of a process.";
    LIVE_TASKS: Gauge Process "taskleak_live_tasks" ["kind", "entry"]
        "Live tasks of a process by what they run.";
    KEPT_TASKS: Gauge Process "taskleak_kept_tasks" ["kind", "entry"]
        "Tasks of a process that have ended and whose handles are kept (a JoinHandle that nobody awaits or drops), by what they ran.";
    BLOCKED_TASKS: Gauge Group "taskleak_blocked_tasks" []
        "Tasks that have been in a wait without a timeout for at least --blocked-after.";
    OLDEST_BLOCKED: Gauge Group "taskleak_oldest_blocked_seconds" []
        "How long the longest wait of the group has lasted.";
    RETURNED: Counter Group "taskleak_returned_tasks_total" []
        "Tasks that were blocked for at least --blocked-after and came back.";
    GROWTH: Gauge Group "taskleak_growth_tasks_per_hour" ["basis"]
        "Slope of the group's count (Theil-Sen); basis live: of live tasks that run the same entry, with reason complete of kept ones.";
    VERDICT: Gauge Group "taskleak_verdict" ["basis", "verdict"]
        "1 for the verdict that holds: unknown, stable, growing, leaking or proven.";
    SPAWNED: Counter Process "taskleak_tasks_spawned_total" ["kind", "entry", "spawn_site"]
        "Tasks that the process has made since the spawn probes were attached.";
    EXITED: Counter Process "taskleak_tasks_exited_total" ["kind", "entry", "spawn_site"]
        "Tasks that have ended since; of threads and tokio tasks only those in taskleak_tasks_spawned_total.";
    SPAWN_PROBES: Gauge Process "taskleak_spawn_probes_active" ["kind"]
        "1 while new tasks are being seen; while 0 the two totals stand still.";
    FUTEX_WAITS: Counter Process "taskleak_futex_waits_total" []
        "Futex waits that the process has begun since the probes were attached.";
    COMPLETE: Gauge Process "taskleak_process_complete" []
        "1 when everything about the process could be seen, 0 when not (see taskleak_process_incomplete).";
    INCOMPLETE: Gauge Process "taskleak_process_incomplete" ["cause"]
        "1 for each cause that something about the process could not be seen.";
    LAST_SWEEP: Gauge Monitor "taskleak_last_sweep_timestamp_seconds" ["runtime"]
        "Unix time of the last finished sweep.";
    SWEEP_DURATION: Gauge Monitor "taskleak_sweep_duration_seconds" ["runtime"]
        "How long the last sweep took.";
    BUILD_INFO: Gauge Monitor "taskleak_build_info" ["version"]
        "1; the version is in the label.";
    PROBE_ATTACHED: Gauge Monitor "taskleak_probe_attached" ["probe"]
        "1 when the probe is attached, 0 when it could not be.";
    MAP_ENTRIES: Gauge Monitor "taskleak_bpf_map_entries" ["map"]
        "Entries in a map of the eBPF programs.";
    MAP_CAPACITY: Gauge Monitor "taskleak_bpf_map_capacity" ["map"]
        "Entries that the map can hold.";
    LOST_EVENTS: Counter Monitor "taskleak_lost_events_total" ["cause"]
        "What the eBPF programs had no room for.";
    PROGRAM_SECONDS: Counter Monitor "taskleak_bpf_program_run_seconds_total" ["program"]
        "Time spent in an eBPF program; with --bpf-stats only.";
    PROGRAM_RUNS: Counter Monitor "taskleak_bpf_program_runs_total" ["program"]
        "Runs of an eBPF program; with --bpf-stats only.";
}

/// The text of docs/METRICS.md.
pub fn reference() -> String {
    let code = |labels: &[&str]| {
        labels
            .iter()
            .map(|label| format!("`{label}`"))
            .collect::<Vec<_>>()
            .join(", ")
    };
    let mut text = format!(
        "# Metrics\n\nMade from `monitor/src/export/metrics.rs`; `UPDATE_DOCS=1 cargo test -p taskleak metrics_reference` \
         writes it anew.\n\nAll are rendered from the last finished sweep; a scrape observes nothing. The series of \
         a process vanish with it.\nProcess labels, always all of them, empty where unknown: {}.\nGroup labels: {}. At \
         most `--max-groups` groups of a process have series of their own, and keep them until it ends (0 when \
         drained); the rest are summed under `block_site=\"other\"` by kind.\n\n| Metric | Kind | Labels | Meaning \
         |\n|---|---|---|---|\n",
        code(&PROCESS_LABELS),
        code(&GROUP_LABELS),
    );
    for metric in METRICS {
        let scope = match metric.scope {
            Scope::Monitor => "",
            Scope::Process => "process",
            Scope::Group => "process, group",
        };
        let comma = if scope.is_empty() || metric.labels.is_empty() {
            ""
        } else {
            ", "
        };
        let kind = if metric.kind == MetricKind::Gauge {
            "gauge"
        } else {
            "counter"
        };
        let _ = writeln!(
            text,
            "| `{}` | {kind} | {scope}{comma}{} | {} |",
            metric.name,
            code(metric.labels),
            metric.help
        );
    }
    text.push_str("\nBeside them the usual `process_*` of the monitor itself.\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_reference_is_up_to_date() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/METRICS.md");
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(path, reference()).unwrap();
        }
        assert_eq!(std::fs::read_to_string(path).unwrap(), reference());
    }
}
