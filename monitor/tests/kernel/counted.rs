//! What is said of the tasks that a process makes: the totals of one kind, by what they run and where they were made.

use std::{
    collections::BTreeMap,
    thread,
    time::{Duration, Instant},
};

use crate::support::{Daemon, PATIENCE};

const ACTIVE: &str = "taskleak_spawn_probes_active";
const SPAWNED: &str = "taskleak_tasks_spawned_total";
const EXITED: &str = "taskleak_tasks_exited_total";

/// A daemon that watches one process.
pub fn watch(pid: u32, more: &[&str]) -> Daemon {
    let pid = pid.to_string();
    Daemon::start(&[&["--pid", &pid, "--interval", "200ms"], more].concat())
}

pub fn until(what: &str, condition: impl Fn() -> bool) {
    until_seen(what, condition, |is_so| *is_so);
}

/// Looks until what is seen is as expected.
pub fn until_seen<T: std::fmt::Debug>(what: &str, look: impl Fn() -> T, is_expected: impl Fn(&T) -> bool) {
    let begun = Instant::now();
    loop {
        let seen = look();
        if is_expected(&seen) {
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "not {what}: {seen:?}");
        thread::sleep(Duration::from_millis(50));
    }
}

/// Tasks of one kind of a process, as a daemon tells of them.
#[derive(Clone, Copy)]
pub struct Counted<'a> {
    pub daemon: &'a Daemon,
    pub pid: u32,
    pub kind: &'static str,
}

impl Counted<'_> {
    fn is_meant(&self, line: &str) -> bool {
        line.contains(&format!("kind=\"{}\"", self.kind)) && line.contains(&format!("pid=\"{}\"", self.pid))
    }

    /// (entry, spawn site) → tasks, of one metric.
    fn totals(&self, metric: &str) -> BTreeMap<(String, String), u64> {
        let (_, _, metrics) = self.daemon.get("/metrics");
        let mut totals = BTreeMap::new();
        let metric = format!("{metric}{{");
        for line in metrics.lines().filter(|line| line.starts_with(&metric)) {
            if !self.is_meant(line) {
                continue;
            }
            let key = ["entry", "spawn_site"].map(|name| label(line, name).to_owned());
            let value: f64 = line.rsplit(' ').next().unwrap().parse().unwrap();
            assert!(totals.insert(key.into(), value as u64).is_none(), "{line}");
        }
        totals
    }

    pub fn made(&self) -> BTreeMap<(String, String), u64> {
        self.totals(SPAWNED)
    }

    /// Spawned and exited, by what it is about.
    pub fn made_and_ended(&self, entry: &str, spawn_site: &str) -> (u64, u64) {
        let key = (entry.to_owned(), spawn_site.to_owned());
        let of = |metric| self.totals(metric).get(&key).copied().unwrap_or(0);
        (of(SPAWNED), of(EXITED))
    }

    /// Spawned and exited, all together.
    pub fn sums(&self) -> (u64, u64) {
        let of = |metric| self.totals(metric).values().sum();
        (of(SPAWNED), of(EXITED))
    }

    /// Whether the probes are attached; `None` when nothing is said of them.
    pub fn is_active(&self) -> Option<bool> {
        let (_, _, metrics) = self.daemon.get("/metrics");
        let mut lines = metrics.lines().filter(|line| line.starts_with(ACTIVE));
        let line = lines.find(|line| self.is_meant(line))?;
        Some(line.ends_with(" 1"))
    }

    pub fn until_active(&self) {
        until("active", || self.is_active() == Some(true));
    }
}

/// That nothing is told of any tasks that were made.
pub fn assert_untold(daemon: &Daemon) {
    let (_, _, metrics) = daemon.get("/metrics");
    for metric in [ACTIVE, SPAWNED] {
        assert!(!metrics.contains(&format!("{metric}{{")), "{metric}");
    }
}

/// Value of a label in a line.
fn label<'a>(line: &'a str, name: &str) -> &'a str {
    let (_, rest) = line.split_once(&format!(",{name}=\"")).unwrap();
    rest.split('"').next().unwrap()
}
