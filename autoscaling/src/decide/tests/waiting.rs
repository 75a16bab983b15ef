//! What waits, by counts that are late and by books that are, too.

use super::*;
use crate::{Policy, QueuePolicy, decide};

#[test]
fn a_queue_of_its_own_books_is_believed_before_its_lagging_count() {
    let mut seen = with_queue(group(vec![]), 0, 0);
    (seen.queues[0].sent, seen.queues[0].finished) = (Some(7), Some(4));
    let policy = Policy::for_queue("q", 100);
    assert_eq!(decide(&seen, &policy, &Memory::default(), NOW).desired, 3);
}

/// A queue of which SQS counts as late as this, and whose senders count.
fn booked(seen: &Observed, lag_ms: Millis, sent: u64, finished: u64) -> Observed {
    let late = |count: Option<Count>| count.map(|count| Count { lag_ms, ..count });
    let mut seen = seen.clone();
    let queue = &mut seen.queues[0];
    (queue.visible, queue.in_flight) = (late(queue.visible), late(queue.in_flight));
    (queue.sent, queue.finished) = (Some(sent), Some(finished));
    seen
}

/// What is decided at looks five seconds apart, each from what the one before remembered.
fn looks(policy: &Policy, seen: impl Fn(u64) -> Observed, count: u64) -> Vec<u32> {
    let mut memory = remembering_boots(120_000);
    let look = |n| {
        let decision = decide(&seen(n), policy, &memory, NOW + n * 5_000);
        memory = decision.memory;
        decision.desired
    };
    (0..count).map(look).collect()
}

#[test]
fn what_the_instances_have_in_hand_does_not_wait_though_sqs_does_not_show_it_yet() {
    let policy = Policy { reuse: 0.0, ..Policy::for_queue("q", 100) };
    let busy = group((0..9).map(|n| instance(n, State::Busy, 900_000)).collect());
    // Twelve were sent and one is done; SQS shows nothing of that.
    let seen = booked(&with_queue(busy, 0, 0), 60_000, 12, 1);
    assert_eq!(decide(&seen, &policy, &remembering_boots(120_000), NOW).desired, 9 + 2);
}

#[test]
fn what_is_held_back_after_a_failure_does_not_wait() {
    let policy = Policy { reuse: 0.0, ..Policy::for_queue("q", 100) };
    // Five are in flight, and for longer than SQS may be late nobody has had more than one in hand.
    let one = group(vec![instance(1, State::Busy, 900_000)]);
    let seen = booked(&with_queue(one, 0, 5), 60_000, 5, 0);
    assert_eq!(looks(&policy, |_| seen.clone(), 20), [1; 20]);
}

#[test]
fn one_message_is_enough_though_a_silent_worker_seems_to_hold_it() {
    let policy = Policy::for_queue("q", 100);
    let silent = Instance { silent: true, ..instance(1, State::Busy, 900_000) };
    let silent = group(vec![silent]);
    let seen = booked(&with_queue(silent, 1, 0), 60_000, 1, 0);
    let policy = Policy { reuse: 0.0, ..policy };
    let desired = looks(&policy, |_| seen.clone(), 14);
    assert!(desired[..12] == [1; 12] && desired[12..].contains(&2), "{desired:?}");
    // Where nobody counts what is sent, what SQS shows is believed at once.
    let mut seen = seen;
    seen.queues[0].sent = None;
    assert_eq!(decide(&seen, &policy, &remembering_boots(120_000), NOW).desired, 2);
}

#[test]
fn where_nobody_counts_what_is_sent_what_has_begun_is_not_launched_for_again() {
    let policy = Policy { reuse: 0.0, ..Policy::for_queue("q", 100) };
    // Thirty waited for a boot and have all begun at the third look; SQS shows it a minute later.
    let seen = |n: u64| {
        let state = if n < 2 { State::Booting } else { State::Busy };
        let all =
            (0..30).map(|number| Instance { ready_at: None, ..instance(number, state, 60_000) });
        let mut seen = booked(&with_queue(group(all.collect()), 30, 0), 60_000, 0, 0);
        seen.queues[0].sent = None;
        seen
    };
    assert_eq!(looks(&policy, seen, 12), [30; 12]);
}

#[test]
fn where_nobody_counts_what_is_sent_a_line_beside_steady_work_is_seen() {
    let policy = Policy { reuse: 0.0, ..Policy::for_queue("q", 100) };
    // One begins every five seconds, as many as come; eight more wait.
    let busy = group((0..4).map(|n| instance(n, State::Busy, 900_000)).collect());
    let seen = |n: u64| {
        let mut seen = booked(&with_queue(busy.clone(), 8, 4), 60_000, 0, 100 + n);
        (seen.queues[0].sent, seen.queues[0].arrivals_per_s) = (None, Some(0.2));
        seen
    };
    assert_eq!(looks(&policy, seen, 20), [4 + 8; 20]);
}

/// A group of this many busy instances on two queues whose senders count: of each, what was sent, and
/// how many SQS shows in flight.
fn two_booked(busy: u32, queues: [(u64, u64); 2]) -> (Observed, Policy) {
    let base = Policy { reuse: 0.0, ..Policy::for_queue("q", 100) };
    let other = QueuePolicy { name: "other".to_owned(), ..base.queues[0].clone() };
    let mut seen = group((0..busy).map(|n| instance(n, State::Busy, 900_000)).collect());
    for (name, (sent, shown)) in ["q", "other"].into_iter().zip(queues) {
        let late = |value| Some(Count { lag_ms: 60_000, ..Count::exact(value) });
        seen.queues.push(QueueSeen {
            visible: late(0),
            in_flight: late(shown),
            sent: Some(sent),
            finished: Some(0),
            ..QueueSeen::empty(name)
        });
    }
    (seen, Policy { queues: vec![base.queues[0].clone(), other], ..base })
}

#[test]
fn what_has_begun_of_several_queues_is_not_launched_for_again_though_sqs_does_not_show_it_yet() {
    // All thirty are in hand; SQS shows none of them, or those of one queue.
    for shown in [0, 20] {
        let (seen, policy) = two_booked(30, [(20, shown), (10, 0)]);
        let decision = decide(&seen, &policy, &remembering_boots(120_000), NOW);
        assert_eq!(decision.desired, 30, "{shown}: {}", decision.reason);
    }
}

#[test]
fn one_message_on_a_quiet_queue_beside_a_busy_one_is_enough() {
    let (seen, policy) = two_booked(20, [(20, 20), (1, 0)]);
    let decision = decide(&seen, &policy, &remembering_boots(120_000), NOW);
    assert_eq!(decision.desired, 21, "{}", decision.reason);
    assert!(decision.reason.contains("1 of 1 waiting on other"), "{}", decision.reason);
}

#[test]
fn what_is_held_back_of_one_of_several_queues_does_not_wait() {
    // Five of the other queue are in flight, and for longer than SQS may be late nobody had them.
    let (seen, policy) = two_booked(20, [(20, 20), (5, 5)]);
    let desired = looks(&policy, |_| seen.clone(), 20);
    assert_eq!(desired[14..], [20; 6], "{desired:?}");
}

/// Looks at a hundred at work, of whom ten end in each second, and at so many more by books that are
/// `late`.
fn beside_ends(late: Millis, more: u64) -> Vec<u32> {
    let policy = Policy { reuse: 0.0, ..Policy::for_queue("q", 1_000) };
    let busy = group((0..100).map(|n| instance(n, State::Busy, 900_000)).collect());
    let seen = |n: u64| {
        // Of every second look: what ended since the books were written is among what is there.
        let told = if n.is_multiple_of(2) { 0 } else { more };
        let mut seen =
            booked(&with_queue(busy.clone(), 0, 100), 60_000, 50 * n + 100 + told, 50 * n);
        seen.queues[0].books_lag_ms = late;
        seen
    };
    looks(&policy, seen, 20)
}

#[test]
fn what_may_have_ended_since_the_books_were_written_is_not_launched_for() {
    assert_eq!(beside_ends(2_000, 20), [100; 20], "as many end in two seconds");
    assert_eq!(beside_ends(0, 20).into_iter().max(), Some(120), "books that are right");
    assert_eq!(beside_ends(2_000, 50).into_iter().max(), Some(130), "thirty wait for certain");
}

#[test]
fn one_message_is_enough_though_the_books_are_late() {
    let policy = Policy { reuse: 0.0, ..Policy::for_queue("q", 100) };
    let busy = group((0..9).map(|n| instance(n, State::Busy, 900_000)).collect());
    let seen = |_| {
        let mut seen = booked(&with_queue(busy.clone(), 0, 9), 60_000, 510, 500);
        seen.queues[0].books_lag_ms = 2_000;
        seen
    };
    assert_eq!(looks(&policy, seen, 5), [10; 5], "nothing ends that the books could be late with");
    // Nor where all that ends is another queue's.
    let mut memory = remembering_boots(120_000);
    for n in 0..5 {
        let (mut seen, policy) = two_booked(20, [(20 + 100 * n, 20), (1, 0)]);
        (seen.queues[0].finished, seen.queues[0].books_lag_ms) = (Some(100 * n), 2_000);
        seen.queues[1].books_lag_ms = 2_000;
        let decision = decide(&seen, &policy, &memory, NOW + n * 5_000);
        assert_eq!(decision.desired, 21, "{}", decision.reason);
        memory = decision.memory;
    }
}
