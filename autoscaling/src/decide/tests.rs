use proptest::prelude::*;

use super::*;
use crate::{Count, Instance, QueuePolicy, QueueSeen, Record, Rises, Service, State, replay};

const NOW: Millis = 1_000_000_000;

fn instance(number: u32, state: State, launched_ago: Millis) -> Instance {
    let running = matches!(state, State::Idle | State::Busy | State::Draining);
    Instance {
        id: format!("i-{number:04}"),
        state,
        since: NOW - launched_ago / 2,
        launched_at: NOW - launched_ago,
        ready_at: running.then_some(NOW - launched_ago / 2),
        slots: u32::from(running),
        busy_slots: u32::from(state == State::Busy),
        kind: "c7g.large".to_owned(),
        spot: number.is_multiple_of(2),
    }
}

fn group(instances: Vec<Instance>) -> Observed {
    let counted = |it: &&Instance| it.state != State::Warm;
    let desired = Some(instances.iter().filter(counted).count() as u32);
    Observed { desired, instances: Some(instances), ..Observed::empty_group() }
}

fn queue(visible: u64, in_flight: u64) -> QueueSeen {
    let (visible, in_flight) = (Some(Count::exact(visible)), Some(Count::exact(in_flight)));
    QueueSeen { visible, in_flight, ..QueueSeen::empty("q") }
}

fn with_queue(seen: Observed, visible: u64, in_flight: u64) -> Observed {
    Observed { queues: vec![queue(visible, in_flight)], ..seen }
}

prop_compose! {
    fn any_count()(value in 0u64..3000, error in 0.0..0.5, lag_ms in 0u64..90_000) -> Count {
        Count { value, error, lag_ms }
    }
}

prop_compose! {
    fn any_queue(name: &'static str)(
        visible in any_count(),
        delayed in any_count(),
        in_flight in any_count(),
        booked in proptest::option::of((0u64..9000, 0u64..9000)),
        arrivals_per_s in proptest::option::of(0.0..50.0),
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
            arrivals_per_s,
            services: services.into_iter().enumerate().map(service).collect(),
        }
    }
}

fn any_instances() -> impl Strategy<Value = Vec<Instance>> {
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
    fn any_observed()(
        instances in any_instances(),
        unlaunched in 0u32..5,
        a in any_queue("a"),
        q in any_queue("q"),
        idle_queues in any::<bool>(),
        spot_interruptions in 0u32..4,
        capacity_errors in 0u32..2,
        prices in proptest::collection::vec(1u64..1_000_000, 0..4),
    ) -> Observed {
        let mut seen = group(instances);
        seen.desired = seen.desired.map(|n| n + unlaunched);
        seen.queues = match idle_queues {
            true => vec![QueueSeen::empty("a"), QueueSeen::empty("q")],
            false => vec![a, q],
        };
        let price = |(n, price)| (format!("t{n}"), price);
        seen.prices = prices.into_iter().enumerate().map(price).collect();
        Observed { spot_interruptions, capacity_errors, ..seen }
    }
}

prop_compose! {
    fn any_policy()(
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
    ) -> Policy {
        let base = Policy::for_queue("q", max);
        let q = QueuePolicy { wait_target_ms: targets.0, money_per_hour: money, ..base.queues[0].clone() };
        let a = QueuePolicy { name: "a".to_owned(), wait_target_ms: targets.1, ..q.clone() };
        let queues = vec![a, q];
        Policy { queues, min, spare, slots, delayed_off_boots: factor, anticipation, readiness, reuse, ..base }
    }
}

prop_compose! {
    fn any_memory()(
        boots_ms in proptest::collection::vec(0u64..600_000, 0..16),
        levels in proptest::collection::vec(0u64..NOW, 0..50),
        booted_until in 0u64..NOW,
        paused_until in prop_oneof![Just(0), Just(NOW + 1)],
        begun in any::<bool>(),
        rises in proptest::collection::vec(0u64..100, 0..30),
    ) -> Memory {
        let rises = Rises { demand: vec![(booted_until, 3)], rises };
        Memory { boots_ms, booted_until, idle_levels: levels, paused_until, begun, standing: vec![], rises }
    }
}

proptest! {
    #[test]
    fn never_above_the_maximum(seen in any_observed(), policy in any_policy(), memory in any_memory()) {
        let decision = decide(&seen, &policy, &memory, NOW);
        prop_assert!(decision.desired <= policy.max, "{decision:?}");
    }

    #[test]
    fn only_idle_instances_are_removed_and_each_once(
        seen in any_observed(), policy in any_policy(), memory in any_memory(),
    ) {
        let decision = decide(&seen, &policy, &memory, NOW);
        let mut gone = std::collections::HashSet::new();
        for id in &decision.remove {
            let found = seen.instances.iter().flatten().find(|it| it.id == *id);
            prop_assert_eq!(found.map(|it| (it.state, it.busy_slots)), Some((State::Idle, 0)));
            prop_assert!(gone.insert(id));
        }
    }

    #[test]
    fn the_newest_paid_for_idle_instances_go(
        seen in any_observed(), policy in any_policy(), memory in any_memory(),
    ) {
        let decision = decide(&seen, &policy, &memory, NOW);
        let idle = seen.instances.iter().flatten().filter(|it| it.state == State::Idle);
        let mut idle: Vec<_> =
            idle.filter(|it| NOW - it.launched_at >= policy.minimum_billed_ms).collect();
        idle.sort_by_key(|it| (std::cmp::Reverse(it.launched_at), it.id.clone()));
        let newest = idle.iter().take(decision.remove.len()).map(|it| it.id.clone());
        prop_assert_eq!(decision.remove, newest.collect::<Vec<_>>());
    }

    #[test]
    fn one_message_on_an_empty_group_is_enough(
        visible in 1u64..100_000, policy in any_policy(), memory in any_memory(), errors in 0u32..2,
        other in any_queue("a"),
    ) {
        let policy = Policy { max: policy.max.max(1), ..policy };
        prop_assume!(policy.queues.iter().all(|q| q.money_per_hour != Some(0)));
        let mut seen = Observed { capacity_errors: errors, ..with_queue(group(vec![]), visible, 0) };
        seen.queues.push(other);
        prop_assert!(decide(&seen, &policy, &memory, NOW).desired >= 1);
    }

    #[test]
    fn the_order_of_what_was_seen_makes_no_difference(
        seen in any_observed(), policy in any_policy(), memory in any_memory(), seed in any::<u64>(),
    ) {
        let mut other = seen.clone();
        let mut policy_too = policy.clone();
        shuffle(other.instances.as_mut().unwrap(), seed);
        shuffle(&mut other.queues, seed);
        shuffle(&mut other.prices, seed);
        other.queues.iter_mut().for_each(|queue| shuffle(&mut queue.services, seed));
        shuffle(&mut policy_too.queues, seed);
        prop_assert_eq!(
            decide(&seen, &policy, &memory, NOW),
            decide(&other, &policy_too, &memory, NOW)
        );
    }

    #[test]
    fn while_anything_is_missing_it_holds_and_removes_nothing(
        seen in any_observed(), policy in any_policy(), memory in any_memory(), what in 0..6,
    ) {
        let mut seen = seen;
        match what {
            0 => seen.instances = None,
            1 => seen.desired = None,
            2 => seen.queues[0].visible = None,
            3 => seen.queues[1].in_flight = None,
            4 => seen.queues[1].delayed = None,
            _ => drop(seen.queues.pop()),
        }
        let decision = decide(&seen, &policy, &memory, NOW);
        prop_assert!(decision.hold && decision.remove.is_empty());
        prop_assert_eq!(&decision.memory, &memory);
        let now = seen.desired.or(seen.instances.map(|all| all.len() as u32)).unwrap_or(0);
        prop_assert_eq!(decision.desired, now.min(policy.max));
    }

    #[test]
    fn a_logged_decision_is_made_again_from_its_line(
        seen in any_observed(), policy in any_policy(), memory in any_memory(),
    ) {
        let decision = decide(&seen, &policy, &memory, NOW);
        let record = Record {
            group: "g".to_owned(), now: NOW, observed: seen, policy, memory, decision, done: vec![],
        };
        let line = serde_json::to_string(&record).unwrap();
        prop_assert_eq!(replay(line.as_bytes()).unwrap(), (1, vec![]));
    }

    #[test]
    fn a_constant_load_settles_and_stays(
        waiting_load in 1usize..30, service in 2u64..60, idle in 0u32..20, seed in any::<u32>(),
    ) {
        let policy = Policy::for_queue("q", 100);
        let sizes = constant_load(&policy, waiting_load, service * 5_000, idle, seed);
        let late = &sizes[sizes.len() / 2..];
        prop_assert!(late.iter().all(|n| *n == late[0]), "{sizes:?}");
        prop_assert!(late[0] >= waiting_load as u32, "{sizes:?}");
    }
}

proptest! {
    #[test]
    fn what_is_kept_ready_for_a_rise_shrinks_under_a_constant_load_and_does_not_swing(
        load in 1usize..30, service in 2u64..60, idle in 0u32..20, readiness in 0.0..1.0,
    ) {
        let policy = Policy { readiness, ..Policy::for_queue("q", 100) };
        let sizes = constant_load(&policy, load, service * 5_000, idle, 1);
        let late = &sizes[sizes.len() / 2..];
        prop_assert!(late.is_sorted_by(|a, b| a >= b), "{sizes:?}");
        prop_assert!(late.iter().all(|n| *n >= load as u32), "{sizes:?}");
    }
}

/// Keeps `load` jobs running for ever on a group that starts with idle instances; a job that ends
/// is followed by another at once, on any instance that is free. Gives the size at every look.
fn constant_load(policy: &Policy, load: usize, service: Millis, idle: u32, seed: u32) -> Vec<u32> {
    const LOOK: Millis = 5_000;
    let mut all: Vec<Instance> = (0..idle).map(|n| instance(n, State::Idle, 500_000)).collect();
    let (mut memory, mut sizes, mut number) = (Memory::default(), Vec::new(), idle);
    let mut ends = vec![0; load];
    for look in 0..400u64 {
        let now = NOW + look * LOOK;
        all.iter_mut()
            .filter(|it| it.state == State::Booting && it.launched_at + 60_000 <= now)
            .for_each(|it| {
                (it.state, it.since, it.slots, it.ready_at) = (State::Idle, now, 1, Some(now));
            });
        let free = |it: &&mut Instance| matches!(it.state, State::Idle | State::Busy);
        all.iter_mut().filter(free).for_each(|it| (it.state, it.busy_slots) = (State::Idle, 0));
        let (mut ready, at_work): (Vec<usize>, usize) = {
            let ready: Vec<usize> =
                (0..all.len()).filter(|n| all[*n].state == State::Idle).collect();
            let at_work = ready.len().min(load);
            (ready, at_work)
        };
        // Whoever polls gets it: the ones at work change at every look.
        shuffle(&mut ready, u64::from(seed) + look);
        for n in &ready[..at_work] {
            (all[*n].state, all[*n].busy_slots, all[*n].since) = (State::Busy, 1, now);
        }
        ends.iter_mut().filter(|end| **end <= now).for_each(|end| *end = now + service);
        let timed = Service { kind: "k".to_owned(), jobs: 10, total_ms: service * 10 };
        let seen = with_queue(group(all.clone()), (load - at_work) as u64, at_work as u64);
        let mut seen = seen;
        seen.queues[0].services = vec![timed];
        let decision = decide(&seen, policy, &memory, now);
        all.retain(|it| !decision.remove.contains(&it.id));
        for _ in all.len()..decision.desired as usize {
            all.push(Instance { launched_at: now, ..instance(number, State::Booting, 0) });
            number += 1;
        }
        memory = decision.memory;
        sizes.push(decision.desired);
    }
    sizes
}

/// Fisher and Yates with a small generator (Knuth's MMIX constants).
fn shuffle<T>(items: &mut [T], mut seed: u64) {
    for n in (1..items.len()).rev() {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        items.swap(n, (seed >> 33) as usize % (n + 1));
    }
}

#[test]
fn what_the_busy_ones_begin_within_a_boot_launches_nothing() {
    let busy = |n| instance(n, State::Busy, 900_000);
    let seen = with_queue(group((0..4).map(busy).collect()), 40, 4);
    let policy = Policy::for_queue("q", 100);
    // Jobs of 10 s: four slots begin 48 of them within a boot of 120 s.
    assert_eq!(decide(&seen, &policy, &remembering_boots(120_000), NOW).desired, 4);
    let seen = with_queue(seen, 50, 4);
    assert_eq!(decide(&seen, &policy, &remembering_boots(120_000), NOW).desired, 6);
}

#[test]
fn where_freed_slots_are_not_trusted_each_waiting_message_gets_its_own() {
    let busy = |n| instance(n, State::Busy, 900_000);
    let mut all: Vec<Instance> = (0..4).map(busy).collect();
    all.push(instance(4, State::Idle, 900_000));
    let seen = with_queue(group(all), 40, 4);
    for (reuse, wanted) in [(0.0, 5 + 39), (1.0, 5)] {
        let policy = Policy { reuse, ..Policy::for_queue("q", 100) };
        let decision = decide(&seen, &policy, &remembering_boots(120_000), NOW);
        assert_eq!(decision.desired, wanted, "{}", decision.reason);
    }
}

fn remembering_boots(ms: Millis) -> Memory {
    Memory { boots_ms: vec![ms], booted_until: NOW, begun: true, ..Memory::default() }
}

#[test]
fn a_wait_target_lets_jobs_wait_for_one_another() {
    let mut policy = Policy::for_queue("q", 100);
    let seen = with_queue(group(vec![]), 60, 0);
    assert_eq!(decide(&seen, &policy, &Memory::default(), NOW).desired, 60);
    policy.queues[0].wait_target_ms = 120_000 + 50_000;
    assert_eq!(decide(&seen, &policy, &Memory::default(), NOW).desired, 10);
}

#[test]
fn an_idle_instance_goes_after_a_boot_and_its_minimum_bill_and_not_before() {
    let policy = Policy { minimum_billed_ms: 300_000, ..Policy::for_queue("q", 10) };
    let looks = [(100_000, 400_000, 0), (120_000, 299_999, 0), (120_000, 300_000, 1)];
    for (idle_for, launched_ago, gone) in looks {
        let it = Instance {
            since: NOW - idle_for,
            ready_at: None,
            ..instance(1, State::Idle, launched_ago)
        };
        let decision = decide(&with_queue(group(vec![it]), 0, 0), &policy, &Memory::default(), NOW);
        assert_eq!(decision.remove.len(), gone, "{idle_for} {launched_ago}: {}", decision.reason);
        assert_eq!(decision.desired, 1 - gone as u32);
    }
}

#[test]
fn money_bounds_a_queue_but_not_its_first_instance() {
    let mut policy = Policy::for_queue("q", 100);
    let seen = with_queue(group(vec![]), 60, 0);
    for (money, wanted) in [(0, 0), (1, 1), (100_000, 1), (700_000, 7)] {
        policy.queues[0].money_per_hour = Some(money);
        let decision = decide(&seen, &policy, &Memory::default(), NOW);
        assert_eq!(decision.desired, wanted, "{}", decision.reason);
    }
}

#[test]
fn a_queue_of_its_own_books_is_believed_before_its_lagging_count() {
    let mut seen = with_queue(group(vec![]), 0, 0);
    (seen.queues[0].sent, seen.queues[0].finished) = (Some(7), Some(4));
    let policy = Policy::for_queue("q", 100);
    assert_eq!(decide(&seen, &policy, &Memory::default(), NOW).desired, 3);
}

#[test]
fn no_idle_instance_goes_while_messages_are_held_that_no_instance_owns_up_to() {
    let idle = vec![instance(1, State::Idle, 900_000), instance(2, State::Idle, 900_000)];
    let policy = Policy::for_queue("q", 10);
    let look =
        |held| decide(&with_queue(group(idle.clone()), 0, held), &policy, &Memory::default(), NOW);
    assert_eq!([look(0), look(1), look(2)].map(|it| it.remove.len()), [2, 1, 0]);
}

#[test]
fn launches_on_their_way_are_not_asked_for_again() {
    let mut seen = with_queue(group(vec![]), 5, 0);
    seen.desired = Some(5);
    let decision = decide(&seen, &Policy::for_queue("q", 100), &Memory::default(), NOW);
    assert_eq!(decision.desired, 5, "{}", decision.reason);
}

#[test]
fn after_a_lack_of_capacity_it_waits_before_it_asks_for_more() {
    let busy = group(vec![instance(1, State::Busy, 900_000)]);
    let seen = Observed { capacity_errors: 1, ..with_queue(busy, 500, 1) };
    let policy = Policy::for_queue("q", 100);
    let first = decide(&seen, &policy, &Memory::default(), NOW);
    assert_eq!(first.desired, 1, "{}", first.reason);
    let seen = Observed { capacity_errors: 0, ..seen };
    let later = |ms| decide(&seen, &policy, &first.memory, NOW + ms).desired;
    assert!(later(59_999) == 1 && later(60_000) > 1);
}

#[test]
fn two_queues_share_a_group_and_the_stricter_one_comes_first() {
    let mut policy = Policy::for_queue("q", 100);
    let patient = QueuePolicy {
        name: "patient".to_owned(),
        wait_target_ms: 3_600_000,
        ..policy.queues[0].clone()
    };
    policy.queues.push(patient);
    let mut seen = with_queue(group(vec![instance(1, State::Idle, 1_000)]), 13, 0);
    seen.queues.push(QueueSeen { visible: Some(Count::exact(300)), ..QueueSeen::empty("patient") });
    // The idle one begins 13 within a boot, all of them strict; a new one begins 349 patient ones.
    let decision = decide(&seen, &policy, &remembering_boots(120_000), NOW);
    assert_eq!(decision.desired, 2, "{}", decision.reason);
}

#[test]
fn spare_instances_stay_ready_beside_those_at_work() {
    let policy = Policy { spare: 2, ..Policy::for_queue("q", 10) };
    let busy = |n| instance(n, State::Busy, 900_000);
    let seen = with_queue(group((0..3).map(busy).collect()), 0, 3);
    assert_eq!(decide(&seen, &policy, &Memory::default(), NOW).desired, 5);
    let idle = |n| instance(n, State::Idle, 900_000);
    let seen = with_queue(group((0..5).map(idle).collect()), 0, 0);
    assert_eq!(decide(&seen, &policy, &Memory::default(), NOW).desired, 2);
}

#[test]
fn what_came_within_a_boot_nine_times_in_ten_is_kept_ready() {
    let rises = Rises { demand: vec![], rises: vec![0, 0, 0, 1, 1, 1, 2, 2, 4, 9] };
    let memory = Memory { rises, ..remembering_boots(120_000) };
    let seen = with_queue(group((0..3).map(|n| instance(n, State::Busy, 900_000)).collect()), 0, 3);
    for (readiness, wanted) in [(0.0, 3), (0.5, 4), (0.9, 7), (1.0, 12)] {
        let policy = Policy { readiness, ..Policy::for_queue("q", 100) };
        let decision = decide(&seen, &policy, &memory, NOW);
        assert_eq!(decision.desired, wanted, "{readiness}: {}", decision.reason);
    }
}

#[test]
fn an_idle_spell_is_measured_by_level_and_not_by_instance() {
    // Three instances, never more than two jobs, and each works now and then: one is too many.
    let policy = Policy { boot_ms: 60_000, ..Policy::for_queue("q", 10) };
    let mut memory = Memory::default();
    let mut removed = Vec::new();
    for look in 0..14u32 {
        let now = NOW + Millis::from(look) * 5_000;
        let one = |n: u32| {
            let state = if n == look % 3 { State::Idle } else { State::Busy };
            Instance { since: now, ready_at: None, ..instance(n, state, 900_000) }
        };
        let seen = with_queue(group((0..3).map(one).collect()), 0, 2);
        let decision = decide(&seen, &policy, &memory, now);
        removed.push(decision.remove.len());
        memory = decision.memory;
    }
    assert_eq!(removed.iter().position(|n| *n == 1), Some(12), "{removed:?}");
}

/// The fastest of many: what the machine does beside it only ever makes a run slower.
#[cfg(not(debug_assertions))]
#[test]
fn a_thousand_instances_are_decided_within_50_us() {
    let states = [State::Idle, State::Busy, State::Busy, State::Idle, State::Booting];
    let one = |n: u32| instance(n, states[n as usize % 5], u64::from(n) * 997 % 1_000_000);
    let seen = with_queue(group((0..1000).map(one).collect()), 0, 390);
    let policy = Policy::for_queue("q", 2000);
    let memory = decide(&seen, &policy, &Memory::default(), NOW).memory;
    let times = (0..200).map(|_| {
        let start = std::time::Instant::now();
        std::hint::black_box(decide(std::hint::black_box(&seen), &policy, &memory, NOW + 120_000));
        start.elapsed()
    });
    let best = times.min().unwrap();
    println!("decide for 1000 instances: {best:?}");
    assert!(best.as_micros() <= 50, "{best:?}");
}
