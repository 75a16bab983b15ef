//! A group in numbers.

use std::collections::VecDeque;

use super::Spent;
use crate::{
    decide::decide,
    memory::Memory,
    observed::{Count, Instance, Millis, Observed, QueueSeen, State},
    policy::Policy,
};

/// Messages that wait, and slots, are forgotten after so many: a report is no reason to run out of
/// memory.
const MOST: u64 = 1_000_000;
/// Slots of one instance.
const MOST_SLOTS: u32 = 1_000;

/// The group that this policy would have.
#[derive(Debug)]
pub(super) struct World {
    machines: Vec<Machine>,
    queues: Vec<Queue>,
    memory: Memory,
    launched: u64,
    spent: Spent,
    /// Until when what runs is paid for in [`spent`](Self::spent).
    paid_until: Millis,
}

#[derive(Debug)]
struct Machine {
    id: String,
    kind: String,
    spot: bool,
    launched_at: Millis,
    ready_at: Millis,
    /// When each slot is free again, and whose job it has until then.
    slots: Vec<(Millis, usize)>,
}

#[derive(Debug, Default)]
struct Queue {
    /// When messages came, and how many, oldest first.
    waiting: VecDeque<(Millis, u64)>,
    finished: u64,
}

impl World {
    /// Begins as the group that there is.
    pub(super) fn like(seen: &Observed, policy: &Policy, now: Millis) -> Self {
        let mut queues: Vec<Queue> = seen.queues.iter().map(|_| Queue::default()).collect();
        for (queue, told) in queues.iter_mut().zip(&seen.queues) {
            queue.waiting.push_back((now, told.visible.map_or(0, |count| count.value.min(MOST))));
        }
        let serving = seen.instances.iter().flatten().filter(|it| it.state != State::Warm);
        let machines = serving.map(|it| Machine::like(it, seen, policy, now)).collect();
        let (memory, spent) = (Memory::default(), Spent::default());
        Self { machines, queues, memory, launched: 0, spent, paid_until: now }
    }

    pub(super) fn spent(&self) -> Spent {
        self.spent
    }

    /// Nothing is known of the time up to `now`: it is not paid for, and nobody waited.
    pub(super) fn skip_to(&mut self, now: Millis) {
        self.paid_until = now;
        for (at, _) in self.queues.iter_mut().flat_map(|queue| &mut queue.waiting) {
            *at = now;
        }
    }

    /// Lets the time pass from `then` to `now`, with these arrivals, and decides.
    pub(super) fn step(
        &mut self,
        arrivals: &[(usize, u64)],
        seen: &Observed,
        policy: &Policy,
        boot: Millis,
        then: Millis,
        now: Millis,
    ) {
        self.queues.resize_with(seen.queues.len(), Queue::default);
        for (place, count) in arrivals {
            self.queues[*place].arrive(*count, then, now);
        }
        self.pay(seen, policy, now);
        for place in 0..self.queues.len() {
            self.work(place, &seen.queues[place], policy, now);
        }
        let decision = decide(&self.observed(seen, now), policy, &self.memory, now);
        self.memory = decision.memory;
        self.machines.retain(|it| !decision.remove.contains(&it.id));
        let mut slots: usize = self.machines.iter().map(|it| it.slots.len()).sum();
        while self.machines.len() < decision.desired as usize && slots < MOST as usize {
            self.launched += 1;
            let machine = Machine::new(self.launched, seen, policy, boot, now);
            slots += machine.slots.len();
            self.machines.push(machine);
        }
    }

    fn pay(&mut self, seen: &Observed, policy: &Policy, now: Millis) {
        let hours = now.saturating_sub(self.paid_until) as f64 / 3_600_000.0;
        self.paid_until = now;
        for machine in &self.machines {
            self.spent.instance_hours += hours;
            self.spent.dollars +=
                seen.price(&machine.kind, machine.spot, policy) as f64 / 1e6 * hours;
        }
    }

    /// Gives what waits to slots as they become free, the first to come first.
    fn work(&mut self, place: usize, seen: &QueueSeen, policy: &Policy, now: Millis) {
        let service = policy.queue(&seen.name).map_or(1, |queue| seen.service_ms(queue));
        let queue = &mut self.queues[place];
        while let Some((at, count)) = queue.waiting.front_mut() {
            let slots = self.machines.iter_mut().flat_map(Machine::free);
            let first = slots.min_by_key(|(free, _)| *free);
            match first.map(|(free, slot)| (free.max(*at), slot)) {
                Some((start, slot)) if *count > 0 && start <= now => {
                    self.spent.waited_seconds += start.saturating_sub(*at) as f64 / 1000.0;
                    *slot = (start.saturating_add(service), place);
                    queue.finished += 1;
                    *count -= 1;
                }
                Some(_) | None if *count > 0 => break,
                _ => drop(queue.waiting.pop_front()),
            }
        }
        // Whoever still waits has waited up to now; the rest counts from here.
        for (at, count) in &mut queue.waiting {
            self.spent.waited_seconds += *count as f64 * now.saturating_sub(*at) as f64 / 1000.0;
            *at = now;
        }
    }

    fn observed(&self, seen: &Observed, now: Millis) -> Observed {
        let queues = self.queues.iter().zip(&seen.queues).enumerate().map(|(place, (it, told))| {
            // What boots holds nothing yet.
            let ready = self.machines.iter().filter(|machine| machine.ready_at <= now);
            let slots = ready.flat_map(|machine| &machine.slots);
            let held = slots.filter(|(free, whose)| *free > now && *whose == place).count() as u64;
            QueueSeen {
                visible: Some(Count::exact(it.waiting.iter().map(|(_, count)| count).sum())),
                in_flight: Some(Count::exact(held)),
                arrivals_per_s: told.arrivals_per_s,
                services: told.services.clone(),
                ..QueueSeen::empty(&told.name)
            }
        });
        Observed {
            queues: queues.collect(),
            instances: Some(self.machines.iter().map(|it| it.seen(now)).collect()),
            desired: Some(self.machines.len() as u32),
            prices: seen.prices.clone(),
            ..Observed::empty_group()
        }
    }
}

impl Queue {
    /// Spreads arrivals evenly over the time that they came in.
    fn arrive(&mut self, count: u64, then: Millis, now: Millis) {
        let there: u64 = self.waiting.iter().map(|(_, count)| count).sum();
        let count = count.min(MOST.saturating_sub(there));
        let parts = count.clamp(1, 16);
        for part in 0..parts {
            let share = count / parts + u64::from(part < count % parts);
            let into = now.saturating_sub(then).saturating_mul(2 * part + 1) / (2 * parts);
            if share > 0 {
                self.waiting.push_back((then + into, share));
            }
        }
    }
}

impl Machine {
    fn like(it: &Instance, seen: &Observed, policy: &Policy, now: Millis) -> Self {
        let slots = if it.slots == 0 { policy.slots } else { it.slots }.clamp(1, MOST_SLOTS);
        let first = policy.queues.first().zip(seen.queues.first());
        let service = first.map_or(1, |(queue, told)| told.service_ms(queue));
        let busy = |slot| if slot < it.busy_slots { now.saturating_add(service) } else { now };
        let starts = matches!(it.state, State::Pending | State::Booting);
        let boots = it.launched_at.saturating_add(policy.boot_ms);
        Self {
            id: it.id.clone(),
            kind: it.kind.clone(),
            spot: it.spot,
            launched_at: it.launched_at,
            ready_at: if starts { boots } else { now },
            slots: (0..slots).map(|slot| (busy(slot), 0)).collect(),
        }
    }

    fn new(number: u64, seen: &Observed, policy: &Policy, boot: Millis, now: Millis) -> Self {
        let like = seen.instances.iter().flatten().find(|it| it.slots > 0);
        let slots = like.map_or(policy.slots, |it| it.slots).clamp(1, MOST_SLOTS) as usize;
        let ready_at = now.saturating_add(boot);
        Self {
            id: format!("shadow-{number:08}"),
            kind: like.map(|it| it.kind.clone()).unwrap_or_default(),
            spot: like.is_some_and(|it| it.spot),
            launched_at: now,
            ready_at,
            slots: vec![(ready_at, 0); slots],
        }
    }

    /// Each slot with the time from which it can take a job.
    fn free(&mut self) -> impl Iterator<Item = (Millis, &mut (Millis, usize))> {
        let ready = self.ready_at;
        self.slots.iter_mut().map(move |slot| (slot.0.max(ready), slot))
    }

    fn seen(&self, now: Millis) -> Instance {
        let ready = self.ready_at <= now;
        let busy = self.slots.iter().filter(|(free, _)| ready && *free > now).count() as u32;
        let last = self.slots.iter().map(|(free, _)| *free).max().unwrap_or(now);
        Instance {
            id: self.id.clone(),
            state: match (ready, busy) {
                (false, _) => State::Booting,
                (true, 0) => State::Idle,
                _ => State::Busy,
            },
            since: last.max(self.ready_at).min(now),
            launched_at: self.launched_at,
            ready_at: ready.then_some(self.ready_at),
            slots: self.slots.len() as u32,
            busy_slots: busy,
            silent: false,
            kind: self.kind.clone(),
            spot: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_boots_holds_no_message() {
        let policy = Policy::for_queue("q", 10);
        let queue = QueueSeen { visible: Some(Count::exact(3)), ..QueueSeen::empty("q") };
        let seen = Observed { queues: vec![queue], ..Observed::empty_group() };
        let mut world = World::like(&seen, &policy, 0);
        world.step(&[], &seen, &policy, 120_000, 0, 5_000);
        let own = world.observed(&seen, 10_000);
        let states: Vec<State> = own.instances.iter().flatten().map(|it| it.state).collect();
        assert_eq!(states, [State::Booting; 3]);
        let QueueSeen { visible, in_flight, .. } = &own.queues[0];
        assert_eq!((*visible, *in_flight), (Some(Count::exact(3)), Some(Count::exact(0))));
    }
}
