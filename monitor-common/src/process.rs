//! What the probes keep and say of processes.

use crate::COMM_LEN;

/// Which processes the probes look at. User space holds the policy; this is its kernel half, one lookup in
/// `PROCESSES` at most.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filter {
    /// Every process but the monitor; no lookup.
    All = 0,
    /// Those whose entry says [`ProcessEntry::selected`].
    Selected = 1,
}

/// A process in the map `PROCESSES`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProcessEntry {
    /// See [`selected`].
    pub selected: u32,
    pub _pad: u32,
    /// Futex waits of its threads that have ended.
    pub exited_waits: u64,
    /// Name at its last exec; all zero when no exec was seen.
    pub exec_comm: [u8; COMM_LEN],
}

/// A process has called exec: told at once, so that user space can decide on it before the next sweep.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExecEvent {
    /// Pid in the monitor's own PID namespace.
    pub tgid: u32,
    pub host_tgid: u32,
}

/// Values of [`ProcessEntry::selected`].
pub mod selected {
    pub const NO: u32 = 0;
    /// The probes look at this process.
    pub const ALONE: u32 = 1;
    /// The probes look at it and at every process that it forks, until that one calls exec.
    pub const WITH_FORKS: u32 = 2;
}
