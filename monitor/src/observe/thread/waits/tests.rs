//! Since when a thread waits, sweep by sweep, with records made by hand. Times are in ms until they are records.

use super::*;
use crate::observe::bpf::task_state;

const MS: u64 = 1_000_000;
const FUTEX: i64 = 202;
const READ: i64 = 0;
/// An untimed FUTEX_WAIT_BITSET at 0x1000.
const WAIT: [u64; 6] = [0x1000, 0x189, 2, 0, 0, 0xffff_ffff];

/// A tick of these tests.
const TICK: u64 = MS;

fn new_waits() -> Waits {
    Waits::new(TICK)
}

fn call(number: i64) -> Call {
    syscalls::lookup(number, false)
}

/// Asleep at `at`, off the CPU since `left`, with this many switches so far.
fn asleep(at: u64, left: u64, switches: u64) -> TaskRecord {
    TaskRecord {
        tid: 5,
        tgid: 4,
        host_tid: 5,
        host_tgid: 4,
        state: task_state::INTERRUPTIBLE,
        switches,
        last_arrival: left * MS,
        sampled_at: at * MS,
        // Ticks are counted from another moment than nanoseconds.
        sampled_tick: 1_000_000 + at,
        syscall: FUTEX,
        args: WAIT,
        ip: 0x40_0000,
        sp: 0x7fff_0000,
        ..TaskRecord::default()
    }
}

fn stopped(at: u64, left: u64, switches: u64) -> TaskRecord {
    TaskRecord {
        state: task_state::STOPPED,
        ..asleep(at, left, switches)
    }
}

/// The probes saw this wait begin at `start` (0: they came later).
fn probed(record: TaskRecord, start: u64, paused: u64) -> TaskRecord {
    let futex = monitor_common::FutexWait {
        start: if start == 0 { 0 } else { 1_000_000 + start },
        paused,
        address: record.args[0],
        ..Default::default()
    };
    TaskRecord {
        futex,
        record_flags: record.record_flags | record_flags::FUTEX_WAIT,
        ..record
    }
}

/// Age in ms of a sleeping thread, as one sweep sees it.
fn age(waits: &mut Waits, record: &TaskRecord) -> u64 {
    let since = waits
        .sleeping(record, record.syscall, &call(record.syscall), 0)
        .counted;
    // What `Threads` does next: an untimed call is without an end.
    let clocks = Clocks {
        since,
        realtime_offset: 0,
        boottime_offset: 0,
    };
    let bounded = |_, _| panic!("nothing to read");
    assert!(
        waits
            .is_unbounded(record, &call(record.syscall), &clocks, true, bounded)
            .unwrap()
    );
    waits.end_pass();
    (record.sampled_at - since) / MS
}

fn held_age(waits: &mut Waits, record: &TaskRecord) -> Option<u64> {
    let age = waits
        .held(record, 0)
        .map(|(_, since)| (record.sampled_at - since.counted) / MS);
    waits.end_pass();
    age
}

#[test]
fn the_last_stay_on_the_cpu_does_not_count() {
    let record = TaskRecord {
        last_run: 60_000 * MS,
        ..asleep(70_000, 5_000, 1)
    };
    assert_eq!(age(&mut new_waits(), &record), 5_000);
}

#[test]
fn the_distance_of_the_clocks_is_taken_out() {
    let record = asleep(10_000, 9_000, 1);
    assert_eq!(
        new_waits()
            .sleeping(&record, FUTEX, &call(FUTEX), -500 * MS as i64)
            .counted,
        8_500 * MS
    );
    assert_eq!(
        new_waits()
            .sleeping(&record, FUTEX, &call(FUTEX), 500 * MS as i64)
            .counted,
        9_500 * MS
    );
}

/// Other classes do not keep the length of the last run: what two sweeps saw is all that is sure.
#[test]
fn threads_that_are_not_fair_wait_since_they_were_first_seen() {
    let mut waits = new_waits();
    let fifo = |record| TaskRecord {
        policy: 1,
        last_run: 3_600_000 * MS,
        ..record
    };
    assert_eq!(age(&mut waits, &fifo(asleep(10_000, 1_000, 7))), 0);
    assert_eq!(age(&mut waits, &fifo(asleep(12_000, 1_000, 7))), 2_000);
    assert_eq!(
        age(&mut waits, &fifo(asleep(14_000, 1_000, 8))),
        0,
        "it ran in between"
    );
}

/// sched_ext under SCHED_NORMAL: the length of the last run is nonsense, which shows as a time to come.
#[test]
fn a_run_that_would_end_in_the_future_is_not_believed() {
    let record = TaskRecord {
        last_run: 3_600_000 * MS,
        ..asleep(10_000, 9_000, 1)
    };
    assert_eq!(age(&mut new_waits(), &record), 0);
}

#[test]
fn the_probes_know_the_start_though_signals_woke_it() {
    let mut waits = new_waits();
    assert_eq!(
        age(&mut waits, &probed(asleep(10_000, 9_990, 40), 2_000, 0)),
        8_000
    );
    assert_eq!(
        age(&mut waits, &probed(asleep(11_000, 10_990, 60), 2_000, 1)),
        8_999
    );
}

#[test]
fn an_entry_of_another_wait_is_not_believed() {
    let mut record = probed(asleep(10_000, 9_000, 1), 2_000, 0);
    record.futex.address = 0x2000;
    assert_eq!(age(&mut new_waits(), &record), 1_000);
    let between = TaskRecord {
        syscall: READ,
        args: [0x1000, 0, 0, 0, 0, 0],
        ..probed(asleep(10_000, 9_000, 1), 2_000, 0)
    };
    assert_eq!(age(&mut new_waits(), &between), 1_000, "it is in read()");
}

/// From before the probes: their entry has no start, but says that it is still the same wait.
#[test]
fn a_wait_from_before_the_probes_keeps_its_start_over_signals() {
    let mut waits = new_waits();
    assert_eq!(age(&mut waits, &probed(asleep(10_000, 1_000, 1), 0, 0)), 9_000);
    assert_eq!(age(&mut waits, &probed(asleep(12_000, 11_900, 9), 0, 0)), 11_000);
}

#[test]
fn without_the_probes_a_thread_that_ran_waits_anew() {
    let mut waits = new_waits();
    assert_eq!(age(&mut waits, &asleep(10_000, 1_000, 1)), 9_000);
    assert_eq!(age(&mut waits, &asleep(12_000, 11_900, 2)), 100);
}

#[test]
fn ages_stand_still_while_stopped_and_go_on_afterwards() {
    let mut waits = new_waits();
    assert_eq!(age(&mut waits, &asleep(10_000, 4_000, 1)), 6_000);
    assert_eq!(held_age(&mut waits, &stopped(12_000, 11_000, 2)), Some(7_000));
    assert_eq!(held_age(&mut waits, &stopped(99_000, 11_000, 2)), Some(7_000));
    assert_eq!(age(&mut waits, &asleep(101_000, 100_000, 3)), 8_000);
    assert_eq!(age(&mut waits, &asleep(102_000, 100_000, 3)), 9_000);
}

/// The probes saw the call end with a restart code and begin anew: they know how long it was out of it.
#[test]
fn the_probes_take_a_stop_out_themselves() {
    let mut waits = new_waits();
    assert_eq!(
        age(&mut waits, &probed(asleep(10_000, 4_000, 1), 4_000, 0)),
        6_000
    );
    assert_eq!(held_age(&mut waits, &stopped(12_000, 11_000, 2)), Some(7_000));
    assert_eq!(
        age(&mut waits, &probed(asleep(101_000, 100_000, 3), 4_000, 89_000)),
        8_000
    );
}

/// The cgroup v1 freezer does not wake a thread that sleeps in a freezable wait.
#[test]
fn a_freeze_without_a_switch_is_taken_out() {
    for start in [None, Some(4_000), Some(0)] {
        let as_probed = |record| start.map_or(record, |start| probed(record, start, 0));
        let frozen = |at| TaskRecord {
            state: task_state::FROZEN,
            ..asleep(at, 4_000, 1)
        };
        let mut waits = new_waits();
        assert_eq!(age(&mut waits, &as_probed(asleep(10_000, 4_000, 1))), 6_000);
        assert_eq!(held_age(&mut waits, &frozen(12_000)), Some(8_000));
        assert_eq!(held_age(&mut waits, &frozen(50_000)), Some(8_000));
        assert_eq!(
            age(&mut waits, &as_probed(asleep(52_000, 4_000, 1))),
            8_000,
            "{start:?}"
        );
        assert_eq!(
            age(&mut waits, &as_probed(asleep(53_000, 4_000, 1))),
            9_000,
            "{start:?}"
        );
    }
}

#[test]
fn nothing_is_known_of_a_wait_that_was_never_seen_before_the_stop() {
    let mut waits = new_waits();
    assert_eq!(held_age(&mut waits, &stopped(12_000, 11_000, 2)), None);
    assert_eq!(age(&mut waits, &asleep(20_000, 19_000, 3)), 1_000);
}

/// The same tid, but another thread: nothing of the first one's is inherited.
#[test]
fn a_reused_tid_is_another_thread() {
    let mut waits = new_waits();
    assert_eq!(age(&mut waits, &asleep(10_000, 4_000, 1)), 6_000);
    let other = TaskRecord {
        start_boottime: 9,
        ..stopped(12_000, 11_000, 1)
    };
    assert_eq!(held_age(&mut waits, &other), None);
}

#[test]
fn a_timeout_is_read_once_and_only_when_the_wait_is_old_enough() {
    let timed = TaskRecord {
        args: [0x1000, 0x189, 2, 0x8000, 0, 0],
        ..asleep(10_000, 4_000, 1)
    };
    let clocks = Clocks {
        since: 4_000 * MS,
        realtime_offset: 0,
        boottime_offset: 0,
    };
    let two_days = [(2i64 * 86_400).to_le_bytes(), 0i64.to_le_bytes()].concat();
    let mut waits = new_waits();
    let mut reads = 0;
    let mut ask = |waits: &mut Waits, look| {
        waits.sleeping(&timed, FUTEX, &call(FUTEX), 0);
        let unbounded = waits.is_unbounded(&timed, &call(FUTEX), &clocks, look, |address, length| {
            assert_eq!((address, length), (0x8000, 16));
            reads += 1;
            Ok(two_days.clone())
        });
        waits.end_pass();
        unbounded.unwrap()
    };
    assert!(
        !ask(&mut waits, false),
        "a timeout that was not looked at is taken for a short one"
    );
    assert!(ask(&mut waits, true));
    assert!(ask(&mut waits, true));
    assert_eq!(reads, 1);
}

#[test]
fn a_timeout_that_cannot_be_read_is_said() {
    let timed = TaskRecord {
        args: [0x1000, 0x189, 2, 0x8000, 0, 0],
        ..asleep(10_000, 4_000, 1)
    };
    let clocks = Clocks {
        since: 4_000 * MS,
        realtime_offset: 0,
        boottime_offset: 0,
    };
    let mut waits = new_waits();
    waits.sleeping(&timed, FUTEX, &call(FUTEX), 0);
    let unreadable = |_, _| Err(HelperError::Absent);
    assert!(
        waits
            .is_unbounded(&timed, &call(FUTEX), &clocks, true, unreadable)
            .is_err()
    );
}

#[test]
fn the_number_before_a_restart_is_remembered_for_the_same_arguments_only() {
    let mut waits = new_waits();
    age(
        &mut waits,
        &TaskRecord {
            syscall: READ,
            ..asleep(10_000, 4_000, 1)
        },
    );
    let again = TaskRecord {
        syscall: 219,
        ..asleep(20_000, 19_000, 3)
    };
    assert_eq!(waits.number_before_restart(&again), Some(READ));
    let elsewhere = TaskRecord {
        sp: 0x7fff_1000,
        ..again
    };
    assert_eq!(waits.number_before_restart(&elsewhere), None);
}
