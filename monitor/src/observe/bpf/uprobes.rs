//! Uprobes that are put into one process, and taken off it alone.

use std::{num::NonZeroU32, path::Path};

use aya::programs::{
    ProgramError, UProbe,
    uprobe::{UProbeAttachLocation, UProbeAttachPoint, UProbeLinkId, UProbeScope},
};

use super::{Probes, attach::describe};

/// Where a probe goes.
#[derive(Clone, Copy, Debug)]
pub struct Spot<'a> {
    pub pid: u32,
    /// A path that leads to the file from here.
    pub file: &'a Path,
    pub offset: u64,
    pub cookie: Option<u64>,
}

impl Probes {
    /// Loads a program, if that was not done before.
    ///
    /// # Errors
    /// Cause in one line.
    pub(super) fn load_uprobe(&mut self, program: &str) -> Result<(), String> {
        match self.uprobe(program)?.load() {
            Ok(()) | Err(ProgramError::AlreadyLoaded) => Ok(()),
            Err(error) => Err(describe(&error)),
        }
    }

    /// Loads a program where that was not done, and puts it in.
    ///
    /// # Errors
    /// Cause in one line.
    pub(super) fn put_uprobe(&mut self, program: &str, spot: Spot<'_>) -> Result<UProbeLinkId, String> {
        let pid = NonZeroU32::new(spot.pid).ok_or("pid 0 is no process")?;
        self.load_uprobe(program)?;
        let point = UProbeAttachPoint {
            location: UProbeAttachLocation::AbsoluteOffset(spot.offset),
            cookie: spot.cookie,
        };
        self.uprobe(program)?
            .attach(point, spot.file, UProbeScope::OneProcess(pid))
            .map_err(|error| describe(&error))
    }

    pub(super) fn take_off_uprobe(&mut self, program: &str, link: UProbeLinkId) {
        // That of a process that is gone has nothing to be taken off.
        let _ = self.uprobe(program).map(|program| program.detach(link));
    }

    fn uprobe(&mut self, name: &str) -> Result<&mut UProbe, String> {
        let program = self.ebpf.program_mut(name).ok_or("the object does not have it")?;
        program.try_into().map_err(|error: ProgramError| describe(&error))
    }
}
