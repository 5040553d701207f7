//! The probes that count goroutines: attached process by process, and the maps that they count in.

use std::{num::NonZeroU32, path::Path};

use aya::{
    maps::{Array, HashMap, MapData, MapError},
    programs::{
        ProgramError, UProbe,
        uprobe::{UProbeAttachLocation, UProbeAttachPoint, UProbeLinkId, UProbeScope},
    },
};
use monitor_common::{GoCount, GoProcess, GoSite, names};

use super::{Probes, attach::describe, load::no_map};

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
        PROGRAMS
            .iter()
            .try_for_each(|name| match self.go_program(name)?.load() {
                Ok(()) | Err(ProgramError::AlreadyLoaded) => Ok(()),
                Err(error) => Err(describe(&error)),
            })
    }

    /// Puts both probes into a process, which is to be known by this number (below
    /// [`monitor_common::MAX_GO_PROCESSES`]).
    ///
    /// # Errors
    /// Cause in one line; then none is attached.
    pub fn attach_go(&mut self, pid: u32, number: u32, places: GoPlaces<'_>) -> Result<GoProbes, String> {
        let pid = NonZeroU32::new(pid).ok_or("pid 0 is no process")?;
        self.load_go()?;
        let process = GoProcess {
            runs: 0,
            gopc: places.gopc,
        };
        self.go_processes()
            .and_then(|mut processes| processes.set(number, process, 0))
            .map_err(|error| error.to_string())?;
        let mut attach = |program: usize| -> Result<UProbeLinkId, String> {
            let point = UProbeAttachPoint {
                location: UProbeAttachLocation::AbsoluteOffset(places.offsets[program]),
                cookie: Some(u64::from(number)),
            };
            self.go_program(PROGRAMS[program])?
                .attach(point, places.file, UProbeScope::OneProcess(pid))
                .map_err(|error| describe(&error))
        };
        let spawn = attach(0)?;
        match attach(1) {
            Ok(exit) => Ok(GoProbes([spawn, exit])),
            Err(cause) => {
                let _ = self.go_program(PROGRAMS[0]).map(|program| program.detach(spawn));
                Err(cause)
            }
        }
    }

    /// Takes them off.
    pub fn detach_go(&mut self, probes: GoProbes) {
        for (name, link) in PROGRAMS.iter().zip(probes.0) {
            // Those of a process that is gone have nothing to be taken off.
            let _ = self.go_program(name).map(|program| program.detach(link));
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
    pub fn go_counts(&mut self) -> Vec<(GoSite, GoCount)> {
        match self.go_sites() {
            // Nobody but us removes any, and not meanwhile: the walk comes to its end.
            Ok(sites) => sites.iter().filter_map(Result::ok).collect(),
            Err(_) => Vec::new(),
        }
    }

    /// Makes room: the process of these is gone.
    pub fn forget_go_sites(&mut self, gone: &[GoSite]) {
        if let Ok(mut sites) = self.go_sites() {
            for site in gone {
                let _ = sites.remove(site);
            }
        }
    }

    fn go_processes(&mut self) -> Result<Array<&mut MapData, GoProcess>, MapError> {
        let map = self.ebpf.map_mut(names::GO_PROCESSES);
        Array::try_from(map.ok_or_else(|| no_map(names::GO_PROCESSES))?)
    }

    fn go_sites(&mut self) -> Result<HashMap<&mut MapData, GoSite, GoCount>, MapError> {
        let map = self.ebpf.map_mut(names::GO_SITES);
        HashMap::try_from(map.ok_or_else(|| no_map(names::GO_SITES))?)
    }

    fn go_program(&mut self, name: &str) -> Result<&mut UProbe, String> {
        let program = self.ebpf.program_mut(name).ok_or("the object does not have it")?;
        program.try_into().map_err(|error: ProgramError| describe(&error))
    }
}
