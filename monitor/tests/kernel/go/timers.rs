//! Waits that a timer ends, and such as none ends any more.

use testbed::go::{self, Flavor};

use super::bed::{assert_same, groups, look, seen, start_with};

/// Ways in which a version's timers may be: their channels name them, or they have to be looked for. Without a go.mod of
/// Go 1.23 or newer a program asks for those of before; Go 1.27 has none of these any more.
fn ways(version: &str) -> &'static [&'static str] {
    match go::minor(version) {
        ..23 => &[""],
        23..27 => &["asynctimerchan=0", "asynctimerchan=1"],
        _ => &["asynctimerchan=0"],
    }
}

#[test]
fn only_a_timer_that_goes_off_within_a_day_ends_a_wait() {
    let scenarios = ["timer_wait=3", "timer_select=4", "stopped_timer=2", "far_timer=5"];
    for version in go::versions() {
        let more = [Flavor::NoSections, Flavor::Pie];
        let more = more.into_iter().filter(|_| *version == "1.22");
        for (flavor, godebug) in [Flavor::Plain]
            .into_iter()
            .chain(more)
            .flat_map(|flavor| ways(version).iter().map(move |godebug| (flavor, *godebug)))
        {
            let set = ("GODEBUG", godebug);
            let Some(target) = start_with("go::timers", version, flavor, &scenarios, set) else {
                continue;
            };
            let expected = groups(&[
                (
                    "chan receive",
                    "internal",
                    "main.stoppedTimerForever",
                    "main.leakStoppedTimer",
                    "main.spawnStoppedTimer",
                    2,
                ),
                (
                    "select",
                    "internal",
                    "main.farTimerForever",
                    "main.leakFarTimer",
                    "main.spawnFarTimer",
                    5,
                ),
            ]);
            assert_same(
                &seen(&look(&target)),
                &expected,
                &format!("Go {version}, {flavor:?}, {godebug}"),
            );
        }
    }
}
