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

/// A place that goroutines are made at, key of `GO_SITES`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GoSite {
    /// Index in `GO_PROCESSES`.
    pub process: u32,
    pub _pad: u32,
    /// Behind the call; 0 where it could not be read.
    pub pc: u64,
}

/// What was counted of a place.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GoCount {
    pub spawned: u64,
    pub exited: u64,
    /// What the first goroutine that was seen runs, or 0.
    pub startpc: u64,
    /// Not 0 when others run something else.
    pub is_mixed: u64,
}
