//! Tokio tasks that seem to be stuck, and whether somebody polls them.

/// Functions that can be probed at once, in all processes; the upper half of a probe's cookie is the number of its one.
pub const MAX_TOKIO_PLACES: u32 = 16_384;
/// Tasks that can be watched at once, in all processes.
pub const MAX_TOKIO_TASKS: u32 = 1 << 20;

/// A task that is watched, key of `TOKIO_WATCHED` and of `TOKIO_POLLED`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TokioTask {
    /// A number of the monitor's for it, the lower half of the probes' cookie.
    pub process: u32,
    pub _pad: u32,
    /// Where it lies in its process.
    pub header: u64,
}
