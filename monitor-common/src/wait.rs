//! What the futex probes keep of a thread.

/// A thread's last futex wait; all zero before its first. The probes write it in place; whether it still lasts is for the sweep to say
/// (the thread sleeps in a futex call with the same address).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FutexWait {
    /// Tick (`jiffies_64`) at which the wait began; 0: before the probes came.
    pub start: u64,
    /// Ticks of this wait spent outside the call because a signal or a stop interrupted it.
    pub paused: u64,
    /// Tick at which the call ended with a restart code and has not begun anew yet, else 0.
    pub interrupted_at: u64,
    /// Address waited on (of the waiters' array for `futex_waitv`).
    pub address: u64,
    /// Waits begun by this thread since the probes came, restarted ones not counted again.
    pub waits: u64,
    /// `futex`'s operation with its flags; for the other two calls their flags.
    pub op: u32,
    pub val: u32,
    /// See [`FutexCall`].
    pub call: u32,
    /// 1 when it carries a timeout.
    pub timed: u32,
}

/// Which system call a [`FutexWait`] was made by.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FutexCall {
    Futex = 0,
    Waitv = 1,
    Wait2 = 2,
}
