//! What the programs count for all processes together.

/// Index into the per-CPU array `COUNTERS`. All count up from the load on.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counter {
    /// `WAITS` was full when a thread was born or met by a sweep: it is watched by the sweep alone.
    WaitsFull = 0,
    /// `PROCESSES` was full.
    ProcessesFull = 1,
    /// `EVENTS` was full: the process is found by the next sweep.
    EventsFull = 2,
    /// The sweep had no room to put a record together.
    RecordLost = 3,
    /// `SPAWNS` was full: births and deaths of threads are missing from their totals.
    SpawnsFull = 4,
    WaitsAdded = 5,
    WaitsRemoved = 6,
    ProcessesAdded = 7,
    ProcessesRemoved = 8,
    /// `GO_SITES` was full: goroutines of further places are missing from their totals.
    GoSitesFull = 9,
    /// `TOKIO_POLLED` was full: nothing is said any more of tasks that were watched then.
    TokioPollsFull = 10,
    /// `TOKIO_SITES` was full: tasks of further places are missing from their totals.
    TokioSitesFull = 11,
    /// `TOKIO_BORN` was full: tasks are missing from their totals, and nobody knows where they were made.
    TokioBirthsFull = 12,
    /// `TOKIO_ENDED` was full: tasks that have ended are missing, if their handles are kept.
    TokioEndsFull = 13,
}

impl Counter {
    pub const COUNT: usize = 14;

    /// The counters of what was lost, each with its label in `taskleak_lost_events_total`.
    pub const LOST: [(Self, &'static str); 10] = [
        (Self::WaitsFull, "futex_waits_full"),
        (Self::ProcessesFull, "processes_full"),
        (Self::EventsFull, "process_events_full"),
        (Self::RecordLost, "sweep_record_lost"),
        (Self::SpawnsFull, "spawn_events_full"),
        (Self::GoSitesFull, "goroutine_sites_full"),
        (Self::TokioPollsFull, "tokio_polls_full"),
        (Self::TokioSitesFull, "tokio_sites_full"),
        (Self::TokioBirthsFull, "tokio_births_full"),
        (Self::TokioEndsFull, "tokio_ends_full"),
    ];
}
