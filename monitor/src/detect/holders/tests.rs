use std::collections::HashMap;

use proptest::{collection, prelude::*};

use super::*;

fn chain_of(edges: &[(u64, u64)], waiter: u64, max: usize) -> (Vec<u64>, ChainEnd) {
    let chain = Holders::new(edges.iter().copied()).chain(waiter, max);
    (chain.ids, chain.end)
}

fn cycles_of(edges: &[(u64, u64)]) -> Vec<Vec<u64>> {
    Holders::new(edges.iter().copied()).cycles()
}

#[test]
fn a_chain_is_followed_to_one_that_waits_for_nobody() {
    let edges = [(12, 812), (812, 90), (7, 812)];
    assert_eq!(chain_of(&edges, 12, 10), (vec![812, 90], ChainEnd::Free));
    assert_eq!(chain_of(&edges, 7, 10), (vec![812, 90], ChainEnd::Free));
    assert_eq!(chain_of(&edges, 90, 10), (vec![], ChainEnd::Free));
    assert_eq!(cycles_of(&edges), Vec::<Vec<u64>>::new());
}

#[test]
fn a_chain_is_cut_at_the_bound_and_not_before() {
    let edges = [(1, 2), (2, 3), (3, 4)];
    assert_eq!(chain_of(&edges, 1, 2), (vec![2, 3], ChainEnd::Cut));
    assert_eq!(chain_of(&edges, 1, 3), (vec![2, 3, 4], ChainEnd::Free));
    assert_eq!(chain_of(&edges, 1, 0), (vec![], ChainEnd::Cut));
}

#[test]
fn a_cycle_begins_with_its_smallest_member_and_keeps_its_order() {
    assert_eq!(cycles_of(&[(30, 10), (10, 20), (20, 30)]), [[10, 20, 30]]);
    assert_eq!(cycles_of(&[(30, 20), (20, 10), (10, 30)]), [[10, 30, 20]]);
    assert_eq!(chain_of(&[(5, 9), (9, 5)], 5, 10), (vec![9], ChainEnd::Cycle));
}

#[test]
fn who_waits_for_itself_is_a_cycle_alone() {
    assert_eq!(cycles_of(&[(5, 5)]), [[5]]);
    assert_eq!(chain_of(&[(5, 5)], 5, 10), (vec![], ChainEnd::Cycle));
}

#[test]
fn who_waits_for_a_member_leads_into_the_cycle_and_is_not_in_it() {
    let edges = [(1, 12), (12, 90), (90, 12), (2, 1), (50, 51), (51, 50)];
    assert_eq!(cycles_of(&edges), [[12, 90], [50, 51]]);
    assert_eq!(chain_of(&edges, 2, 10), (vec![1, 12, 90], ChainEnd::Cycle));
}

/// A walk from each waiter would be 5,000,000,000 steps.
#[test]
fn a_hundred_thousand_edges_are_walked_once() {
    const COUNT: u64 = 100_000;
    assert!(
        Holders::new((0..COUNT).map(|id| (id, id + 1)))
            .cycles()
            .is_empty()
    );
    let ring = Holders::new((0..COUNT).map(|id| (id, (id + 1) % COUNT))).cycles();
    assert_eq!(ring, [(0..COUNT).collect::<Vec<_>>()]);
    let star = Holders::new((1..COUNT).map(|id| (id, 0)));
    assert!(star.cycles().is_empty());
}

/// Few ids, so that they meet.
fn edges() -> impl Strategy<Value = HashMap<u64, u64>> {
    (1u64..40).prop_flat_map(|ids| collection::hash_map(0..ids, 0..ids, 0..40))
}

/// The cycles again, the plain way: from each waiter as many steps as there are edges.
fn members_by_walking(edges: &HashMap<u64, u64>) -> Vec<u64> {
    let is_member = |id: &u64| {
        let mut at = *id;
        (0..edges.len()).any(|_| match edges.get(&at) {
            Some(next) => {
                at = *next;
                at == *id
            }
            None => false,
        })
    };
    let mut members: Vec<_> = edges.keys().copied().filter(is_member).collect();
    members.sort_unstable();
    members
}

proptest! {
    #[test]
    fn cycles_are_made_of_edges_and_none_is_missed(edges in edges()) {
        let cycles = Holders::new(edges.clone()).cycles();
        for cycle in &cycles {
            prop_assert_eq!(cycle.iter().min(), cycle.first());
            let nexts = cycle.iter().cycle().skip(1);
            for (id, next) in cycle.iter().zip(nexts) {
                prop_assert_eq!(edges.get(id), Some(next));
            }
        }
        // In one cycle at most, as the members found by walking are without duplicates.
        let mut members: Vec<_> = cycles.concat();
        members.sort_unstable();
        prop_assert_eq!(members, members_by_walking(&edges));
    }

    #[test]
    fn a_forest_has_no_cycle(parents in collection::vec(any::<prop::sample::Index>(), 0..200)) {
        // Each waits for one with a smaller id.
        let edges = parents.iter().enumerate().skip(1).map(|(id, parent)| (id as u64, parent.index(id) as u64));
        let holders = Holders::new(edges.clone());
        prop_assert!(holders.cycles().is_empty());
        for (waiter, _) in edges {
            prop_assert_eq!(holders.chain(waiter, usize::MAX).end, ChainEnd::Free);
        }
    }

    #[test]
    fn a_chain_follows_edges_and_says_how_it_ends(edges in edges(), waiter in 0u64..40, max in 0usize..20) {
        let chain = Holders::new(edges.clone()).chain(waiter, max);
        prop_assert!(chain.ids.len() <= max);
        let mut at = waiter;
        for id in &chain.ids {
            prop_assert_eq!(edges.get(&at), Some(id));
            at = *id;
        }
        let next = edges.get(&at);
        let is_met = next.is_some_and(|next| *next == waiter || chain.ids.contains(next));
        let end = match next {
            None => ChainEnd::Free,
            Some(_) if is_met => ChainEnd::Cycle,
            Some(_) => ChainEnd::Cut,
        };
        prop_assert_eq!(chain.end, end);
    }
}
