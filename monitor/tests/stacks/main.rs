//! Stacks of real programs, read while they run: registers from the real sweep, everything else from outside.
//!
//! What is expected comes from the testbed's tables, and from gdb, which looks at the same program afterwards.

mod builds;
mod caches;
mod debug_info;
mod equality;
mod gdb;
mod interpreters;
mod musl;
mod odd;
mod places;
mod scenarios;
mod starts;
mod support;
