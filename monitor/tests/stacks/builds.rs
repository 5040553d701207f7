//! The testbed's program in C, compiled and linked in other ways.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use taskleak::identify::{Inspector, Options};
use testbed::{Program, Scenario};

use crate::{
    scenarios::{args, check, still},
    support::{Folder, Running, Thread, by_name, misses, run, stacks, stacks_by, text},
};

/// Threads of each scenario.
const COUNT: usize = 2;

/// The sources of the program `blockers`: all that have no `main`, and the one that has its own.
pub fn sources() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testbed/c");
    let is_part = |path: &PathBuf| {
        path.extension().is_some_and(|extension| extension == "c")
            && (path.ends_with("blockers.c") || !fs::read_to_string(path).unwrap().contains("int main("))
    };
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    files.filter(is_part).collect()
}

/// Compiles it with these flags besides.
pub fn compile(exe: &Path, flags: &[&str]) {
    let sources = sources();
    let mut args = vec!["-O2", "-pthread", "-o", text(exe)];
    args.extend(flags);
    args.extend(sources.iter().map(|source| text(source)));
    run("gcc", &args);
}

pub fn command(exe: &Path, scenarios: &[Scenario]) -> Command {
    let mut command = Command::new(exe);
    command.args(args(scenarios, COUNT));
    command
}

/// Compiles, runs, and compares every thread with the table.
fn as_expected(test: &str, flags: &[&str]) -> Option<Vec<Thread>> {
    if misses(test, &["gcc"]) {
        return None;
    }
    let folder = Folder::new(test);
    let exe = folder.path("blockers");
    compile(&exe, flags);
    let scenarios = still(Program::CBlockers);
    let running = Running::start(test, command(&exe, &scenarios))?;
    check(&scenarios, COUNT, stacks(running.pid()));
    Some(stacks(running.pid()))
}

fn guessed(threads: &[Thread]) -> usize {
    let frames = threads.iter().flat_map(|thread| &thread.stack().frames);
    frames.filter(|frame| frame.guessed).count()
}

#[test]
fn at_a_fixed_address() {
    let threads = as_expected("fixed-address", &["-g", "-no-pie", "-fno-pie"]);
    assert!(threads.is_none_or(|threads| guessed(&threads) == 0));
}

#[test]
fn without_libraries() {
    let threads = as_expected("static", &["-g", "-static"]);
    assert!(threads.is_none_or(|threads| guessed(&threads) == 0));
}

#[test]
fn without_libraries_at_any_address() {
    let threads = as_expected("static-pie", &["-g", "-static-pie"]);
    assert!(threads.is_none_or(|threads| guessed(&threads) == 0));
}

#[test]
fn without_debug_information() {
    let threads = as_expected("no-debug", &["-g0"]).unwrap_or_default();
    let sites = threads.iter().filter_map(|thread| thread.stack().block_site());
    assert!(sites.into_iter().all(|site| site.file.is_none()));
}

#[test]
fn with_compressed_debug_information() {
    let threads = as_expected("compressed", &["-g", "-gz=zlib"]).unwrap_or_default();
    let sites = threads.iter().filter_map(|thread| thread.stack().block_site());
    assert!(sites.into_iter().all(|site| site.file.is_some()));
}

/// Stripped, the same frames are there under the file's name; the C library's exported names remain.
#[test]
fn stripped() {
    if misses("builds::stripped", &["gcc", "strip"]) {
        return;
    }
    for (name, flags) in [("stripped", &["-g"][..]), ("stripped-static", &["-g", "-static"])] {
        let folder = Folder::new(name);
        let (full, bare) = (folder.path("full"), folder.path("bare"));
        compile(&full, flags);
        run("strip", &["-o", text(&bare), text(&full)]);
        // Those are stopped by a signal now and then, and their frames differ.
        let scenarios: Vec<_> = still(Program::CBlockers)
            .into_iter()
            .filter(|scenario| !scenario.name.ends_with("_signals"))
            .collect();
        let Some(with_names) = Running::start(name, command(&full, &scenarios)) else {
            return;
        };
        let Some(without) = Running::start(name, command(&bare, &scenarios)) else {
            return;
        };
        let mut inspector = Inspector::new(Options {
            debug_dirs: Vec::new(),
            ..Options::default()
        });
        let with_names = by_name(stacks_by(&mut inspector, with_names.pid()));
        let without = by_name(stacks_by(&mut inspector, without.pid()));
        for scenario in &scenarios {
            let (named, bare) = (&with_names[scenario.comm()][0], &without[scenario.comm()][0]);
            let places = |thread: &Thread| -> Vec<(String, u64)> {
                let places = thread.places().into_iter();
                places
                    .map(|(module, offset)| (module.replace("full", "bare"), offset))
                    .collect()
            };
            assert_eq!(places(named), places(bare), "{named}{bare}");
            assert_eq!(bare.block_site(), "[bare]", "{bare}");
            assert_eq!(bare.entry(), "[bare]", "{bare}");
            assert!(!bare.stack().truncated, "{bare}");
        }
        if !flags.contains(&"-static") {
            let functions = without["mutex"][0].stack().frames.iter();
            let names: Vec<_> = functions.filter_map(|frame| frame.function.as_deref()).collect();
            assert!(names.contains(&"pthread_mutex_lock"), "{names:?}");
        }
    }
}

/// Only frame pointers lead through the program's own functions.
#[test]
fn with_frame_pointers_alone() {
    let flags = ["-g", "-fno-asynchronous-unwind-tables", "-fno-omit-frame-pointer"];
    let mut threads = as_expected("frame-pointers", &flags).unwrap_or_default();
    // It may stand where its frame is not made yet.
    threads.retain(|thread| thread.comm != "userfault");
    assert_eq!(guessed(&threads), 0);
}

/// Nothing leads through the program's own functions but what their calls have left on the stack.
#[test]
fn with_neither_tables_nor_frame_pointers() {
    let flags = ["-g", "-fno-asynchronous-unwind-tables", "-fomit-frame-pointer"];
    let threads = as_expected("neither", &flags).unwrap_or_default();
    assert!(guessed(&threads) >= threads.len());
}
