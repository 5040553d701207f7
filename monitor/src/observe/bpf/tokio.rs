//! The probe that tells that tokio tasks are polled: attached function by function, and the maps of tasks that are watched.

use std::path::Path;

use aya::{
    maps::{Array, HashMap, MapData, MapError},
    programs::uprobe::UProbeLinkId,
};
use monitor_common::{Counter, TokioTask, names};

use super::{Probes, load::no_map, uprobes::Spot};

const PROGRAM: &str = "tokio_poll";

/// An attached probe; given back to [`Probes::detach_tokio`].
pub struct TokioProbe(UProbeLinkId);

impl Probes {
    /// Puts the probe into a process, which is to be known by this number, as this function (below
    /// [`monitor_common::MAX_TOKIO_PLACES`]).
    ///
    /// # Errors
    /// Cause in one line.
    pub fn attach_tokio(
        &mut self,
        pid: u32,
        number: u32,
        place: u32,
        file: &Path,
        offset: u64,
    ) -> Result<TokioProbe, String> {
        let spot = Spot {
            pid,
            file,
            offset,
            cookie: Some(u64::from(place) << 32 | u64::from(number)),
        };
        self.put_uprobe(PROGRAM, spot).map(TokioProbe)
    }

    /// Takes it off.
    pub fn detach_tokio(&mut self, probe: TokioProbe) {
        self.take_off_uprobe(PROGRAM, probe.0);
    }

    /// How often the probe of a function has run since the load.
    pub fn tokio_runs(&mut self, place: u32) -> u64 {
        let map = self.ebpf.map_mut(names::TOKIO_RUNS);
        let runs = map
            .ok_or_else(|| no_map(names::TOKIO_RUNS))
            .and_then(Array::<&mut MapData, u64>::try_from)
            .and_then(|runs| runs.get(&place, 0));
        runs.unwrap_or_default()
    }

    /// Watches a task from now on, anew if it was watched before. Whether there was room.
    pub fn watch_tokio(&mut self, task: TokioTask) -> bool {
        self.tokio_tasks::<u64>(names::TOKIO_WATCHED)
            .and_then(|mut tasks| tasks.insert(task, 0, 0))
            .is_ok()
    }

    pub fn unwatch_tokio(&mut self, task: TokioTask) {
        // It may never have had room.
        let _ = self
            .tokio_tasks::<u64>(names::TOKIO_WATCHED)
            .and_then(|mut tasks| tasks.remove(&task));
    }

    /// When a task that is watched was polled the last time (CLOCK_MONOTONIC ns); `None`: not since it is watched.
    pub fn polled_tokio_at(&mut self, task: TokioTask) -> Option<u64> {
        let watched = self.tokio_tasks::<u64>(names::TOKIO_WATCHED).ok()?;
        watched.get(&task, 0).ok().filter(|at| *at != 0)
    }

    /// Tasks that were watched and were polled all the same since the last call, and when that was the last time
    /// (CLOCK_MONOTONIC ns). They are watched on.
    pub fn take_polled_tokio(&mut self) -> Vec<(TokioTask, u64)> {
        let Ok(mut polled) = self.tokio_tasks::<u64>(names::TOKIO_POLLED) else {
            return Vec::new();
        };
        // What the probes add meanwhile may be told now or the next time.
        let found: Vec<TokioTask> = polled.keys().filter_map(Result::ok).collect();
        for task in &found {
            let _ = polled.remove(task);
        }
        let Ok(watched) = self.tokio_tasks::<u64>(names::TOKIO_WATCHED) else {
            return Vec::new();
        };
        // A poll since then is told again the next time.
        let polled_at = |task: TokioTask| Some((task, watched.get(&task, 0).ok()?));
        found.into_iter().filter_map(polled_at).collect()
    }

    /// How many polls of watched tasks had no room since the load.
    pub fn lost_tokio_polls(&self) -> u64 {
        self.counter(Counter::TokioPollsFull)
    }

    pub(super) fn tokio_tasks<V: aya::Pod>(
        &mut self,
        name: &str,
    ) -> Result<HashMap<&mut MapData, TokioTask, V>, MapError> {
        HashMap::try_from(self.ebpf.map_mut(name).ok_or_else(|| no_map(name))?)
    }
}
