//! The nouns of taskleak. Every step of the pipeline speaks in these, and in nothing else of another step's.
//!
//! The words are those of docs/ARCHITECTURE.md: task, kind, wait reason, wait class, site, group, verdict.

mod cause;
mod reason;
mod task;

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, SystemTime},
};

use serde::{Deserialize, Serialize};

pub use cause::Cause;
pub use reason::Reason;
pub use task::{
    Anchor, Creator, Facts, Frame, Labels, Made, ModuleFile, ProcessTasks, Registers, Site, Stack, State,
    Task, Trace, Wait,
};

/// What tells one process from every other one, also from a later one with the same pid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ProcessId {
    /// In the monitor's PID namespace.
    pub pid: u32,
    /// CLOCK_BOOTTIME at its start, ns. /proc gives the same in ticks only, too coarse to tell reused pids.
    pub start_boottime: u64,
    /// `task_struct.self_exec_id`: rises with each exec, which keeps pid and start.
    pub exec_id: u64,
}

/// A process that is watched. Empty strings are "not known".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    pub id: ProcessId,
    /// Its name as at its last exec.
    pub comm: String,
    /// Path of its executable, as the process itself would see it.
    pub exe: String,
    /// Deployment, unit or cgroup.
    pub workload: String,
    /// From the cgroup's path.
    pub container_id: Option<String>,
    /// Of Kubernetes, where it is known.
    pub pod: Option<Pod>,
}

/// Who a process is to Kubernetes. Empty strings are "not known".
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Pod {
    pub name: String,
    pub namespace: String,
    pub container: String,
}

/// What kind of thing runs the code.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum,
)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    Thread,
    Goroutine,
    /// A task of the Rust runtime tokio.
    Tokio,
}

impl Kind {
    pub const ALL: [Self; 3] = [Self::Thread, Self::Goroutine, Self::Tokio];

    /// One of them, for people.
    pub const fn noun(self) -> &'static str {
        match self {
            Self::Thread => "thread",
            Self::Goroutine => "goroutine",
            Self::Tokio => "tokio task",
        }
    }

    /// As in labels and JSON.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Thread => "thread",
            Self::Goroutine => "goroutine",
            Self::Tokio => "tokio",
        }
    }
}

/// Whether a task waits for the world or for its own program.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WaitClass {
    External,
    Internal,
}

impl WaitClass {
    /// As in labels and JSON.
    pub const fn label(self) -> &'static str {
        match self {
            Self::External => "external",
            Self::Internal => "internal",
        }
    }
}

/// What one runtime's observer says of one process in one pass.
#[derive(Clone, Debug)]
pub struct Observation {
    pub process: Arc<Process>,
    pub tasks: Vec<Task>,
    pub incomplete: BTreeSet<Cause>,
    /// Cycles of tasks, each of which holds what the one before it waits for.
    pub deadlocks: Vec<Vec<u64>>,
    /// Futex waits begun since the probes came; `None` without them.
    pub futex_waits: Option<u64>,
}

/// What a group's members have in common.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct GroupKey {
    pub kind: Kind,
    pub reason: Reason,
    pub class: WaitClass,
    pub block_site: Option<Arc<Site>>,
    pub entry: Option<Arc<Site>>,
    pub spawn_site: Option<Arc<Site>>,
}

/// What is thought of a group.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Not enough history, or the observation is incomplete.
    Unknown,
    /// Blocked, perhaps for good, but no more than before: an idle pool.
    Stable,
    /// More and more.
    Growing,
    /// More and more, and of those that came none goes.
    Leaking,
    /// Members of it are in a cycle of lock holders: they cannot come back.
    Proven,
}

impl Verdict {
    /// As in labels and JSON.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Stable => "stable",
            Self::Growing => "growing",
            Self::Leaking => "leaking",
            Self::Proven => "proven",
        }
    }

    /// Whether somebody should look.
    pub const fn is_alarm(self) -> bool {
        matches!(self, Self::Growing | Self::Leaking | Self::Proven)
    }
}

/// Which count a verdict was made from.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Basis {
    /// Tasks blocked past the threshold.
    Blocked,
    /// Live tasks by entry, for what is never long in one wait but never ends.
    Live,
}

impl Basis {
    /// As in labels and JSON.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Blocked => "blocked",
            Self::Live => "live",
        }
    }
}

/// Blocked tasks of one process that wait for the same thing at the same place.
#[derive(Clone, Debug)]
pub struct Group {
    pub key: GroupKey,
    /// 0 for a group that has drained: its metrics stay until its process ends.
    pub count: usize,
    pub youngest: Duration,
    pub oldest: Duration,
    /// At most as many as asked for, in rising order.
    pub ids: Vec<u64>,
    pub ids_truncated: bool,
    pub verdict: Verdict,
    pub basis: Basis,
    /// What its count was, at even distances in time, oldest first; empty without a history.
    pub recent: Vec<f32>,
    /// How it has grown or shrunk, when there was enough to see.
    pub growth: Option<Growth>,
    /// Waits past the threshold that have ended since the group is known.
    pub returned: u64,
    /// How long its waits usually last, when enough of them have ended.
    pub usual: Option<Usual>,
    /// Whether it has series of its own, or is summed under `other`.
    pub named: bool,
    /// The stack of one of its members.
    pub stack: Option<Arc<Stack>>,
    /// Where its members were made, as far as that was seen, most of them first.
    pub spawn_sites: Vec<(Arc<Site>, usize)>,
    /// Tasks that hold what members of it wait for, at most as many as ids are kept.
    pub waits_for: Vec<u64>,
}

impl Group {
    /// Where its members were made, or most of those of whom that was seen.
    pub fn made_at(&self) -> Option<&Site> {
        let most = self.spawn_sites.first().map(|(site, _)| site);
        self.key.spawn_site.as_ref().or(most).map(AsRef::as_ref)
    }
}

/// How a count has changed over a window of time.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Growth {
    pub from: f64,
    pub to: f64,
    pub over_seconds: f64,
    /// How likely such a rise is without a trend (Mann–Kendall, one-sided, corrected for autocorrelation).
    pub p: f64,
    /// Theil–Sen.
    pub per_hour: f64,
}

/// What is usual of a group's waits: of those that reach the threshold and end, this share ends within so long.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Usual {
    pub share: f64,
    pub within_seconds: f64,
    /// Members whose waits have lasted longer.
    pub beyond: usize,
    /// Of the waits that reach the threshold, the share that is still there after `within_seconds` (Kaplan–Meier).
    pub survive: f64,
}

/// The live tasks of a process that run the same; or those that have run it, have ended and are kept.
#[derive(Clone, Debug)]
pub struct LiveTasks {
    pub kind: Kind,
    pub entry: Option<Arc<Site>>,
    /// Nobody has given back their handles.
    pub is_kept: bool,
    pub count: usize,
    /// Where they were made, as far as that was seen, most of them first.
    pub spawn_sites: Vec<(Arc<Site>, usize)>,
    /// Whether it has series of its own; what has none is summed here under `other`, and is not judged.
    pub named: bool,
    /// On those that are never blocked for long.
    pub verdict: Verdict,
    pub growth: Option<Growth>,
}

impl LiveTasks {
    /// Where they were made, or most of those of whom that was seen.
    pub fn made_at(&self) -> Option<&Site> {
        self.spawn_sites.first().map(|(site, _)| site.as_ref())
    }
}

/// A process with its groups.
#[derive(Clone, Debug)]
pub struct ProcessReport {
    pub process: Arc<Process>,
    pub threshold: Duration,
    pub tasks: Vec<(Kind, usize)>,
    /// By what they run.
    pub live: Vec<LiveTasks>,
    /// Most members first; drained ones last.
    pub groups: Vec<Group>,
    pub incomplete: BTreeSet<Cause>,
    /// Cycles of tasks, each of which holds what the one before it waits for.
    pub deadlocks: Vec<Vec<u64>>,
    pub futex_waits: Option<u64>,
    /// One of each kind of task that is watched being made; none without spawn probes.
    pub spawns: Vec<SpawnReport>,
    /// What it runs of those that have tasks of their own: `go`, `tokio`.
    pub runtimes: Vec<&'static str>,
    /// `go1.27.3`, of a process that runs Go.
    pub go_version: Option<String>,
}

impl ProcessReport {
    /// Whether the group is of threads that Go's scheduler keeps for the goroutines to come.
    pub fn is_idle_scheduler(&self, group: &Group) -> bool {
        let site = group.key.block_site.as_ref().map(|site| site.function.as_str());
        self.go_version.is_some() && is_idle_scheduler(&self.process.exe, group.key.kind, site)
    }
}

/// Whether a task that blocks there, in a program that runs Go, is a thread that its scheduler keeps for the goroutines to
/// come. In a stripped program nothing is named: its own code runs in goroutines, which tell themselves what they wait for.
pub fn is_idle_scheduler(exe: &str, kind: Kind, block_site: Option<&str>) -> bool {
    let exe = exe.strip_suffix(" (deleted)").unwrap_or(exe);
    let file = exe.rsplit('/').next().unwrap_or(exe);
    let is_nameless = |site: &str| {
        let module = site.strip_prefix('[').and_then(|site| site.strip_suffix(']'));
        module == Some(file)
    };
    let is_runtimes = |site: &str| site.starts_with("runtime.") || is_nameless(site);
    kind == Kind::Thread && block_site.is_some_and(is_runtimes)
}

/// What the spawn probes say of a process's tasks of one kind.
#[derive(Clone, Debug)]
pub struct SpawnReport {
    pub kind: Kind,
    /// Whether births are being seen now.
    pub active: bool,
    pub totals: Vec<SpawnTotals>,
}

/// Births and deaths of tasks of one origin, since the spawn probe was attached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpawnTotals {
    pub entry: Option<Arc<Site>>,
    pub spawn_site: Option<Arc<Site>>,
    pub spawned: u64,
    pub exited: u64,
}

/// The result of one pass (or of two, for `snapshot`).
#[derive(Clone, Debug)]
pub struct Snapshot {
    pub taken_at: SystemTime,
    /// From the first sweep to the last.
    pub observed: Duration,
    /// By pid.
    pub processes: Vec<ProcessReport>,
    pub health: Health,
}

/// How the monitor itself is.
#[derive(Clone, Debug, Default)]
pub struct Health {
    pub sweep_duration: Duration,
    /// Unix time of the end of the last sweep.
    pub swept_at: Duration,
    pub probes: Vec<ProbeHealth>,
    pub maps: Vec<MapHealth>,
    pub lost: Vec<(&'static str, u64)>,
    pub programs: Vec<ProgramHealth>,
}

#[derive(Clone, Debug)]
pub struct ProbeHealth {
    pub probe: &'static str,
    pub attached: bool,
}

#[derive(Clone, Debug)]
pub struct MapHealth {
    pub map: &'static str,
    pub entries: u64,
    pub capacity: u64,
}

#[derive(Clone, Debug)]
pub struct ProgramHealth {
    pub program: String,
    pub runs: u64,
    pub run_time: Duration,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schedulers_threads_are_known_with_names_and_without() {
        let is = |exe: &str, site| is_idle_scheduler(exe, Kind::Thread, Some(site));
        assert!(
            is("/app/api", "runtime.futex") && is("/app/api", "[api]") && is("/app/api (deleted)", "[api]")
        );
        for site in [
            "main.wait",
            "[libssl.so.3]",
            "[other]",
            "api",
            "[]",
            "pthread_cond_wait",
        ] {
            assert!(!is("/app/api", site), "{site}");
        }
        assert!(!is_idle_scheduler(
            "/app/api",
            Kind::Goroutine,
            Some("runtime.futex")
        ));
        assert!(!is_idle_scheduler("/app/api", Kind::Thread, None));
    }
}
