//! What is blocked. Pure: no I/O, time is a parameter.

mod groups;
pub mod holders;
mod names;

pub use groups::{Limits, report};
pub use names::Names;
