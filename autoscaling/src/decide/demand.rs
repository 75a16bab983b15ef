//! What the queues ask for.

use super::waiting::{self, Waiting};
use crate::{
    capacity::Capacity,
    memory::Memory,
    observed::{Count, Millis, Observed, QueueSeen},
    policy::{Policy, QueuePolicy},
};

/// What all queues ask for together.
#[derive(Debug, Default)]
pub(crate) struct Demand {
    /// Instances beyond those there are.
    pub(crate) more: u32,
    /// Messages that wait, and those that are booted for ahead.
    pub(crate) all: u64,
    /// Messages that may be waiting, delayed ones included: so many slots must not go.
    pub(crate) at_most: u64,
    /// Messages that are held beyond what the instances say that they hold.
    pub(crate) unseen_busy: u64,
    /// Slots that the arrivals keep busy at all times.
    pub(crate) load: u64,
    /// The longest that a change of a count may take to show.
    pub(crate) lag_ms: Millis,
    /// Instances to be kept free: the policy's, or as many as lately were needed within a boot.
    pub(crate) spare: u32,
    /// Instances that the warm pool should hold.
    pub(crate) warm: u32,
    /// Whether a money limit kept it from being more.
    pub(crate) limited: bool,
    /// How many more all queues' money allows; without a limit on one of them, any number.
    pub(crate) room: u32,
    /// Why so many, in words.
    pub(crate) why: String,
}

/// A queue with what is wanted for it.
struct Ask<'a> {
    seen: &'a QueueSeen,
    policy: &'a QueuePolicy,
    waiting: u64,
    told: u64,
    in_hand: u64,
    service: Millis,
}

/// What a queue needs.
struct Wanted {
    instances: u32,
    all: u64,
    late: u64,
    horizon: Millis,
}

impl Wanted {
    /// What keeps waiting although each message begins in time, since others take its place: a slot
    /// for each place in the line.
    fn stood(&mut self, places: u64, slots: u64) {
        if places > self.late {
            self.late = places;
            let instances = u32::try_from(places.div_ceil(slots)).unwrap_or(u32::MAX);
            self.instances = self.instances.max(instances);
        }
    }
}

pub(crate) fn of(
    seen: &Observed,
    policy: &Policy,
    memory: &mut Memory,
    capacity: &Capacity,
    now: Millis,
) -> Demand {
    let asks = asks(seen, policy, memory, capacity, now);
    let boot = match capacity.warm {
        0 => memory.boot_ms(policy),
        _ => policy.warm_start_ms,
    };
    let mut demand = Demand::default();
    let mut free = 1.0;
    for ask in &asks {
        ask.note(&mut demand);
        let mut wanted = ask.more(&mut free, capacity, boot, policy);
        let stood = memory.stood(&ask.seen.name, ask.waiting, wanted.horizon, now);
        wanted.stood(stood.saturating_sub(capacity.coming_slots()), capacity.slots);
        let most = room(seen, policy, ask, capacity, asks.len() == 1);
        demand.limited |= wanted.instances > most;
        demand.room = demand.room.saturating_add(most);
        demand.more = demand.more.saturating_add(wanted.instances.min(most));
        demand.all = demand.all.saturating_add(wanted.all);
        ask.explain(&mut demand, &wanted);
    }
    let held = asks.iter().filter_map(|ask| Some(ask.seen.in_flight?.value));
    let held = held.fold(0, u64::saturating_add);
    let waiting = asks.iter().map(|ask| ask.told).fold(0, u64::saturating_add);
    let at_once = capacity.busy_slots.saturating_add(waiting);
    memory.rises.note(at_once, boot, now);
    memory.prediction.note(at_once, memory.boot_ms(policy), now);
    keep(&mut demand, policy, memory, capacity);
    demand.unseen_busy = held.saturating_sub(capacity.busy_slots);
    interrupted(seen, capacity, &mut demand);
    demand
}

/// The queues with what waits on them, the strictest first: what the instances can begin is for those
/// who may wait least.
fn asks<'a>(
    seen: &'a Observed,
    policy: &'a Policy,
    memory: &mut Memory,
    capacity: &Capacity,
    now: Millis,
) -> Vec<Ask<'a>> {
    let known = seen.queues.iter().filter_map(|it| Some((it, policy.queue(&it.name)?)));
    let mut known: Vec<(&QueueSeen, &QueuePolicy)> = known.collect();
    known.sort_by(|(a, a_policy), (b, b_policy)| {
        let names = (a_policy.wait_target_ms, &a.name).cmp(&(b_policy.wait_target_ms, &b.name));
        // One that was seen twice is told apart by what was seen of it.
        names.then_with(|| counted(a, a_policy).cmp(&counted(b, b_policy)))
    });
    let queues: Vec<&QueueSeen> = known.iter().map(|(queue, _)| *queue).collect();
    let waiting = waiting::on(&queues, memory, capacity, now);
    let both = known.into_iter().zip(waiting);
    both.map(|((queue, policy), waiting)| Ask::new(queue, policy, waiting)).collect()
}

/// What was seen of a queue, in numbers.
fn counted(queue: &QueueSeen, policy: &QueuePolicy) -> impl Ord + use<> {
    let QueueSeen { visible, delayed, in_flight, sent, finished, oldest_ms, .. } = queue;
    let count = |it: &Count| (it.value, it.error.to_bits(), it.lag_ms);
    let counts = [visible, delayed, in_flight].map(|it| it.as_ref().map(count));
    let rate = queue.arrivals_per_s.map(f64::to_bits);
    let books = (*sent, *finished, queue.books_lag_ms);
    (counts, books, *oldest_ms, rate, queue.service_ms(policy))
}

/// What is kept free beside what is asked for: running, and in the warm pool.
fn keep(demand: &mut Demand, policy: &Policy, memory: &Memory, capacity: &Capacity) {
    let instances = |slots: u64| u32::try_from(slots.div_ceil(capacity.slots)).unwrap_or(u32::MAX);
    let expected = memory.prediction.rise() as f64 * policy.prediction.clamp(0.0, 1.0);
    let free = memory.rises.enough(policy.readiness).max(expected as u64);
    demand.spare = policy.spare.max(instances(free));
    let rises = instances(memory.rises.enough(policy.warm));
    demand.warm = rises.saturating_sub(demand.spare);
}

impl<'a> Ask<'a> {
    fn new(seen: &'a QueueSeen, policy: &'a QueuePolicy, waiting: Waiting) -> Self {
        let Waiting { waiting, told, in_hand } = waiting;
        Self { seen, policy, waiting, told, in_hand, service: seen.service_ms(policy) }
    }

    /// The instances that this queue needs beyond those whose capacity is `free` for it (a part
    /// of all of it), which it then takes.
    fn more(&self, free: &mut f64, capacity: &Capacity, boot: Millis, policy: &Policy) -> Wanted {
        let horizon = self.policy.wait_target_ms.max(boot);
        let coming = self.rate() * horizon as f64 / 1000.0 * policy.anticipation.clamp(0.0, 1.0);
        let all = self.waiting.saturating_add(coming as u64);
        let trust = if self.overdue(horizon) { 0.0 } else { policy.reuse };
        let starts = (capacity.starts_within(horizon, self.service, trust) as f64 * *free) as u64;
        let late = all.saturating_sub(starts);
        if starts > 0 {
            *free = (*free - *free * (all as f64 / starts as f64)).max(0.0);
        }
        // A new slot is there after a boot, and begins jobs until the target is over.
        let turns = self.policy.wait_target_ms.saturating_sub(boot) / self.service.max(1);
        let turns = turns.saturating_add(1);
        let more = late.div_ceil(turns.saturating_mul(capacity.slots));
        Wanted { instances: u32::try_from(more).unwrap_or(u32::MAX), all, late, horizon }
    }

    /// Whether a message is there for longer than the mean time of a job promises: it waits, or it
    /// takes far longer than most. Either way slots are not free again when they were expected to be.
    fn overdue(&self, horizon: Millis) -> bool {
        self.seen.oldest_ms.is_some_and(|age| age > horizon.saturating_add(self.service))
    }

    fn rate(&self) -> f64 {
        self.seen.arrivals_per_s.filter(|rate| rate.is_finite()).unwrap_or(0.0).max(0.0)
    }

    fn note(&self, demand: &mut Demand) {
        let QueueSeen { visible, delayed, in_flight, .. } = self.seen;
        let counts = || [visible, delayed, in_flight].into_iter().flatten();
        let waiting = visible.map_or(0, |count| count.most()).max(self.told);
        let delayed = delayed.map_or(0, |count| count.most());
        let load = (self.rate() * self.service as f64 / 1000.0) as u64;
        demand.load = demand.load.saturating_add(load);
        demand.at_most = demand.at_most.saturating_add(waiting).saturating_add(delayed);
        demand.lag_ms = counts().map(|count| count.lag_ms).fold(demand.lag_ms, Millis::max);
    }

    fn explain(&self, demand: &mut Demand, wanted: &Wanted) {
        let Wanted { all, late, .. } = wanted;
        if *late == 0 {
            return;
        }
        let (name, seconds) = (&self.seen.name, wanted.horizon as f64 / 1000.0);
        let and = if demand.why.is_empty() { "" } else { ", " };
        demand.why += &format!(
            "{and}{late} of {all} waiting on {name} cannot begin within {seconds} s on what there is"
        );
        if self.overdue(wanted.horizon) {
            let age = self.seen.oldest_ms.unwrap_or_default() as f64 / 1000.0;
            demand.why += &format!(" (one is there for {age} s, so no slot is counted on twice)");
        }
    }
}

/// How many more instances a queue may have for its money; its first one is always affordable,
/// unless the queue is worth nothing.
fn room(seen: &Observed, policy: &Policy, ask: &Ask<'_>, capacity: &Capacity, alone: bool) -> u32 {
    let Some(money) = ask.policy.money_per_hour else { return u32::MAX };
    let dearest = seen.prices.iter().map(|(_, price)| *price).max();
    let price = dearest.unwrap_or(policy.price_per_hour).max(1);
    let most = u32::try_from(money / price).unwrap_or(u32::MAX).max(u32::from(money > 0));
    let held = u32::try_from(ask.in_hand.div_ceil(capacity.slots)).unwrap_or(u32::MAX);
    let there = match alone {
        true => capacity.live,
        // Whose an instance is that is on its way nobody knows: everybody's.
        false => capacity.starting.saturating_add(held).min(capacity.live),
    };
    most.saturating_sub(there)
}

/// What was running on interrupted instances comes back to the queues, though no count shows it.
fn interrupted(seen: &Observed, capacity: &Capacity, demand: &mut Demand) {
    let lost = seen.spot_interruptions.min(u32::try_from(demand.unseen_busy).unwrap_or(u32::MAX));
    let lost = lost.saturating_sub(capacity.idle.saturating_add(capacity.starting));
    let lost = lost.min(demand.room);
    if lost > demand.more {
        demand.more = lost;
        demand.why = format!("{lost} spot instance(s) were taken back, and their jobs come again");
    }
}
