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

/// Of a task that was made while somebody looked: 32 bytes a task with its key, beside the kernel's own.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TokioBirth {
    /// Where it was made; 0 where that is not known.
    pub pc: u64,
    /// CLOCK_MONOTONIC ns.
    pub at: u64,
}

/// Bit of a task's state: somebody has its handle (tokio/src/runtime/task/state.rs).
pub const TOKIO_JOIN_INTEREST: u64 = 8;
/// Tasks of all processes that had a handle when they ended, and that user space has not yet taken in.
pub const MAX_TOKIO_ENDED: u32 = 1 << 17;

/// Processes whose tasks can be counted at once.
pub const MAX_TOKIO_PROCESSES: u32 = 4_096;
/// Places in the code of all processes that creators' stacks are followed through.
pub const MAX_TOKIO_STEPS: u32 = 1 << 18;

/// Of a probe's cookie, whose lower half is the number of the process: the second argument is not the task, but where that
/// stands.
pub const TOKIO_INDIRECT: u64 = 1 << 32;
/// The probe is amid a function, and the task is in a register: that of x86's number from [`TOKIO_REGISTER`] on.
pub const TOKIO_AMID: u64 = 1 << 33;
pub const TOKIO_REGISTER: u32 = 36;

/// What is known of a frame that a call returns to, by that place; from there to the frame outside. A probe amid a function
/// is known by the byte behind its own: what belongs to a call is looked up one byte before where that returns to.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TokioStep {
    /// Of [`tokio_step`].
    pub flags: u32,
    /// From the stack pointer (or the frame pointer) to where the stack pointer is in the frame outside.
    pub cfa: i32,
    /// From there to where the frame pointer was saved; 0: it is what it was.
    pub bp: i32,
    pub _pad: u32,
}

/// What a [`TokioStep`] says.
pub mod tokio_step {
    /// The program's own code: it has made the task.
    pub const SITE: u32 = 1;
    /// A library's that is no runtime's: it has, when there is no code of the program's own.
    pub const LIBRARY: u32 = 2;
    /// There is no way on, or what is outside has nothing to do with it.
    pub const END: u32 = 4;
    /// `cfa` counts from the frame pointer.
    pub const FROM_BP: u32 = 8;
}
