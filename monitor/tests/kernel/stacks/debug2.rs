//! What it prints is what the Go program itself prints, line by line.

use std::{
    collections::BTreeMap,
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
};

use testbed::{
    Socket, Target,
    go::{self, Flavor},
};

use super::{json, tasks, told};
use crate::go::bed;

/// `goroutine?debug=2`, the arguments of calls made `...`.
fn ask(socket: &str) -> String {
    let body = get(socket, "/debug/pprof/goroutine?debug=2");
    body.lines().map(|line| without_arguments(line) + "\n").collect()
}

fn get(socket: &str, path: &str) -> String {
    let mut stream = UnixStream::connect(socket).unwrap();
    write!(stream, "GET {path} HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    body.to_owned()
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

/// Runs or is about to: what it does next is not what it did before, even if it is found so twice. Whoever answers us
/// is so, the one who accepts our connections too.
fn is_busy(block: &str) -> bool {
    let state = block.split_once('[').map_or("", |(_, state)| state);
    state.starts_with("runnable") || state.starts_with("running")
}

/// What it prints and what we print, as far as it stood still meanwhile.
struct Both {
    ours: String,
    /// How many it told before us, and whom afterwards.
    before: usize,
    later: Vec<u64>,
    /// In its own order, of which it said the same before us and afterwards.
    stood: Vec<(u64, String)>,
}

impl Both {
    /// `None`: it cannot be built here.
    fn ask(version: &str, flavor: Flavor, scenarios: &[&str], godebug: &str) -> Option<Self> {
        let socket = Socket::new(&format!(
            "debug2-{version}-{flavor:?}-{godebug}{}",
            scenarios.len()
        ));
        let pprof = format!("pprof={}", socket.path());
        let scenarios: Vec<&str> = scenarios.iter().copied().chain([pprof.as_str()]).collect();
        let target = bed::start_with(
            "stacks::debug2",
            version,
            flavor,
            &scenarios,
            ("GODEBUG", godebug),
        )?;
        Some(Self::again(&target, &socket))
    }

    fn again(target: &Target, socket: &Socket) -> Self {
        let before = ask(socket.path());
        let ours = told(target.pid(), &["--format", "debug2"]);
        let after = ask(socket.path());
        let (before, after) = (blocks(&before), blocks(&after));
        let later: BTreeMap<u64, &str> = after.iter().copied().collect();
        let stood = before
            .iter()
            .filter(|(id, block)| !is_busy(block) && later.get(id) == Some(block))
            .map(|(id, block)| (*id, (*block).to_owned()));
        Self {
            stood: stood.collect(),
            before: before.len(),
            later: later.into_keys().collect(),
            ours,
        }
    }

    /// What stood still is told as it tells it itself.
    fn assert_same(&self, what: &str) -> BTreeMap<u64, &str> {
        let told: BTreeMap<u64, &str> = blocks(&self.ours).into_iter().collect();
        for (id, block) in &self.stood {
            assert_eq!(told.get(id), Some(&block.as_str()), "{what}");
        }
        told
    }

    /// What the first lines say behind the number, sorted, of those that have this function on their stack.
    fn heads(&self, function: &str) -> Vec<&str> {
        let own = self.stood.iter().filter(|(_, block)| block.contains(function));
        let head = |block: &'_ str| block.find('[').unwrap_or_default();
        let mut heads: Vec<&str> = own
            .filter_map(|(_, block)| block.lines().next()?.get(head(block)..))
            .collect();
        heads.sort_unstable();
        heads
    }
}

fn check(version: &str, flavor: Flavor) {
    let Some(both) = Both::ask(version, flavor, &SCENARIOS, "") else {
        return;
    };
    let told = both.assert_same(&format!("Go {version}, {flavor:?}"));
    let stood = &both.stood;
    assert!(
        stood.len() > 70 && stood.len() + 5 >= both.before,
        "Go {version}: {} of {}",
        stood.len(),
        both.before
    );
    // In the runtime's own order.
    let place = |id: u64| stood.iter().position(|(known, _)| *known == id);
    let order: Vec<usize> = blocks(&both.ours)
        .iter()
        .filter_map(|(id, _)| place(*id))
        .collect();
    assert!(order.is_sorted(), "Go {version}: {order:?}");
    // Nothing that is not there, nothing of the runtime's own.
    let strangers = told
        .keys()
        .filter(|id| !both.later.contains(id) && place(**id).is_none());
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

/// Of the last ones a part of the stack is read that is like the first ones', all but for one return address.
#[test]
fn thousands_that_look_alike_are_told_apart() {
    for version in go::versions() {
        let scenarios = ["mostly=8000", "rarely=300", "tcp_read=2000", "deadline_read=200"];
        let Some(both) = Both::ask(version, Flavor::Plain, &scenarios, "") else {
            continue;
        };
        both.assert_same(version);
        let calls = lines_of(&both.ours, "main.leakAlike(...)");
        let mut counts: Vec<usize> = calls.into_values().collect();
        counts.sort_unstable();
        assert_eq!(counts, [300, 8000], "Go {version}");
    }
}

/// How often each line comes behind this one.
fn lines_of<'a>(text: &'a str, call: &str) -> BTreeMap<&'a str, usize> {
    let mut found = BTreeMap::new();
    for (line, next) in text.lines().zip(text.lines().skip(1)) {
        if line == call {
            *found.entry(next).or_default() += 1;
        }
    }
    found
}

/// Only from Go 1.26 on it prints them, and only where it was told to, which is the rule from 1.27 on.
#[test]
fn labels_are_printed_where_and_as_the_program_prints_them() {
    let scenarios = ["labelled=2", "labelled_each=3", "labelled_many=1", "unlabelled=1"];
    let newest = ["1.27", "1.26"];
    for version in go::versions().iter().filter(|version| newest.contains(*version)) {
        for (flavor, godebug) in [
            (Flavor::Plain, "tracebacklabels=1"),
            (Flavor::NoSections, "tracebacklabels=1"),
            (Flavor::Pie, "tracebacklabels=1"),
            (Flavor::Plain, "tracebacklabels=0"),
        ] {
            let Some(both) = Both::ask(version, flavor, &scenarios, godebug) else {
                continue;
            };
            both.assert_same(&format!("Go {version}, {flavor:?}, {godebug}"));
            let each = both.heads("main.labelledEachForever");
            let expected: Vec<String> = (1..=3)
                .map(|number| match (godebug, *version) {
                    ("tracebacklabels=0", _) => "[chan receive]:".to_owned(),
                    (_, "1.26") => {
                        format!("[chan receive labels:{{\"kind\": \"batch\", \"request\": \"r-{number}\"}}]:")
                    }
                    _ => format!("[chan receive] {{kind: batch, request: \"r-{number}\"}}:"),
                })
                .collect();
            assert_eq!(each, expected, "Go {version}, {flavor:?}, {godebug}");
            assert_eq!(both.heads("main.unlabelledForever"), ["[chan receive]:"]);
            assert_eq!(both.heads("main.labelledForever").len(), 2);
            assert_eq!(both.heads("main.labelledManyForever").len(), 1);
        }
    }
}

/// testing/synctest, from Go 1.25 on.
#[test]
fn bubbles_are_told() {
    for version in go::versions().iter().filter(|version| go::minor(version) >= 25) {
        let Some(both) = Both::ask(version, Flavor::Plain, &["bubble=1"], "asynctimerchan=0") else {
            continue;
        };
        both.assert_same(&format!("Go {version}"));
        let heads = both.heads("main.bubble");
        let mine: Vec<&str> = heads
            .iter()
            .filter_map(|head| head.strip_suffix(", synctest bubble 1]:"))
            .collect();
        let expected = [
            "[chan receive (durable)",
            "[chan receive (nil chan) (durable)",
            "[chan receive",
            "[chan send (durable)",
            "[chan send (nil chan) (durable)",
            "[select (durable)",
            "[select (no cases) (durable)",
            "[sleep (durable)",
            "[sync.Cond.Wait (durable)",
            "[sync.Mutex.Lock",
            "[sync.WaitGroup.Wait (durable)",
            "[synctest.Wait (durable)",
        ];
        assert_eq!(mine, expected, "Go {version}: {heads:?}");
    }
}

/// The program's own search for leaks marks what it finds, until the next one.
#[test]
fn leaked_ones_are_told_as_the_program_tells_them() {
    let socket = Socket::new("debug2-leaked");
    let pprof = format!("pprof={}", socket.path());
    let scenarios = ["article_producer=3", "chan_receive=2", pprof.as_str()];
    let Some(target) = bed::start("stacks::leaked", "1.27", Flavor::Plain, &scenarios) else {
        return;
    };
    let found = get(socket.path(), "/debug/pprof/goroutineleak?debug=1");
    assert!(found.contains("goroutineleak profile: total "), "{found}");
    let both = Both::again(&target, &socket);
    both.assert_same("leaked");
    let leaked = both
        .stood
        .iter()
        .filter(|(_, block)| block.contains(" (leaked)]:"));
    assert_eq!(leaked.count(), 3, "{}", both.ours);
    let document = json(target.pid(), &["--kind", "goroutine"]);
    let found = tasks(&document, |task| task["leaked"] == true);
    assert_eq!(found.len(), 3, "{found:?}");
    for task in found {
        assert_eq!(task["reason"], "chan send", "{task}");
    }
    let text = told(target.pid(), &["--kind", "goroutine"]);
    let said = "3 goroutines: chan send, internal, leaked as the program itself has found; ids ";
    let unaged = |line: &str| match (line.find(" for "), line.find(", internal")) {
        (Some(from), Some(to)) if from < to => format!("{}{}", &line[..from], &line[to..]),
        _ => line.to_owned(),
    };
    assert!(text.lines().any(|line| unaged(line).starts_with(said)), "{text}");
    // Everybody can reach what those wait for.
    assert_eq!(both.heads("main.chanReceiveForever"), ["[chan receive]:"; 2]);
}
