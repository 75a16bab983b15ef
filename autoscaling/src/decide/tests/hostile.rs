//! Numbers that nobody means: of a log that was edited, a policy without sense, a clock that jumps.

use proptest::prelude::*;

use super::*;
use crate::{Forecast, Policy, Prediction, QueuePolicy, Rises, Service, Standing, Work, decide};

/// Any number, those at the ends above all.
fn wild() -> BoxedStrategy<u64> {
    prop_oneof![Just(0), Just(1), 0u64..1_000, Just(NOW), Just(u64::MAX), any::<u64>()].boxed()
}

fn wild_u32() -> BoxedStrategy<u32> {
    prop_oneof![Just(0), Just(1), 0u32..100, Just(u32::MAX), any::<u32>()].boxed()
}

fn wild_part() -> BoxedStrategy<f64> {
    use proptest::num::f64::ANY;
    prop_oneof![Just(0.0), Just(-1.0), 0.0..2.0, Just(f64::NAN), Just(f64::INFINITY), ANY].boxed()
}

fn some<T: std::fmt::Debug + 'static>(
    of: impl Strategy<Value = T> + 'static,
) -> BoxedStrategy<Vec<T>> {
    proptest::collection::vec(of, 0..6).boxed()
}

prop_compose! {
    fn wild_count()(value in wild(), error in wild_part(), lag_ms in wild()) -> Option<Count> {
        Some(Count { value, error, lag_ms })
    }
}

prop_compose! {
    fn wild_queue(name: &'static str)(
        counts in (wild_count(), wild_count(), wild_count()),
        books in proptest::option::of((wild(), wild())),
        arrivals_per_s in proptest::option::of(wild_part()),
        (oldest_ms, books_lag_ms) in (proptest::option::of(wild()), wild()),
        services in some((wild(), wild())),
    ) -> QueueSeen {
        let service = |(jobs, total_ms)| Service { kind: "k".to_owned(), jobs, total_ms };
        QueueSeen {
            visible: counts.0,
            delayed: counts.1,
            in_flight: counts.2,
            sent: books.map(|(sent, _)| sent),
            finished: books.map(|(_, finished)| finished),
            arrivals_per_s,
            oldest_ms,
            books_lag_ms,
            services: services.into_iter().map(service).collect(),
            ..QueueSeen::empty(name)
        }
    }
}

prop_compose! {
    fn wild_instance()(
        number in 0u32..1_000,
        state in prop_oneof![
            Just(State::Pending), Just(State::Booting), Just(State::Warm),
            Just(State::Idle), Just(State::Busy), Just(State::Draining),
        ],
        (since, launched_at, ready_at) in (wild(), wild(), proptest::option::of(wild())),
        (slots, busy_slots, silent) in (wild_u32(), wild_u32(), any::<bool>()),
    ) -> Instance {
        Instance { since, launched_at, ready_at, slots, busy_slots, silent, ..instance(number, state, 0) }
    }
}

prop_compose! {
    fn wild_observed()(
        instances in some(wild_instance()),
        queues in (wild_queue("a"), wild_queue("q")),
        (desired, leaving, pooled) in (wild_u32(), wild_u32(), wild_u32()),
        (spot_interruptions, capacity_errors) in (wild_u32(), wild_u32()),
        price in wild(),
    ) -> Observed {
        Observed {
            queues: vec![queues.0, queues.1],
            instances: Some(instances),
            desired: Some(desired),
            leaving,
            pooled,
            spot_interruptions,
            capacity_errors,
            prices: vec![("c7g.large".to_owned(), price)],
        }
    }
}

prop_compose! {
    fn wild_policy()(
        (min, max, spare, slots) in (wild_u32(), wild_u32(), wild_u32(), wild_u32()),
        (boot_ms, warm_start_ms, minimum_billed_ms, capacity_pause_ms) in (wild(), wild(), wild(), wild()),
        (delayed_off_boots, anticipation, readiness) in (wild_part(), wild_part(), wild_part()),
        (prediction, warm, reuse) in (wild_part(), wild_part(), wild_part()),
        (wait_target_ms, service_ms, price_per_hour) in (wild(), wild(), wild()),
        money_per_hour in proptest::option::of(wild()),
    ) -> Policy {
        let queue = |name: &str| QueuePolicy {
            name: name.to_owned(), wait_target_ms, money_per_hour, service_ms, counted: true,
        };
        Policy {
            queues: vec![queue("a"), queue("q")],
            min, max, spare, slots, boot_ms, warm_start_ms, delayed_off_boots, minimum_billed_ms,
            anticipation, readiness, prediction, warm, reuse, capacity_pause_ms, price_per_hour,
        }
    }
}

prop_compose! {
    fn wild_memory()(
        boots_ms in some(wild()),
        (booted_until, paused_until, begun) in (wild(), wild(), any::<bool>()),
        idle_levels in some((wild(), wild())),
        standing in some((wild(), wild())),
        work in some((wild(), wild(), wild())),
        (demand, rises) in (some((wild(), wild())), some(wild())),
        (day, part) in (some((wild(), wild())), (wild(), wild(), wild())),
        (recent, open) in (some((wild(), wild())), some((wild(), [wild(), wild(), wild()]))),
        (errors, judged) in ([wild(), wild(), wild()], wild()),
    ) -> Memory {
        let standing = standing.into_iter().map(|(since, least)| Standing { queue: "q".to_owned(), since, least });
        let open = open.into_iter().map(|(due, demand)| Forecast { due, demand });
        Memory {
            boots_ms, booted_until, idle_levels, paused_until, begun,
            standing: standing.collect(),
            work: work.into_iter().map(|(at, begun, held)| Work { at, begun, finished: Some(held), held }).collect(),
            rises: Rises { demand, rises },
            prediction: Prediction { day, part, recent, open: open.collect(), errors, judged },
        }
    }
}

proptest! {
    #[test]
    fn whatever_numbers_it_is_given_it_decides_within_the_maximum_and_removes_idle_ones_only(
        seen in wild_observed(), policy in wild_policy(), memory in wild_memory(), now in wild(),
    ) {
        let decision = decide(&seen, &policy, &memory, now);
        prop_assert!(decision.desired <= policy.max, "{decision:?}");
        prop_assert!(u64::from(decision.desired) + u64::from(decision.warm.unwrap_or(0)) <= u64::from(policy.max));
        let idle = |id: &String| {
            let named = seen.instances.iter().flatten().filter(|it| it.id == *id);
            named.into_iter().any(|it| it.state == State::Idle && it.busy_slots == 0)
        };
        prop_assert!(decision.remove.iter().all(idle), "{decision:?}");
        // What it remembers of that makes no later decision fail.
        let later = decide(&seen, &policy, &decision.memory, now.saturating_add(5_000));
        prop_assert!(later.desired <= policy.max, "{later:?}");
    }
}

const DAY: Millis = 86_400_000;

#[test]
fn a_clock_that_was_a_day_ahead_keeps_no_idle_instance_when_it_is_set_right() {
    let policy = Policy::for_queue("q", 10);
    let idle = Instance { ready_at: None, ..instance(1, State::Idle, 900_000) };
    let seen = with_queue(group(vec![idle]), 0, 0);
    let busy = Instance { ready_at: None, ..instance(1, State::Busy, 900_000) };
    let busy = with_queue(group(vec![busy]), 0, 1);
    let mut memory = decide(&busy, &policy, &Memory::default(), NOW).memory;
    memory = decide(&seen, &policy, &memory, NOW + DAY).memory;
    let mut gone = Vec::new();
    for look in 0..=25 {
        let decision = decide(&seen, &policy, &memory, NOW + look * 5_000);
        gone.push(decision.remove.len());
        memory = decision.memory;
    }
    assert_eq!(gone.iter().position(|gone| *gone == 1), Some(24), "a boot later: {gone:?}");
}

#[test]
fn a_lack_of_capacity_seen_by_a_clock_that_was_ahead_stops_no_growth_for_a_day() {
    let policy = Policy::for_queue("q", 100);
    let seen = with_queue(group(vec![instance(1, State::Busy, 900_000)]), 500, 1);
    let lacking = Observed { capacity_errors: 1, ..seen.clone() };
    let first = decide(&lacking, &policy, &Memory::default(), NOW + DAY);
    let then = decide(&seen, &policy, &first.memory, NOW);
    assert_eq!(then.desired, 1, "{}", then.reason);
    let later = decide(&seen, &policy, &then.memory, NOW + policy.capacity_pause_ms);
    assert!(later.desired > 1, "{}", later.reason);
}

#[test]
fn boots_are_learned_by_a_clock_that_was_set_right() {
    let policy = Policy::for_queue("q", 10);
    let seen = |now| {
        let launched_at = now - 90_000;
        let it = Instance { launched_at, ready_at: Some(now), ..instance(1, State::Idle, 0) };
        with_queue(group(vec![it]), 0, 0)
    };
    let memory = decide(&seen(NOW + DAY), &policy, &Memory::default(), NOW + DAY).memory;
    assert_eq!(memory.boots_ms, [90_000]);
    let memory = decide(&seen(NOW), &policy, &memory, NOW).memory;
    let memory = decide(&seen(NOW + 5_000), &policy, &memory, NOW + 5_000).memory;
    assert_eq!(memory.boots_ms, [90_000, 90_000]);
}
