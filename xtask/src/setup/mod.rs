//! The set-up: what a machine needs before taskleak builds, runs and is tested on it.
//!
//! Each step looks first, locally, whether there is anything to do, so that a second run costs nothing and a
//! half-done one can be run again. What it did is one line; what is in place is said only when asked.

mod advice;
mod debian;
mod ebpf;
mod go;
mod linker;
mod testing;
mod toolchain;
mod tracefs;
mod validator;

use anyhow::Result;

pub use advice::Needed;
pub use debian::{Archive, extract};
pub use testing::{ensure_gcc, unpacked_programs};

/// What came of one step.
pub enum Outcome {
    /// Nothing was to do.
    InPlace(String),
    /// Something was done.
    Did(String),
    /// It could not be done, and the rest works without it.
    Warning(String),
}

/// Brings everything that building and running taskleak needs. `verbose` says too what is in place.
pub fn for_build(verbose: bool) -> Result<()> {
    report(ebpf::ensure()?, verbose);
    report(tracefs::ensure(), verbose);
    Ok(())
}

/// Brings everything that the tests need besides; `all`: also that of tests that are not made each day.
pub fn for_tests(all: bool, verbose: bool) -> Result<()> {
    for_build(verbose)?;
    for outcome in testing::ensure()? {
        report(outcome, verbose);
    }
    report(go::ensure(all), verbose);
    report(go::servers(), verbose);
    Ok(())
}

/// Brings the newest Go that there are tests for.
pub fn for_go() {
    report(go::ensure(false), false);
}

/// Brings the C compiler that the programs of `testbed` are built with.
pub fn for_programs() -> Result<()> {
    report(ensure_gcc()?, false);
    Ok(())
}

/// Says what a part of a step has done, as soon as it is done: the next part may fail.
fn did(what: String) {
    report(Outcome::Did(what), false);
}

fn report(outcome: Outcome, verbose: bool) {
    match outcome {
        Outcome::InPlace(text) if verbose => eprintln!("set-up: in place: {text}"),
        Outcome::InPlace(_) => {}
        Outcome::Did(text) => eprintln!("set-up: {text}"),
        Outcome::Warning(text) => eprintln!("set-up: warning: {text}"),
    }
}
