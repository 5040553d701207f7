//! Births and deaths of threads, told one by one through the ring buffer `SPAWNS` while spawn probes are on.

/// Bytes of the creator's stack that are told, from `pthread_create`'s entry upwards.
pub const SPAWN_STACK: usize = 4096;

/// Kinds of messages in `SPAWNS`: the first word of each.
pub mod spawn_kind {
    pub const SPAWN: u32 = 1;
    pub const EXIT: u32 = 2;
}

/// What `pthread_create` was called with, kept by the creator's host tid until the kernel makes the thread.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SpawnCall {
    pub start_routine: u64,
    pub argument: u64,
    /// Registers at the entry: the return address is at `sp`.
    pub ip: u64,
    pub sp: u64,
    pub bp: u64,
    /// The first three words that the argument points at: C++ and Rust keep there what the thread runs. They are
    /// right at this moment only.
    pub argument_words: [u64; 3],
}

/// A thread was made. Ids are those of the monitor's PID namespace.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpawnEvent {
    /// [`spawn_kind::SPAWN`].
    pub kind: u32,
    pub tgid: u32,
    /// The thread that made it.
    pub creator: u32,
    pub tid: u32,
    /// CLOCK_BOOTTIME ns at the new thread's start.
    pub start_boottime: u64,
    /// All zero when it was not made by `pthread_create`.
    pub call: SpawnCall,
    /// How much of `stack` is filled.
    pub stack_length: u64,
    pub stack: [u8; SPAWN_STACK],
}

/// A thread has ended.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExitEvent {
    /// [`spawn_kind::EXIT`].
    pub kind: u32,
    pub tgid: u32,
    pub tid: u32,
    pub _pad: u32,
    pub start_boottime: u64,
}
