//! A look at a program's locks as the monitor takes it.

use std::{
    collections::{BTreeMap, BTreeSet},
    thread,
    time::{Duration, Instant},
};

use taskleak::{
    detect::holders::Holders,
    observe::{
        bpf::{LoadOptions, Probes, TaskRecord, selected},
        helper::{self, Helper},
        thread::holders::{Edge, Edges, Evidence},
    },
};
use testbed::{Program, Target};

/// Longest time that anything is waited for.
const PATIENCE: Duration = Duration::from_secs(20);
/// Between the two sweeps of a look.
const BETWEEN: Duration = Duration::from_millis(20);

/// The monitor starts itself anew to read memory, and so does this program: with the arguments of a helper it
/// becomes one before libtest looks at them.
#[used]
#[unsafe(link_section = ".init_array")]
static BE_A_HELPER_IF_ASKED: extern "C" fn() = {
    extern "C" fn serve_and_exit() {
        if std::env::args().nth(1).as_deref() == Some(helper::ARGUMENT) {
            std::process::exit(i32::from(helper::serve(std::iter::empty()).is_err()));
        }
    }
    serve_and_exit
};

/// Starts a program of the testbed. `None` (and the test is skipped) where this machine cannot run it.
pub fn start(test: &str, program: Program, scenarios: &[&str]) -> Option<Target> {
    testbed::or_skip(&format!("holders::{test}"), Target::start(program, scenarios))
        .unwrap_or_else(|error| panic!("{error:#}"))
}

/// Probes and memory for one process.
pub struct Observer {
    probes: Probes,
    helper: Helper,
    pid: u32,
}

impl Observer {
    pub fn new(pid: u32) -> Self {
        let mut probes = Probes::load(&LoadOptions {
            filter: monitor_common::Filter::Selected,
            futex_probes: true,
            spawn_probes: false,
            max_threads: 1000,
            log: log::LevelFilter::Off,
        })
        .unwrap_or_else(|error| panic!("{error}"));
        let mut host_pid = None;
        let find = |record: &TaskRecord| {
            if record.tid == pid {
                host_pid = Some(record.host_tgid);
            }
        };
        probes.sweep(find).unwrap();
        probes
            .select(host_pid.expect("the process is there"), selected::ALONE)
            .unwrap();
        Self {
            probes,
            helper: Helper::default(),
            pid,
        }
    }

    fn sweep(&mut self) -> Vec<TaskRecord> {
        let mut records = Vec::new();
        let pid = self.pid;
        self.probes
            .sweep(|record| {
                if record.tgid == pid {
                    records.push(*record);
                }
            })
            .unwrap();
        records
    }

    /// Two sweeps, and what held from the one to the other.
    pub fn look(&mut self) -> Look {
        self.looks().1
    }

    /// The same, and what the first sweep alone would have told.
    pub fn looks(&mut self) -> (Look, Look) {
        let before = self.sweep();
        let mut edges = Edges::of(&before, |_| true, &mut self.helper);
        assert!(!edges.is_cut);
        let at_once = Look::of(&before, edges.edges.clone());
        thread::sleep(BETWEEN);
        let after = self.sweep();
        edges.retain_lasting(&before, &after);
        (at_once, Look::of(&after, edges.edges))
    }

    /// Looks until it is as it should be, and sees that it stays so.
    pub fn until(&mut self, what: &str, is_so: impl Fn(&Look) -> bool) -> Look {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let look = self.look();
            if is_so(&look) {
                return look;
            }
            assert!(Instant::now() < deadline, "not {what}: {look:#?}");
            thread::sleep(Duration::from_millis(50));
        }
    }
}

#[derive(Debug)]
pub struct Look {
    /// tid → name.
    pub names: BTreeMap<u32, String>,
    pub edges: Vec<Edge>,
}

impl Look {
    fn of(records: &[TaskRecord], edges: Vec<Edge>) -> Self {
        let name = |record: &TaskRecord| {
            let end = record.comm.iter().position(|byte| *byte == 0).unwrap();
            String::from_utf8_lossy(&record.comm[..end]).into_owned()
        };
        Self {
            names: records.iter().map(|record| (record.tid, name(record))).collect(),
            edges,
        }
    }

    /// Threads of this name, of which the kernel keeps 15 letters.
    pub fn called(&self, name: &str) -> BTreeSet<u32> {
        let name = name.get(..15).unwrap_or(name);
        let threads = self.names.iter().filter(|(_, called)| *called == name);
        threads.map(|(tid, _)| *tid).collect()
    }

    /// The one thread of this name.
    pub fn only(&self, name: &str) -> u32 {
        let threads = self.called(name);
        assert_eq!(threads.len(), 1, "{name}: {self:#?}");
        *threads.first().unwrap()
    }

    /// Waiter → holder and why, of the waiters of this name.
    pub fn held(&self, name: &str) -> BTreeMap<u32, (u32, Evidence)> {
        let threads = self.called(name);
        let edges = self.edges.iter().filter(|edge| threads.contains(&edge.waiter));
        edges
            .map(|edge| (edge.waiter, (edge.holder, edge.evidence)))
            .collect()
    }

    pub fn holders(&self) -> Holders {
        Holders::new(
            self.edges
                .iter()
                .map(|edge| (edge.waiter.into(), edge.holder.into())),
        )
    }

    pub fn cycles(&self) -> Vec<Vec<u64>> {
        self.holders().cycles()
    }
}
