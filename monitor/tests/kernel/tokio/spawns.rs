//! Who makes tasks: totals by spawn site, counted while we watch.

use std::{thread, time::Duration};

use testbed::{
    Socket, Target,
    tokio::{self, Flavor, NEWEST},
};

use crate::{
    counted::{Counted, assert_untold, watch},
    support::Daemon,
};

/// A program that makes tasks when it is told to.
struct Maker {
    target: Target,
    socket: Socket,
}

impl Maker {
    fn start(test: &str, (version, flavor): (&str, Flavor), scenarios: &[&str]) -> Option<Self> {
        let test = format!("tokio::spawns::{test} (tokio {version}, {flavor:?})");
        let socket = Socket::new("maker");
        let started = tokio::build(version, flavor).and_then(|mut command| {
            tokio::answer_on(&mut command, &socket);
            Target::start_command(command, scenarios)
        });
        let target = testbed::or_skip(&test, started).unwrap_or_else(|error| panic!("{test}: {error:#}"))?;
        Some(Self { target, socket })
    }

    fn ask(&self, what: &str) {
        tokio::ask(&self.socket, what).unwrap();
    }

    fn pid(&self) -> u32 {
        self.target.pid()
    }
}

/// What a daemon tells of a process's tasks.
fn counted(daemon: &Daemon, pid: u32) -> Counted<'_> {
    Counted {
        daemon,
        pid,
        kind: "tokio",
    }
}

#[test]
fn births_and_ends_are_counted_by_who_made_the_task() {
    for build in tokio::builds() {
        let Some(maker) = Maker::start("counted", build, &[]) else {
            continue;
        };
        maker.ask("here 5");
        maker.ask("there 6");
        let pid = maker.pid();
        let daemon = watch(pid, &[]);
        let told = counted(&daemon, pid);
        thread::sleep(Duration::from_secs(3));
        eprintln!("{build:?} {:?}", told.is_active());
        maker.ask("here 50");
        maker.ask("there 70");
        maker.ask("among 30");
        maker.ask("end here 15");
        maker.ask("end there 26");
        thread::sleep(Duration::from_secs(2));
        for (key, _) in told.made() {
            eprintln!("{key:?} {:?}", told.made_and_ended(&key.0, &key.1));
        }
        let groups = daemon.process(pid).unwrap();
        for g in groups.groups() {
            if g["kind"] == "tokio" {
                eprintln!("{} {} {} {}", g["entry"], g["count"], g["spawn_site"], g["spawn_sites"]);
            }
        }
        eprintln!("{:#?}", daemon.log());
    }
    let _ = (assert_untold, NEWEST);
}
