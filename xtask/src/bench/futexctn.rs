//! The peer: `futexctn` of libbpf-tools, which accounts futex waits in the kernel too.
//!
//! Debian has it from trixie on. It is unpacked with the libraries it needs, and started through their own
//! dynamic linker, so that it runs beside any libc and nothing is installed.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use testbed::{Program, Target};

use crate::setup;
use crate::workspace;

const SUITE: &str = "trixie";
const PACKAGES: [&str; 5] = ["libbpf-tools", "libc6", "libelf1t64", "zlib1g", "libzstd1"];
/// Debian's name for it.
const PROGRAM: &str = "usr/sbin/futexctn-libbpf";

/// `futexctn ARGS`, fetched on the first call.
pub fn command(args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Result<Command> {
    let tree = workspace::tools().join(SUITE);
    let program = tree.join(PROGRAM);
    if !program.is_file() {
        let took = setup::extract(&setup::Archive::debian(SUITE), &PACKAGES, &tree)?;
        eprintln!(
            "set-up: unpacked futexctn into {} in {} s",
            tree.display(),
            took.as_secs()
        );
    }
    let loader = loader(&tree)?;
    let mut futexctn = workspace::command(&loader);
    futexctn
        .arg("--library-path")
        .arg(loader.parent().unwrap_or(&tree))
        .arg(&program)
        .args(args);
    Ok(futexctn)
}

/// The dynamic linker of the tree, which lies beside its libraries.
fn loader(tree: &Path) -> Result<PathBuf> {
    let libraries = tree.join("usr/lib");
    let entries =
        std::fs::read_dir(&libraries).with_context(|| format!("cannot read {}", libraries.display()))?;
    for dir in entries.flatten() {
        for file in std::fs::read_dir(dir.path()).into_iter().flatten().flatten() {
            let name = file.file_name();
            if name.to_string_lossy().starts_with("ld-linux") {
                return Ok(file.path());
            }
        }
    }
    bail!(
        "no dynamic linker in {}: remove {} and run this again",
        libraries.display(),
        tree.display()
    )
}

/// Sees that it runs here and accounts the waits of the load.
pub fn check() -> Result<()> {
    let load = Target::start(Program::PingPong, &["10"])?;
    let mut futexctn = command(["-s", "-p", &load.pid().to_string(), "1", "3"])?;
    let output = futexctn.output().context("cannot start futexctn")?;
    let waits = waits(&String::from_utf8_lossy(&output.stdout));
    if !output.status.success() || waits == 0 {
        bail!(
            "futexctn ({}) accounted {waits} waits of a load that does nothing but wait. {}",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    println!("peer: futexctn accounted {waits} futex waits of the load in 3 s");
    Ok(())
}

/// The sum over `ping[7] lock 0x55d0 contended 2776 times, …`.
fn waits(report: &str) -> u64 {
    let counts = report
        .lines()
        .filter_map(|line| line.split_once(" contended ")?.1.split_once(" times"));
    counts.filter_map(|(count, _)| count.parse::<u64>().ok()).sum()
}

#[cfg(test)]
mod tests {
    use super::waits;

    #[test]
    fn every_lock_of_the_report_counts() {
        let report = "\nping[7] lock 0x7f4325f4e6f8 contended 2776 times, 1 avg usecs [max: 79 usecs]\n     \
                      usecs : count    distribution\n         0 -> 1 : 2517     |****|\n\n\
                      pong[7] lock 0x7f4325f4e6f8 contended 4 times, 18 avg usecs\n";
        assert_eq!(waits(report), 2780);
        assert_eq!(waits(""), 0);
    }
}
