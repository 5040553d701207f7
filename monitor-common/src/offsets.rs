//! Where the running kernel keeps the fields that the programs read.

/// Byte offsets inside kernel structs, from the kernel's BTF, set at load as a read-only global.
///
/// aya-ebpf has no CO-RE, so this is how one object runs on every kernel. Nested members are given from the
/// start of `task_struct` (`last_arrival` is `task_struct.sched_info.last_arrival`).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TaskOffsets {
    pub pid: u32,
    pub tgid: u32,
    pub flags: u32,
    pub state: u32,
    pub exit_state: u32,
    pub jobctl: u32,
    pub on_cpu: u32,
    pub policy: u32,
    pub nvcsw: u32,
    pub nivcsw: u32,
    pub last_arrival: u32,
    pub sum_exec_runtime: u32,
    pub prev_sum_exec_runtime: u32,
    pub start_boottime: u32,
    pub self_exec_id: u32,
    pub comm: u32,
    pub group_leader: u32,
    pub thread_pid: u32,
    pub signal: u32,
    pub restart_fn: u32,
    /// `task_struct.thread_info.status`: [`crate::record_flags::COMPAT`] comes from it.
    pub thread_status: u32,
    /// `task_struct.thread.fsbase` (x86-64).
    pub fsbase: u32,
    /// `pid.level` and `pid.numbers`, from the start of `struct pid`.
    pub pid_level: u32,
    pub pid_numbers: u32,
    /// `sizeof(struct upid)`; `nr` is its first member.
    pub upid_size: u32,
    /// `signal_struct.live`: threads that have not begun to exit.
    pub signal_live: u32,
}
