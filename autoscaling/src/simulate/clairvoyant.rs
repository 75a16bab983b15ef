//! The cheapest schedule without any wait.

use super::{Trace, World};
use crate::observed::Millis;

/// What it costs to begin every job at its arrival, in milliseconds of one instance, for one who
/// knows all that will come.
///
/// Work goes to the lowest free level (last in, first out), so that level `n` works whenever at
/// least `n` jobs run. A gap of a level is then either bridged, which costs the gap, or ended and
/// begun again, which costs a boot (and the rest of the minimum bill, where a boot and the work
/// after it are shorter): the cheaper of both, for each gap alone. No schedule is cheaper (Lu,
/// Chen and Andrew, "Simple and effective dynamic provisioning for power-proportional data
/// centers", <https://arxiv.org/abs/1112.0442>). Every boot takes the median.
pub fn clairvoyant(trace: &Trace, world: &World) -> Millis {
    let mut changes: Vec<(Millis, bool)> = Vec::with_capacity(trace.jobs().len() * 2);
    // A job of no time takes no place.
    for job in trace.jobs().iter().filter(|job| job.service > 0) {
        changes.push((job.at, true));
        changes.push((job.at + job.service, false));
    }
    // An end comes before an arrival of the same time, whose job takes the place.
    changes.sort_unstable();
    let (mut level, mut cost, mut levels) = (0, 0, Vec::<Level>::new());
    for (at, begins) in changes {
        if begins {
            match levels.get_mut(level) {
                Some(level) => cost += level.again(at, world),
                None => levels.push(Level { paid_from: at, free: at }),
            }
            level += 1;
        } else {
            level -= 1;
            levels[level].free = at;
        }
    }
    cost + levels.iter().map(|level| level.bill(world)).sum::<Millis>()
}

struct Level {
    /// Since when its instance serves.
    paid_from: Millis,
    /// When it ended its last job.
    free: Millis,
}

impl Level {
    /// Begins another job; what is paid by then for an instance that ended before, if it did.
    fn again(&mut self, at: Millis, world: &World) -> Millis {
        let ended = self.bill(world) + world.boot_ms;
        let kept = self.bill_until(at, world);
        if kept <= ended {
            return 0;
        }
        let bill = self.bill(world);
        self.paid_from = at;
        bill
    }

    fn bill(&self, world: &World) -> Millis {
        self.bill_until(self.free, world)
    }

    fn bill_until(&self, end: Millis, world: &World) -> Millis {
        (world.boot_ms + end - self.paid_from).max(world.minimum_billed_ms)
    }
}
