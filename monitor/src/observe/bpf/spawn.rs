//! The spawn probe: attached process by process, so that the governor can take it off one alone.

use std::{num::NonZeroU32, path::Path};

use aya::{
    Ebpf,
    maps::{MapData, RingBuf},
    programs::{ProgramError, UProbe, uprobe::UProbeLinkId, uprobe::UProbeScope},
};
use monitor_common::{ExitEvent, SpawnEvent, names, spawn_kind};

use super::{Probes, attach::describe};

const PROGRAM: &str = "pthread_create";

/// An attached spawn probe; given back to [`Probes::detach_spawn`].
pub struct SpawnProbe(UProbeLinkId);

/// What the kernel side tells of threads' lives.
pub enum SpawnMessage {
    Born(Box<SpawnEvent>),
    Died(ExitEvent),
}

impl Probes {
    /// Loads the probe's program, which is attached where and when it is wanted.
    ///
    /// # Errors
    /// Cause in one line.
    pub fn load_spawn(&mut self) -> Result<(), String> {
        match self.spawn_program()?.load() {
            Ok(()) | Err(ProgramError::AlreadyLoaded) => Ok(()),
            Err(error) => Err(describe(&error)),
        }
    }

    /// Puts the probe at a file offset of a file that the process maps. `file` is a path that leads to it from here.
    ///
    /// # Errors
    /// Cause in one line.
    pub fn attach_spawn(&mut self, pid: u32, file: &Path, offset: u64) -> Result<SpawnProbe, String> {
        let pid = NonZeroU32::new(pid).ok_or("pid 0 is no process")?;
        self.load_spawn()?;
        let link = self
            .spawn_program()?
            .attach(offset, file, UProbeScope::OneProcess(pid));
        link.map(SpawnProbe).map_err(|error| describe(&error))
    }

    /// Takes it off.
    pub fn detach_spawn(&mut self, probe: SpawnProbe) {
        // A probe of a process that is gone has nothing to be taken off.
        let _ = self.spawn_program().map(|program| program.detach(probe.0));
    }

    /// A reader of births and deaths. `None` when it was taken already.
    pub fn spawn_events(&mut self) -> Option<SpawnEvents> {
        SpawnEvents::take(&mut self.ebpf)
    }

    fn spawn_program(&mut self) -> Result<&mut UProbe, String> {
        let program = self
            .ebpf
            .program_mut(PROGRAM)
            .ok_or("the object does not have it")?;
        program.try_into().map_err(|error: ProgramError| describe(&error))
    }
}

/// Reader of the ring buffer of births and deaths. The kernel side wakes nobody: it is to be looked into often.
pub struct SpawnEvents(RingBuf<MapData>);

impl SpawnEvents {
    fn take(ebpf: &mut Ebpf) -> Option<Self> {
        RingBuf::try_from(ebpf.take_map(names::SPAWNS)?).ok().map(Self)
    }

    /// The next message, if there is one; never waits.
    pub fn pop(&mut self) -> Option<SpawnMessage> {
        loop {
            let item = self.0.next()?;
            let kind = item
                .get(..4)
                .and_then(|word| Some(u32::from_ne_bytes(word.try_into().ok()?)));
            match kind {
                Some(spawn_kind::SPAWN) if item.len() >= size_of::<SpawnEvent>() => {
                    // SAFETY: long enough, and every bit pattern is a valid event (`aya::Pod`).
                    let event = unsafe { item.as_ptr().cast::<SpawnEvent>().read_unaligned() };
                    return Some(SpawnMessage::Born(Box::new(event)));
                }
                Some(spawn_kind::EXIT) if item.len() >= size_of::<ExitEvent>() => {
                    // SAFETY: as above.
                    return Some(SpawnMessage::Died(unsafe {
                        item.as_ptr().cast::<ExitEvent>().read_unaligned()
                    }));
                }
                _ => {}
            }
        }
    }
}
