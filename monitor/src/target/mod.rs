//! Which processes are watched, and who they are.

mod cgroup;
pub mod pidns;
mod process;
mod selector;

pub use process::{Candidate, Targets};
pub use selector::{Selector, SelectorError};
