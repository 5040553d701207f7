//! The real eBPF programs on the real kernel, against real programs that leak a known number of threads.
//!
//! Everything is pointed at programs that the test itself has started. A test that cannot run here says so with
//! [`support::skip`]; `cargo xtask test` counts those.

mod bad_input;
mod blocked;
mod compat;
mod daemon;
mod deadlocks;
mod environment;
mod go;
mod languages;
mod life;
mod monitoring;
mod namespaces;
mod selection;
mod signals;
mod sites;
mod spawns;
mod stops;
mod support;
