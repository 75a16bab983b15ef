//! The schedule of one who knows what comes.

use proptest::prelude::*;

use super::{
    super::{clairvoyant::clairvoyant, *},
    exact, few,
};

/// Every job begins exactly when it comes, so no schedule without wait is cheaper.
fn cheapest_of_all_bridgings(busy: &[(Millis, Millis)], world: &World) -> Millis {
    let gaps = busy.len() - 1;
    let cost = |mask: u32| {
        let (mut total, mut start) = (0, busy[0].0);
        for (n, (_, end)) in busy.iter().enumerate() {
            if n == gaps || mask >> n & 1 == 0 {
                total += (world.boot_ms + end - start).max(world.minimum_billed_ms);
                start = busy.get(n + 1).map_or(0, |next| next.0);
            }
        }
        total
    };
    (0..1u32 << gaps).map(cost).min().unwrap()
}

proptest! {
    #![proptest_config(few())]

    #[test]
    fn the_clairvoyant_bridges_or_ends_each_gap_as_the_best_of_all_choices_does(
        spans in proptest::collection::vec((1u64..300_000, 1u64..200_000), 1..8),
        boot_ms in prop_oneof![Just(0u64), 0u64..200_000],
        minimum_billed_ms in prop_oneof![Just(0u64), 1u64..600_000],
    ) {
        let world = World { boot_ms, minimum_billed_ms, ..exact() };
        let mut at = 0;
        let busy: Vec<_> = spans.iter().map(|(gap, work)| {
            at += gap + work;
            (at - work, at)
        }).collect();
        let jobs = busy.iter().map(|(from, to)| Job { at: *from, service: to - from });
        let cost = clairvoyant(&Trace::new(jobs.collect()), &world);
        prop_assert_eq!(cost, cheapest_of_all_bridgings(&busy, &world));
    }
}

#[test]
fn the_clairvoyant_keeps_an_instance_where_the_minimum_bill_of_the_next_is_dearer_than_the_gap() {
    let world = World { boot_ms: 0, minimum_billed_ms: 60_000, ..exact() };
    let cost = |busy: &[(u64, u64)]| {
        let job = |(from, to): &(u64, u64)| Job { at: from * 1000, service: (to - from) * 1000 };
        clairvoyant(&Trace::new(busy.iter().map(job).collect()), &world) / 1000
    };
    assert_eq!(cost(&[(0, 60), (61, 62)]), 62);
    assert_eq!(cost(&[(0, 1), (50, 51), (100, 101)]), 101);
    assert_eq!(cost(&[(0, 1), (200, 201)]), 120);
    assert_eq!(cost(&[(0, 1), (0, 1)]), 120);
}

#[test]
fn somebody_must_be_there_for_a_job_of_no_time_too() {
    let world = World { boot_ms: 0, ..exact() };
    let trace = Trace::new((0..20).map(|n| Job { at: n * 3_600_000, service: 0 }).collect());
    let best = clairvoyant(&trace, &world);
    assert_eq!(best, 20 * world.minimum_billed_ms);
    let out = run(&trace, &world, named("ours=0", &world).unwrap().as_mut());
    assert!(out.cost >= best && out.cost <= 2 * best, "{} beside {best}", out.cost);
}

#[test]
fn ours_is_told_what_is_billed_at_least() {
    let hour = 3_600_000;
    let world = World { minimum_billed_ms: hour, ..exact() };
    // Ten minutes apart: an instance that is paid for by the hour serves six.
    let jobs = (0..60).map(|n| Job { at: n * 600_000, service: 60_000 });
    let trace = Trace::new(jobs.collect());
    let out = run(&trace, &world, named("ours=0", &world).unwrap().as_mut());
    let best = clairvoyant(&trace, &world);
    assert!(out.cost <= 2 * best, "{} beside {best}", out.cost);
}
