//! Anything that may be seen, wanted and remembered.

use proptest::prelude::*;

use super::*;
use crate::{Policy, Prediction, QueuePolicy, Rises, Service};

prop_compose! {
    pub(super) fn any_count()(value in 0u64..3000, error in 0.0..0.5, lag_ms in 0u64..90_000) -> Count {
        Count { value, error, lag_ms }
    }
}

prop_compose! {
    pub(super) fn any_queue(name: &'static str)(
        visible in any_count(),
        delayed in any_count(),
        in_flight in any_count(),
        booked in proptest::option::of((0u64..9000, 0u64..9000)),
        arrivals_per_s in proptest::option::of(0.0..50.0),
        oldest_ms in proptest::option::of(0u64..10_000_000),
        books_lag_ms in 0u64..5_000,
        services in proptest::collection::vec((1u64..500, 0u64..10_000_000), 0..4),
    ) -> QueueSeen {
        let service = |(n, (jobs, total_ms))| Service { kind: format!("k{n}"), jobs, total_ms };
        QueueSeen {
            name: name.to_owned(),
            visible: Some(visible),
            delayed: Some(delayed),
            in_flight: Some(in_flight),
            sent: booked.map(|(sent, _)| sent),
            finished: booked.map(|(_, finished)| finished),
            books_lag_ms,
            arrivals_per_s,
            oldest_ms,
            services: services.into_iter().enumerate().map(service).collect(),
        }
    }
}

pub(super) fn any_instances() -> impl Strategy<Value = Vec<Instance>> {
    let state = prop_oneof![
        1 => Just(State::Pending),
        1 => Just(State::Booting),
        1 => Just(State::Warm),
        3 => Just(State::Idle),
        1 => Just(State::Busy),
        1 => Just(State::Draining),
    ];
    let one = (state, 0u64..1_000_000);
    proptest::collection::vec(one, 0..40).prop_map(|all| {
        let numbered = (0..).zip(all);
        numbered.map(|(n, (state, age))| instance(n, state, age)).collect()
    })
}

prop_compose! {
    pub(super) fn any_observed()(
        instances in any_instances(),
        unlaunched in 0u32..5,
        a in any_queue("a"),
        q in any_queue("q"),
        idle_queues in any::<bool>(),
        spot_interruptions in 0u32..4,
        capacity_errors in 0u32..2,
        leaving in 0u32..3,
        prices in proptest::collection::vec(1u64..1_000_000, 0..4),
    ) -> Observed {
        let drain = instances.iter().filter(|it| it.state == State::Draining).count() as u32;
        let leaving = leaving.min(drain);
        let mut seen = group(instances);
        seen.desired = seen.desired.map(|n| n + unlaunched - leaving);
        seen.queues = match idle_queues {
            true => vec![QueueSeen::empty("a"), QueueSeen::empty("q")],
            false => vec![a, q],
        };
        let price = |(n, price)| (format!("t{n}"), price);
        seen.prices = prices.into_iter().enumerate().map(price).collect();
        Observed { spot_interruptions, capacity_errors, leaving, ..seen }
    }
}

prop_compose! {
    pub(super) fn any_policy()(
        max in 0u32..60,
        min in 0u32..5,
        spare in 0u32..5,
        slots in 0u32..4,
        targets in (0u64..1_000_000, 0u64..1_000_000),
        money in proptest::option::of(0u64..3_000_000),
        factor in 0.0..3.0,
        anticipation in 0.0..1.0,
        readiness in 0.0..1.0,
        reuse in 0.0..1.0,
        prediction in 0.0..1.0,
        warm in 0.0..1.0,
    ) -> Policy {
        let base = Policy::for_queue("q", max);
        let q = QueuePolicy { wait_target_ms: targets.0, money_per_hour: money, ..base.queues[0].clone() };
        let a = QueuePolicy { name: "a".to_owned(), wait_target_ms: targets.1, ..q.clone() };
        let queues = vec![a, q];
        Policy { queues, min, spare, slots, delayed_off_boots: factor, anticipation, readiness, reuse, prediction, warm, ..base }
    }
}

prop_compose! {
    pub(super) fn any_memory()(
        boots_ms in proptest::collection::vec(0u64..600_000, 0..16),
        levels in proptest::collection::vec((0u64..NOW, 1u64..5), 0..30),
        booted_until in 0u64..NOW,
        paused_until in prop_oneof![Just(0), Just(NOW + 1)],
        begun in any::<bool>(),
        rises in proptest::collection::vec(0u64..100, 0..30),
    ) -> Memory {
        let rises = Rises { demand: vec![(booted_until, 3)], rises };
        let prediction = Prediction::default();
        Memory { boots_ms, booted_until, idle_levels: levels, paused_until, begun, standing: vec![], work: vec![], rises, prediction }
    }
}
