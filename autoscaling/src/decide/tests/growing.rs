//! When more instances are asked for, and how many.

use super::*;
use crate::{Policy, QueuePolicy, Rises, decide};

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

#[test]
fn what_arrives_within_a_boot_is_booted_for_ahead_as_far_as_the_policy_trusts_it() {
    let mut seen = with_queue(group(vec![]), 0, 0);
    // One in ten seconds: twelve within a boot of two minutes.
    seen.queues[0].arrivals_per_s = Some(0.1);
    for (anticipation, wanted) in [(0.0, 0), (0.5, 6), (1.0, 12)] {
        let policy = Policy { anticipation, ..Policy::for_queue("q", 100) };
        let decision = decide(&seen, &policy, &remembering_boots(120_000), NOW);
        assert_eq!(decision.desired, wanted, "{anticipation}: {}", decision.reason);
    }
}

#[test]
fn where_there_is_a_warm_pool_a_new_one_is_there_as_soon_as_that_starts_it() {
    let busy = |n| instance(n, State::Busy, 900_000);
    let seen = with_queue(group((0..4).map(busy).collect()), 40, 4);
    let policy = Policy { warm_start_ms: 30_000, ..Policy::for_queue("q", 100) };
    // Jobs of 10 s: the four begin 48 within a boot of two minutes, and 12 within half a minute.
    for (pooled, wanted) in [(0, 4), (1, 4 + 28)] {
        let seen = Observed { pooled, ..seen.clone() };
        let decision = decide(&seen, &policy, &remembering_boots(120_000), NOW);
        assert_eq!(decision.desired, wanted, "{}", decision.reason);
    }
}

#[test]
fn what_ran_on_a_spot_instance_that_was_taken_back_is_launched_for_before_it_is_seen_to_wait() {
    let busy = |n| instance(n, State::Busy, 900_000);
    let lost = |instances: Vec<Instance>, held, money_per_hour| {
        let seen = with_queue(group(instances), 0, held);
        let seen = Observed { spot_interruptions: 2, ..seen };
        let mut policy = Policy::for_queue("q", 100);
        policy.queues[0].money_per_hour = money_per_hour;
        decide(&seen, &policy, &remembering_boots(120_000), NOW)
    };
    let decision = lost(vec![busy(0)], 3, None);
    assert_eq!(decision.desired, 3, "{}", decision.reason);
    assert!(decision.reason.contains("taken back"), "{}", decision.reason);
    assert_eq!(lost(vec![busy(0)], 1, None).desired, 1, "they held nothing");
    // What is idle or on its way takes it up.
    assert_eq!(lost(vec![busy(0), instance(1, State::Booting, 0)], 3, None).desired, 3);
    assert_eq!(lost(vec![busy(0)], 3, Some(200_000)).desired, 2, "no more than the money allows");
}

#[test]
fn an_overdue_message_ends_the_trust_in_slots_that_were_to_be_free_again() {
    let busy = |n| instance(n, State::Busy, 900_000);
    let mut seen = with_queue(group((0..4).map(busy).collect()), 40, 4);
    let policy = Policy::for_queue("q", 100);
    for (oldest, wanted) in [(None, 4), (Some(100_000), 4), (Some(600_000), 4 + 40)] {
        seen.queues[0].oldest_ms = oldest;
        let decision = decide(&seen, &policy, &remembering_boots(120_000), NOW);
        assert_eq!(decision.desired, wanted, "{}", decision.reason);
    }
}

#[test]
fn what_the_group_is_ending_is_neither_counted_nor_replaced() {
    let all = vec![instance(0, State::Busy, 900_000), instance(1, State::Draining, 900_000)];
    let policy = Policy { reuse: 0.0, ..Policy::for_queue("q", 9) };
    // Ordered to drain and still in service, it is a part of what the group is told to have.
    let seen = with_queue(group(all), 0, 2);
    assert_eq!(decide(&seen, &policy, &remembering_boots(60_000), NOW).desired, 2);
    // In its terminating hook it is not: the group has one, and one message more asks for one more.
    for (waiting, wanted) in [(0, 1), (1, 2)] {
        let seen =
            with_queue(Observed { desired: Some(1), leaving: 1, ..seen.clone() }, waiting, 2);
        let decision = decide(&seen, &policy, &remembering_boots(60_000), NOW);
        assert_eq!(decision.desired, wanted, "{}", decision.reason);
    }
    // It still costs, and the maximum is the most that runs.
    let seen = with_queue(Observed { desired: Some(1), leaving: 1, ..seen }, 50, 2);
    assert_eq!(decide(&seen, &policy, &remembering_boots(60_000), NOW).desired, 8);
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
fn the_warm_pool_holds_what_the_running_spare_ones_leave() {
    let rises = Rises { demand: vec![], rises: vec![0, 0, 0, 1, 1, 1, 2, 2, 4, 9] };
    let memory = Memory { rises, ..remembering_boots(120_000) };
    let seen = with_queue(group(vec![instance(1, State::Busy, 900_000)]), 0, 1);
    let warm = |readiness, warm, max| {
        let policy = Policy { readiness, warm, ..Policy::for_queue("q", max) };
        decide(&seen, &policy, &memory, NOW).warm
    };
    assert_eq!(warm(0.5, 0.0, 100), None, "no pool");
    assert_eq!(
        [warm(0.0, 1.0, 100), warm(0.5, 1.0, 100), warm(0.9, 0.9, 100)].map(Option::unwrap),
        [9, 8, 0]
    );
    assert_eq!(warm(0.0, 1.0, 7), Some(6), "never more than the maximum with those that serve");
}

#[test]
fn a_rise_that_the_last_ones_foretold_is_booted_for_ahead() {
    let policy = Policy { prediction: 1.0, ..Policy::for_queue("q", 1_000) };
    let (mut memory, mut desired) = (Memory::default(), Vec::new());
    // One more job every ten seconds: within a boot of two minutes twelve.
    for look in 0..240u64 {
        let (now, load) = (NOW + look * 5_000, (look / 2 + 1) as u32);
        let busy =
            (0..load).map(|n| Instance { ready_at: None, ..instance(n, State::Busy, 900_000) });
        let seen = with_queue(group(busy.collect()), 0, u64::from(load));
        let decision = decide(&seen, &policy, &memory, now);
        memory = decision.memory;
        desired.push(decision.desired - load);
    }
    assert_eq!(desired[..10], [0; 10], "nothing is known yet");
    assert!((8..=13).contains(&desired[239]), "{desired:?}");
}

#[test]
fn an_instance_that_never_gets_ready_is_not_waited_for() {
    let policy = Policy::for_queue("q", 100);
    let booting = |age| instance(0, State::Booting, age);
    let decided = |age| {
        decide(&with_queue(group(vec![booting(age)]), 1, 0), &policy, &Memory::default(), NOW)
    };
    assert_eq!(decided(policy.boot_ms).desired, 1);
    assert_eq!(decided(policy.boot_ms * 4).desired, 2);
}

#[test]
fn of_several_queues_each_has_the_instances_that_its_own_money_is_for() {
    let base = Policy { reuse: 0.0, ..Policy::for_queue("q", 100) };
    // Two instances' worth an hour for "a", and any number for "q".
    let money_per_hour = Some(2 * base.price_per_hour);
    let a = QueuePolicy { name: "a".to_owned(), money_per_hour, ..base.queues[0].clone() };
    let policy = Policy { queues: vec![base.queues[0].clone(), a], ..base };
    let wanted = |instances: Vec<Instance>, held_of_a: u64, held_of_q: u64| {
        let of_a = QueueSeen { name: "a".to_owned(), ..queue(10, held_of_a) };
        let queues = vec![of_a, queue(3, held_of_q)];
        let seen = Observed { queues, ..group(instances) };
        decide(&seen, &policy, &remembering_boots(120_000), NOW)
    };
    let busy = || vec![instance(0, State::Busy, 900_000), instance(1, State::Busy, 900_000)];
    let empty = wanted(vec![], 0, 0);
    assert_eq!(empty.desired, 2 + 3, "{}", empty.reason);
    assert!(empty.reason.contains("money"), "{}", empty.reason);
    assert_eq!(wanted(busy(), 2, 0).desired, 2 + 3, "both are at work for it");
    assert_eq!(wanted(busy(), 0, 2).desired, 2 + 2 + 3, "both are at work for the other");
    // Nobody knows for whom one starts: for everybody.
    assert_eq!(wanted(vec![instance(0, State::Booting, 0)], 0, 0).desired, 1 + 1 + 3);
}
