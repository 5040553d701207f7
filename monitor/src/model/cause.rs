//! Why an observation does not hold the whole truth, and what that hides.

use super::Kind;

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
    /// Its debug information does not tell what its tokio tasks await: of those that are blocked it is not said where, nor
    /// for what they wait.
    TokioTypes,
    /// Which of its tokio tasks wait for a timer could not be found out: of some it is not said that they are blocked.
    TokioTimers,
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
            Self::TokioTimers => "tokio_timers_unknown",
            Self::TokioPolls => "tokio_polls_unseen",
        }
    }
}
