//! Debug information in files of its own.

use std::{fs, path::Path, process::Command};

use taskleak::identify::{Inspector, Options};
use testbed::Program;

use crate::{
    builds::{command, compile},
    scenarios::{check, still},
    support::{Folder, Running, Thread, misses, run, stacks_by, text},
};

const COUNT: usize = 2;
const TOOLS: [&str; 4] = ["gcc", "objcopy", "readelf", "strip"];

/// Compiles the program, puts its debug information into `debug`, and strips it.
fn split(exe: &Path, debug: &Path, flags: &[&str]) {
    compile(exe, flags);
    run("objcopy", &["--only-keep-debug", text(exe), text(debug)]);
    run("strip", &[text(exe)]);
}

/// Its threads, as they look with debug files from that folder.
fn look(test: &str, exe: &Path, folder: &Path) -> Option<Vec<Thread>> {
    let running = Running::start(test, command(exe, &still(Program::CBlockers)))?;
    let mut inspector = Inspector::new(Options {
        debug_dirs: vec![folder.to_owned()],
        ..Options::default()
    });
    Some(stacks_by(&mut inspector, running.pid()))
}

fn has_names(threads: &[Thread]) -> bool {
    let site = |thread: &&Thread| thread.comm == "mutex" && thread.block_site() == "mutex_acquire_forever";
    threads.iter().any(|thread| site(&thread))
}

fn build_id(exe: &Path) -> String {
    let output = Command::new("readelf").arg("-n").arg(exe).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let (_, id) = text.split_once("Build ID: ").unwrap();
    id.lines().next().unwrap().trim().to_owned()
}

#[test]
fn by_build_id() {
    let test = "debug_info::by_build_id";
    if misses(test, &TOOLS) {
        return;
    }
    let folder = Folder::new("by-build-id");
    let (exe, debug) = (folder.path("blockers"), folder.path("debug"));
    split(&exe, &debug, &["-g", "-Wl,--build-id"]);
    let id = build_id(&exe);
    let place = folder.path("root").join(".build-id").join(&id[..2]);
    fs::create_dir_all(&place).unwrap();
    let Some(bare) = look(test, &exe, &folder.path("root")) else {
        return;
    };
    assert!(!has_names(&bare));
    fs::rename(&debug, place.join(format!("{}.debug", &id[2..]))).unwrap();
    let threads = look(test, &exe, &folder.path("root")).unwrap();
    let site = threads
        .iter()
        .find_map(|thread| thread.stack().block_site())
        .unwrap();
    assert!(site.file.is_some() && site.line.is_some());
    check(&still(Program::CBlockers), COUNT, threads);
}

/// By the name that the file itself tells, beside the path of the program and on top of the folder.
#[test]
fn by_link() {
    let test = "debug_info::by_link";
    if misses(test, &TOOLS) {
        return;
    }
    let folder = Folder::new("by-link");
    let (exe, debug) = (folder.path("blockers"), folder.path("blockers.debug"));
    split(&exe, &debug, &["-g", "-Wl,--build-id=none"]);
    run(
        "objcopy",
        &[&format!("--add-gnu-debuglink={}", text(&debug)), text(&exe)],
    );
    let root = folder.path("root");
    let below = root.join(exe.parent().unwrap().strip_prefix("/").unwrap());
    fs::create_dir_all(&below).unwrap();
    // A file of that name whose checksum is another one says nothing.
    fs::copy("/bin/true", root.join("blockers.debug")).unwrap();
    let Some(bare) = look(test, &exe, &root) else {
        return;
    };
    assert!(!has_names(&bare));
    fs::copy(&debug, below.join("blockers.debug")).unwrap();
    check(
        &still(Program::CBlockers),
        COUNT,
        look(test, &exe, &root).unwrap(),
    );
    fs::remove_file(below.join("blockers.debug")).unwrap();
    fs::copy(&debug, root.join("blockers.debug")).unwrap();
    check(
        &still(Program::CBlockers),
        COUNT,
        look(test, &exe, &root).unwrap(),
    );
}

/// What is beside the program is not looked at, and nothing is waited for.
#[test]
fn a_link_leads_nowhere_else() {
    let test = "debug_info::a_link_leads_nowhere_else";
    if misses(test, &TOOLS) {
        return;
    }
    let folder = Folder::new("link-elsewhere");
    let (exe, debug) = (folder.path("blockers"), folder.path("blockers.debug"));
    split(&exe, &debug, &["-g", "-Wl,--build-id=none"]);
    run(
        "objcopy",
        &[&format!("--add-gnu-debuglink={}", text(&debug)), text(&exe)],
    );
    fs::remove_file(&debug).unwrap();
    run("mkfifo", &[text(&debug)]);
    let root = folder.path("root");
    fs::create_dir(&root).unwrap();
    run("mkfifo", &[text(&root.join("blockers.debug"))]);
    let Some(threads) = look(test, &exe, &root) else {
        return;
    };
    assert!(!has_names(&threads));
}
