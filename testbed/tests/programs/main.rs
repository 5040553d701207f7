//! The testbed keeps its own promises: exactly as many threads as asked for wait exactly as the table says.

mod command_lines;
mod processes;
mod syscalls;
mod system_v;
mod tokio;
mod waits;
