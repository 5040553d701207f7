//! The spawn probe: attached process by process, so that the governor can take it off one alone.

use std::path::Path;

use aya::{
    Ebpf,
    maps::{MapData, RingBuf},
    programs::uprobe::UProbeLinkId,
};
use monitor_common::{ExitEvent, SpawnEvent, names, spawn_kind};

use super::{Probes, uprobes::Spot};

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
        self.load_uprobe(PROGRAM)
    }

    /// Puts the probe at a file offset of a file that the process maps. `file` is a path that leads to it from here.
    ///
    /// # Errors
    /// Cause in one line.
    pub fn attach_spawn(&mut self, pid: u32, file: &Path, offset: u64) -> Result<SpawnProbe, String> {
        let spot = Spot {
            pid,
            file,
            offset,
            cookie: None,
        };
        self.put_uprobe(PROGRAM, spot).map(SpawnProbe)
    }

    /// Takes it off.
    pub fn detach_spawn(&mut self, probe: SpawnProbe) {
        self.take_off_uprobe(PROGRAM, probe.0);
    }

    /// A reader of births and deaths. `None` when it was taken already.
    pub fn spawn_events(&mut self) -> Option<SpawnEvents> {
        SpawnEvents::take(&mut self.ebpf)
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
