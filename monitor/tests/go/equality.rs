//! Stacks, frame for frame as the program itself tells them.

use taskleak::observe::go::protocol::Record;
use testbed::{
    Socket, Target,
    go::{self, Flavor},
};

use crate::{
    debug2::{self, Frame},
    reader::Reader,
};

const EVERYWHERE: [&str; 22] = [
    "shapes=2",
    "chan_receive=3",
    "chan_send=2",
    "nil_receive=2",
    "select=2",
    "empty_select=2",
    "weighted=2",
    "with_arguments=2",
    "mutex=2",
    "rwmutex_read=2",
    "rwmutex_write=2",
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
    "collect=1",
];

/// Compares all that stood still meanwhile; the share of goroutines that did is checked as well.
fn check(version: &str, flavor: Flavor) {
    let socket = Socket::new(&format!("debug2-{version}-{flavor:?}"));
    let mut scenarios = EVERYWHERE.map(str::to_owned).to_vec();
    if go::minor(version) >= 23 {
        scenarios.push("shapes123=2".to_owned());
    }
    if flavor.has_c() {
        scenarios.extend(["cgo_pause=2".to_owned(), "cgo_callback=2".to_owned()]);
    }
    scenarios.push(format!("pprof={}", socket.path()));
    let scenarios: Vec<&str> = scenarios.iter().map(String::as_str).collect();
    let started = go::build(version, flavor).and_then(|command| Target::start_command(command, &scenarios));
    let name = format!("go::equality (Go {version}, {flavor:?})");
    let Some(target) = testbed::or_skip(&name, started).unwrap_or_else(|error| panic!("{name}: {error:#}"))
    else {
        return;
    };
    let mut reader = Reader::new(target.pid());
    let (before, unreadable) = reader.goroutines().unwrap();
    assert_eq!(unreadable, 0, "{name}");
    let stacks: Vec<_> = before
        .values()
        .filter_map(|record| Some((record.id, reader.stack(record)?)))
        .collect();
    let told = debug2::ask(socket.path());
    let (after, _) = reader.goroutines().unwrap();
    let stood_still = |id: &u64| {
        let same = |a: &Record, b: &Record| (a.seq, a.place, a.status) == (b.seq, b.place, b.status);
        matches!((before.get(id), after.get(id)), (Some(a), Some(b)) if same(a, b))
    };
    let mut compared = 0;
    for (id, stack) in stacks.iter().filter(|(id, _)| stood_still(id)) {
        // The runtime's own are not told there.
        let Some(told) = told.get(id) else { continue };
        let frames: Vec<Frame> = stack
            .frames
            .iter()
            .map(|frame| {
                (
                    frame.function.clone().unwrap_or_default(),
                    frame.file.clone().unwrap_or_default(),
                    frame.line.unwrap_or_default(),
                )
            })
            .collect();
        assert_eq!(frames, told.frames, "{name}: goroutine {id} [{}]", told.state);
        let made_at = reader.made_at(&before[id]);
        let made_at = made_at.and_then(|site| Some((site.file?, site.line?)));
        assert!(
            made_at.is_none() || made_at == told.made_at,
            "{name}: goroutine {id}"
        );
        let reason = &reader.reasons[usize::from(before[id].reason)];
        assert!(
            told.state == *reason || ["syscall", "running", "runnable"].contains(&told.state.as_str()),
            "{name}: goroutine {id} {reason}: {}",
            told.state
        );
        compared += 1;
    }
    // What serves the request, sleeps, or collects may have run.
    assert!(
        compared + 8 >= told.len() && compared > 100,
        "{name}: {compared} of {}",
        told.len()
    );
    // Those that serve the request are born after the first look and may be gone by the second.
    let strangers = told
        .keys()
        .filter(|id| !before.contains_key(id) && !after.contains_key(id));
    assert!(strangers.count() <= 2, "{name}");
}

#[test]
fn stacks_are_what_the_program_itself_tells() {
    for version in go::versions() {
        check(version, Flavor::Plain);
    }
}

#[test]
fn also_of_stripped_and_of_relocatable_programs() {
    for version in go::versions() {
        check(version, Flavor::Stripped);
        check(version, Flavor::NoSections);
        check(version, Flavor::Pie);
    }
}

#[test]
fn also_of_programs_with_c_in_them() {
    for version in go::versions() {
        check(version, Flavor::Cgo);
        check(version, Flavor::External);
    }
}
