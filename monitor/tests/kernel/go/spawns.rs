//! Who makes goroutines: totals by spawn site, counted while we watch.

use std::{
    fs,
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use testbed::{
    Target,
    go::{self, Flavor},
};

use super::bed::start;
use crate::{
    counted::{Counted, assert_untold, until, watch},
    support::{Daemon, PATIENCE},
};

const VERSION: &str = "1.27";

/// A program that makes goroutines when it is told to.
struct Maker {
    target: Target,
    socket: PathBuf,
}

impl Maker {
    fn start(test: &str, version: &str, flavor: Flavor) -> Option<Self> {
        let name = format!(
            "taskleak-{}-{version}-{flavor:?}-{}",
            test.replace(':', "."),
            std::process::id()
        );
        let socket = std::env::temp_dir().join(name);
        let _ = fs::remove_file(&socket);
        let pprof = format!("pprof={}", socket.display());
        let target = start(test, version, flavor, &[&pprof, "sleep=1"])?;
        Some(Self { target, socket })
    }

    /// What it answers to.
    fn ask(&self, path: &str) -> String {
        let mut stream = UnixStream::connect(&self.socket).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(stream, "GET {path} HTTP/1.0\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer.split_once("\r\n\r\n").unwrap().1.trim().to_owned()
    }

    fn pid(&self) -> u32 {
        self.target.pid()
    }
}

impl Drop for Maker {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.socket);
    }
}

/// What a daemon tells of a process's goroutines.
fn counted(daemon: &Daemon, pid: u32) -> Counted<'_> {
    Counted {
        daemon,
        pid,
        kind: "goroutine",
    }
}

/// What is made of a program that does as it is told, exactly.
fn assert_counts(test: &str, version: &str, flavor: Flavor) {
    let Some(maker) = Maker::start(test, version, flavor) else {
        return;
    };
    // None of these is seen being made.
    assert_eq!(maker.ask("/spawn?short=5&long=6&either=8"), "made");
    let pid = maker.pid();
    let daemon = watch(pid, &[]);
    counted(&daemon, pid).until_active();
    // 120 + 80 and 40 + 30; of the last ones every other one ends.
    assert_eq!(maker.ask("/spawn?short=120&long=40&either=50"), "made");
    assert_eq!(maker.ask("/spawn?short=80&long=30"), "made");
    let expected = [
        ("main.shortJob", "main.spawnShort", (200, 200)),
        ("main.longJob", "main.spawnLong", (70, 0)),
        ("", "main.spawnEither", (50, 25)),
    ];
    let told = counted(&daemon, pid);
    let seen = || expected.map(|(entry, site, _)| (entry, site, told.made_and_ended(entry, site)));
    until(&format!("{expected:?} ({version} {flavor:?})"), || {
        seen() == expected
    });
    // It stays so, and nothing else of the program's own has been made.
    thread::sleep(Duration::from_millis(600));
    assert_eq!(seen(), expected, "{version} {flavor:?}");
    for ((entry, site), count) in counted(&daemon, pid).made() {
        let is_ours = site.starts_with("main.") || entry.starts_with("main.");
        assert!(
            !is_ours
                || expected.contains(&(
                    entry.as_str(),
                    site.as_str(),
                    counted(&daemon, pid).made_and_ended(&entry, &site)
                )),
            "{version} {flavor:?}: {count} of {entry} by {site}"
        );
    }
    let lost = daemon.sample("taskleak_lost_events_total{cause=\"goroutine_sites_full\"}");
    assert_eq!(lost, Some(0.0));
}

#[test]
fn births_and_deaths_are_counted_to_the_last_by_spawn_site() {
    for version in go::versions() {
        for flavor in [Flavor::Plain, Flavor::Stripped] {
            assert_counts("go::spawns::counted", version, flavor);
        }
    }
}

#[test]
fn they_are_counted_however_the_program_was_linked() {
    for flavor in [Flavor::Pie, Flavor::Cgo, Flavor::External] {
        assert_counts("go::spawns::linked", VERSION, flavor);
    }
}

/// The sum of the numbers below it.
fn sum_below(count: u64) -> u64 {
    count * (count - 1) / 2
}

#[test]
fn a_program_that_makes_many_does_what_it_always_does() {
    const COUNT: u64 = 100_000;
    for version in go::versions() {
        let Some(maker) = Maker::start("go::spawns::many", version, Flavor::Plain) else {
            continue;
        };
        // A budget that is never reached.
        let pid = maker.pid();
        let daemon = watch(pid, &["--probe-budget", "100%"]);
        counted(&daemon, pid).until_active();
        let answer = maker.ask(&format!("/burst?count={COUNT}"));
        assert_eq!(
            answer.split(' ').next().unwrap(),
            sum_below(COUNT).to_string(),
            "{version}"
        );
        until(&format!("counted ({version})"), || {
            counted(&daemon, pid).made_and_ended("main.addNumber", "main.burst") == (COUNT, COUNT)
        });
        assert_eq!(counted(&daemon, pid).is_active(), Some(true));
    }
}

#[test]
fn a_storm_takes_the_probes_off_and_the_rest_goes_on() {
    let Some(target) = start(
        "go::spawns::storm",
        VERSION,
        Flavor::Plain,
        &["storm=1", "mutex=7"],
    ) else {
        return;
    };
    let pid = target.pid();
    let daemon = watch(
        target.pid(),
        &["--probe-budget", "1%", "--blocked-after", "500ms"],
    );
    until("off", || {
        counted(&daemon, pid).is_active() == Some(false)
            && counted(&daemon, pid)
                .made_and_ended("main.addNumber", "main.burst")
                .0
                > 0
    });
    let log = daemon.log();
    assert!(
        log.iter().any(|line| line.contains("over their budget")),
        "{log:#?}"
    );
    // The totals stand still, and the blocked ones are still being found.
    let before = counted(&daemon, pid).made();
    thread::sleep(Duration::from_secs(1));
    assert_eq!(counted(&daemon, pid).made(), before);
    assert_eq!(counted(&daemon, pid).is_active(), Some(false));
    daemon.until(target.pid(), "seven", |process| {
        let blocked = process.map(super::bed::seen).unwrap_or_default();
        blocked
            .iter()
            .any(|(key, count)| key[2] == "main.mutexForever" && *count == 7)
    });
}

/// A pass may be a minute away: who is far over the budget is not left to it.
#[test]
fn a_storm_is_noticed_between_two_passes() {
    let Some(target) = start("go::spawns::between", VERSION, Flavor::Plain, &["storm=1"]) else {
        return;
    };
    let pid = target.pid().to_string();
    let daemon = Daemon::start(&["--pid", &pid, "--interval", "60s"]);
    let mut log = Vec::new();
    let begun = Instant::now();
    while !log.iter().any(|line: &String| line.contains("over their budget")) {
        assert!(begun.elapsed() < PATIENCE, "{log:#?}");
        thread::sleep(Duration::from_millis(50));
        log.extend(daemon.log());
    }
}

/// At its first 4,000 places or at all 5,000 of them, by the signal that it gets, this makes a goroutine each.
const MANY_PLACES: &str = r#"
package main

import (
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

//go:noinline
func end() {}

//go:noinline
func makeAt(count int) {
PLACES}

func main() {
	come := make(chan os.Signal, 1)
	signal.Notify(come, syscall.SIGUSR1, syscall.SIGUSR2)
	fmt.Println("ready")
	for it := range come {
		if it == syscall.SIGUSR1 {
			makeAt(4000)
		} else {
			makeAt(5000)
		}
	}
}
"#;

/// One that makes them at more places than any program has would take the room of the others'.
#[test]
fn who_makes_them_at_too_many_places_is_counted_no_more_and_that_is_said() {
    let test = "go::spawns::places";
    let place = |number: u32| format!("\tif count > {number} {{\n\t\tgo end()\n\t}}\n");
    let source = MANY_PLACES.replace("PLACES", &(0..5_000).map(place).collect::<String>());
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("places-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let built = go::build_source(VERSION, &source, &folder);
    let started = built.and_then(|command| Target::start_command(command, &[]));
    fs::remove_dir_all(&folder).unwrap();
    let Some(target) = testbed::or_skip(test, started).unwrap() else {
        return;
    };
    let Some(neighbour) = Maker::start(test, VERSION, Flavor::Plain) else {
        return;
    };
    let pid = target.pid();
    let beside = neighbour.pid().to_string();
    let daemon = watch(pid, &["--pid", &beside, "--probe-budget", "100%"]);
    let (places, beside) = (counted(&daemon, pid), counted(&daemon, neighbour.pid()));
    places.until_active();
    beside.until_active();
    target.signal(libc::SIGUSR1).unwrap();
    until("4,000 places counted", || places.sums() == (4_000, 4_000));
    assert_eq!(places.is_active(), Some(true));
    target.signal(libc::SIGUSR2).unwrap();
    until("refused", || places.is_active() == Some(false));
    let log = daemon.log();
    let said = format!("process {pid}: it makes goroutines at more than 4096 places");
    let said = log.iter().filter(|line| line.contains(&said));
    assert_eq!(said.count(), 1, "{log:#?}");
    // What was counted stands, nothing is begun anew, and the other one's are counted as before.
    target.signal(libc::SIGUSR1).unwrap();
    assert_eq!(neighbour.ask("/spawn?long=7"), "made");
    until("the other one's", || {
        beside.made_and_ended("main.longJob", "main.spawnLong") == (7, 0)
    });
    thread::sleep(Duration::from_millis(600));
    assert_eq!(places.sums(), (4_000, 4_000));
    assert_eq!(
        [places, beside].map(|it| it.is_active()),
        [Some(false), Some(true)]
    );
    let lost = daemon.sample("taskleak_lost_events_total{cause=\"goroutine_sites_full\"}");
    assert_eq!(lost, Some(0.0));
}

#[test]
fn without_spawn_probes_there_are_no_series_of_goroutines() {
    let Some(target) = start(
        "go::spawns::none",
        VERSION,
        Flavor::Plain,
        &["churn=1", "mutex=3"],
    ) else {
        return;
    };
    let daemon = watch(target.pid(), &["--no-spawn-probes", "--blocked-after", "500ms"]);
    daemon.until(target.pid(), "three", |process| {
        process.is_some_and(|it| super::bed::seen(it).values().sum::<u64>() == 3)
    });
    assert_untold(&daemon);
}

/// Numbers of processes that are gone are given to others, which begin at 0.
#[test]
fn processes_that_come_and_go_leave_nothing_behind() {
    let Ok(command) = go::build(VERSION, Flavor::Plain) else {
        return;
    };
    let exe = format!("^{}$", fs::canonicalize(command.get_program()).unwrap().display());
    let daemon = Daemon::start(&["--exe", &exe, "--interval", "200ms"]);
    for round in 1..=3 {
        let Some(maker) = Maker::start("go::spawns::again", VERSION, Flavor::Plain) else {
            return;
        };
        let pid = maker.pid();
        counted(&daemon, pid).until_active();
        assert_eq!(maker.ask(&format!("/spawn?long={round}")), "made");
        until("counted", || {
            counted(&daemon, pid).made_and_ended("main.longJob", "main.spawnLong") == (round, 0)
        });
        drop(maker);
        until("gone", || counted(&daemon, pid).is_active().is_none());
    }
}
