//! What the instances that there are can do.

use crate::{
    memory::Memory,
    observed::{Instance, Millis, Observed, State},
    policy::Policy,
};

/// What was launched so many boots ago and is not ready may never be: nothing is counted on it.
const OVERDUE_BOOTS: Millis = 3;

/// The instances by state, and when their slots are free.
#[derive(Debug, Default)]
pub(crate) struct Capacity {
    /// Instances that serve or will: neither draining nor in the warm pool.
    pub(crate) live: u32,
    /// Asked for and not among those seen.
    pub(crate) unlaunched: u32,
    pub(crate) starting: u32,
    pub(crate) idle: u32,
    pub(crate) busy: u32,
    pub(crate) draining: u32,
    /// Of these, those that the group's desired capacity still counts.
    pub(crate) counted: u32,
    pub(crate) warm: u32,
    pub(crate) idle_slots: u64,
    pub(crate) busy_slots: u64,
    /// Messages in hand, those of draining instances too.
    pub(crate) held: u64,
    /// Of these, those that a silent worker may hold.
    pub(crate) guessed: u64,
    /// Free slots of instances that work on something else.
    pub(crate) spare_slots: u64,
    /// Slots of an instance: the median, else the policy's.
    pub(crate) slots: u64,
    /// Of each instance on its way, and of all that are not launched yet together: when it is ready,
    /// from now, and its slots.
    arriving: Vec<(Millis, u64)>,
}

impl Capacity {
    pub(crate) fn of(seen: &Observed, policy: &Policy, memory: &Memory, now: Millis) -> Self {
        let instances = seen.instances.as_deref().unwrap_or_default();
        let boot = memory.boot_ms(policy);
        let mut this = Self { slots: typical_slots(instances, policy), ..Self::default() };
        instances.iter().for_each(|instance| this.count(instance, boot, now));
        this.counted = this.draining.saturating_sub(seen.leaving);
        this.warm = this.warm.saturating_add(seen.pooled);
        let known = this.live + this.counted;
        this.unlaunched = seen.desired.unwrap_or_default().min(policy.max).saturating_sub(known);
        this.live += this.unlaunched;
        this.starting += this.unlaunched;
        this.arriving.push((boot, this.slots.saturating_mul(u64::from(this.unlaunched))));
        this
    }

    fn count(&mut self, instance: &Instance, boot: Millis, now: Millis) {
        let (slots, held) = (u64::from(instance.slots), u64::from(instance.busy_slots));
        self.held += held.min(slots);
        self.guessed += if instance.silent { held.min(slots) } else { 0 };
        match instance.state {
            State::Pending | State::Booting => {
                self.starting += 1;
                let age = now.saturating_sub(instance.launched_at);
                let slots = if slots == 0 { self.slots } else { slots };
                if age <= boot.saturating_mul(OVERDUE_BOOTS) {
                    self.arriving.push((boot.saturating_sub(age), slots));
                }
            }
            State::Idle => {
                self.idle += 1;
                self.idle_slots += slots;
            }
            State::Busy => {
                self.busy += 1;
                self.busy_slots += held.min(slots);
                self.spare_slots += slots.saturating_sub(held);
            }
            State::Draining => self.draining += 1,
            State::Warm => self.warm += 1,
        }
        self.live = self.starting + self.idle + self.busy;
    }

    /// Slots that are free, or on their way.
    pub(crate) fn coming_slots(&self) -> u64 {
        let here = self.idle_slots + self.spare_slots;
        self.arriving.iter().fold(here, |sum, (_, slots)| sum.saturating_add(*slots))
    }

    /// Instances beyond these that it takes until the slots of so many are free.
    pub(crate) fn missing(&self, spare: u32) -> u32 {
        let wanted = u64::from(spare).saturating_mul(self.slots);
        let starting = u64::from(self.starting).saturating_mul(self.slots);
        let free = starting.saturating_add(self.idle_slots + self.spare_slots);
        u32::try_from(wanted.saturating_sub(free).div_ceil(self.slots)).unwrap_or(u32::MAX)
    }

    /// How many jobs of this length can begin within `horizon`, on all slots.
    ///
    /// A free slot begins one at once and one more whenever that ends. One at work is free after
    /// another whole job: how long a job goes on says little about how long it will.
    /// Where some jobs take far longer than most, the mean promises what few slots keep, so that
    /// whatever is begun after another job counts only as far as it is to be trusted.
    pub(crate) fn starts_within(&self, horizon: Millis, service: Millis, trust: f64) -> u64 {
        let service = service.max(1);
        let again = |free: Millis| horizon.saturating_sub(free) / service;
        let ahead = self.idle_slots + self.spare_slots;
        let (mut first, mut later) = (ahead, ahead.saturating_mul(again(0)));
        later = later.saturating_add(self.busy_slots.saturating_mul(again(0)));
        for (ready, slots) in self.arriving.iter().filter(|(ready, _)| *ready <= horizon) {
            first = first.saturating_add(*slots);
            later = later.saturating_add(slots.saturating_mul(again(*ready)));
        }
        first.saturating_add((later as f64 * trust.clamp(0.0, 1.0)) as u64)
    }
}

/// The median of what instances say, so that the order and a stray one make no difference.
fn typical_slots(instances: &[Instance], policy: &Policy) -> u64 {
    let mut slots: Vec<u32> = instances.iter().map(|it| it.slots).filter(|n| *n > 0).collect();
    let middle = slots.len() / 2;
    let typical = match slots.is_empty() {
        true => policy.slots,
        false => *slots.select_nth_unstable(middle).1,
    };
    u64::from(typical.max(1))
}
