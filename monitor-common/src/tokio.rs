//! Tokio tasks that seem to be stuck, and whether somebody polls them.

/// Processes whose tasks can be watched at once.
pub const MAX_TOKIO_PROCESSES: u32 = 4_096;
/// Tasks that can be watched at once, in all processes.
pub const MAX_TOKIO_TASKS: u32 = 1 << 20;

/// A task that is watched, key of `TOKIO_WATCHED` and of `TOKIO_POLLED`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TokioTask {
    /// Index in `TOKIO_RUNS`, the probes' cookie.
    pub process: u32,
    pub _pad: u32,
    /// Where it lies in its process.
    pub header: u64,
}
