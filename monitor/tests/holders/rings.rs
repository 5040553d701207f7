//! Deadlocks and chains.

use taskleak::{detect::holders::ChainEnd, observe::thread::holders::Evidence::MutexOwner};
use testbed::Program;

use crate::support::{Observer, start};

#[test]
fn a_ring_is_one_cycle_with_exactly_its_members() {
    for program in [Program::CBlockers, Program::CBlockers32] {
        for size in [1, 2, 3, 10, 50] {
            // Others wait for locks as well, but in no ring.
            let scenarios = [&*format!("deadlock_ring={size}"), "mutex=2", "lock_chain=2"];
            let Some(target) = start(&format!("ring {program:?}"), program, &scenarios) else {
                break;
            };
            let mut observer = Observer::new(target.pid());
            let look = observer.until("everybody waits", |look| look.edges.len() == size + 4);
            let cycles = look.cycles();
            assert_eq!(cycles.len(), 1, "{cycles:?}");
            let mut members = cycles[0].clone();
            members.sort_unstable();
            let expected: Vec<u64> = look.called("deadlock_ring").into_iter().map(u64::from).collect();
            assert_eq!(expected.len(), size);
            assert_eq!(members, expected);
        }
    }
}

/// The threads were made in the order of their mutexes, so their numbers rise along the ring.
#[test]
fn the_members_stand_in_the_order_in_which_they_wait() {
    let Some(target) = start("order", Program::CBlockers, &["deadlock_ring=10"]) else {
        return;
    };
    let look = Observer::new(target.pid()).until("everybody waits", |look| look.edges.len() == 10);
    let expected: Vec<u64> = look.called("deadlock_ring").into_iter().map(u64::from).collect();
    assert_eq!(look.cycles(), [expected]);
}

#[test]
fn a_chain_leads_to_the_thread_that_holds_up_all() {
    let Some(target) = start("chain", Program::CBlockers, &["lock_chain=5"]) else {
        return;
    };
    let look = Observer::new(target.pid()).until("everybody waits", |look| look.edges.len() == 5);
    let helper = u64::from(look.only("helper"));
    let threads: Vec<u64> = look.called("lock_chain").into_iter().map(u64::from).collect();
    assert!(look.cycles().is_empty());
    for (index, thread) in threads.iter().enumerate() {
        let chain = look.holders().chain(*thread, 10);
        // Each was made after the one that it waits for.
        let expected: Vec<u64> = threads[..index].iter().rev().copied().chain([helper]).collect();
        assert_eq!((chain.ids, chain.end), (expected, ChainEnd::Free));
    }
}

#[test]
fn pairs_of_cpp_are_cycles_of_two() {
    let Some(target) = start(
        "pairs",
        Program::CppBlockers,
        &["deadlock_pair=3", "thread_mutex=2"],
    ) else {
        return;
    };
    let look = Observer::new(target.pid()).until("everybody waits", |look| look.edges.len() == 8);
    let cycles = look.cycles();
    assert_eq!(cycles.iter().map(Vec::len).collect::<Vec<_>>(), [2, 2, 2]);
    let mut members = cycles.concat();
    members.sort_unstable();
    let expected: Vec<u64> = look.called("deadlock_pair").into_iter().map(u64::from).collect();
    assert_eq!(members, expected);
    assert!(look.edges.iter().all(|edge| edge.evidence == MutexOwner));
}
