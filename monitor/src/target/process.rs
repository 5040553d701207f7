//! Every process that the sweep has met: who it is and whether it is watched.

use std::{
    cell::OnceCell,
    collections::HashMap,
    fs,
    io::{self, Read as _},
    path::PathBuf,
    sync::Arc,
};

use super::{
    Selector, cgroup,
    pods::{self, PodSources, Pods},
};
use crate::{
    identify::text::clean,
    model::{Process, ProcessId},
};

/// Longest text that is read from a file of /proc.
const MAX_TEXT: u64 = 64 * 1024;

/// Longest path that is told, in characters (PATH_MAX).
const MAX_PATH: usize = 4096;
/// Longest name that the kernel keeps of a thread.
const MAX_COMM: usize = 16;

/// Threads that are asked for the executable when the first thread has left.
const MAX_THREADS_TRIED: usize = 16;

/// A process that is to be decided on. What it costs to know is read when it is asked for.
pub struct Candidate {
    pub id: ProcessId,
    pub comm: String,
    exe: OnceCell<String>,
    cgroup: OnceCell<String>,
}

impl Candidate {
    pub fn new(id: ProcessId, comm: String) -> Self {
        Self {
            id,
            comm,
            exe: OnceCell::new(),
            cgroup: OnceCell::new(),
        }
    }

    /// Path of the executable; empty where it cannot be known.
    pub fn exe(&self) -> &str {
        self.exe.get_or_init(|| {
            let link = fs::read_link(self.file("exe")).or_else(|_| self.exe_of_another_thread());
            let path = link.unwrap_or_default();
            let path = path.to_string_lossy();
            path.strip_suffix(" (deleted)").unwrap_or(&path).to_owned()
        })
    }

    /// The first thread's is empty when that thread has left by pthread_exit.
    fn exe_of_another_thread(&self) -> io::Result<PathBuf> {
        let threads = fs::read_dir(format!("/proc/{}/task", self.id.pid))?.take(MAX_THREADS_TRIED);
        threads
            .filter_map(|thread| fs::read_link(thread.ok()?.path().join("exe")).ok())
            .next()
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Its cgroups, most telling first.
    pub fn cgroup_paths(&self) -> Vec<&str> {
        cgroup::paths(self.cgroup.get_or_init(|| {
            let mut text = String::new();
            let file = fs::File::open(self.file("cgroup"));
            // What cannot be read leaves the labels empty.
            let _ = file.and_then(|file| file.take(MAX_TEXT).read_to_string(&mut text));
            text
        }))
    }

    fn file(&self, name: &str) -> String {
        format!("/proc/{}/{name}", self.id.pid)
    }

    fn describe(self, pods: &mut Pods) -> Process {
        let paths = self.cgroup_paths();
        let container_id = cgroup::container_id(&paths);
        let pod = pods.of(container_id.as_deref());
        let made_from = pod.as_ref().map(|pod| pods::workload(&pod.name).to_owned());
        let workload = made_from.filter(|name| !name.is_empty());
        Process {
            id: self.id,
            workload: workload.unwrap_or_else(|| clean(&cgroup::workload(&paths), MAX_PATH)),
            container_id,
            pod,
            exe: clean(self.exe(), MAX_PATH),
            comm: clean(&self.comm, MAX_COMM),
        }
    }
}

struct Known {
    id: ProcessId,
    /// `None`: not watched.
    process: Option<Arc<Process>>,
    seen_in: u64,
}

/// Decides once for each process, and remembers until it is gone.
pub struct Targets {
    selector: Selector,
    pods: Pods,
    known: HashMap<u32, Known>,
    pass: u64,
}

impl Targets {
    pub fn new(selector: Selector, pods: PodSources) -> Self {
        Self {
            selector,
            pods: Pods::new(pods),
            known: HashMap::new(),
            pass: 0,
        }
    }

    /// Starts a pass; [`Self::end_pass`] forgets who was not met in it.
    pub fn begin_pass(&mut self) {
        self.pass += 1;
    }

    /// The process, when it is watched. `comm` is asked for only when the process is new.
    pub fn resolve(&mut self, id: ProcessId, comm: impl FnOnce() -> String) -> Option<&Arc<Process>> {
        let is_known = self.known.get(&id.pid).is_some_and(|known| known.id == id);
        if !is_known {
            let process = self.decide(Candidate::new(id, comm()));
            self.known.insert(
                id.pid,
                Known {
                    id,
                    process,
                    seen_in: self.pass,
                },
            );
        }
        let known = self.known.get_mut(&id.pid)?;
        known.seen_in = self.pass;
        known.process.as_ref()
    }

    /// The watched process that was last seen under this pid.
    pub fn watched(&self, pid: u32) -> Option<ProcessId> {
        self.known.get(&pid)?.process.as_ref().map(|process| process.id)
    }

    /// Whether the process that has this pid now would be watched. It has just called exec; the next sweep
    /// tells its identity.
    pub fn would_watch(&self, pid: u32) -> bool {
        let comm = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        let id = ProcessId {
            pid,
            start_boottime: 0,
            exec_id: 0,
        };
        self.is_watched(&Candidate::new(id, comm.trim_end_matches('\n').to_owned()))
    }

    /// Forgets processes that were not met in this pass.
    pub fn end_pass(&mut self) {
        let pass = self.pass;
        self.known.retain(|_, known| known.seen_in == pass);
    }

    fn decide(&mut self, candidate: Candidate) -> Option<Arc<Process>> {
        self.is_watched(&candidate)
            .then(|| Arc::new(candidate.describe(&mut self.pods)))
    }

    fn is_watched(&self, candidate: &Candidate) -> bool {
        candidate.id.pid != std::process::id() && self.selector.matches(candidate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own_id(exec_id: u64) -> ProcessId {
        ProcessId {
            pid: std::os::unix::process::parent_id(),
            start_boottime: 1,
            exec_id,
        }
    }

    #[test]
    fn an_exec_makes_another_process_of_the_same_pid() {
        let selector = Selector::new(&[], &["^api$".to_owned()], &[], &[], &[]).unwrap();
        let mut targets = Targets::new(selector, PodSources::default());
        targets.begin_pass();
        assert!(targets.resolve(own_id(1), || "sh".to_owned()).is_none());
        assert!(
            targets
                .resolve(own_id(1), || unreachable!("it was decided on"))
                .is_none()
        );
        assert!(targets.resolve(own_id(2), || "api".to_owned()).is_some());
        targets.begin_pass();
        targets.end_pass();
        assert!(targets.known.is_empty());
    }

    #[test]
    fn flags_of_one_kind_are_alternatives_and_kinds_must_all_match() {
        let id = own_id(1);
        let candidate = Candidate::new(id, "api".to_owned());
        let matches = |pids: &[u32], comms: &[&str], excludes: &[&str]| {
            let own = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
            Selector::new(pids, &own(comms), &[], &[], &own(excludes))
                .unwrap()
                .matches(&candidate)
        };
        assert!(matches(&[1_000_000, id.pid], &[], &[]));
        assert!(matches(&[], &["db", "ap"], &[]));
        assert!(!matches(&[id.pid], &["db"], &[]));
        assert!(!matches(&[], &[], &["^api$"]));
    }

    #[test]
    fn bad_expressions_are_named() {
        let error = Selector::new(&[], &["a(".to_owned()], &[], &[], &[])
            .unwrap_err()
            .to_string();
        assert!(error.starts_with("`a(` is not a regular expression"), "{error}");
        let error = Selector::new(&[], &[], &[], &["a[".to_owned()], &[])
            .unwrap_err()
            .to_string();
        assert!(error.starts_with("`a[` is not a glob"), "{error}");
    }
}
