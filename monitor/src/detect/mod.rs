//! What is blocked, and whether it grows. Pure: no I/O, time is a parameter.

mod case;
mod detector;
mod evidence;
mod groups;
mod history;
pub mod holders;
mod judge;
mod kept;
pub mod leftover;
mod members;
mod names;
mod runtimes;
pub mod series;
mod survival;
mod trend;

pub use case::{Case, Finding, Settings};
pub use detector::{Detector, Limits, Saved};
pub use judge::{Judge, Judgement, Seen, Subject};
