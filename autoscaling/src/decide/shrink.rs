//! Which idle instances go, and which are asked for no more.

use std::cmp::Reverse;

use super::demand::Demand;
use crate::{
    capacity::Capacity,
    memory::Memory,
    observed::{Instance, Millis, Observed, State},
    policy::Policy,
};

/// Chooses the instances that go, the newest first, and forgets their idle levels.
pub(super) fn choose(
    seen: &Observed,
    policy: &Policy,
    memory: &mut Memory,
    capacity: &Capacity,
    demand: &Demand,
    now: Millis,
) -> Vec<String> {
    let levels = long_idle(policy, memory, demand, now);
    let all = capacity.live.saturating_add(capacity.draining);
    let over = all.saturating_sub(policy.max).min(capacity.idle);
    let needless = u64::from(needless(policy, capacity, demand));
    let count = levels.min(needless).max(u64::from(over)) as usize;
    if count == 0 {
        return Vec::new();
    }
    let instances = seen.instances.as_deref().unwrap_or_default();
    let going = newest(instances, policy, count, now);
    memory.give_up(going.len() as u64);
    going
}

/// Levels that were idle for as long as a boot costs, and for longer than the counts lag.
fn long_idle(policy: &Policy, memory: &Memory, demand: &Demand, now: Millis) -> u64 {
    let price = memory.boot_ms(policy) as f64 * policy.delayed_off_boots.max(0.0);
    let patience = (price as Millis).max(demand.lag_ms);
    memory.idle_for(patience, now)
}

/// What the memory calls those that were asked for in vain; no queue has such a name.
const IN_VAIN: &str = "asked for in vain";

/// Instances that are asked for no more, of those that are asked for and not launched: what is above the
/// maximum at once, and what nothing has needed at any look for as long as the counts lag. They cost nothing
/// yet; where launches fail for an hour they would come when nobody wants them.
pub(super) fn take_back(
    seen: &Observed,
    policy: &Policy,
    memory: &mut Memory,
    capacity: &Capacity,
    demand: &Demand,
    now: Millis,
) -> u32 {
    let there = capacity.live.saturating_sub(capacity.unlaunched).saturating_add(capacity.counted);
    let above = seen.desired.unwrap_or_default().saturating_sub(policy.max.max(there));
    if capacity.unlaunched == 0 {
        memory.standing.retain(|it| it.queue != IN_VAIN);
        return above;
    }
    let in_vain = in_vain(policy, capacity, demand);
    let for_long = memory.stood(IN_VAIN, u64::from(in_vain), demand.lag_ms, now);
    above.saturating_add(u32::try_from(for_long).unwrap_or(u32::MAX).min(in_vain))
}

/// Instances that are not launched, and of which the others leave nothing to do.
fn in_vain(policy: &Policy, capacity: &Capacity, demand: &Demand) -> u32 {
    if demand.more > 0 || demand.limited {
        return 0;
    }
    // As much as it is launched for, so that nothing of it is asked for again.
    let for_all = u32::try_from(demand.all.div_ceil(capacity.slots)).unwrap_or(u32::MAX);
    let kept = kept(capacity, demand).max(for_all);
    let free = capacity.coming_slots().saturating_sub(capacity.spare_slots) / capacity.slots;
    let free = u32::try_from(free).unwrap_or(u32::MAX);
    let above_min = capacity.live.saturating_sub(policy.min);
    free.saturating_sub(kept).min(capacity.unlaunched).min(above_min)
}

/// Idle instances that neither what waits nor what usually arrives, the minimum or the spare ones
/// ask for.
fn needless(policy: &Policy, capacity: &Capacity, demand: &Demand) -> u32 {
    let above_min = capacity.live.saturating_sub(capacity.unlaunched).saturating_sub(policy.min);
    capacity.idle.saturating_sub(kept(capacity, demand)).min(above_min)
}

/// Instances that are kept free, for what waits, for what usually arrives, or as spare ones.
fn kept(capacity: &Capacity, demand: &Demand) -> u32 {
    // Messages that someone holds and no instance owns up to may be on one that seems idle.
    let for_work = demand.at_most.saturating_add(demand.unseen_busy);
    let for_load = demand.load.saturating_sub(capacity.busy_slots + capacity.spare_slots);
    let spare = u64::from(demand.spare).saturating_mul(capacity.slots);
    let for_spare = spare.saturating_sub(capacity.spare_slots);
    let kept = for_work.max(for_load).max(for_spare).div_ceil(capacity.slots);
    u32::try_from(kept).unwrap_or(u32::MAX)
}

/// The newest idle instances whose minimum bill is used up: last in, first out.
fn newest(instances: &[Instance], policy: &Policy, count: usize, now: Millis) -> Vec<String> {
    let paid = |it: &&Instance| now.saturating_sub(it.launched_at) >= policy.minimum_billed_ms;
    let idle = instances.iter().filter(|it| it.state == State::Idle && it.busy_slots == 0);
    let mut idle: Vec<&Instance> = idle.filter(paid).collect();
    let order = |a: &&Instance, b: &&Instance| {
        (Reverse(a.launched_at), &a.id).cmp(&(Reverse(b.launched_at), &b.id))
    };
    if count < idle.len() {
        // Few of many go: they are found without sorting the rest.
        idle.select_nth_unstable_by(count, order);
        idle.truncate(count);
    }
    idle.sort_unstable_by(order);
    idle.into_iter().map(|it| it.id.clone()).collect()
}
