//! Which instances go, and when.

use super::*;
use crate::{Policy, decide};

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
fn no_idle_instance_goes_while_messages_are_held_that_no_instance_owns_up_to() {
    let idle = vec![instance(1, State::Idle, 900_000), instance(2, State::Idle, 900_000)];
    let policy = Policy::for_queue("q", 10);
    let look =
        |held| decide(&with_queue(group(idle.clone()), 0, held), &policy, &Memory::default(), NOW);
    assert_eq!([look(0), look(1), look(2)].map(|it| it.remove.len()), [2, 1, 0]);
}

/// Four that have been idle for long, on a queue as it is changed; how many of them go.
fn going(policy: &Policy, change: impl FnOnce(&mut QueueSeen)) -> usize {
    let idle = |n| Instance { ready_at: None, ..instance(n, State::Idle, 900_000) };
    let mut seen = with_queue(group((0..4).map(idle).collect()), 0, 0);
    change(&mut seen.queues[0]);
    decide(&seen, policy, &Memory::default(), NOW).remove.len()
}

#[test]
fn what_waits_what_is_delayed_and_what_usually_arrives_keeps_its_slots() {
    let policy = Policy::for_queue("q", 10);
    let count = |value, error| Some(Count { value, error, lag_ms: 0 });
    assert_eq!(going(&policy, |_| ()), 4);
    assert_eq!(going(&policy, |queue| queue.visible = count(1, 0.0)), 3);
    assert_eq!(going(&policy, |queue| queue.visible = count(1, 0.5)), 2, "it may be two");
    assert_eq!(going(&policy, |queue| queue.delayed = count(3, 0.0)), 1);
    let two_sent = |queue: &mut QueueSeen| (queue.sent, queue.finished) = (Some(2), Some(0));
    assert_eq!(going(&policy, two_sent), 2, "SQS does not show them yet");
    // One comes every five seconds and takes ten.
    assert_eq!(going(&policy, |queue| queue.arrivals_per_s = Some(0.2)), 2);
}

#[test]
fn idle_instances_go_down_to_the_minimum_and_to_the_spare_ones() {
    for (min, spare, gone) in [(0, 0, 4), (3, 0, 1), (0, 3, 1), (4, 0, 0), (9, 0, 0)] {
        let policy = Policy { min, spare, ..Policy::for_queue("q", 10) };
        assert_eq!(going(&policy, |_| ()), gone, "{min} {spare}");
    }
}

#[test]
fn an_idle_level_goes_after_as_many_boots_as_the_policy_says_and_not_before_the_counts_show() {
    let gone = |boots: f64, boot_ms, lag_ms, idle_for: Millis| {
        let policy = Policy { delayed_off_boots: boots, ..Policy::for_queue("q", 10) };
        let it = Instance { since: NOW - idle_for, ..instance(1, State::Idle, 900_000) };
        let mut seen = with_queue(group(vec![Instance { ready_at: None, ..it }]), 0, 0);
        seen.queues[0].visible = Some(Count { lag_ms, ..Count::exact(0) });
        let memory = Memory { begun: false, ..remembering_boots(boot_ms) };
        decide(&seen, &policy, &memory, NOW).remove.len() == 1
    };
    assert!(!gone(1.0, 80_000, 0, 79_999) && gone(1.0, 80_000, 0, 80_000), "as learned");
    assert!(!gone(0.5, 80_000, 0, 39_999) && gone(0.5, 80_000, 0, 40_000));
    assert!(!gone(2.0, 80_000, 0, 159_999) && gone(2.0, 80_000, 0, 160_000));
    assert!(!gone(0.5, 80_000, 60_000, 59_999) && gone(0.5, 80_000, 60_000, 60_000));
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

#[test]
fn however_many_were_idle_for_a_boot_go_at_once() {
    let policy = Policy::for_queue("q", 50_000);
    let idle = |n| Instance { ready_at: None, ..instance(n, State::Idle, 900_000) };
    let seen = with_queue(group((0..20_000).map(idle).collect()), 0, 0);
    let first = decide(&with_queue(group(vec![]), 0, 0), &policy, &Memory::default(), NOW - 5_000);
    let then = decide(&seen, &policy, &first.memory, NOW);
    assert_eq!(then.remove.len(), 0, "{}", then.reason);
    let later = decide(&seen, &policy, &then.memory, NOW + 120_000);
    assert_eq!(later.remove.len(), 20_000, "{}", later.reason);
}

/// A group that was told to have so many, and of which none was launched.
fn unlaunched(desired: u32, visible: u64) -> Observed {
    let late = |value| Some(Count { value, error: 0.1, lag_ms: 60_000 });
    let queue = QueueSeen { visible: late(visible), in_flight: late(0), ..QueueSeen::empty("q") };
    Observed { queues: vec![queue], desired: Some(desired), ..Observed::empty_group() }
}

#[test]
fn what_was_asked_for_and_never_launched_is_taken_back_once_nothing_needs_it() {
    for (min, left) in [(0, 0), (2, 2)] {
        let policy = Policy { min, ..Policy::for_queue("q", 100) };
        let (mut memory, mut desired, mut back) = (Memory::default(), 5, Vec::new());
        for look in 0..60 {
            // Five wait at first, and then somebody purges the queue.
            let seen = unlaunched(desired, if look < 10 { 5 } else { 0 });
            let decision = decide(&seen, &policy, &memory, NOW + look * 5_000);
            assert_eq!(decision.desired, desired - decision.back, "{}", decision.reason);
            (memory, desired) = (decision.memory, decision.desired);
            back.push(decision.back);
        }
        assert_eq!((desired, back.iter().filter(|back| **back > 0).count()), (left, 1));
        let at = back.iter().position(|back| *back > 0).unwrap();
        assert!((22..=34).contains(&at), "a minute or two after the last was seen to wait: {at}");
    }
}

#[test]
fn what_is_needed_is_asked_for_however_long_it_is_not_launched() {
    let policy = Policy::for_queue("q", 100);
    let mut memory = Memory::default();
    for look in 0..100 {
        let decision = decide(&unlaunched(5, 5), &policy, &memory, NOW + look * 5_000);
        assert_eq!((decision.desired, decision.back), (5, 0), "{}", decision.reason);
        memory = decision.memory;
    }
}

#[test]
fn of_what_was_asked_for_above_a_maximum_that_is_lower_now_nothing_more_is_launched() {
    let busy = |n| instance(n, State::Busy, 900_000);
    let seen = with_queue(group((0..3).map(busy).collect()), 500, 3);
    let seen = Observed { desired: Some(10), ..seen };
    for (max, back) in [(4, 6), (3, 7), (2, 7), (20, 0)] {
        let decision = decide(&seen, &Policy::for_queue("q", max), &Memory::default(), NOW);
        assert_eq!(decision.back, back, "{max}: {}", decision.reason);
    }
}
