//! Which processes are watched, and who they are.

mod cgroup;
pub mod pidns;
mod pods;
mod process;
mod selector;

pub use pods::PodSources;
pub use process::{Candidate, Targets};
pub use selector::{Selector, SelectorError};
