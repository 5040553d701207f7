//! What is never to be counted: it sleeps, ticks, works, or waits until a deadline.

use testbed::go::{self, Flavor};

use super::bed::{Groups, assert_same, look, seen, start};

const SCENARIOS: [&str; 7] = [
    "sleep=3",
    "ticker=20",
    "alias_ticker=20",
    "timer_loop=5",
    "deadline_read=4",
    "worker=5",
    "collect=1",
];

#[test]
fn nothing_of_what_is_healthy_is_blocked() {
    for version in go::versions() {
        let Some(target) = start("go::healthy", version, Flavor::Plain, &SCENARIOS) else {
            continue;
        };
        let process = look(&target);
        assert!(process.incomplete().is_empty(), "{version}: {process:?}");
        assert_same(&seen(&process), &Groups::new(), version);
        // Those of the scenarios (a worker has somebody to work for), the main goroutine, and the runtime's own.
        let goroutines = process.value["tasks"]["goroutine"].as_u64().unwrap();
        assert!((64..100).contains(&goroutines), "{version}: {goroutines}");
    }
}

#[test]
fn a_coroutine_is_never_blocked() {
    for version in go::versions().iter().filter(|version| go::minor(version) >= 23) {
        let Some(target) = start("go::healthy::coroutine", version, Flavor::Plain, &["iter_pull=3"]) else {
            continue;
        };
        assert_same(&seen(&look(&target)), &Groups::new(), version);
    }
}
