//! What it prints is what the Go program itself prints, line by line.

use std::{
    collections::BTreeMap,
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
};

use testbed::{
    Socket,
    go::{self, Flavor},
};

use super::told;
use crate::go::bed;

/// `goroutine?debug=2`, the arguments of calls made `...`.
fn ask(socket: &str) -> String {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream
        .write_all(b"GET /debug/pprof/goroutine?debug=2 HTTP/1.0\r\n\r\n")
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    body.lines().map(|line| without_arguments(line) + "\n").collect()
}

/// `main.(*T).f(0x1, {0x2, 0x3})` → `main.(*T).f(...)`.
fn without_arguments(line: &str) -> String {
    let is_call = line.ends_with(')') && !line.starts_with(['\t', ' ']);
    if !is_call {
        return line.to_owned();
    }
    let call = go::without_arguments(line).unwrap_or_else(|| panic!("{line}"));
    format!("{call}(...)")
}

/// The goroutines in their order, and what is printed of each.
fn blocks(text: &str) -> Vec<(u64, &str)> {
    let id = |block: &str| {
        let rest = block
            .strip_prefix("goroutine ")
            .unwrap_or_else(|| panic!("{block}"));
        rest.split(' ').next().unwrap().parse().unwrap()
    };
    text.trim()
        .split("\n\n")
        .map(|block| (id(block), block.trim()))
        .collect()
}

const SCENARIOS: [&str; 20] = [
    "shapes=2",
    "locked_receive=2",
    "chan_receive=3",
    "chan_send=2",
    "nil_receive=2",
    "select=2",
    "empty_select=2",
    "with_arguments=2",
    "mutex=2",
    "rwmutex_read=2",
    "waitgroup=2",
    "cond=2",
    "once=2",
    "pipe_read=2",
    "tcp_read=2",
    "accept=2",
    "syscall_read=2",
    "sleep=2",
    "article_exec_server=2",
    "article_log_follower=2",
];

fn check(version: &str, flavor: Flavor) {
    let socket = Socket::new(&format!("stacks-debug2-{version}-{flavor:?}"));
    let pprof = format!("pprof={}", socket.path());
    let scenarios: Vec<&str> = SCENARIOS.iter().copied().chain([pprof.as_str()]).collect();
    let Some(target) = bed::start("stacks::debug2", version, flavor, &scenarios) else {
        return;
    };
    let before = ask(socket.path());
    let ours = told(target.pid(), &["--format", "debug2"]);
    let after = ask(socket.path());
    let (before, after) = (blocks(&before), blocks(&after));
    let told: BTreeMap<u64, &str> = blocks(&ours).into_iter().collect();
    let later: BTreeMap<u64, &str> = after.iter().copied().collect();
    // Those that stood still; what serves the two requests has changed in between.
    let stood: Vec<(u64, &str)> = before
        .iter()
        .copied()
        .filter(|(id, block)| later.get(id) == Some(block))
        .collect();
    for (id, block) in &stood {
        assert_eq!(told.get(id), Some(block), "Go {version}, {flavor:?}");
    }
    assert!(
        stood.len() > 70 && stood.len() + 4 >= before.len(),
        "Go {version}: {}",
        stood.len()
    );
    // In the runtime's own order.
    let place = |id: u64| stood.iter().position(|(known, _)| *known == id);
    let order: Vec<usize> = blocks(&ours).iter().filter_map(|(id, _)| place(*id)).collect();
    assert!(order.is_sorted(), "Go {version}: {order:?}");
    // Nothing that is not there, nothing of the runtime's own.
    let strangers = told
        .keys()
        .filter(|id| !later.contains_key(id) && place(**id).is_none());
    assert!(strangers.count() <= 2, "Go {version}");
    let locked = stood
        .iter()
        .filter(|(_, block)| block.contains(", locked to thread]"));
    assert_eq!(locked.count(), 2, "Go {version}");
    let makers = stood.iter().filter(|(_, block)| block.contains(" in goroutine "));
    assert_eq!(makers.count() > 70, go::minor(version) >= 21, "Go {version}");
}

#[test]
fn it_is_what_the_program_itself_prints_line_by_line() {
    for version in go::versions() {
        check(version, Flavor::Plain);
    }
}

#[test]
fn also_of_stripped_and_of_relocatable_programs() {
    for version in ["1.19", "1.27"] {
        check(version, Flavor::NoSections);
        check(version, Flavor::Pie);
    }
}
