//! Waits that a timer ends, and such as none ends any more.

use testbed::go::{self, Flavor};

use super::bed::{assert_same, groups, look, seen, start_with};

/// Without a go.mod of Go 1.23 or newer a program has the timers of before.
const NEW_TIMERS: (&str, &str) = ("GODEBUG", "asynctimerchan=0");

#[test]
fn only_a_timer_that_goes_off_within_a_day_ends_a_wait() {
    let scenarios = ["timer_wait=3", "timer_select=4", "stopped_timer=2", "far_timer=5"];
    // Before Go 1.23 the channel of a timer is like any other.
    for version in go::versions().iter().filter(|version| go::minor(version) >= 23) {
        for flavor in [Flavor::Plain, Flavor::Stripped] {
            let Some(target) = start_with("go::timers", version, flavor, &scenarios, NEW_TIMERS) else {
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
            assert_same(&seen(&look(&target)), &expected, version);
        }
    }
}
