//! When a policy looks at the group, and what it sees.

use std::cmp::Reverse;

use super::{Engine, Event, STUCK};
use crate::{
    observed::{Millis, QueueSeen, Service},
    simulate::{Scaler, View},
};

/// How long before the next thing that happens it looks again, where nothing does for long.
const BEFORE: Millis = 3_600_000;

impl Engine<'_> {
    pub(super) fn look(&mut self, scaler: &mut dyn Scaler) {
        self.end_drained();
        let (visible, in_flight) = self.sight.look(self.now, self.waiting.len() as u64, self.busy);
        self.see(visible, in_flight);
        let view = View {
            now: self.now,
            observed: &self.group.observed,
            visible,
            in_flight,
            ready: self.group.ready,
            live: self.group.live(),
        };
        let order = scaler.look(&view);
        self.group.observed.spot_interruptions = 0;
        let before = self.group.all();
        self.carry_out(&order, scaler.orders_by_row() && self.world.order_ms > 0);
        if self.group.all() != before {
            self.moved = self.now;
        }
        let next = self.next_look(scaler);
        self.events.push(Reverse((next, Event::Look)));
    }

    fn see(&mut self, visible: u64, in_flight: u64) {
        let (sent, finished) = self.books.look(self.now, &self.jobs[..self.arrived]);
        // As the process does: what more is there, and what was finished meanwhile.
        let rate = self.rate(visible + in_flight + finished);
        let (visible, in_flight) = (self.sight.count(visible), self.sight.count(in_flight));
        let service = Service { kind: "job".to_owned(), jobs: self.finished, total_ms: self.timed };
        let queue = QueueSeen {
            visible: Some(visible),
            in_flight: Some(in_flight),
            sent: self.world.books.then_some(sent),
            finished: Some(finished),
            books_lag_ms: self.world.books_lag_ms,
            arrivals_per_s: Some(rate),
            services: vec![service],
            ..QueueSeen::empty("q")
        };
        self.group.observed.queues = vec![queue];
        self.group.observed.desired = Some(self.group.all());
    }

    fn rate(&mut self, known: u64) -> f64 {
        self.arrivals.push_back((self.now, known));
        while self.arrivals.get(1).is_some_and(|(at, _)| at + 60_000 <= self.now) {
            self.arrivals.pop_front();
        }
        let Some((at, count)) = self.arrivals.front() else { return 0.0 };
        let seconds = (self.now - at).max(1_000) as f64 / 1000.0;
        known.saturating_sub(*count) as f64 / seconds
    }

    /// When the policy looks again. Where nothing is there, or nothing happened for longer than the
    /// policy remembers anything, it sees the same each time until something happens: a job of a year
    /// would be looked at millions of times.
    fn next_look(&self, scaler: &dyn Scaler) -> Millis {
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
