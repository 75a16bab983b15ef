//! What is remembered, and for how long.

use super::*;

fn instance() -> Instance {
    Instance {
        id: String::new(),
        state: State::Idle,
        since: 0,
        launched_at: 0,
        ready_at: None,
        slots: 1,
        busy_slots: 0,
        silent: false,
        kind: String::new(),
        spot: false,
    }
}

/// What is remembered when this many are idle.
fn idle(memory: &mut Memory, count: usize, now: Millis) {
    memory.begun = true;
    memory.see_idle(&vec![instance(); count], now);
}

#[test]
fn the_last_level_to_become_idle_is_the_first_that_is_used_again() {
    let mut memory = Memory::default();
    for (now, count) in [(10, 3), (20, 5), (30, 4), (40, 4), (50, 7)] {
        idle(&mut memory, count, now);
    }
    assert_eq!(memory.idle_levels, [(10, 3), (20, 1), (50, 3)]);
    assert_eq!([41, 40, 30, 0].map(|span| memory.idle_for(span, 50)), [0, 3, 4, 7]);
    memory.give_up(4);
    assert_eq!(memory.idle_levels, [(50, 3)]);
}

#[test]
fn a_boot_takes_longer_than_three_quarters_of_the_last_fifteen_did() {
    let policy = Policy { boot_ms: 7, ..Policy::for_queue("q", 1) };
    let after = |boots: &[Millis]| Memory { boots_ms: boots.to_vec(), ..Memory::default() };
    let boot = |boots: &[Millis]| after(boots).boot_ms(&policy);
    assert_eq!((boot(&[]), boot(&[50]), boot(&[40, 10, 30, 20])), (7, 50, 40));
    assert_eq!(boot(&[80, 10, 70, 20, 60, 30, 50, 40]), 70);
    let mut memory = Memory::default();
    for n in 1..=20 {
        let (launched_at, ready_at) = (1_000 * n, Some(1_000 * n + n));
        let it = [Instance { launched_at, ready_at, ..instance() }];
        // It is seen again and again.
        (0..3).for_each(|_| memory.learn_boots(&it, 100_000));
    }
    assert_eq!(memory.boots_ms.first().zip(memory.boots_ms.last()), Some((&6, &20)));
    assert_eq!(memory.boots_ms.len(), BOOTS);
}

#[test]
fn nothing_ended_between_the_books_of_one_process_and_of_the_next() {
    let mut first = Memory { boots_ms: vec![90_000], ..Memory::default() };
    first.since(5, 100, 60_000, 0);
    let mut next = first.clone().taken_over();
    let since = next.since(5, 9_000, 60_000, 5_000);
    assert_eq!((since.begun, since.ended_per_s, next.boots_ms), (0, 0.0, vec![90_000]));
    let since = first.since(5, 110, 60_000, 5_000);
    assert_eq!((since.begun, since.ended_per_s), (10, 2.0));
}

#[test]
fn of_a_hundred_thousand_idle_instances_each_is_remembered_in_a_row_of_dynamodb() {
    let mut memory = Memory::default();
    (1..=2_000).for_each(|look| idle(&mut memory, 50 * look, look as Millis * 5_000));
    assert_eq!(memory.idle_for(0, 10_000_000), 100_000);
    assert!(serde_json::to_string(&memory).unwrap().len() < 100_000);
}
