//! Who makes tasks: totals by spawn site, counted while we watch.

use std::{collections::BTreeMap, fs, thread, time::Duration};

use testbed::tokio::{self, Flavor, NEWEST};

use super::{
    bed::start,
    maker::{Maker, counted, line_of, stacks_by},
};
use crate::{
    counted::{Counted, assert_untold, until, until_seen, watch},
    support::{Daemon, Process},
};

const SOURCE: &str = include_str!("../../../../testbed/tokio/src/made.rs");

const LOCAL: &str = include_str!("../../../../testbed/local/src/main.rs");

/// What tasks run, as it is called without what tells builds apart; in a stripped program where that stands.
fn is_job(entry: &str) -> bool {
    entry.starts_with("tasks::made::job") || entry.contains("/made.rs:")
}

/// How many were made and have ended at each place of the program's own that makes jobs.
fn jobs(told: Counted<'_>) -> BTreeMap<String, (u64, u64)> {
    let made = told.made().into_keys().filter(|(entry, _)| is_job(entry));
    made.map(|(entry, site)| {
        let counts = told.made_and_ended(&entry, &site);
        (site, counts)
    })
    .collect()
}

/// What is made of a program that does as it is told, exactly: by three places, of which two are in one function.
fn assert_counts(build: (&str, Flavor)) {
    let Some(maker) = Maker::start("counted", build, &[]) else {
        return;
    };
    // None of these is seen being made.
    maker.ask("here 5");
    maker.ask("there 6");
    let daemon = watch(maker.pid(), &[]);
    let told = counted(&daemon, maker.pid());
    told.until_active();
    for order in ["here 20", "there 70", "among 30", "here 30"] {
        maker.ask(order);
    }
    // Of the first ones of each: those that were not seen, and ten and twenty others.
    for order in ["end here 15", "end there 26"] {
        maker.ask(order);
    }
    let expected: BTreeMap<String, (u64, u64)> = match build.1 {
        Flavor::Stripped => [("here", (50, 10)), ("there", (70, 20)), ("among", (30, 0))]
            .map(|(place, counts)| (format!("/made.rs:{}:", line_of(SOURCE, place)), counts))
            .into(),
        _ => [("::here", (50, 10)), ("::make", (100, 20))]
            .map(|(function, counts)| (function.to_owned(), counts))
            .into(),
    };
    let seen = || jobs(told);
    let is_expected = |seen: &BTreeMap<String, (u64, u64)>| {
        let is_told = |(name, counts): (&String, &(u64, u64))| {
            seen.iter()
                .any(|(site, seen)| site.contains(name) && seen == counts)
        };
        seen.len() == expected.len() && expected.iter().all(is_told)
    };
    until_seen(&format!("{expected:?} ({build:?})"), seen, is_expected);
    // It stays so.
    thread::sleep(Duration::from_millis(600));
    assert!(is_expected(&seen()), "{build:?}: {:?}", seen());
    for cause in ["tokio_sites_full", "tokio_births_full"] {
        let lost = daemon.sample(&format!("taskleak_lost_events_total{{cause=\"{cause}\"}}"));
        assert_eq!(lost, Some(0.0));
    }
}

#[test]
fn births_and_ends_are_counted_by_who_made_the_task() {
    for build in tokio::builds() {
        assert_counts(build);
    }
}

/// Then nothing has a function of its own.
#[test]
fn births_of_a_single_future_are_counted() {
    for flavor in [Flavor::Debug, Flavor::Stripped] {
        let Some(maker) = Maker::start_small("lone", flavor) else {
            continue;
        };
        maker.ask("make 20");
        let daemon = watch(maker.pid(), &[]);
        let told = counted(&daemon, maker.pid());
        told.until_active();
        maker.ask("make 30");
        maker.ask("end 25");
        until_seen(
            &format!("30 and 5 ({flavor:?})"),
            || told.sums(),
            |sums| *sums == (30, 5),
        );
        thread::sleep(Duration::from_millis(600));
        assert_eq!(told.sums(), (30, 5), "{flavor:?}");
        let made = told.made();
        let [(entry, site)] = made.keys().collect::<Vec<_>>()[..] else {
            panic!("{flavor:?}: {made:?}");
        };
        let (is_job, is_make) = match flavor {
            Flavor::Stripped => (
                entry.contains("/lone/src/main.rs:"),
                site.contains("/lone/src/main.rs:"),
            ),
            _ => (entry.starts_with("lone::job"), site.ends_with("::make")),
        };
        assert!(is_job && is_make, "{flavor:?}: {entry} by {site}");
    }
}

/// Those of a `LocalSet` come by nothing that makes the others.
#[test]
fn births_of_local_tasks_are_counted_beside_the_others() {
    for flavor in [Flavor::Debug, Flavor::Stripped] {
        let Some(maker) = Maker::start_small("local", flavor) else {
            continue;
        };
        for order in ["make 20", "local 10"] {
            maker.ask(order);
        }
        let daemon = watch(maker.pid(), &[]);
        let told = counted(&daemon, maker.pid());
        told.until_active();
        for order in ["make 30", "local 40", "end 25", "end_local 30"] {
            maker.ask(order);
        }
        // Of two functions, or, in a stripped program, at two lines of each.
        let border = LOCAL
            .lines()
            .position(|line| line.starts_with("fn local("))
            .unwrap()
            + 1;
        let is_local = |site: &str| match site.rsplit(':').nth(1).map(str::parse::<usize>) {
            Some(Ok(line)) => line > border,
            _ => {
                assert!(site.ends_with("::local") || site.ends_with("::make"), "{site}");
                site.ends_with("::local")
            }
        };
        let seen = || {
            let mut sums: BTreeMap<bool, (u64, u64)> = BTreeMap::new();
            for (entry, site) in told.made().into_keys() {
                let (made, ended) = told.made_and_ended(&entry, &site);
                let sum = sums.entry(is_local(&site)).or_default();
                *sum = (sum.0 + made, sum.1 + ended);
            }
            sums
        };
        let expected: BTreeMap<bool, (u64, u64)> = [(false, (30, 5)), (true, (40, 20))].into();
        until_seen(&format!("{expected:?} ({flavor:?})"), seen, |sums| {
            *sums == expected
        });
        thread::sleep(Duration::from_millis(600));
        assert_eq!(seen(), expected, "{flavor:?}");
    }
}

/// What is not optimised looks otherwise: it is said that its tasks are not counted.
#[test]
fn what_is_not_seen_is_said() {
    let Some(maker) = Maker::start("unseen", ("1.28.2", Flavor::Unoptimised), &[]) else {
        return;
    };
    let daemon = watch(maker.pid(), &[]);
    let told = counted(&daemon, maker.pid());
    until("told", || told.is_active().is_some());
    maker.ask("here 20");
    thread::sleep(Duration::from_secs(1));
    assert_eq!(told.is_active(), Some(false));
    assert!(told.made().is_empty(), "{:?}", told.made());
}

/// Who calls by a pointer is known once it was met.
#[test]
fn callers_that_no_code_tells_are_learned() {
    for build in [(NEWEST, Flavor::Debug), (NEWEST, Flavor::Stripped)] {
        let Some(maker) = Maker::start("learned", build, &[]) else {
            continue;
        };
        let daemon = watch(maker.pid(), &[]);
        let told = counted(&daemon, maker.pid());
        told.until_active();
        let known = || jobs(told).into_iter().find(|(site, _)| !site.is_empty());
        until("learned", || {
            maker.ask("pointer 1");
            thread::sleep(Duration::from_millis(200));
            known().is_some()
        });
        for count in [20, 30] {
            let before = known().unwrap().1.0;
            maker.ask(&format!("pointer {count}"));
            until("counted", || known().unwrap().1 == (before + count, 0));
        }
        // Those by which it was met.
        assert!(jobs(told).get("").is_some_and(|(made, _)| *made > 0));
        let site = known().unwrap().0;
        let is_pointers = site.contains("::pointer") || site.contains("/made.rs:");
        assert!(is_pointers, "{site}");
    }
}

/// What was made while somebody looked says by whom, in groups and one by one; what is older does not, and is in the same group.
#[test]
fn tasks_tell_who_made_them() {
    let Some(maker) = Maker::start("told", (NEWEST, Flavor::Debug), &[]) else {
        return;
    };
    let pid = maker.pid();
    maker.ask("here 4");
    let daemon = watch(pid, &["--blocked-after", "500ms", "--expose-stacks"]);
    counted(&daemon, pid).until_active();
    maker.ask("here 7");
    maker.ask("among 9");
    let sites = |process: &Process| -> Option<BTreeMap<String, u64>> {
        let mut jobs = process
            .groups()
            .iter()
            .filter(|group| group["entry"]["function"] == "tasks::made::job");
        let group = jobs.next()?.clone();
        assert!(jobs.next().is_none(), "{process:?}");
        assert!(group["spawn_site"].is_null(), "{group}");
        let told = group["spawn_sites"].as_array()?.iter();
        let mut sites: BTreeMap<String, u64> = told
            .map(|site| {
                let function = site["function"].as_str().unwrap();
                let place = format!("{function}:{}", site["line"]);
                (place, site["count"].as_u64().unwrap())
            })
            .collect();
        sites.insert("all".to_owned(), group["count"].as_u64()?);
        Some(sites)
    };
    let expected = [
        ("all", 20_u64),
        (
            &format!("tasks::made::Maker::here:{}", line_of(SOURCE, "here")),
            7,
        ),
        (
            &format!("tasks::made::make::{{{{closure}}}}:{}", line_of(SOURCE, "among")),
            9,
        ),
    ];
    let expected: BTreeMap<String, u64> = expected.map(|(name, count)| (name.to_owned(), count)).into();
    daemon.until(pid, "all are told", |process| {
        process.and_then(sites).as_ref() == Some(&expected)
    });
    let text = stacks_by(&daemon.address.to_string(), pid);
    assert!(text.contains("made at tasks::made::Maker::here"), "{text}");
}

#[test]
fn a_program_that_makes_many_does_what_it_always_does() {
    // As many as may be made between two passes within the budget.
    const COUNT: u64 = 40_000;
    for build in [("1.44.2", Flavor::V0), (NEWEST, Flavor::Stripped)] {
        let Some(maker) = Maker::start("many", build, &[]) else {
            continue;
        };
        // A budget that is never reached.
        let daemon = watch(maker.pid(), &["--probe-budget", "100%"]);
        let told = counted(&daemon, maker.pid());
        told.until_active();
        maker.ask(&format!("burst {COUNT}"));
        until(&format!("counted ({build:?})"), || {
            let made = told.made().into_keys();
            let mut counts = made.map(|(entry, site)| told.made_and_ended(&entry, &site));
            counts.any(|counts| counts == (COUNT, COUNT))
        });
        assert_eq!(told.is_active(), Some(true));
    }
}

/// The probes are taken off, and what else is seen is seen as before.
#[test]
fn a_storm_takes_the_probes_off_and_the_rest_goes_on() {
    let scenarios = ["churn=3", "notify=20"];
    let Some(target) = start("tokio::spawns::storm", (NEWEST, Flavor::Debug), &scenarios) else {
        return;
    };
    let pid = target.pid();
    let daemon = watch(pid, &["--probe-budget", "1%", "--blocked-after", "500ms"]);
    let told = counted(&daemon, pid);
    let is_churn = |(entry, site): (String, String)| {
        entry == "tasks::healthy::short" && site.starts_with("tasks::healthy::churn")
    };
    until("off", || {
        told.is_active() == Some(false) && told.made().into_keys().any(is_churn)
    });
    let log = daemon.log();
    let is_told = |line: &String| line.contains("count its tokio tasks are over their budget");
    assert!(log.iter().any(is_told), "{log:#?}");
    let stuck = |process: &Process| -> u64 {
        let groups = process.groups().iter().filter(|group| group["kind"] == "tokio");
        groups.map(|group| group["count"].as_u64().unwrap()).sum()
    };
    daemon.until(pid, "twenty", |process| {
        process.is_some_and(|process| stuck(process) == 20)
    });
    let before = told.made();
    for _ in 0..10 {
        thread::sleep(Duration::from_millis(150));
        assert_eq!(stuck(&daemon.process(pid).unwrap()), 20);
    }
    assert_eq!(told.made(), before);
    assert_eq!(told.is_active(), Some(false));
}

#[test]
fn without_spawn_probes_there_are_no_series_of_tasks() {
    let Some(maker) = Maker::start("none", (NEWEST, Flavor::Debug), &["notify=3"]) else {
        return;
    };
    let daemon = watch(maker.pid(), &["--no-spawn-probes"]);
    daemon.until(maker.pid(), "seen", |process| {
        process.is_some_and(|process| process.value["runtimes"][0] == "tokio")
    });
    maker.ask("here 20");
    thread::sleep(Duration::from_millis(600));
    assert_untold(&daemon);
}

/// Numbers of processes that are gone are given to others, which begin at 0.
#[test]
fn processes_that_come_and_go_leave_nothing_behind() {
    let build = (NEWEST, Flavor::Debug);
    let Ok(command) = tokio::build(build.0, build.1) else {
        return;
    };
    let exe = format!("^{}$", fs::canonicalize(command.get_program()).unwrap().display());
    let daemon = Daemon::start(&["--exe", &exe, "--interval", "200ms"]);
    for round in 1..=3 {
        let Some(maker) = Maker::start("again", build, &[]) else {
            return;
        };
        let told = counted(&daemon, maker.pid());
        told.until_active();
        maker.ask(&format!("here {}", 2 * round));
        maker.ask(&format!("end here {round}"));
        until("counted", || {
            told.made_and_ended("tasks::made::job", "tasks::made::Maker::here") == (2 * round, round)
        });
        let pid = maker.pid();
        drop(maker);
        until("gone", || counted(&daemon, pid).is_active().is_none());
    }
}
