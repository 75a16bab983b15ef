//! The cheapest schedule without any wait.

use std::collections::VecDeque;

use super::{Trace, World};
use crate::observed::Millis;

/// What it is called beside policies.
pub const NAME: &str = "clairvoyant";

/// What it costs to begin every job at its arrival, in milliseconds of one instance, for one who
/// knows all that will come.
///
/// Work goes to the lowest free level (last in, first out), so that level `n` works whenever at
/// least `n` jobs run. A level's times of work are then divided among instances one after the other,
/// each of which costs a boot and the time from its first to its last, or the minimum bill: the
/// cheapest of all divisions. Where a boot takes no less than the minimum bill no schedule is cheaper
/// (Lu, Chen and Andrew, "Simple and effective dynamic provisioning for power-proportional data
/// centers", <https://arxiv.org/abs/1112.0442>); where it takes less, none is that keeps to levels.
/// Every boot takes the median.
pub fn clairvoyant(trace: &Trace, world: &World) -> Millis {
    let mut changes: Vec<(Millis, bool)> = Vec::with_capacity(trace.jobs().len() * 2);
    for job in trace.jobs() {
        changes.push((job.at, true));
        // Somebody must be there for a job of no time, too.
        changes.push((job.at + job.service.max(1), false));
    }
    // An end comes before an arrival of the same time, whose job takes the place.
    changes.sort_unstable();
    let (mut level, mut levels) = (0, Vec::<Level>::new());
    for (at, begins) in changes {
        if begins {
            if level == levels.len() {
                levels.push(Level::default());
            }
            levels[level].begin(at);
            level += 1;
        } else {
            level -= 1;
            levels[level].end(at, world);
        }
    }
    levels.iter().map(|level| level.cost).sum()
}

/// A level, by what its work so far costs at the least.
#[derive(Default)]
struct Level {
    /// The least that all work so far costs.
    cost: Millis,
    /// For each instance that may be the last: when its first work begins, and what all before that
    /// costs. Those that are paid for by the minimum bill.
    short: VecDeque<(Millis, Millis)>,
    /// The same of those that are paid for by the time: the least of the cost before it, less when its
    /// work begins. It may be below zero.
    long: Option<i128>,
}

impl Level {
    fn begin(&mut self, at: Millis) {
        self.short.push_back((at, self.cost));
    }

    /// Work ends that began last. The last instance began with it, or with any work before.
    fn end(&mut self, at: Millis, world: &World) {
        let World { boot_ms, minimum_billed_ms: minimum, .. } = *world;
        while let Some((from, before)) = self.short.front().copied()
            && from + minimum <= boot_ms + at
        {
            let long = i128::from(before) - i128::from(from);
            self.long = Some(self.long.map_or(long, |least| least.min(long)));
            self.short.pop_front();
        }
        let long = self.long.map(|least| least + i128::from(boot_ms + at));
        // Of those that cost the minimum, the one that began first has the least before it.
        let short = self.short.front().map(|(_, before)| i128::from(before + minimum));
        let least = long.into_iter().chain(short).min().unwrap_or_default();
        self.cost = Millis::try_from(least).unwrap_or(Millis::MAX);
    }
}
