//! Programs that leak a known number of blocked threads, in every language that is watched, and what builds
//! and starts them: for integration tests, for benches and for the demo.
//!
//! The programs are in `c/`, `cpp/`, `src/bin/rust_blockers/`, `python/` and `java/`. They are compiled when
//! they are first needed, into `testbed/` of the target folder. What each of them does, and what is to be
//! seen of it from outside, is listed in [`Program::scenarios`] and in the package's README.
//!
//! ```no_run
//! # fn main() -> anyhow::Result<()> {
//! let target = testbed::Target::start(testbed::Program::CBlockers, &["mutex=3", "timed_poll=2"])?;
//! println!("three threads of {} are blocked", target.pid());
//! # Ok(())
//! # }
//! ```

mod compile;
mod folders;
pub mod go;
mod procfs;
mod program;
mod recipes;
mod scenario;
mod scenarios;
mod socket;
mod spawner;
mod target;
pub mod tokio;
mod unsupported;

pub use procfs::{Syscall, Thread, threads};
pub use program::Program;
pub use scenario::{Class, Expect, Scenario};
pub use socket::Socket;
pub use target::Target;
pub use unsupported::{Unsupported, or_skip};
