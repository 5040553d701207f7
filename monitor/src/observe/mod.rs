//! What runs and what waits: the kernel's view, and each runtime's own in a folder of its own.

mod books;
pub mod bpf;
pub mod go;
pub mod governor;
pub mod helper;
pub mod image;
mod lookout;
pub mod memory;
mod numbers;
mod place;
mod programs;
mod sites;
mod spawning;
pub mod thread;
pub mod tokio;
mod worker;

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// CLOCK_MONOTONIC, ns: what runtimes read as well.
pub fn monotonic() -> u64 {
    clock(ClockId::Monotonic)
}

/// CLOCK_BOOTTIME, ns: by which the kernel dates the start of threads.
fn boottime() -> u64 {
    clock(ClockId::Boottime)
}

/// A clock of the machine, ns.
fn clock(id: ClockId) -> u64 {
    let time = clock_gettime(id);
    let time = Duration::new(time.tv_sec as u64, time.tv_nsec as u32);
    time.as_nanos() as u64
}
