//! Tests that cannot run on this machine. libtest has no word for that: they return early, and append a line
//! `NAME: why` to the file that the environment names.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::workspace;

/// Names the file for the tests.
pub const VARIABLE: &str = "TASKLEAK_SKIPS";

/// An empty file for this run.
pub fn file() -> Result<PathBuf> {
    let file = workspace::target().join("test-skips");
    fs::write(&file, "").with_context(|| format!("cannot write {}", file.display()))?;
    Ok(file)
}

pub fn read(file: &Path) -> Result<Vec<String>> {
    let text = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    Ok(parse(&String::from_utf8_lossy(&text)))
}

/// One line for each test, the first that it wrote, in the order of their names.
fn parse(text: &str) -> Vec<String> {
    let mut skips = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect::<Vec<_>>();
    let test = |line: &str| line.split_once(": ").map_or(line, |(test, _)| test).to_owned();
    skips.sort_by_key(|line| test(line));
    skips.dedup_by_key(|line| test(line));
    skips.into_iter().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn a_test_is_skipped_once() {
        let text = "java: no javac in PATH\nio_uring: switched off: EPERM\n\njava: no java either\n";
        assert_eq!(
            parse(text),
            ["io_uring: switched off: EPERM", "java: no javac in PATH"]
        );
        assert!(parse("").is_empty());
    }
}
