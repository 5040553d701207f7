//! What is counted in the kernel by the place that it is made at: goroutines and tasks of tokio.

/// A place in the code of a process.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SpawnPlace {
    /// The number of its process with the probes that count there.
    pub process: u32,
    pub _pad: u32,
    /// Behind the call; 0 where it is not known.
    pub pc: u64,
}

/// What was counted of a place.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SpawnCount {
    pub spawned: u64,
    pub exited: u64,
    /// What the first one that was seen runs (a function, a future's vtable), or 0.
    pub runs: u64,
    /// Not 0 when others run something else.
    pub is_mixed: u64,
}
