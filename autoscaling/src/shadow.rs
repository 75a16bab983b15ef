//! What this policy would have cost beside the one that is in charge.
//!
//! [`Shadow`] is shown what was seen of a real group, turn by turn. What the present policy costs is
//! read off it. What arrived is given to a group that exists in numbers only, which
//! [`decide`](crate::decide) sizes: its instances boot as long as the real ones did, its jobs take
//! as long as the real ones do on average, and arrivals of a turn are spread evenly over it. Both
//! begin as the same group, and both are paid for from then on, each instance for its minimum at
//! least.

mod world;

use std::collections::HashMap;

use serde::Serialize;

use self::world::World;
use crate::{
    memory::Memory,
    observed::{Instance, Millis, Observed, State},
    policy::Policy,
};

/// Turns further apart than this are no account of what was between them.
pub(crate) const GAP: Millis = 300_000;

/// Two policies on the same arrivals.
#[derive(Debug, Default)]
pub struct Shadow {
    world: Option<World>,
    last: Option<Last>,
    /// What the real boots were like.
    boots: Memory,
    arrived: u64,
    seen_ms: Millis,
    unseen: u64,
    present: Spent,
}

/// What was there at the last turn.
#[derive(Debug)]
struct Last {
    at: Millis,
    queues: Vec<Depth>,
    instances: HashMap<String, Billed>,
    waiting: u64,
}

/// An instance that is paid for.
#[derive(Debug, Clone, Copy)]
struct Billed {
    launched_at: Millis,
    /// What it costs an hour, in millionths of a dollar.
    price: u64,
}

/// A queue as it was.
#[derive(Debug)]
struct Depth {
    name: String,
    there: u64,
    finished: Option<u64>,
}

/// What a policy spent, and what for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Spent {
    /// Hours of one instance.
    pub instance_hours: f64,
    /// Dollars.
    pub dollars: f64,
    /// How long all messages together waited, in seconds.
    pub waited_seconds: f64,
}

/// What came of it so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct ShadowReport {
    /// How long both were watched, in hours.
    pub hours: f64,
    /// Messages that arrived.
    pub arrived: u64,
    /// Turns at which something could not be seen, or that followed none in time.
    pub turns_unseen: u64,
    /// The policy in charge.
    pub present: Spent,
    /// This one.
    pub ours: Spent,
    /// What this one would have saved, in dollars; negative if it would have cost more.
    pub saved_dollars: f64,
}

impl Shadow {
    /// Shows it a turn.
    pub fn note(&mut self, seen: &Observed, policy: &Policy, now: Millis) {
        let Some(mut next) = Last::of(seen, policy, now) else {
            self.unseen += 1;
            self.last = None;
            return;
        };
        self.boots = self.boots.after(seen, policy, now);
        let boot = self.boots.boot_ms(policy);
        // Neither a long gap nor a clock that was set back is a time that anybody saw.
        let next_to = |last: &Last| (last.at..=last.at.saturating_add(GAP)).contains(&now);
        let last = self.last.take().filter(next_to);
        let Some(mut world) = self.world.take() else {
            self.world = Some(World::like(seen, policy, now));
            self.last = Some(next);
            return;
        };
        match last {
            Some(last) => {
                let arrivals = last.arrivals(&mut next, seen);
                let counts = arrivals.iter().map(|(_, count)| *count);
                self.arrived = counts.fold(self.arrived, u64::saturating_add);
                let span = now.saturating_sub(last.at);
                self.seen_ms += span;
                self.present.add(&last, span);
                self.present.settle(&last, &next, policy.minimum_billed_ms);
                world.step(&arrivals, seen, policy, boot, last.at, now);
            }
            None => {
                self.unseen += 1;
                world.skip_to(now);
            }
        }
        (self.world, self.last) = (Some(world), Some(next));
    }

    /// What came of it so far.
    pub fn report(&self) -> ShadowReport {
        let ours = self.world.as_ref().map(World::spent).unwrap_or_default();
        ShadowReport {
            hours: self.seen_ms as f64 / 3_600_000.0,
            arrived: self.arrived,
            turns_unseen: self.unseen,
            present: self.present,
            ours,
            saved_dollars: self.present.dollars - ours.dollars,
        }
    }
}

impl Spent {
    fn add(&mut self, during: &Last, span: Millis) {
        during.instances.values().for_each(|it| self.pay(it.price, span));
        self.waited_seconds += during.waiting as f64 * span as f64 / 1000.0;
    }

    /// Pays what is missing to the minimum bill of those that are gone. (This policy ends none before
    /// its minimum is used up.)
    fn settle(&mut self, before: &Last, now: &Last, minimum: Millis) {
        let gone = before.instances.iter().filter(|(id, _)| !now.instances.contains_key(*id));
        for (_, it) in gone {
            self.pay(it.price, minimum.saturating_sub(now.at.saturating_sub(it.launched_at)));
        }
    }

    fn pay(&mut self, price: u64, span: Millis) {
        let hours = span as f64 / 3_600_000.0;
        self.instance_hours += hours;
        self.dollars += price as f64 / 1e6 * hours;
    }
}

impl ShadowReport {
    /// The mean wait of a message in seconds, by what was spent.
    pub fn mean_wait_s(&self, of: &Spent) -> f64 {
        of.waited_seconds / self.arrived.max(1) as f64
    }

    /// The report in words.
    pub fn words(&self) -> String {
        let Self { hours, arrived, turns_unseen, present, ours, saved_dollars } = self;
        let line = |name: &str, of: &Spent| {
            let wait = self.mean_wait_s(of);
            let Spent { instance_hours, dollars, .. } = of;
            format!(
                "{name:<8} {instance_hours:>12.2} instance hours {dollars:>12.4} $ {wait:>10.1} s mean wait\n"
            )
        };
        let part = 100.0 * saved_dollars / present.dollars.max(f64::MIN_POSITIVE);
        let verdict = match (present.dollars > 0.0, *saved_dollars >= 0.0) {
            (false, _) => "nothing was spent to save of".to_owned(),
            (true, true) => format!("would have saved {saved_dollars:.4} $ ({part:.0}%)"),
            (true, false) => {
                format!("would have cost {:.4} $ more ({:.0}%)", -saved_dollars, -part)
            }
        };
        format!(
            "{arrived} messages in {hours:.2} h ({turns_unseen} turns unseen)\n{}{}{verdict}",
            line("present", present),
            line("ours", ours),
        )
    }
}

impl Last {
    /// What there is to compare with at the next turn; `None` where something could not be seen.
    fn of(seen: &Observed, policy: &Policy, now: Millis) -> Option<Self> {
        if seen.missing(policy).is_some() {
            return None;
        }
        let instances = seen.instances.iter().flatten().filter(|it| it.state != State::Warm);
        let billed = |it: &Instance| {
            let price = seen.price(&it.kind, it.spot, policy);
            (it.id.clone(), Billed { launched_at: it.launched_at, price })
        };
        let queues = seen.queues.iter().filter_map(|queue| {
            let counts = [queue.visible?, queue.delayed?, queue.in_flight?];
            let there = counts.iter().fold(0u64, |sum, count| sum.saturating_add(count.value));
            Some(Depth { name: queue.name.clone(), there, finished: queue.finished })
        });
        Some(Self {
            at: now,
            queues: queues.collect(),
            instances: instances.map(billed).collect(),
            waiting: seen
                .queues
                .iter()
                .filter_map(|it| Some(it.visible?.value))
                .fold(0, u64::saturating_add),
        })
    }

    /// What arrived at each queue since: what more is there now, and what was finished meanwhile.
    ///
    /// Counts swing, and what seems to have gone comes back: it is set off against what comes next.
    fn arrivals(&self, next: &mut Self, seen: &Observed) -> Vec<(usize, u64)> {
        let mut arrivals = Vec::new();
        for depth in &mut next.queues {
            let place = seen.queues.iter().position(|queue| queue.name == depth.name);
            let before = self.queues.iter().find(|it| it.name == depth.name);
            let (Some(place), Some(before)) = (place, before) else { continue };
            // An autoscaler that starts again begins its books again.
            let finished = depth.finished.zip(before.finished);
            let finished = finished.map_or(0, |(now, then)| now.saturating_sub(then));
            let there = depth.there.saturating_add(finished);
            arrivals.push((place, there.saturating_sub(before.there)));
            depth.there = depth.there.max(before.there.saturating_sub(finished));
        }
        arrivals
    }
}

#[cfg(test)]
mod tests;
