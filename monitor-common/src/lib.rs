//! What the eBPF programs and the user side say to each other: `#[repr(C)]`, explicit padding, no pointers.
//!
//! Every type here is written on one side and read, byte for byte, on the other. A field that is added goes
//! where the padding is, or at the end; [`TaskRecord`]'s size is checked by a test on the user side.
#![no_std]

mod counter;
mod go;
mod offsets;
mod place;
mod process;
mod spawn;
mod task;
mod tokio;
mod wait;

pub use counter::Counter;
pub use go::{GoProcess, MAX_GO_PROCESSES};
pub use offsets::TaskOffsets;
pub use place::{SpawnCount, SpawnPlace};
pub use process::{ExecEvent, Filter, ProcessEntry, selected};
pub use spawn::{ExitEvent, SPAWN_STACK, SpawnCall, SpawnEvent, spawn_kind};
pub use task::{EXITED, TaskRecord, record_flags, task_flags, task_state};
pub use tokio::{
    MAX_TOKIO_ENDED, MAX_TOKIO_PLACES, MAX_TOKIO_PROCESSES, MAX_TOKIO_STEPS, MAX_TOKIO_TASKS, TOKIO_AMID,
    TOKIO_INDIRECT, TOKIO_JOIN_INTEREST, TOKIO_REGISTER, TokioBirth, TokioStep, TokioTask, tokio_step,
};
pub use wait::{FutexCall, FutexWait};

/// Length of a task's name in the kernel (`TASK_COMM_LEN`, include/linux/sched.h), with its NUL.
pub const COMM_LEN: usize = 16;

/// Names of maps and globals that the user side looks up in the object.
pub mod names {
    /// Hash: host tid → [`crate::FutexWait`].
    pub const WAITS: &str = "WAITS";
    /// Hash: host tgid → [`crate::ProcessEntry`].
    pub const PROCESSES: &str = "PROCESSES";
    /// Per-CPU array: [`crate::Counter`] → count since load.
    pub const COUNTERS: &str = "COUNTERS";
    /// Ring buffer of [`crate::ExecEvent`].
    pub const EVENTS: &str = "EVENTS";
    /// Ring buffer of [`crate::SpawnEvent`] and [`crate::ExitEvent`].
    pub const SPAWNS: &str = "SPAWNS";
    /// Array: number of a process → [`crate::GoProcess`].
    pub const GO_PROCESSES: &str = "GO_PROCESSES";
    /// Hash: [`crate::SpawnPlace`] → [`crate::SpawnCount`].
    pub const GO_SITES: &str = "GO_SITES";
    /// Array: number of a function → how often it was seen to poll.
    pub const TOKIO_RUNS: &str = "TOKIO_RUNS";
    /// Hash: [`crate::TokioTask`] → 0, or when it was polled last (CLOCK_MONOTONIC ns).
    pub const TOKIO_WATCHED: &str = "TOKIO_WATCHED";
    /// Hash: those of them that were polled → 0.
    pub const TOKIO_POLLED: &str = "TOKIO_POLLED";
    /// Array: number of a process → how often its probes on births and deaths of tasks have run.
    pub const TOKIO_SPAWN_RUNS: &str = "TOKIO_SPAWN_RUNS";
    /// Hash: [`crate::SpawnPlace`] → [`crate::SpawnCount`].
    pub const TOKIO_SITES: &str = "TOKIO_SITES";
    /// Hash: [`crate::SpawnPlace`] that a call returns to → [`crate::TokioStep`].
    pub const TOKIO_STEPS: &str = "TOKIO_STEPS";
    /// Hash: places that had none → 0.
    pub const TOKIO_STEPS_WANTED: &str = "TOKIO_STEPS_WANTED";
    /// Hash: [`crate::TokioTask`] that lives → [`crate::TokioBirth`].
    pub const TOKIO_BORN: &str = "TOKIO_BORN";
    /// Hash: [`crate::TokioTask`] that has ended and had a handle then → its [`crate::TokioBirth`].
    pub const TOKIO_ENDED: &str = "TOKIO_ENDED";
    /// Read-only global: 1 when births and deaths of threads are to be told.
    pub const SPAWN_PROBES: &str = "SPAWN_PROBES";
    /// Read-only global: [`crate::TaskOffsets`].
    pub const OFFSETS: &str = "OFFSETS";
    /// Read-only global: [`crate::Filter`] as a `u32`.
    pub const FILTER: &str = "FILTER";
    /// Read-only global: the monitor's own pid in its own PID namespace.
    pub const OWN_TGID: &str = "OWN_TGID";
    /// Read-only global: 1 when the sweep is to read and prime [`WAITS`].
    pub const FUTEX_PROBES: &str = "FUTEX_PROBES";
}

#[cfg(feature = "user")]
mod pod {
    macro_rules! pod {
        ($($t:ty),*) => {$(
            // SAFETY: `#[repr(C)]`, integers and arrays of integers only, no implicit padding: every bit
            // pattern is a valid value.
            unsafe impl aya::Pod for $t {}
        )*};
    }
    pod!(
        crate::TaskOffsets,
        crate::ProcessEntry,
        crate::FutexWait,
        crate::TaskRecord,
        crate::ExecEvent,
        crate::GoProcess,
        crate::SpawnPlace,
        crate::SpawnCount,
        crate::TokioTask,
        crate::TokioBirth,
        crate::TokioStep
    );
}
