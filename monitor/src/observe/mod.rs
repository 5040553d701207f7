//! What runs and what waits: the kernel's view, and each runtime's own in a folder of its own.

pub mod bpf;
pub mod go;
pub mod governor;
pub mod helper;
pub mod memory;
pub mod thread;
