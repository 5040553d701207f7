//! The threads of a process as /proc shows them.

use std::fs;
use std::io;
use std::path::Path;

use anyhow::{Context, Result, anyhow};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Thread {
    pub tid: u32,
    pub comm: String,
    /// `S`, `D`, `R`, `T`, …
    pub state: char,
    /// `None` while it runs.
    pub syscall: Option<Syscall>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Syscall {
    /// −1: it waits in the kernel, but not in a system call.
    pub number: i64,
    pub args: [u64; 6],
}

/// All threads of a process. Those that end meanwhile are left out.
pub fn threads(pid: u32) -> Result<Vec<Thread>> {
    let folder = format!("/proc/{pid}/task");
    let entries = fs::read_dir(&folder).with_context(|| format!("no process {pid}"))?;
    let mut threads = Vec::new();
    for entry in entries {
        let name = entry.with_context(|| folder.clone())?.file_name();
        let tid = name
            .to_string_lossy()
            .parse()
            .with_context(|| format!("{folder}/{name:?}"))?;
        match thread(&format!("{folder}/{tid}"), tid) {
            Ok(thread) => threads.push(thread),
            Err(error) if has_ended(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(threads)
}

fn thread(folder: &str, tid: u32) -> Result<Thread> {
    let read = |file: &str| {
        let path = format!("{folder}/{file}");
        fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))
    };
    let stat = read("stat")?;
    let state = stat
        .rsplit_once(')')
        .and_then(|(_, rest)| rest.trim_start().chars().next())
        .ok_or_else(|| anyhow!("{folder}/stat: `{stat}`"))?;
    let syscall = read("syscall")?;
    Ok(Thread {
        tid,
        comm: read("comm")?.trim_end().to_owned(),
        state,
        syscall: parse_syscall(&syscall).with_context(|| format!("{folder}/syscall: `{syscall}`"))?,
    })
}

fn has_ended(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| {
        error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ESRCH)
    })
}

/// `running`, or `NR ARG×6 SP PC`, or `-1 SP PC`.
fn parse_syscall(text: &str) -> Result<Option<Syscall>> {
    let mut words = text.split_ascii_whitespace();
    let first = words.next().unwrap_or_default();
    if first == "running" {
        return Ok(None);
    }
    let number = first.parse()?;
    let mut args = [0; 6];
    if number >= 0 {
        for arg in &mut args {
            let word = words.next().unwrap_or_default();
            *arg = u64::from_str_radix(word.trim_start_matches("0x"), 16)?;
        }
    }
    Ok(Some(Syscall { number, args }))
}

/// A process of a process group.
pub(crate) struct Member {
    pub pid: u32,
    pub parent: u32,
}

pub(crate) fn group(leader: u32) -> Result<Vec<Member>> {
    let mut members = Vec::new();
    for entry in fs::read_dir("/proc").context("/proc")? {
        let name = entry.context("/proc")?.file_name();
        let Ok(pid) = name.to_string_lossy().parse() else {
            continue;
        };
        // Not there any more: it has ended.
        let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else {
            continue;
        };
        match parse_parent_and_group(&stat) {
            Some((parent, group)) if group == leader => members.push(Member { pid, parent }),
            _ => {}
        }
    }
    Ok(members)
}

/// The fourth and fifth word of `stat`. The second is a name in parentheses that may hold anything.
fn parse_parent_and_group(stat: &str) -> Option<(u32, u32)> {
    let mut words = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(1);
    Some((words.next()?.parse().ok()?, words.next()?.parse().ok()?))
}

/// Whether the process runs that file. Any thread will do: the first one may have left.
pub(crate) fn runs(pid: u32, exe: &Path) -> bool {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return false;
    };
    tasks
        .flatten()
        .any(|task| fs::read_link(task.path().join("exe")).is_ok_and(|link| link == exe))
}

#[cfg(test)]
mod tests {
    use super::{Syscall, parse_parent_and_group, parse_syscall};

    #[test]
    fn a_name_in_stat_may_hold_anything() {
        let stat = "17 (a) S 1 2 (b) S 9 12 12 0 -1";
        assert_eq!(parse_parent_and_group(stat), Some((9, 12)));
        assert_eq!(parse_parent_and_group("17 (a"), None);
    }

    #[test]
    fn all_three_forms_are_read() {
        let call = parse_syscall("202 0x7f00 0x80 0x2 0x0 0x0 0xffffffffffffffff 0x7ffe 0x7f01\n").unwrap();
        assert_eq!(
            call,
            Some(Syscall {
                number: 202,
                args: [0x7f00, 0x80, 2, 0, 0, u64::MAX]
            })
        );
        assert_eq!(
            parse_syscall("-1 0x7ffe 0x7f01\n").unwrap(),
            Some(Syscall {
                number: -1,
                args: [0; 6]
            })
        );
        assert_eq!(parse_syscall("running\n").unwrap(), None);
        assert!(parse_syscall("").is_err());
        assert!(parse_syscall("202 0x1").is_err());
    }
}
