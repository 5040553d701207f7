//! The real eBPF programs on the real kernel, against real programs that leak a known number of threads.
//!
//! Everything is pointed at programs that the test itself has started. A test that cannot run here says so with
//! [`support::skip`]; `cargo xtask test` counts those.

mod bad_input;
mod blocked;
mod check;
mod compat;
mod counted;
mod daemon;
mod deadlocks;
mod entries;
mod environment;
mod go;
mod hostile;
mod languages;
mod life;
mod many;
mod monitoring;
mod namespaces;
mod requests;
mod schemas;
mod selection;
mod signals;
mod sites;
mod spawn_sites;
mod spawns;
mod stacks;
mod steady;
mod stops;
mod support;
mod tokio;
mod top;
mod verdicts;
