//! The kernel side as the rest of the monitor sees it. The only place that names aya.
//!
//! [`Probes`] loads the object, attaches what can be attached, and says what could not; [`Probes::sweep`] walks
//! every thread of the monitor's PID namespace and hands over one [`TaskRecord`] each.

mod attach;
mod btf;
mod counters;
mod events;
mod go;
mod load;
mod spawn;
mod sweep;
mod tokio;
mod tokio_spawn;
mod uprobes;
mod uprobes_many;

pub use attach::{PROBES, ProbeSpec, tracefs};
pub use counters::enable_run_stats;
pub use events::ExecEvents;
pub use go::{GoPlaces, GoProbes};
pub use load::{LoadError, LoadOptions, Probes};
pub use spawn::{SpawnEvents, SpawnMessage, SpawnProbe};
pub use tokio::TokioProbe;
pub use tokio_spawn::{TokioPlaces, TokioSpawnProbes};

pub use monitor_common::{
    ExitEvent, MAX_GO_PROCESSES, MAX_TOKIO_PLACES, MAX_TOKIO_PROCESSES, SpawnCount, SpawnEvent, SpawnPlace,
    TOKIO_AMID, TOKIO_INDIRECT, TOKIO_REGISTER, TaskRecord, TokioBirth, TokioStep, TokioTask, record_flags,
    selected, task_flags, task_state, tokio_step,
};

/// One probe and whether it works.
#[derive(Clone, Debug)]
pub struct ProbeState {
    pub spec: &'static ProbeSpec,
    /// Why it is not attached.
    pub failure: Option<String>,
}

/// What the programs' maps hold.
#[derive(Clone, Copy, Debug)]
pub struct MapUse {
    pub map: &'static str,
    pub entries: u64,
    pub capacity: u64,
}

/// A program's run time since it was loaded; the kernel counts only while `bpf_stats` are on.
#[derive(Clone, Debug)]
pub struct ProgramRuns {
    pub program: String,
    pub runs: u64,
    pub run_time: std::time::Duration,
}
