//! `cargo xtask …`: everything that is done with this workspace beside editing it.
//!
//! [`setup`] brings what a machine lacks, [`run`] builds and starts taskleak, [`image`] packs it, [`test`] checks the
//! workspace and [`bench`] measures it. Exit codes: 0 fine, 1 something failed, 2 usage, or something is missing that only the
//! user can install; `run` passes on taskleak's own.

mod bench;
mod go_offsets;
mod image;
mod progress;
mod run;
mod setup;
mod supervise;
mod test;
mod workspace;

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(
    name = "xtask",
    bin_name = "cargo xtask",
    about = "Sets up, builds, runs, tests and measures taskleak"
)]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Brings what this machine lacks to build and run taskleak, and says what it did
    ///
    /// That is: a Rust toolchain with the source of `core` and a bpf-linker (rustup's nightly with rust-src and
    /// the bpf-linker in PATH where they are there, and then nothing is installed; else Debian's packages and a
    /// bpf-linker built into target/tools), and a mounted tracefs. What is in place is left alone. Exits 2 and
    /// says what to install where it cannot.
    Setup {
        /// Brings what the tests need too: gcc, g++, 32-bit libraries, Java, Python (Debian packages), and
        /// Prometheus (into target/tools, not installed)
        #[arg(long)]
        tests: bool,
    },
    /// Does the set-up and builds target/release/taskleak, its man pages and shell completions (target/release/share)
    Build,
    /// Does the set-up and builds a container image (target/image/taskleak.tar): a static binary on nothing
    ///
    /// Needs Debian's buildah (`setup --tests` brings it) and, once that is there, no network.
    Image,
    /// Does the set-up, builds taskleak, and runs `taskleak run`, by default on all processes
    Run {
        /// Starts a program that leaks a thread every second, and watches that one
        #[arg(long)]
        demo: bool,
        /// What to pass on to `taskleak run`
        #[arg(last = true, value_name = "ARGS")]
        args: Vec<OsString>,
    },
    /// Does the set-up and runs every check: rustfmt, clippy, and all tests
    ///
    /// The last line is `N passed, N failed, N skipped`. A test is skipped when this machine lacks what it needs;
    /// each one is named with the reason. Exits 1 when a test or a check failed, or when no test ran.
    Test(test::Options),
    /// Does the set-up and measures taskleak beside its peers
    Bench(bench::Options),
    /// Prints what taskleak has to know of a new version of Go, from a binary with debug information that it made
    GoOffsets {
        #[arg(value_name = "GO_BINARY")]
        binary: std::path::PathBuf,
    },
}

fn main() -> ExitCode {
    match perform(Cli::parse().task) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            if error.downcast_ref::<setup::Needed>().is_some() {
                ExitCode::from(2)
            } else {
                ExitCode::FAILURE
            }
        }
    }
}

fn perform(task: Task) -> Result<ExitCode> {
    match task {
        Task::Setup { tests: false } => setup::for_build(true)?,
        Task::Setup { tests: true } => setup::for_tests(false, true)?,
        Task::Build => {
            setup::for_build(false)?;
            run::build()?;
            run::generate()?;
        }
        Task::Image => image::build()?,
        Task::Run { demo: false, args } => return run::run(&args),
        Task::Run { demo: true, args } => return run::run_demo(&args),
        Task::Test(options) => return test::run(&options),
        Task::Bench(options) => bench::run(&options)?,
        Task::GoOffsets { binary } => go_offsets::print(&binary)?,
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    fn task(args: &[&str]) -> Task {
        Cli::try_parse_from(["xtask"].iter().chain(args)).unwrap().task
    }

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn run_passes_on_what_follows_the_dashes() {
        match task(&["run", "--demo", "--", "--listen", "[::1]:9000", "--help"]) {
            Task::Run { demo: true, args } => assert_eq!(args, ["--listen", "[::1]:9000", "--help"]),
            _ => panic!("another task"),
        }
    }
}
