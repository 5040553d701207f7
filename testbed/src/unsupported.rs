//! What this machine cannot do: not a failure of the test that asks for it.

use std::env;
use std::fmt;
use std::fs::OpenOptions;
use std::io::Write;

use anyhow::Result;

/// Names the file into which skipped tests are written, a line `NAME: why` each.
const SKIPS: &str = "TASKLEAK_SKIPS";

/// A program or a scenario is not to be had here: a compiler is missing, or the kernel says no.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsupported(pub String);

impl fmt::Display for Unsupported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not supported here: {}", self.0)
    }
}

impl std::error::Error for Unsupported {}

/// `None`, and a word about it, when the result is [`Unsupported`]: the test then has nothing to do.
pub fn or_skip<T>(test: &str, result: Result<T>) -> Result<Option<T>> {
    let error = match result {
        Ok(value) => return Ok(Some(value)),
        Err(error) => error,
    };
    let Some(Unsupported(why)) = error.downcast_ref() else {
        return Err(error);
    };
    let why = why.replace('\n', " ");
    eprintln!("skipped {test}: {why}");
    if let Some(file) = env::var_os(SKIPS) {
        let mut skips = OpenOptions::new().append(true).create(true).open(file)?;
        skips.write_all(format!("{test}: {why}\n").as_bytes())?;
    }
    Ok(None)
}
