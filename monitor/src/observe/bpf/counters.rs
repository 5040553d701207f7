//! The kernel side's own health: what its maps hold, what it has lost, what its programs cost.

use std::collections::HashSet;

use aya::maps::PerCpuArray;
use monitor_common::{Counter, names};

use super::{MapUse, Probes, ProgramRuns};

impl Probes {
    /// What had no room since the load, by cause.
    pub fn lost(&self) -> Vec<(&'static str, u64)> {
        Counter::LOST
            .iter()
            .map(|(counter, label)| (*label, self.counter(*counter)))
            .collect()
    }

    /// How full the maps are.
    pub fn maps(&self) -> Vec<MapUse> {
        let entries = |from_user: u64, added, removed| {
            let entries = self
                .counter(added)
                .wrapping_add(from_user)
                .wrapping_sub(self.counter(removed));
            // The counters are read one after the other: a moment's difference may be below zero.
            if entries > u64::MAX / 2 { 0 } else { entries }
        };
        vec![
            MapUse {
                map: names::WAITS,
                entries: entries(self.added.waits, Counter::WaitsAdded, Counter::WaitsRemoved),
                capacity: self.capacity(names::WAITS),
            },
            MapUse {
                map: names::PROCESSES,
                entries: entries(
                    self.added.processes,
                    Counter::ProcessesAdded,
                    Counter::ProcessesRemoved,
                ),
                capacity: self.capacity(names::PROCESSES),
            },
        ]
    }

    /// Run time of each program. All zero unless the kernel's `bpf_stats` are on.
    pub fn program_runs(&self) -> Vec<ProgramRuns> {
        let mut seen = HashSet::new();
        let mut runs = Vec::new();
        for state in self.states.iter().filter(|state| seen.insert(state.spec.program)) {
            let Some(info) = self
                .ebpf
                .program(state.spec.program)
                .and_then(|program| program.info().ok())
            else {
                continue;
            };
            runs.push(ProgramRuns {
                program: state.spec.program.to_owned(),
                runs: info.run_count(),
                run_time: info.run_time(),
            });
        }
        runs
    }

    pub(super) fn counter(&self, counter: Counter) -> u64 {
        let Some(map) = self.ebpf.map(names::COUNTERS) else {
            return 0;
        };
        let Ok(counters) = PerCpuArray::<_, u64>::try_from(map) else {
            return 0;
        };
        counters
            .get(&(counter as u32), 0)
            .map_or(0, |values| values.iter().sum())
    }

    fn capacity(&self, name: &str) -> u64 {
        use aya::maps::Map;
        match self.ebpf.map(name) {
            Some(Map::HashMap(data)) => data.info().map_or(0, |info| u64::from(info.max_entries())),
            _ => 0,
        }
    }
}

/// Turns the kernel's `bpf_stats` on until the returned file is closed. They slow every program of the host.
///
/// # Errors
/// When the kernel refuses.
pub fn enable_run_stats() -> Result<std::os::fd::OwnedFd, String> {
    aya::sys::enable_stats(aya::sys::Stats::RunTime).map_err(|error| error.to_string())
}
