//! When a policy looks at the group.

use std::cmp::Reverse;

use super::{Engine, STUCK};
use crate::{observed::Millis, simulate::Scaler};

/// How long before the next thing that happens it looks again, where nothing does for long.
const BEFORE: Millis = 3_600_000;

impl Engine<'_> {
    /// When the policy looks again. Where nothing is there, or nothing happened for longer than the
    /// policy remembers anything, it sees the same each time until something happens: a job of a year
    /// would be looked at millions of times.
    pub(super) fn next_look(&self, scaler: &dyn Scaler) -> Millis {
        let next = self.now + scaler.every_ms().max(1);
        let event = self.events.peek().map(|Reverse((at, _))| *at);
        let coming = self.jobs.get(self.arrived).map(|job| job.at);
        let Some(first) = event.into_iter().chain(coming).min() else { return next };
        let empty = self.waiting.is_empty() && event.is_none() && self.group.all() == 0;
        let far = if empty { self.now + STUCK } else { next + BEFORE };
        match first > far && (empty || self.is_settled(scaler)) {
            true => first - BEFORE,
            false => next,
        }
    }

    /// Whether nothing has happened for so long that the policy has nothing new to do.
    fn is_settled(&self, scaler: &dyn Scaler) -> bool {
        let late = self.world.lag_ms.saturating_add(self.world.books_lag_ms);
        let long = scaler.settles_ms().max(STUCK).saturating_add(late);
        self.now - self.moved > long
    }
}
