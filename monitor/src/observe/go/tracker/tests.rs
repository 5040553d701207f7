use super::*;

const SECOND: u64 = 1_000_000_000;

fn waiting(id: u64, seq: u8) -> Record {
    Record {
        address: 0xc000_0000 + 512 * id,
        id,
        status: Status::Waiting,
        reason: 14,
        seq,
        wait_since: 0,
        gopc: 1,
        startpc: 2,
        place: 3,
        thread: 0,
        order: 0,
        parent: 0,
        is_locked: false,
        is_leaked: false,
        bubble: 0,
    }
}

/// Looks at these at that second; ages in seconds by number.
fn look(tracker: &mut Tracker, second: u64, records: &[Record]) -> Vec<(u64, Option<u64>)> {
    let at = second * SECOND;
    tracker.look(
        at,
        records
            .iter()
            .map(|record| Entry::new(record, at, at, 0, 0))
            .collect(),
    );
    let entries = tracker.entries().iter();
    entries
        .map(|entry| (entry.id, tracker.age(entry).map(|age| age.as_secs())))
        .collect()
}

#[test]
fn who_has_not_run_waits_since_the_first_look() {
    let mut tracker = Tracker::default();
    assert_eq!(
        look(&mut tracker, 10, &[waiting(2, 7), waiting(1, 7)]),
        [(1, Some(0)), (2, Some(0))]
    );
    assert_eq!(
        look(&mut tracker, 13, &[waiting(1, 7), waiting(2, 8)]),
        [(1, Some(3)), (2, Some(0))]
    );
    assert_eq!(
        look(&mut tracker, 20, &[waiting(1, 7), waiting(2, 8), waiting(3, 0)]),
        [(1, Some(10)), (2, Some(7)), (3, Some(0))]
    );
}

#[test]
fn another_place_reason_or_state_is_another_wait() {
    let other = [
        Record {
            place: 4,
            ..waiting(1, 7)
        },
        Record {
            reason: 15,
            ..waiting(1, 7)
        },
        Record {
            status: Status::Syscall,
            ..waiting(1, 7)
        },
    ];
    for other in other {
        let mut tracker = Tracker::default();
        look(&mut tracker, 10, &[waiting(1, 7)]);
        assert_eq!(look(&mut tracker, 13, &[other]), [(1, Some(0))]);
    }
}

#[test]
fn who_runs_does_not_wait_however_often_it_is_seen() {
    let running = Record {
        status: Status::Running,
        ..waiting(1, 7)
    };
    let mut tracker = Tracker::default();
    for second in 10..13 {
        assert_eq!(
            look(&mut tracker, second, std::slice::from_ref(&running)),
            [(1, None)]
        );
    }
    assert_eq!(look(&mut tracker, 13, &[waiting(1, 7)]), [(1, Some(0))]);
}

#[test]
fn of_a_collections_note_and_our_own_the_older_one_wins() {
    let noted = |second: u64| Record {
        wait_since: second * SECOND,
        ..waiting(1, 7)
    };
    let mut tracker = Tracker::default();
    assert_eq!(look(&mut tracker, 100, &[noted(40)]), [(1, Some(60))]);
    assert_eq!(look(&mut tracker, 110, &[noted(40)]), [(1, Some(70))]);
    // A note made after our first look is younger.
    let mut tracker = Tracker::default();
    look(&mut tracker, 100, &[waiting(1, 7)]);
    assert_eq!(look(&mut tracker, 110, &[noted(105)]), [(1, Some(10))]);
    // One from the future is none.
    let mut tracker = Tracker::default();
    assert_eq!(look(&mut tracker, 100, &[noted(200)]), [(1, Some(0))]);
}

#[test]
fn a_number_that_is_told_twice_counts_once() {
    let mut tracker = Tracker::default();
    assert_eq!(look(&mut tracker, 10, &[waiting(1, 7), waiting(1, 7)]).len(), 1);
}

#[test]
fn a_stack_stays_with_its_wait() {
    let mut tracker = Tracker::default();
    let stacks = |tracker: &Tracker| tracker.entries().iter().map(Entry::stack).collect::<Vec<_>>();
    look(&mut tracker, 10, &[waiting(1, 7), waiting(2, 7)]);
    let both = [Stacked::Number(5), Stacked::Passing];
    for (entry, stack) in tracker.entries_mut().iter_mut().zip(both) {
        entry.set_stack(stack);
    }
    look(&mut tracker, 13, &[waiting(1, 7), waiting(2, 7)]);
    assert_eq!(stacks(&tracker), both);
    look(&mut tracker, 14, &[waiting(1, 8), waiting(2, 7)]);
    assert_eq!(stacks(&tracker), [Stacked::Unasked, Stacked::Passing]);
}

#[test]
fn who_was_found_to_have_run_waits_anew() {
    let mut tracker = Tracker::default();
    look(&mut tracker, 10, &[waiting(1, 7)]);
    look(&mut tracker, 20, &[waiting(1, 7)]);
    // It had stopped 256 times.
    tracker.entries_mut()[0].has_run(21 * SECOND);
    assert_eq!(look(&mut tracker, 30, &[waiting(1, 7)]), [(1, Some(0))]);
}

#[test]
fn a_ticker_that_stops_256_times_between_two_looks_has_moved_by_the_confirming_one() {
    let mut tracker = Tracker::default();
    tracker.look(SECOND, Vec::new());
    tracker.look(SECOND + 2_560_000_000, Vec::new());
    // It ticks each 10 ms.
    assert!(tracker.confirm_after() >= Duration::from_millis(20));
    tracker.look(3600 * SECOND, Vec::new());
    assert!(tracker.confirm_after() <= Duration::from_secs(1));
}
