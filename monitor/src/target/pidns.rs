//! Threads' numbers in the PID namespace of their own process (man 7 pid_namespaces).
//!
//! A thread knows itself, and its locks know it, by its number in the innermost namespace; the sweep tells the
//! numbers of the monitor's. `/proc/PID/task/TID/status` has both (`NSpid`, `task_state` in fs/proc/array.c).

use std::{
    collections::HashMap,
    fs::{self, File},
    io::{self, Read as _},
};

/// Threads of one process that are looked at.
const MAX_THREADS: usize = 20_000;
/// The line stands behind that of the groups, of which there can be 65,536.
const MAX_STATUS: u64 = 1024 * 1024;

/// How the threads of one process are numbered in its namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Numbers {
    /// `None`: as in the monitor's.
    pairs: Option<Pairs>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Pairs {
    inner: HashMap<u32, u32>,
    outer: HashMap<u32, u32>,
}

impl Numbers {
    /// Of a process and its threads, all as the monitor numbers them. Only when the process is in another namespace
    /// a file is read for each of them; those that are gone meanwhile, or beyond 20,000, have no number then.
    ///
    /// # Errors
    /// When the process's namespace is not to be seen: it is gone, or may not be looked at.
    pub fn of(pid: u32, tids: impl IntoIterator<Item = u32>) -> io::Result<Self> {
        let own = match fs::read_link("/proc/self/ns/pid") {
            // A kernel without PID namespaces (CONFIG_PID_NS).
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self { pairs: None }),
            own => own?,
        };
        if own == fs::read_link(format!("/proc/{pid}/ns/pid"))? {
            return Ok(Self { pairs: None });
        }
        let mut pairs = Pairs::default();
        for outer in tids.into_iter().take(MAX_THREADS) {
            let status = status(pid, outer).unwrap_or_default();
            if let Some(inner) = innermost(&status) {
                pairs.inner.insert(outer, inner);
                pairs.outer.insert(inner, outer);
            }
        }
        Ok(Self { pairs: Some(pairs) })
    }

    /// The monitor's number of the thread that has this one in its own namespace. Where the namespace is the
    /// monitor's every number is passed on, whether there is such a thread or not.
    pub fn outer(&self, inner: u32) -> Option<u32> {
        match &self.pairs {
            None => Some(inner),
            Some(pairs) => pairs.outer.get(&inner).copied(),
        }
    }

    /// The number that a thread has in its own namespace, by the monitor's.
    pub fn inner(&self, outer: u32) -> Option<u32> {
        match &self.pairs {
            None => Some(outer),
            Some(pairs) => pairs.inner.get(&outer).copied(),
        }
    }
}

fn status(pid: u32, tid: u32) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    File::open(format!("/proc/{pid}/task/{tid}/status"))?
        .take(MAX_STATUS)
        .read_to_end(&mut text)?;
    Ok(text)
}

/// The last number of the line `NSpid:`: from the namespace of /proc down to the thread's own. (A name cannot
/// pretend to be a line: its line feeds are escaped.)
fn innermost(status: &[u8]) -> Option<u32> {
    let mut lines = status.split(|byte| *byte == b'\n');
    let numbers = lines.find_map(|line| line.strip_prefix(b"NSpid:"))?;
    let last = std::str::from_utf8(numbers)
        .ok()?
        .split_ascii_whitespace()
        .last()?;
    last.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_number_is_the_innermost() {
        let status =
            b"Name:\tNSpid:\\n9\nPid:\t4711\nNStgid:\t4711\t12\t1\nNSpid:\t4713\t14\t3\nNSpgid:\t1\n";
        assert_eq!(innermost(status), Some(3));
        assert_eq!(innermost(b"NSpid:\t7\n"), Some(7));
        for bad in [&b""[..], b"NSpid:\n", b"NSpid:\tx\n", b"Pid:\t7\n"] {
            assert_eq!(innermost(bad), None);
        }
    }

    #[test]
    fn in_the_same_namespace_nothing_changes() {
        let numbers = Numbers::of(std::process::id(), [1, 2]).unwrap();
        assert_eq!((numbers.inner(17), numbers.outer(17)), (Some(17), Some(17)));
        assert!(Numbers::of(0, []).is_err());
    }

    #[test]
    fn in_another_namespace_both_ways_lead_back() {
        let pairs = Pairs {
            inner: HashMap::from([(4713, 3), (4714, 4)]),
            outer: HashMap::from([(3, 4713), (4, 4714)]),
        };
        let numbers = Numbers { pairs: Some(pairs) };
        assert_eq!((numbers.inner(4713), numbers.outer(3)), (Some(3), Some(4713)));
        assert_eq!((numbers.inner(3), numbers.outer(4713)), (None, None));
    }
}
