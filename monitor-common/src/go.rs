//! Goroutines that are made and end, counted in the kernel by the place of their `go` statement.

/// Processes whose goroutines can be counted at once.
pub const MAX_GO_PROCESSES: u32 = 4_096;

/// What the probes know of a process; its index in `GO_PROCESSES` is their cookie.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GoProcess {
    /// How often its probes have run.
    pub runs: u64,
    /// Offset of `g.gopc`; `g.startpc` is two words behind.
    pub gopc: u64,
}
