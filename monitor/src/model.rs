//! The nouns of taskleak. Every step of the pipeline speaks in these, and in nothing else of another step's.
//!
//! The words are those of docs/ARCHITECTURE.md: task, kind, wait reason, wait class, site, group, verdict.

use std::{
    cmp::Ordering,
    collections::BTreeSet,
    fmt,
    hash::{Hash, Hasher},
    ops::Deref,
    sync::Arc,
    time::{Duration, SystemTime},
};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

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

    /// As in labels and JSON.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Thread => "thread",
            Self::Goroutine => "goroutine",
            Self::Tokio => "tokio",
        }
    }

    /// What one of them is called.
    pub const fn noun(self) -> &'static str {
        match self {
            Self::Thread | Self::Goroutine => self.label(),
            Self::Tokio => "tokio task",
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

/// What a task waits for, in its runtime's own words. A copy costs nothing.
#[derive(Clone)]
pub enum Reason {
    Static(&'static str),
    /// Read from a target. A thin pointer, so that all of it is two words: there may be a million.
    Shared(Arc<String>),
}

impl Deref for Reason {
    type Target = str;

    fn deref(&self) -> &str {
        match self {
            Self::Static(text) => text,
            Self::Shared(text) => text,
        }
    }
}

impl fmt::Debug for Reason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(formatter)
    }
}

impl PartialEq for Reason {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Reason {}

impl PartialEq<&str> for Reason {
    fn eq(&self, other: &&str) -> bool {
        **self == **other
    }
}

impl Hash for Reason {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (**self).hash(state);
    }
}

impl PartialOrd for Reason {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Reason {
    fn cmp(&self, other: &Self) -> Ordering {
        (**self).cmp(&**other)
    }
}

impl Serialize for Reason {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self)
    }
}

impl<'de> Deserialize<'de> for Reason {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::from)
    }
}

impl From<&'static str> for Reason {
    fn from(text: &'static str) -> Self {
        Self::Static(text)
    }
}

impl From<String> for Reason {
    fn from(text: String) -> Self {
        Self::Shared(text.into())
    }
}

/// A wait without a timeout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wait {
    /// In the runtime's own words.
    pub reason: Reason,
    pub class: WaitClass,
    /// How long it had lasted when it was seen.
    pub age: Duration,
    /// For threads: what its stack is read by.
    pub anchor: Option<Box<Anchor>>,
}

/// A sleeping thread in one wait of its: the same anchor, the same stack. Never exported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Anchor {
    pub tid: u32,
    /// CLOCK_BOOTTIME at the thread's start, ns.
    pub start_boottime: u64,
    /// CLOCK_MONOTONIC ns when the wait began.
    pub began: u64,
    pub registers: Registers,
}

/// Registers of a thread that sleeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Registers {
    pub ip: u64,
    pub sp: u64,
    pub bp: u64,
}

/// One thread, goroutine or async task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    pub kind: Kind,
    /// tid, goid or tokio task id.
    pub id: u64,
    /// Tells it from an earlier task with the same id: a thread's start (CLOCK_BOOTTIME ns), 0 where ids are never used
    /// again.
    pub start: u64,
    /// `None` when it runs, could run, or its wait ends by itself.
    pub wait: Option<Wait>,
    /// A thread's own name, where it is not its process's.
    pub name: Option<Box<str>>,
    /// Of a blocked task, where it could be read.
    pub stack: Option<Arc<Stack>>,
    /// What it runs, where that is known without its stack.
    pub entry: Option<Arc<Site>>,
    /// Where it was made, when that was seen or can be read of it.
    pub spawn_site: Option<Arc<Site>>,
    /// Who holds what it waits for, who holds what that one waits for, and so on, as far as it is known.
    pub waits_for: Option<Arc<Vec<u64>>>,
    /// What else there is to tell; only where all tasks of a process were asked for, and not of every kind.
    pub facts: Option<Box<Facts>>,
}

impl Task {
    /// What is known of it, told or not.
    pub fn state(&self) -> State {
        match (&self.facts, &self.wait) {
            (Some(facts), _) => facts.state,
            (None, Some(_)) => State::Waiting,
            (None, None) => State::Active,
        }
    }

    /// What it waits for, also where that ends by itself.
    pub fn reason(&self) -> Option<&Reason> {
        let told = self.facts.as_ref().and_then(|facts| facts.reason.as_ref());
        self.wait.as_ref().map(|wait| &wait.reason).or(told)
    }

    /// For how long it has waited at least.
    pub fn age(&self) -> Option<Duration> {
        let told = self.facts.as_ref().and_then(|facts| facts.age);
        self.wait.as_ref().map(|wait| wait.age).or(told)
    }
}

/// Whether a task runs.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    Waiting,
    /// It could run, and waits for a CPU.
    Runnable,
    /// It runs, or has not waited for long enough to be sure: there is no stack to read.
    Running,
    /// By a signal, a tracer or the freezer.
    Stopped,
    /// It runs, could run, or its wait ends by itself: which of them is not told.
    Active,
}

impl State {
    /// As in labels and JSON.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Runnable => "runnable",
            Self::Running => "running",
            Self::Stopped => "stopped",
            Self::Active => "active",
        }
    }
}

/// What is told of a task where all tasks of its process are asked for, blocked or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    pub state: State,
    pub reason: Option<Reason>,
    pub age: Option<Duration>,
    /// What a thread's stack is read by.
    pub anchor: Option<Anchor>,
    /// Of the same kind.
    pub made_by: Option<u64>,
    pub trace: Option<Trace>,
}

/// How the runtime itself prints a task, beside its stack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    /// Where it comes among the others.
    pub order: u32,
    /// It is the runtime's own, and not printed.
    pub is_hidden: bool,
    pub status: Reason,
    pub minutes: u64,
    pub is_locked: bool,
    pub creator: Option<Arc<Creator>>,
    /// How far into its function each frame of the stack is; 0 of inlined ones.
    pub within: Arc<[u32]>,
}

/// What has made tasks: the function that stands there, whatever was put into it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Creator {
    pub site: Site,
    pub within: u32,
}

/// All tasks of a process.
#[derive(Clone, Debug)]
pub struct ProcessTasks {
    pub process: Arc<Process>,
    pub taken_at: SystemTime,
    /// `go1.27.3`, of a process that runs Go.
    pub go_version: Option<String>,
    pub tasks: Vec<Task>,
    pub incomplete: BTreeSet<Cause>,
    /// It has ended meanwhile: what was seen of it until then.
    pub is_gone: bool,
    pub modules: Vec<ModuleFile>,
}

/// A file whose code a process has mapped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModuleFile {
    /// As in [`Frame::module`].
    pub name: String,
    /// Hexadecimal; empty where it has none.
    pub build_id: String,
}

/// The stack of a task, and what it says of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Stack {
    /// Innermost first, inlined frames expanded.
    pub frames: Vec<Frame>,
    /// There are more frames than these.
    pub truncated: bool,
    /// The innermost frame of the program's own code.
    pub block_site: Option<Arc<Site>>,
    /// What the task runs: the outermost frame of the program's own code.
    pub entry: Option<Arc<Site>>,
}

/// A place in the code of a target.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Site {
    pub function: String,
    pub file: Option<String>,
    pub line: Option<u32>,
}

/// One frame of a stack, as it leaves the monitor: never an address of the target.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Frame {
    /// Demangled; `None` where no symbol covers it.
    pub function: Option<String>,
    pub file: Option<String>,
    pub line: Option<u32>,
    /// The compiler put it into the frame below it.
    pub inlined: bool,
    /// File name of the mapping (`libc.so.6`), `[vdso]`, `[jit]` for anonymous code, or empty.
    pub module: String,
    /// In the module's file.
    pub offset: u64,
    /// Found by a guess (a scan for call sites), not by unwind information or frame pointers.
    pub guessed: bool,
}

/// Why an observation does not hold the whole truth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Cause {
    /// Stopped by a signal: not judged, ages stand still.
    Stopped,
    /// Stopped by a tracer.
    Traced,
    /// In a frozen cgroup.
    Frozen,
    /// A thread's registers could not be read: its system call is not known.
    Registers,
    /// A wait's timeout could not be read from the target's memory; it was taken for a short one.
    Timeout,
    /// A restarted wait whose kind is hidden (kptr_restrict); it was taken for one with a timeout.
    Restart,
    /// The futex probes had no room for one of its threads (`--max-threads`): if signals wake it, its wait looks
    /// younger than it is.
    ProbesFull,
    /// A stack could not be read.
    StackUnreadable,
    /// Reading its stacks did not end in time: the process is left alone for a while.
    StackUnresponsive,
    /// Who holds what its threads wait for could not be read.
    Holders,
    /// Stacks are still being read: the next pass has them.
    StackPending,
    /// Found in this very pass: its threads are read from the next one on.
    New,
    /// It was made by a version of Go whose structures are not known.
    GoLayout,
    /// Not all of its goroutines could be read.
    GoroutinesUnreadable,
    /// Reading its goroutines did not end in time: the process is left alone for a while.
    GoroutinesUnresponsive,
    /// Its goroutines are still being read: the next pass has them.
    GoroutinesPending,
    /// It has threads of tokio's, but tokio's structures were not found where known versions have them.
    TokioLayout,
    /// Not all of its tokio tasks could be read.
    TokioUnreadable,
    /// Reading its tokio tasks did not end in time: the process is left alone for a while.
    TokioUnresponsive,
    /// Its tokio tasks are still being read: the next pass has them.
    TokioPending,
    /// Its debug information does not tell what its tokio tasks await: none of those is called blocked.
    TokioTypes,
    /// Whether its tokio tasks are polled could not be seen, or not for long enough: of some it is not said that they are
    /// blocked.
    TokioPolls,
}

impl Cause {
    /// Whether tasks of a kind may be missing: that one is not there does not mean that it has ended.
    pub const fn hides(self, kind: Kind) -> bool {
        match kind {
            Kind::Thread => matches!(self, Self::New),
            Kind::Goroutine => matches!(
                self,
                Self::New
                    | Self::GoLayout
                    | Self::GoroutinesUnreadable
                    | Self::GoroutinesUnresponsive
                    | Self::GoroutinesPending
            ),
            Kind::Tokio => matches!(
                self,
                Self::New
                    | Self::TokioLayout
                    | Self::TokioUnreadable
                    | Self::TokioUnresponsive
                    | Self::TokioPending
            ),
        }
    }

    /// Whether the next pass may know more.
    pub const fn passes(self) -> bool {
        matches!(
            self,
            Self::New | Self::StackPending | Self::GoroutinesPending | Self::TokioPending
        )
    }

    /// As in labels and JSON.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Stopped => "stopped",
            Self::Traced => "traced",
            Self::Frozen => "frozen",
            Self::Registers => "registers_unreadable",
            Self::Timeout => "timeout_unreadable",
            Self::Restart => "restart_unknown",
            Self::ProbesFull => "futex_waits_full",
            Self::StackUnreadable => "stack_unreadable",
            Self::StackUnresponsive => "stack_unresponsive",
            Self::Holders => "holders_unreadable",
            Self::StackPending => "stack_pending",
            Self::New => "not_read_yet",
            Self::GoLayout => "go_layout_unknown",
            Self::GoroutinesUnreadable => "goroutines_unreadable",
            Self::GoroutinesUnresponsive => "goroutines_unresponsive",
            Self::GoroutinesPending => "goroutines_pending",
            Self::TokioLayout => "tokio_layout_unknown",
            Self::TokioUnreadable => "tokio_unreadable",
            Self::TokioUnresponsive => "tokio_unresponsive",
            Self::TokioPending => "tokio_pending",
            Self::TokioTypes => "tokio_types_missing",
            Self::TokioPolls => "tokio_polls_unseen",
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

/// The live tasks of a process that run the same.
#[derive(Clone, Debug)]
pub struct LiveTasks {
    pub kind: Kind,
    pub entry: Option<Arc<Site>>,
    pub count: usize,
    /// Whether it has series of its own; what has none is summed here under `other`, and is not judged.
    pub named: bool,
    /// On those that are never blocked for long.
    pub verdict: Verdict,
    pub growth: Option<Growth>,
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
        self.go_version.is_some() && is_idle_scheduler(group.key.kind, site)
    }
}

/// Whether a task that blocks there, in a program that runs Go, is a thread that its scheduler keeps for the goroutines to
/// come.
pub fn is_idle_scheduler(kind: Kind, block_site: Option<&str>) -> bool {
    kind == Kind::Thread && block_site.is_some_and(|function| function.starts_with("runtime."))
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
