//! Reading `task_struct` at the offsets that user space took from the kernel's BTF.

use aya_ebpf::helpers::{bpf_get_current_task, bpf_probe_read_kernel};
use monitor_common::TaskOffsets;

/// Set at load; read with [`offset!`] only, because the compiler must not believe this initial value.
#[unsafe(no_mangle)]
pub static OFFSETS: TaskOffsets = TaskOffsets {
    pid: 0,
    tgid: 0,
    flags: 0,
    state: 0,
    exit_state: 0,
    jobctl: 0,
    on_cpu: 0,
    policy: 0,
    nvcsw: 0,
    nivcsw: 0,
    last_arrival: 0,
    sum_exec_runtime: 0,
    prev_sum_exec_runtime: 0,
    start_boottime: 0,
    self_exec_id: 0,
    comm: 0,
    group_leader: 0,
    thread_pid: 0,
    signal: 0,
    restart_fn: 0,
    thread_status: 0,
    fsbase: 0,
    pid_level: 0,
    pid_numbers: 0,
    upid_size: 0,
    signal_live: 0,
};

/// The offset of a field, as user space set it.
macro_rules! offset {
    ($field:ident) => {
        // SAFETY: a valid static; volatile because the loader changes it behind the compiler's back.
        unsafe { core::ptr::read_volatile(&raw const $crate::task::OFFSETS.$field) as usize }
    };
}
pub(crate) use offset;

/// A kernel object's address. Reads that fail give zero: the kernel checks each one.
#[derive(Clone, Copy)]
pub struct Kernel(*const u8);

impl Kernel {
    pub const fn new(address: *const u8) -> Self {
        Self(address)
    }

    /// The task that runs this program (for the sweep: the monitor's own sweeping thread).
    #[inline(always)]
    pub fn current() -> Self {
        // SAFETY: a helper without arguments.
        Self(unsafe { bpf_get_current_task() } as *const u8)
    }

    #[inline(always)]
    pub fn read<T: Copy + Default>(self, offset: usize) -> T {
        // SAFETY: the helper checks the address and fails rather than faults.
        unsafe { bpf_probe_read_kernel(self.0.wrapping_add(offset).cast::<T>()) }.unwrap_or_default()
    }

    #[inline(always)]
    pub fn follow(self, offset: usize) -> Self {
        Self(self.read::<u64>(offset) as *const u8)
    }

    /// For a task: its depth of PID namespaces (`task_struct.thread_pid->level`).
    #[inline(always)]
    pub fn pid_level(self) -> u32 {
        self.follow(offset!(thread_pid)).read(offset!(pid_level))
    }

    /// For a task: its tid as the PID namespace at `level` numbers it; 0 when it is not in that one.
    #[inline(always)]
    pub fn tid_at(self, level: u32) -> u32 {
        let pid = self.follow(offset!(thread_pid));
        if pid.read::<u32>(offset!(pid_level)) < level {
            return 0;
        }
        pid.read(offset!(pid_numbers) + level as usize * offset!(upid_size))
    }
}
