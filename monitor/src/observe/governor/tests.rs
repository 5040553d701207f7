use super::*;

const ID: ProcessId = ProcessId {
    pid: 7,
    start_boottime: 1,
    exec_id: 1,
};
const SECOND: Duration = Duration::from_secs(1);

/// Orders second by second, with that many runs in each.
fn orders(governor: &mut Governor, start: Instant, runs: &[u64]) -> Vec<Order> {
    let mut now = start;
    let mut orders = Vec::new();
    governor.order(ID, now);
    for runs in runs {
        governor.ran(ID, *runs, now);
        now += SECOND;
        orders.push(governor.order(ID, now));
    }
    orders
}

#[test]
fn probes_stay_on_within_the_budget() {
    // 1 % of a core is 10 ms a second: 1,250 runs of 8 µs.
    let mut governor = Governor::new(&Budget::new(0.01), THREAD_COST);
    assert_eq!(
        orders(&mut governor, Instant::now(), &[0, 100, 1_200]),
        [Order::On; 3]
    );
}

#[test]
fn over_the_budget_they_go_off_and_are_tried_again() {
    let mut governor = Governor::new(&Budget::new(0.01), THREAD_COST);
    let start = Instant::now();
    assert_eq!(orders(&mut governor, start, &[1_300]), [Order::Off]);
    assert_eq!(governor.order(ID, start + 60 * SECOND), Order::Off);
    assert_eq!(governor.order(ID, start + 61 * SECOND), Order::On);
}

#[test]
fn each_pause_is_twice_as_long_until_it_was_quiet() {
    let mut governor = Governor::new(&Budget::new(0.01), THREAD_COST);
    let mut now = Instant::now();
    governor.order(ID, now);
    let burst = |governor: &mut Governor, now: &mut Instant| {
        governor.ran(ID, 2_000, *now);
        *now += SECOND;
        assert_eq!(governor.order(ID, *now), Order::Off);
        let mut pause = Duration::ZERO;
        while governor.order(ID, *now + pause) == Order::Off {
            pause += SECOND;
        }
        *now += pause;
        pause
    };
    assert_eq!(burst(&mut governor, &mut now), 60 * SECOND);
    assert_eq!(burst(&mut governor, &mut now), 120 * SECOND);
    now += SECOND;
    assert_eq!(governor.order(ID, now), Order::On);
    assert_eq!(burst(&mut governor, &mut now), 60 * SECOND);
}

#[test]
fn a_burst_is_borne_however_often_it_is_asked() {
    let mut governor = Governor::new(&Budget::new(0.01), GOROUTINE_COST);
    let mut now = Instant::now();
    governor.order(ID, now);
    // 10 ms at once, a second's worth, which is looked at ten times in that second.
    governor.ran(ID, 10_000, now);
    for _ in 0..10 {
        now += SECOND / 10;
        assert_eq!(governor.order(ID, now), Order::On);
    }
    // Who never ceases is found out: 8 ms a tenth of a second.
    let mut orders = Vec::new();
    for _ in 0..2 {
        governor.ran(ID, 8_000, now);
        now += SECOND / 10;
        orders.push(governor.order(ID, now));
    }
    assert_eq!(orders, [Order::On, Order::Off]);
}

#[test]
fn a_storm_does_not_wait_for_the_next_order_and_a_burst_is_borne() {
    let mut governor = Governor::new(&Budget::new(0.01), GOROUTINE_COST);
    let start = Instant::now();
    assert!(!governor.is_urgent(ID, start));
    governor.order(ID, start);
    // 1 % of a second is 10 ms: 10,000 runs of 1 µs, however fast they come.
    governor.ran(ID, 10_000, start);
    assert!(!governor.is_urgent(ID, start + SECOND / 10));
    governor.ran(ID, 1, start);
    assert!(governor.is_urgent(ID, start + SECOND / 10));
    assert!(!governor.is_urgent(ID, start + 2 * SECOND));
    assert_eq!(governor.order(ID, start + SECOND / 10), Order::Off);
    // Off already: nothing more is urgent.
    governor.ran(ID, 1_000_000, start + SECOND);
    assert!(!governor.is_urgent(ID, start + SECOND));
}

#[test]
fn two_that_take_too_much_together_are_held_to_one_budget() {
    let budget = Budget::new(0.01);
    let (mut births, mut polls) = (
        Governor::new(&budget, POLL_COST),
        Governor::new(&budget, POLL_COST),
    );
    let mut now = Instant::now();
    births.order(ID, now);
    polls.order(ID, now);
    // 4 ms and 5 ms of the 10 ms in a second; then 4 and 7.
    for (some, more, expected) in [
        (4_000, 5_000, [Order::On, Order::On]),
        (4_000, 7_000, [Order::On, Order::Off]),
        (9_000, 0, [Order::On, Order::Off]),
    ] {
        births.ran(ID, some, now);
        polls.ran(ID, more, now);
        now += SECOND;
        assert_eq!([births.order(ID, now), polls.order(ID, now)], expected);
    }
    // Of another process nothing was taken.
    let other = ProcessId { pid: 8, ..ID };
    polls.order(other, now);
    polls.ran(other, 9_000, now);
    now += SECOND;
    assert_eq!(polls.order(other, now), Order::On);
}

#[test]
fn what_is_gone_takes_nothing() {
    let budget = Budget::new(0.01);
    let (mut births, mut polls) = (
        Governor::new(&budget, POLL_COST),
        Governor::new(&budget, POLL_COST),
    );
    let start = Instant::now();
    births.order(ID, start);
    births.ran(ID, 6_000, start);
    polls.order(ID, start + SECOND);
    assert_eq!(births.order(ID, start + SECOND), Order::On);
    births.retain(|_| false);
    polls.ran(ID, 9_000, start + SECOND);
    assert_eq!(polls.order(ID, start + 2 * SECOND), Order::On);
}
