//! Why, in words.

use super::{Growth, demand::Demand};
use crate::{capacity::Capacity, policy::Policy};

/// Why a decision is as it is, where so many fewer go, and so many are asked for no more.
pub(super) fn of(
    policy: &Policy,
    capacity: &Capacity,
    demand: &Demand,
    growth: &Growth,
    (fewer, back): (usize, u32),
) -> String {
    let Capacity { starting, idle, busy, draining, .. } = capacity;
    let Growth { more, why, limit } = growth;
    let above = capacity.live.saturating_add(*draining) > policy.max;
    let what = match (more, fewer) {
        (0, 0) if limit.is_some() => format!("no more, though {why}"),
        (0, 0) => format!("enough: {}", of_enough(capacity, demand)),
        (0, _) if above => format!("{fewer} fewer: there are more than the maximum"),
        (0, _) => {
            format!("{fewer} fewer: idle for longer than a boot costs, and past the minimum bill")
        }
        _ => format!("{more} more: {why}"),
    };
    let back = match back {
        0 => String::new(),
        _ => format!("; {back} not asked for any more: not launched, and not needed"),
    };
    let limit = limit.map(|limit| format!("; {limit}")).unwrap_or_default();
    format!(
        "{what}{back}{limit} ({busy} busy, {idle} idle, {starting} starting, {draining} draining)"
    )
}

/// What more are wanted for: for what waits, and beyond that as spare ones or for the minimum.
pub(super) fn of_more(policy: &Policy, demand: &Demand, spare: u32, floor: u32) -> String {
    let mut why = demand.why.clone();
    if spare.max(floor) > demand.more {
        let and = if why.is_empty() { "" } else { ", and " };
        why += and;
        why += &match floor >= spare {
            true => format!("the minimum is {}", policy.min),
            false => format!("as many slots as {} instances have are kept free", demand.spare),
        };
    }
    why
}

/// Why nothing changes.
fn of_enough(capacity: &Capacity, demand: &Demand) -> &'static str {
    match (capacity.idle, demand.at_most) {
        (0, 0) => "nothing waits, and nothing is idle",
        (0, _) => "what waits can begin in time on what there is",
        (_, 0) => "nothing waits, and what is idle is kept for now",
        _ => "what waits can begin in time, and idle instances are kept for it",
    }
}
