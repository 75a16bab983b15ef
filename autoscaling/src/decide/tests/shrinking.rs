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
