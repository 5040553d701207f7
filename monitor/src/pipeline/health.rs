//! What the monitor says of itself.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::Monitor;
use crate::model::{Health, MapHealth, ProbeHealth, ProgramHealth};

impl Monitor {
    /// What had no room, in the kernel and here.
    fn lost(&self) -> Vec<(&'static str, u64)> {
        let of_detector = self.detector.lost();
        let mut lost = self.probes.lost();
        lost.push(("histories_evicted", of_detector.evicted));
        lost.push(("members_full", of_detector.members));
        lost
    }

    pub(super) fn health(&self, sweep_duration: Duration, taken_at: SystemTime) -> Health {
        let probes = self.probes.states().iter();
        let maps = self.probes.maps().into_iter();
        let programs = if self.options.bpf_stats {
            self.probes.program_runs()
        } else {
            Vec::new()
        };
        Health {
            sweep_duration,
            swept_at: taken_at.duration_since(UNIX_EPOCH).unwrap_or_default(),
            probes: probes
                .map(|state| ProbeHealth {
                    probe: state.spec.name,
                    attached: state.failure.is_none(),
                })
                .collect(),
            maps: maps
                .map(|map| MapHealth {
                    map: map.map,
                    entries: map.entries,
                    capacity: map.capacity,
                })
                .collect(),
            lost: self.lost(),
            programs: programs
                .into_iter()
                .map(|runs| ProgramHealth {
                    program: runs.program,
                    runs: runs.runs,
                    run_time: runs.run_time,
                })
                .collect(),
        }
    }
}
