//! Sweeps: who is watched, and all threads of those.

use std::{io, time::SystemTime};

use monitor_common::{record_flags, selected};

use super::Monitor;
use crate::{
    identify::Identifier,
    model::{Observation, ProcessId},
    observe::{bpf::TaskRecord, thread::Records},
};

impl Monitor {
    /// Sweeps, and takes down what was seen.
    pub(super) fn observe(&mut self) -> io::Result<(Vec<Observation>, Records)> {
        // Of processes that the probes' filter does not know only the leader is told: they are selected, and
        // swept again with all their threads.
        self.swept_at = SystemTime::now();
        if self.sweep()? {
            self.swept_at = SystemTime::now();
            self.sweep()?;
        }
        self.targets.end_pass();
        let (mut observations, records) = self.threads.end();
        // What has no live thread is a process that nobody has reaped yet.
        observations.retain(|observation| !observation.tasks.is_empty());
        Ok((observations, records))
    }

    /// Walks all threads. Whether processes were met that are watched from now on.
    pub(super) fn sweep(&mut self) -> io::Result<bool> {
        let Self {
            probes,
            helper,
            identifier,
            goroutines,
            tokio,
            targets,
            threads,
            ..
        } = self;
        targets.begin_pass();
        threads.begin();
        let (mut wanted, mut unwanted) = (Vec::new(), Vec::new());
        probes.sweep(|record| {
            let stacks = identifier.as_ref().and_then(Identifier::helper_pid);
            let helpers = [helper.pid(), stacks, goroutines.helper_pid(), tokio.helper_pid()];
            if helpers.contains(&Some(record.tgid)) {
                return;
            }
            let selected = record.record_flags & record_flags::SELECTED != 0;
            match targets.resolve(identity(record), || comm_of(record)) {
                Some(process) => {
                    if !selected {
                        wanted.push(record.host_tgid);
                    }
                    threads.record(record, process, helper);
                }
                // It has called exec and is another program now.
                None if selected && record.is_leader() && !self.options.selector.is_all() => {
                    unwanted.push(record.host_tgid);
                }
                None => {}
            }
        })?;
        for host_tgid in &wanted {
            self.select(*host_tgid, self.selection(true));
        }
        for host_tgid in &unwanted {
            self.select(*host_tgid, self.selection(false));
        }
        Ok(!wanted.is_empty())
    }

    pub(super) fn selection(&self, watched: bool) -> u32 {
        match watched {
            false => selected::NO,
            true if self.options.selector.includes_forks() => selected::WITH_FORKS,
            true => selected::ALONE,
        }
    }

    pub(super) fn select(&mut self, host_tgid: u32, selection: u32) {
        if let Err(error) = self.probes.select(host_tgid, selection) {
            tracing::warn!("process {host_tgid} (host pid) cannot be selected: {error}");
        }
    }
}

fn identity(record: &TaskRecord) -> ProcessId {
    ProcessId {
        pid: record.tgid,
        start_boottime: record.leader_start_boottime,
        exec_id: record.exec_id,
    }
}

/// The process's name: as at its exec where that was seen, else what its first thread is called now.
fn comm_of(record: &TaskRecord) -> String {
    let name = if record.exec_comm[0] != 0 {
        &record.exec_comm
    } else {
        &record.comm
    };
    let end = name.iter().position(|byte| *byte == 0).unwrap_or(name.len());
    String::from_utf8_lossy(&name[..end]).into_owned()
}
