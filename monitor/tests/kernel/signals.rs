//! Waits that signals interrupt.

use std::{thread, time::Duration};

use testbed::Program;

use crate::support::{Counts, Daemon, counts, start};

/// Each thread gets a signal every 50 ms whose handler lets the kernel go on with the wait. The threads run
/// each time, but they are blocked all the same, since their wait began.
#[test]
fn a_futex_wait_that_signals_interrupt_keeps_its_start() {
    let target = start("signals", Program::CBlockers, &["mutex_signals=3"]).unwrap();
    let pid = target.pid();
    let daemon = Daemon::watch(pid, "200ms", "2s");
    let seen = daemon.until_counts(pid, &counts(&[("futex", "internal", 3)]));
    let (oldest, _) = seen.beginnings()["futex"];
    thread::sleep(Duration::from_secs(1));
    // For a moment after each signal a thread runs, and is not blocked.
    let later = daemon.until_counts(pid, &seen.counts());
    let (still, _) = later.beginnings()["futex"];
    assert!(
        (still - oldest).abs() < 0.15,
        "it began at {oldest}, then at {still}"
    );
    // A thread that a handler ran in while the probes came may have begun one under their eyes.
    assert_eq!(
        later.value["futex_waits"], seen.value["futex_waits"],
        "going on is not waiting anew"
    );
}

/// Without the probes nobody knows that it is the same wait: not blocked, rather than a guess.
#[test]
fn the_sweep_alone_does_not_guess() {
    let target = start(
        "signals",
        Program::CBlockers,
        &["mutex_signals=2", "read_signals=2"],
    )
    .unwrap();
    let pid = target.pid();
    let args = [
        "--pid",
        &pid.to_string(),
        "--interval",
        "200ms",
        "--blocked-after",
        "1s",
        "--no-futex-probes",
    ];
    let daemon = Daemon::start(&args);
    for _ in 0..20 {
        assert_eq!(daemon.process(pid).unwrap().counts(), Counts::new());
        thread::sleep(Duration::from_millis(150));
    }
    assert_eq!(daemon.process(pid).unwrap().value.get("futex_waits"), None);
}
