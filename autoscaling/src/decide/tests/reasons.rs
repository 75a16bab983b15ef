//! That what is said is so.

use super::*;
use crate::{Policy, decide};

fn said(policy: &Policy, seen: &Observed) -> String {
    decide(seen, policy, &remembering_boots(120_000), NOW).reason
}

#[test]
fn what_is_launched_for_the_minimum_or_as_a_spare_one_is_said_to_be() {
    let policy = |min, spare| Policy { min, spare, ..Policy::for_queue("q", 10) };
    let empty = with_queue(group(vec![]), 0, 0);
    let said = |min, spare, seen: &Observed| said(&policy(min, spare), seen);
    assert!(said(3, 0, &empty).starts_with("3 more: the minimum is 3 ("));
    let spare = said(1, 2, &empty);
    assert!(
        spare.starts_with("2 more: as many slots as 2 instances have are kept free"),
        "{spare}"
    );
    let both = said(0, 4, &with_queue(group(vec![]), 1, 0));
    assert!(both.starts_with("4 more: 1 of 1 waiting on q cannot begin"), "{both}");
    assert!(both.contains("is, and as many slots as 4 instances have are kept free"), "{both}");
}

#[test]
fn where_more_are_wanted_and_none_may_be_it_is_not_said_to_be_enough() {
    let busy = |n| instance(n, State::Busy, 900_000);
    let two = || group((0..2).map(busy).collect());
    let base = Policy { reuse: 0.0, ..Policy::for_queue("q", 2) };
    let waits = "no more, though 50 of 50 waiting on q cannot begin within 120 s on what there is";
    let full = said(&base, &with_queue(two(), 50, 2));
    assert!(full.starts_with(waits) && full.contains("; the maximum is reached ("), "{full}");
    let none = said(&Policy { max: 0, ..base.clone() }, &with_queue(group(vec![]), 1, 0));
    assert!(none.starts_with("no more, though 1 of 1 waiting on q"), "{none}");
    let mut poor = Policy { max: 100, ..base.clone() };
    poor.queues[0].money_per_hour = Some(1);
    let poor = said(&poor, &with_queue(two(), 50, 2));
    assert!(poor.starts_with(waits) && poor.contains("; the money limit is reached ("), "{poor}");
    let lacking = Observed { capacity_errors: 1, ..with_queue(two(), 50, 2) };
    let lacking = said(&Policy { max: 100, ..base.clone() }, &lacking);
    assert!(lacking.starts_with(waits) && lacking.contains("want of capacity"), "{lacking}");
    let idle = (0..3).map(|n| instance(n, State::Idle, 100_000)).collect();
    let above = said(&Policy { max: 1, ..base }, &with_queue(group(idle), 0, 0));
    assert!(above.starts_with("2 fewer: there are more than the maximum"), "{above}");
}
