//! Goroutines: exact numbers by reason, class, block site, entry and spawn site, with several versions of Go.

mod articles;
pub mod bed;
mod blocking;
mod daemon;
mod healthy;
mod scale;
mod servers;
mod spawns;
mod threads;
mod timers;
mod unknown;
mod verdicts;
