//! The decision.

mod demand;
mod reason;
mod shrink;
mod waiting;

use serde::{Deserialize, Serialize};

use crate::{
    capacity::Capacity,
    memory::Memory,
    observed::{Millis, Observed},
    policy::Policy,
};

/// What is to be done, why, and what to remember.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    /// How many instances the group should be told to have: those that still drain included, as
    /// long as the group counts them.
    /// Never above the policy's maximum. What is above the present number is to be launched; what
    /// is below goes by the names in [`remove`](Self::remove) alone.
    pub desired: u32,
    /// The idle instances that go, the newest first.
    pub remove: Vec<String>,
    /// By how many fewer the group is to be told to have since they were asked for, never launched, and
    /// are needed no more.
    #[serde(default)]
    pub back: u32,
    /// How many prepared and stopped instances the warm pool should hold; `None` for no pool, or
    /// for one that stays as it is. With those that serve it is never more than the maximum.
    #[serde(default)]
    pub warm: Option<u32>,
    /// Whether this is no decision, because something could not be seen: all stays as it is.
    pub hold: bool,
    /// Why, in words.
    pub reason: String,
    /// What the next decision should know.
    pub memory: Memory,
}

/// Decides how many instances a group should have, and which idle one goes.
///
/// It depends on nothing but its arguments, and on the order of nothing in them. It
/// - holds while anything is missing, and never removes an instance then;
/// - wants at least one instance as soon as one message waits;
/// - wants as many more as it takes for what waits to begin within the wait target, beyond what
///   the present ones will begin by the time that a new one could;
/// - removes idle instances only, the newest first, one for each level that was idle for as long
///   as a boot takes, none before it was idle for longer than the counts lag, and none within its
///   minimum billing;
/// - asks for instances no more that were not launched, once nothing has needed them for as long as the
///   counts lag;
/// - never wants more than the policy's maximum.
pub fn decide(seen: &Observed, policy: &Policy, memory: &Memory, now: Millis) -> Decision {
    if let Some(missing) = seen.missing(policy) {
        return hold(seen, policy, memory, &missing);
    }
    let mut memory = memory.after(seen, policy, now);
    let capacity = Capacity::of(seen, policy, &memory, now);
    let demand = demand::of(seen, policy, &mut memory, &capacity, now);
    let most = policy.max.saturating_sub(capacity.draining);
    let growth = grow(policy, &memory, &capacity, &demand, most, now);
    let more = growth.more;
    let remove = match more {
        0 => shrink::choose(seen, policy, &mut memory, &capacity, &demand, now),
        _ => Vec::new(),
    };
    let back = shrink::take_back(seen, policy, &mut memory, &capacity, &demand, now);
    let live = (capacity.live + more).saturating_sub(remove.len() as u32).min(most);
    // From what the group is told to have, and not from how many are listed: what is listed beyond it
    // (a replacement that came before the other went, or what is just ending) is no wish for more.
    let told = seen.desired.unwrap_or_default().saturating_sub(back).min(policy.max);
    let desired = told.saturating_add(more).saturating_sub(remove.len() as u32).min(policy.max);
    let reason = reason::of(policy, &capacity, &demand, &growth, (remove.len(), back));
    Decision {
        desired,
        remove,
        back,
        warm: (policy.warm > 0.0).then(|| demand.warm.min(most.saturating_sub(live))),
        hold: false,
        reason,
        memory,
    }
}

fn hold(seen: &Observed, policy: &Policy, memory: &Memory, missing: &str) -> Decision {
    let listed = seen.instances.as_ref().map_or(0, |all| all.len() as u32);
    Decision {
        desired: seen.desired.unwrap_or(listed).min(policy.max),
        remove: Vec::new(),
        back: 0,
        warm: None,
        hold: true,
        reason: format!("held as it is: {missing} could not be seen"),
        memory: memory.clone(),
    }
}

/// How many more instances there shall be.
#[derive(Debug)]
struct Growth {
    more: u32,
    /// What more are wanted for, in words; nothing where none are.
    why: String,
    /// What kept it from being as many as wanted.
    limit: Option<&'static str>,
}

fn grow(
    policy: &Policy,
    memory: &Memory,
    capacity: &Capacity,
    demand: &demand::Demand,
    most: u32,
    now: Millis,
) -> Growth {
    // By slots: where jobs are spread over instances that are half free, none may be wholly idle.
    // What is kept ready is as dear as what works; a minimum is wanted whatever it costs.
    let spare = capacity.missing(demand.spare).min(demand.room);
    let floor = policy.min.saturating_sub(capacity.live);
    let wanted = demand.more.max(spare).max(floor);
    let why = reason::of_more(policy, demand, spare, floor);
    let room = most.saturating_sub(capacity.live);
    if wanted > 0 && now < memory.paused_until {
        // From zero it is tried all the same: a fleet that serves nobody cannot wait.
        let more = u32::from(capacity.live == 0).min(room);
        let limit = "launches failed for want of capacity, so no more are asked for yet";
        return Growth { more, why, limit: Some(limit) };
    }
    let (more, limit) = match (wanted > room, demand.limited) {
        (true, _) => (room, Some("the maximum is reached")),
        (false, true) => (wanted, Some("the money limit is reached")),
        (false, false) => (wanted, None),
    };
    Growth { more, why, limit }
}

#[cfg(test)]
mod tests;
