//! The probes that count births and deaths of tokio tasks: attached process by process, and the maps that they count in.

use std::{collections::HashSet, os::fd::OwnedFd, path::Path};

use aya::{
    maps::{Array, HashMap, MapData, MapError},
    programs::uprobe::UProbeLinkId,
};
use monitor_common::{SpawnCount, SpawnPlace, TOKIO_AMID, TokioBirth, TokioStep, TokioTask, names};

use super::{
    Probes,
    load::no_map,
    uprobes::Spot,
    uprobes_many::{Spots, are_many_known},
};

const SPAWN: &str = "tokio_spawn";
const EXIT: &str = "tokio_exit";

/// Probes that are attached one by one, which every kernel can. There are more where each future has its own.
const FEW: usize = 16;

/// Where probes go, those of ends and those of births. A kernel that cannot attach many at once is left with those at the
/// beginnings of functions, if there are some of both.
fn fitting(places: TokioPlaces<'_>, has_many: bool) -> [Vec<(u64, u64)>; 2] {
    let all = [places.exits, places.spawns].map(<[_]>::to_vec);
    if has_many || places.exits.len() + places.spawns.len() <= FEW {
        return all;
    }
    let mut begun = all.clone();
    for places in &mut begun {
        places.retain(|(_, flags)| flags & TOKIO_AMID == 0);
    }
    if begun.iter().any(Vec::is_empty) {
        all
    } else {
        begun
    }
}

/// The attached probes of a process; given back to [`Probes::detach_tokio_spawns`].
pub struct TokioSpawnProbes(Vec<Attached>);

enum Attached {
    One(&'static str, UProbeLinkId),
    /// All of a program's; closed, they are taken off.
    Many {
        _link: OwnedFd,
    },
}

/// Where the probes of a process go: offsets in its program's file, and the flags of each in its cookie.
#[derive(Clone, Copy, Debug)]
pub struct TokioPlaces<'a> {
    /// A path that leads to it from here.
    pub file: &'a Path,
    /// Where a task is put into a list.
    pub spawns: &'a [(u64, u64)],
    /// Where one is taken out.
    pub exits: &'a [(u64, u64)],
}

impl Probes {
    /// Loads the programs, which are attached where and when they are wanted.
    ///
    /// # Errors
    /// Cause in one line.
    pub fn load_tokio_spawns(&mut self) -> Result<(), String> {
        self.load_uprobe(SPAWN)?;
        self.load_uprobe(EXIT)
    }

    /// Puts the probes into a process, which is to be known by this number (below
    /// [`monitor_common::MAX_TOKIO_PROCESSES`]). Those of ends first: no task is seen that is made and not that it ends.
    ///
    /// # Errors
    /// Cause in one line; then none is attached.
    pub fn attach_tokio_spawns(
        &mut self,
        pid: u32,
        number: u32,
        places: TokioPlaces<'_>,
    ) -> Result<TokioSpawnProbes, String> {
        let [exits, spawns] = fitting(places, are_many_known());
        let is_few = exits.len() + spawns.len() <= FEW;
        let mut attached = Vec::new();
        for (program, of_it) in [(EXIT, exits), (SPAWN, spawns)] {
            let cookie = |(offset, flags): &(u64, u64)| (*offset, flags | u64::from(number));
            let of_it: Vec<(u64, u64)> = of_it.iter().map(cookie).collect();
            let put = if is_few {
                self.put_few(program, pid, places.file, &of_it, &mut attached)
            } else {
                let spots = Spots {
                    pid,
                    file: places.file,
                    places: &of_it,
                };
                self.put_uprobes(program, &spots)
                    .map(|link| attached.push(Attached::Many { _link: link }))
            };
            if let Err(cause) = put {
                self.detach_tokio_spawns(TokioSpawnProbes(attached));
                return Err(cause);
            }
        }
        Ok(TokioSpawnProbes(attached))
    }

    fn put_few(
        &mut self,
        program: &'static str,
        pid: u32,
        file: &Path,
        places: &[(u64, u64)],
        attached: &mut Vec<Attached>,
    ) -> Result<(), String> {
        for (offset, cookie) in places {
            let spot = Spot {
                pid,
                file,
                offset: *offset,
                cookie: Some(*cookie),
            };
            attached.push(Attached::One(program, self.put_uprobe(program, spot)?));
        }
        Ok(())
    }

    /// Takes them off. Those of births first, as above.
    pub fn detach_tokio_spawns(&mut self, probes: TokioSpawnProbes) {
        for attached in probes.0.into_iter().rev() {
            match attached {
                Attached::One(program, link) => self.take_off_uprobe(program, link),
                many @ Attached::Many { .. } => drop(many),
            }
        }
    }

    /// How often the probes of a process have run since the load.
    pub fn tokio_spawn_runs(&mut self, number: u32) -> u64 {
        let map = self.ebpf.map_mut(names::TOKIO_SPAWN_RUNS);
        let runs = map
            .ok_or_else(|| no_map(names::TOKIO_SPAWN_RUNS))
            .and_then(Array::<&mut MapData, u64>::try_from)
            .and_then(|runs| runs.get(&number, 0));
        runs.unwrap_or_default()
    }

    /// What was counted, of all processes.
    pub fn tokio_spawn_counts(&mut self) -> Vec<(SpawnPlace, SpawnCount)> {
        self.spawn_counts(names::TOKIO_SITES)
    }

    /// Makes room: these are not wanted any more.
    pub fn forget_tokio_sites(&mut self, gone: &[SpawnPlace]) {
        self.forget_spawn_counts(names::TOKIO_SITES, gone);
    }

    /// Where and when a task was made that lives; `None` when nobody looked then.
    pub fn tokio_born(&mut self, task: TokioTask) -> Option<TokioBirth> {
        self.tokio_tasks(names::TOKIO_BORN).ok()?.get(&task, 0).ok()
    }

    /// Tasks that have ended since the last call and had a handle then. Those that `is_wanted` does not want stay there.
    pub fn take_ended_tokio(
        &mut self,
        is_wanted: impl Fn(&TokioTask) -> bool,
    ) -> Vec<(TokioTask, TokioBirth)> {
        let Ok(mut ended) = self.tokio_tasks::<TokioBirth>(names::TOKIO_ENDED) else {
            return Vec::new();
        };
        let tasks = ended
            .keys()
            .take(monitor_common::MAX_TOKIO_ENDED as usize)
            .filter_map(Result::ok);
        let tasks: Vec<TokioTask> = tasks.filter(is_wanted).collect();
        let mut taken = Vec::with_capacity(tasks.len());
        for task in tasks {
            if let Ok(birth) = ended.get(&task, 0) {
                taken.push((task, birth));
            }
            let _ = ended.remove(&task);
        }
        taken
    }

    /// Forgets where the tasks of these processes were made.
    pub fn forget_tokio_born(&mut self, numbers: &HashSet<u32>) {
        let Ok(mut born) = self.tokio_tasks::<TokioBirth>(names::TOKIO_BORN) else {
            return;
        };
        // What others add or remove meanwhile may make the walk begin anew, and it ends where they are faster: what is left
        // makes room when its process is forgotten the next time.
        let of_these: Vec<TokioTask> = born
            .keys()
            .take(monitor_common::MAX_TOKIO_TASKS as usize)
            .filter_map(Result::ok)
            .filter(|task| numbers.contains(&task.process))
            .collect();
        for task in of_these {
            let _ = born.remove(&task);
        }
    }

    /// Says how a stack is followed from a place that a call returns to. Whether there was room.
    pub fn put_tokio_step(&mut self, place: SpawnPlace, step: TokioStep) -> bool {
        self.tokio_steps(names::TOKIO_STEPS)
            .and_then(|mut steps| steps.insert(place, step, 0))
            .is_ok()
    }

    /// Forgets those of processes that are gone.
    pub fn forget_tokio_steps(&mut self, numbers: &HashSet<u32>) {
        let Ok(mut steps) = self.tokio_steps::<TokioStep>(names::TOKIO_STEPS) else {
            return;
        };
        let places = steps.keys().filter_map(Result::ok);
        let of_these: Vec<SpawnPlace> = places.filter(|place| numbers.contains(&place.process)).collect();
        for place in of_these {
            let _ = steps.remove(&place);
        }
    }

    /// Places that had no step since the last call.
    pub fn take_wanted_tokio_steps(&mut self) -> Vec<SpawnPlace> {
        let Ok(mut wanted) = self.tokio_steps::<u64>(names::TOKIO_STEPS_WANTED) else {
            return Vec::new();
        };
        let found: Vec<SpawnPlace> = wanted.keys().filter_map(Result::ok).collect();
        for place in &found {
            let _ = wanted.remove(place);
        }
        found
    }

    fn tokio_steps<V: aya::Pod>(
        &mut self,
        name: &str,
    ) -> Result<HashMap<&mut MapData, SpawnPlace, V>, MapError> {
        HashMap::try_from(self.ebpf.map_mut(name).ok_or_else(|| no_map(name))?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_kernel_is_left_with_the_functions_of_their_own() {
        let amid: Vec<(u64, u64)> = (0..20).map(|number| (number, TOKIO_AMID)).collect();
        let both = [&[(99, 0)], &amid[..]].concat();
        let fitting = |exits: &[(u64, u64)], spawns: &[(u64, u64)], has_many: bool| {
            let file = Path::new("/");
            fitting(TokioPlaces { file, spawns, exits }, has_many)
        };
        assert_eq!(fitting(&both, &both, true), [both.clone(), both.clone()]);
        assert_eq!(fitting(&both, &both, false), [[(99, 0)], [(99, 0)]]);
        // There it is told what this takes.
        assert_eq!(fitting(&both, &amid, false), [both, amid.clone()]);
        let few = &amid[..8];
        assert_eq!(fitting(few, few, false), [few, few]);
    }
}
