//! What one step of the `iter/task` sweep says of one thread.

use crate::{COMM_LEN, FutexWait};

/// One thread as the sweep saw it. Times are in ns.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TaskRecord {
    /// Ids in the monitor's own PID namespace.
    pub tid: u32,
    pub tgid: u32,
    /// Ids in the initial PID namespace: the keys of the probes' maps.
    pub host_tid: u32,
    pub host_tgid: u32,
    /// CLOCK_BOOTTIME at this thread's and at its process's start.
    pub start_boottime: u64,
    pub leader_start_boottime: u64,
    /// Rises with each exec; pid and start time do not change then.
    pub exec_id: u64,
    /// `task_struct.__state`, see [`task_state`].
    pub state: u32,
    pub exit_state: u32,
    /// `task_struct.flags`, see [`task_flags`].
    pub flags: u32,
    /// `SCHED_*` of include/uapi/linux/sched.h.
    pub policy: u32,
    pub jobctl: u64,
    pub on_cpu: u32,
    /// See [`record_flags`].
    pub record_flags: u32,
    /// Voluntary and involuntary switches, added up.
    pub switches: u64,
    /// When it last came onto a CPU, by the scheduler's clock (`sched_clock`, not CLOCK_MONOTONIC).
    pub last_arrival: u64,
    /// How long its last stay on a CPU was; right for fair tasks only (kernel/sched/fair.c sets
    /// `prev_sum_exec_runtime` in `set_next_entity`, other classes do not).
    pub last_run: u64,
    /// CLOCK_MONOTONIC when this record was made.
    pub sampled_at: u64,
    /// The tick (`jiffies_64`) at that moment; [`FutexWait`]'s times are in ticks.
    pub sampled_tick: u64,
    /// By the scheduler's clock: when the sweeping thread itself last came onto a CPU. The smallest
    /// `sampled_at − reader_arrival` of a sweep is the distance between the two clocks, to within a switch.
    pub reader_arrival: u64,
    /// `pt_regs.orig_ax`: number of the system call it is in, −1 when it is in none.
    pub syscall: i64,
    /// The call's arguments in their order, whatever ABI it was made by.
    pub args: [u64; 6],
    pub ip: u64,
    pub sp: u64,
    pub bp: u64,
    /// `task_struct.thread.fsbase`: where the C library keeps what it knows of the thread. As it was when the thread
    /// last left the CPU.
    pub thread_pointer: u64,
    /// `task_struct.restart_block.fn`, for calls that show as `restart_syscall`.
    pub restart_fn: u64,
    pub comm: [u8; COMM_LEN],
    /// The leader's record only: the name that the process had at its last exec, all zero where not seen.
    pub exec_comm: [u8; COMM_LEN],
    /// The leader's record only: futex waits of threads that have ended.
    pub exited_waits: u64,
    /// What the futex probes know; all zero without them ([`record_flags::FUTEX_WAIT`]).
    pub futex: FutexWait,
}

impl TaskRecord {
    /// Whether this is the record of the process's first thread.
    pub const fn is_leader(&self) -> bool {
        self.tid == self.tgid
    }
}

/// Bits of [`TaskRecord::record_flags`].
pub mod record_flags {
    /// The call was made through a 32-bit entry (`TS_COMPAT`): another system call table.
    pub const COMPAT: u32 = 1;
    /// [`super::TaskRecord::futex`] is filled.
    pub const FUTEX_WAIT: u32 = 2;
    /// The probes' filter passes this process. Of others only the leader is told.
    pub const SELECTED: u32 = 4;
    /// The registers could not be read.
    pub const NO_REGISTERS: u32 = 8;
}

/// Values of `task_struct.__state` (include/linux/sched.h).
pub mod task_state {
    pub const RUNNING: u32 = 0;
    pub const INTERRUPTIBLE: u32 = 1;
    pub const UNINTERRUPTIBLE: u32 = 2;
    pub const STOPPED: u32 = 4;
    pub const TRACED: u32 = 8;
    /// Kernel 6.1 on; the cgroup v1 freezer.
    pub const FROZEN: u32 = 0x8000;
}

/// `EXIT_DEAD | EXIT_ZOMBIE` in `task_struct.exit_state` (include/linux/sched.h).
pub const EXITED: u32 = 0x30;

/// Values of `task_struct.flags` (include/linux/sched.h).
pub mod task_flags {
    pub const IO_WORKER: u32 = 0x10;
    pub const EXITING: u32 = 0x4;
    pub const USER_WORKER: u32 = 0x4000;
    pub const KTHREAD: u32 = 0x0020_0000;
}
