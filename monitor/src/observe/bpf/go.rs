//! The probes that count goroutines: attached process by process, and the maps that they count in.

use std::path::Path;

use aya::{
    maps::{Array, HashMap, MapData, MapError},
    programs::uprobe::UProbeLinkId,
};
use monitor_common::{GoProcess, SpawnCount, SpawnPlace, names};

use super::{Probes, load::no_map, uprobes::Spot};

/// In the order of [`GoPlaces::offsets`].
const PROGRAMS: [&str; 2] = ["go_spawn", "go_exit"];

/// The attached probes of a process; given back to [`Probes::detach_go`].
pub struct GoProbes([UProbeLinkId; 2]);

/// Where the probes of a process go.
#[derive(Clone, Copy, Debug)]
pub struct GoPlaces<'a> {
    /// A path that leads to its program from here.
    pub file: &'a Path,
    /// File offsets of instructions at which a goroutine is made, and is cleared away.
    pub offsets: [u64; 2],
    /// Offset of `g.gopc`.
    pub gopc: u64,
}

impl Probes {
    /// Loads the programs, which are attached where and when they are wanted.
    ///
    /// # Errors
    /// Cause in one line.
    pub fn load_go(&mut self) -> Result<(), String> {
        PROGRAMS.iter().try_for_each(|name| self.load_uprobe(name))
    }

    /// Puts both probes into a process, which is to be known by this number (below
    /// [`monitor_common::MAX_GO_PROCESSES`]).
    ///
    /// # Errors
    /// Cause in one line; then none is attached.
    pub fn attach_go(&mut self, pid: u32, number: u32, places: GoPlaces<'_>) -> Result<GoProbes, String> {
        let process = GoProcess {
            runs: 0,
            gopc: places.gopc,
        };
        self.go_processes()
            .and_then(|mut processes| processes.set(number, process, 0))
            .map_err(|error| error.to_string())?;
        let mut attach = |program: usize| {
            let spot = Spot {
                pid,
                file: places.file,
                offset: places.offsets[program],
                cookie: Some(u64::from(number)),
            };
            self.put_uprobe(PROGRAMS[program], spot)
        };
        let spawn = attach(0)?;
        match attach(1) {
            Ok(exit) => Ok(GoProbes([spawn, exit])),
            Err(cause) => {
                self.take_off_uprobe(PROGRAMS[0], spawn);
                Err(cause)
            }
        }
    }

    /// Takes them off.
    pub fn detach_go(&mut self, probes: GoProbes) {
        for (name, link) in PROGRAMS.iter().zip(probes.0) {
            self.take_off_uprobe(name, link);
        }
    }

    /// How often the probes of a process have run since they were attached.
    pub fn go_runs(&mut self, number: u32) -> u64 {
        let process = self
            .go_processes()
            .and_then(|processes| processes.get(&number, 0));
        process.map_or(0, |process| process.runs)
    }

    /// What was counted, of all processes.
    pub fn go_counts(&mut self) -> Vec<(SpawnPlace, SpawnCount)> {
        self.spawn_counts(names::GO_SITES)
    }

    /// Makes room: the process of these is gone.
    pub fn forget_go_sites(&mut self, gone: &[SpawnPlace]) {
        self.forget_spawn_counts(names::GO_SITES, gone);
    }

    /// What was counted by place, of all processes.
    pub(super) fn spawn_counts(&mut self, map: &str) -> Vec<(SpawnPlace, SpawnCount)> {
        match self.spawn_places(map) {
            // Nobody but us removes any, and not meanwhile: the walk comes to its end.
            Ok(places) => places.iter().filter_map(Result::ok).collect(),
            Err(_) => Vec::new(),
        }
    }

    pub(super) fn forget_spawn_counts(&mut self, map: &str, gone: &[SpawnPlace]) {
        if let Ok(mut places) = self.spawn_places(map) {
            for place in gone {
                let _ = places.remove(place);
            }
        }
    }

    fn spawn_places(&mut self, map: &str) -> Result<HashMap<&mut MapData, SpawnPlace, SpawnCount>, MapError> {
        HashMap::try_from(self.ebpf.map_mut(map).ok_or_else(|| no_map(map))?)
    }

    fn go_processes(&mut self) -> Result<Array<&mut MapData, GoProcess>, MapError> {
        let map = self.ebpf.map_mut(names::GO_PROCESSES);
        Array::try_from(map.ok_or_else(|| no_map(names::GO_PROCESSES))?)
    }
}
