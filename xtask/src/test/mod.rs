//! `cargo xtask test`: the checks and tests of the whole workspace, and one line that sums them up.

mod checks;
mod results;
mod skips;

use std::ffi::OsString;
use std::io::{BufRead as _, BufReader, Write};
use std::process::{Command, ExitCode, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Args;

use crate::setup;
use crate::workspace::{self, cargo, name};
use results::{Counts, Failures};

/// How many tests libtest runs side by side, unless `--test-threads` says it.
const THREADS: &str = "RUST_TEST_THREADS";

/// So many tests at most are run again. They watch real programs on a real kernel, side by side on a machine that may be
/// busy with others: one in thousands is late once. More at a time are no accident.
const AGAIN: usize = 3;

#[derive(Args)]
pub struct Options {
    /// Runs the tests too that are marked #[ignore], those of Go with every version of it, and those of tokio with every build
    #[arg(long)]
    all: bool,
    /// Runs no test twice. Without it up to three tests that fail are run once more, alone, and named at the end if they
    /// pass then (never where arguments choose the tests)
    #[arg(long)]
    once: bool,
    /// Arguments of `cargo test`, such as `-p testbed` or a part of a test's name, and behind `--` those of the
    /// tests themselves, such as `-- --nocapture`
    #[arg(value_name = "CARGO TEST ARGS", allow_hyphen_values = true)]
    args: Vec<OsString>,
    // clap puts what follows `--` here only when nothing comes before it.
    #[arg(last = true, hide = true)]
    libtest_args: Vec<OsString>,
}

impl Options {
    /// Whether it is the whole that runs, so that what failed in it can be chosen by its name.
    fn is_whole(&self) -> bool {
        self.args.is_empty() && self.libtest_args.is_empty()
    }

    /// The arguments of `cargo test`, and those of the tests.
    fn split(&self) -> (&[OsString], &[OsString]) {
        match self.args.iter().position(|arg| arg == "--") {
            Some(at) => (&self.args[..at], &self.args[at + 1..]),
            None => (&self.args, &self.libtest_args),
        }
    }
}

pub fn run(options: &Options) -> Result<ExitCode> {
    setup::for_tests(options.all, false)?;
    let mut failed = Vec::new();
    for mut check in checks::all() {
        heading(&name(&check));
        if let Err(error) = workspace::run(&mut check) {
            failed.push(format!("{error:#}"));
        }
    }

    let skips = skips::file()?;
    let run = |mut test: Command| {
        test.env(skips::VARIABLE, &skips);
        if options.all {
            test.env(testbed::go::EVERY_VERSION, "1");
            test.env(testbed::tokio::EVERY_BUILD, "1");
        }
        heading(&name(&test));
        count(&mut test, &mut std::io::stdout())
    };
    let (succeeded, mut counts, failures) = run(cargo_test(options)?)?;
    if !succeeded && counts.failed == 0 {
        failed.push("cargo test failed outside of a test; what it says stands above".to_owned());
    }
    if counts.passed + counts.failed == 0 {
        failed.push("no test ran".to_owned());
    }
    let mut unsteady = Vec::new();
    if let Some(names) = to_run_again(options, counts, failures) {
        let (succeeded, again, _) = run(alone(options, &names)?)?;
        if succeeded && again.failed == 0 && again.passed >= names.len() {
            counts.failed -= names.len();
            counts.passed += names.len();
            unsteady = names;
        }
    }
    let skipped = skips::read(&skips)?;

    println!();
    for skip in &skipped {
        println!("skipped {skip}");
    }
    if counts.ignored > 0 {
        println!(
            "{} tests are marked #[ignore]; `cargo xtask test --all` runs them",
            counts.ignored
        );
    }
    for failure in &failed {
        println!("failed: {failure}");
    }
    for name in &unsteady {
        println!("unsteady: {name} failed once, as said above, and passed when it ran again, alone");
    }
    println!(
        "{}",
        results::summary(counts, skipped.len(), failed.len(), unsteady.len())
    );
    let is_good = failed.is_empty() && counts.failed == 0;
    Ok(if is_good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn to_run_again(options: &Options, counts: Counts, failures: Failures) -> Option<Vec<String>> {
    let names = failures.names()?;
    let is_known = names.len() == counts.failed;
    let is_few = (1..=AGAIN).contains(&names.len());
    (is_known && is_few && options.is_whole() && !options.once).then_some(names)
}

/// These tests, one after the other.
fn alone(options: &Options, names: &[String]) -> Result<Command> {
    let mut test = cargo_test(options)?;
    test.arg("--exact").args(names).env(THREADS, "1");
    Ok(test)
}

fn heading(text: &str) {
    println!("\n== {text}");
}

fn cargo_test(options: &Options) -> Result<Command> {
    let (args, libtest_args) = options.split();
    let is_given = |flags: &[&str]| {
        let mut words = args.iter().filter_map(|arg| arg.to_str());
        words.any(|word| flags.iter().any(|flag| word.starts_with(flag)))
    };
    let mut test = cargo();
    test.arg("test");
    if !is_given(&["-p", "--package", "--workspace", "--manifest-path"]) {
        test.args(["--workspace", "--exclude", checks::EBPF]);
    }
    // The sum is to speak of all tests, not of those up to the first that failed.
    if !is_given(&["--no-fail-fast"]) {
        test.arg("--no-fail-fast");
    }
    test.args(args).arg("--");
    if options.all {
        test.arg("--include-ignored");
    }
    test.args(libtest_args);
    // Most of them wait for something most of the time.
    if std::env::var_os(THREADS).is_none() {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        test.env(THREADS, (2 * cores).to_string());
    }
    test.env("PATH", workspace::path_with(&setup::unpacked_programs())?);
    Ok(test)
}

/// Runs the tests, shows what they print, and adds up their results.
fn count(test: &mut Command, shown: &mut impl Write) -> Result<(bool, Counts, Failures)> {
    let mut child = test
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {}", name(test)))?;
    let output = child.stdout.take().context("cargo test has no output")?;
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        let mut output = BufReader::new(output);
        let mut line = Vec::new();
        while output.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
            if sender.send(std::mem::take(&mut line)).is_err() {
                return;
            }
        }
    });
    let mut counts = Counts::default();
    let mut failures = Failures::default();
    loop {
        match receiver.recv_timeout(Duration::from_secs(2)) {
            Ok(line) => {
                // When nobody reads on, the result still counts.
                let _ = shown.write_all(&line);
                let line = String::from_utf8_lossy(&line);
                counts.add(&line);
                failures.add(&line);
            }
            Err(RecvTimeoutError::Disconnected) => break,
            // A process that a test left behind may hold the pipe open for ever.
            Err(RecvTimeoutError::Timeout) => {
                if child.try_wait().context("cannot wait for cargo test")?.is_some() {
                    break;
                }
            }
        }
    }
    let status = child.wait().context("cannot wait for cargo test")?;
    Ok((status.success(), counts, failures))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        options: Options,
    }

    fn options(words: &str) -> Options {
        let words = ["test"].into_iter().chain(words.split_whitespace());
        <Line as clap::Parser>::try_parse_from(words).unwrap().options
    }

    /// What cargo is called with for the words behind `cargo xtask test`.
    fn called(words: &str) -> String {
        let called = name(&cargo_test(&options(words)).unwrap());
        called.trim_start_matches("cargo ").to_owned()
    }

    #[test]
    fn few_failures_of_a_whole_run_are_run_again() {
        let chosen = |words: &str, failed: usize, listed: &[&str]| {
            let mut failures = Failures::default();
            failures.add("failures:");
            for name in listed {
                failures.add(&format!("    {name}"));
            }
            failures.add("test result: FAILED.");
            let counts = Counts {
                failed,
                ..Counts::default()
            };
            to_run_again(&options(words), counts, failures)
        };
        assert_eq!(chosen("", 2, &["a", "b"]).unwrap(), ["a", "b"]);
        assert_eq!(chosen("", 0, &[]), None);
        // One that nobody named.
        assert_eq!(chosen("", 2, &["a"]), None);
        assert_eq!(chosen("", 4, &["a", "b", "c", "d"]), None);
        assert_eq!(chosen("--once", 1, &["a"]), None);
        assert_eq!(chosen("a", 1, &["a"]), None);
        assert_eq!(chosen("-- a", 1, &["a"]), None);
        let again = alone(&options("--all"), &["a".to_owned(), "b".to_owned()]).unwrap();
        let said = "test --workspace --exclude monitor-ebpf --no-fail-fast -- --include-ignored --exact a b";
        assert_eq!(name(&again).trim_start_matches("cargo "), said);
    }

    #[test]
    fn the_whole_workspace_is_tested_unless_a_package_is_named() {
        assert_eq!(
            called(""),
            "test --workspace --exclude monitor-ebpf --no-fail-fast --"
        );
        assert_eq!(called("-p testbed"), "test --no-fail-fast -p testbed --");
    }

    #[test]
    fn arguments_go_where_cargo_would_have_them() {
        let all = "test --workspace --exclude monitor-ebpf --no-fail-fast";
        assert_eq!(called("--all"), format!("{all} -- --include-ignored"));
        assert_eq!(called("-- --nocapture"), format!("{all} -- --nocapture"));
        let both = format!("{all} --release name -- --include-ignored --exact");
        assert_eq!(called("--all --release name -- --exact"), both);
    }

    #[test]
    fn results_are_counted_though_a_process_is_left_behind() {
        let script = "echo 'test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured'; sleep 30 & exit 1";
        let started = std::time::Instant::now();
        let mut shown = Vec::new();
        let (succeeded, counts, _) = count(Command::new("sh").args(["-c", script]), &mut shown).unwrap();
        assert!(!succeeded);
        assert!(shown.starts_with(b"test result: ok. 3 passed"));
        assert_eq!(
            counts,
            Counts {
                passed: 3,
                failed: 0,
                ignored: 1
            }
        );
        assert!(started.elapsed() < Duration::from_secs(20));
    }
}
