//! The probes that count goroutines, as `observe::spawning` keeps them.

use std::{collections::HashSet, time::Duration};

use super::protocol::Points;
use crate::{
    model::Kind,
    observe::{
        bpf::{GoPlaces, GoProbes, MAX_GO_PROCESSES, Probes, SpawnCount, SpawnPlace},
        governor::GOROUTINE_COST,
        spawning::Counted,
    },
};

pub enum Goroutine {}

impl Counted for Goroutine {
    const KIND: Kind = Kind::Goroutine;
    const TASKS: &'static str = "goroutines";
    const COST: Duration = GOROUTINE_COST;
    const MAX_PROCESSES: u32 = MAX_GO_PROCESSES;
    type Points = Points;
    type Attached = GoProbes;

    fn attach(probes: &mut Probes, pid: u32, number: u32, points: &Points) -> Result<GoProbes, String> {
        let places = GoPlaces {
            file: &points.file,
            offsets: points.offsets,
            gopc: points.gopc,
        };
        probes.attach_go(pid, number, places)
    }

    fn detach(probes: &mut Probes, _: u32, attached: GoProbes) {
        probes.detach_go(attached);
    }

    fn runs(probes: &mut Probes, number: u32) -> u64 {
        probes.go_runs(number)
    }

    fn counts(probes: &mut Probes) -> Vec<(SpawnPlace, SpawnCount)> {
        probes.go_counts()
    }

    fn forget(probes: &mut Probes, places: &[SpawnPlace]) {
        probes.forget_go_sites(places);
    }

    fn gone(_: &mut Probes, _: &HashSet<u32>) {}
}
