//! What is seen of the queue: late, and not quite right.

use std::collections::VecDeque;

use rand::{RngExt, SeedableRng, rngs::StdRng};
use rand_distr::{Distribution, Normal};

use super::{Job, World};
use crate::observed::{Count, Millis};

/// The queue's counts, as they were a while ago.
pub(super) struct Sight {
    lag_ms: Millis,
    error: Option<Normal<f64>>,
    noise: f64,
    random: StdRng,
    past: VecDeque<(Millis, u64, u64)>,
}

impl Sight {
    pub(super) fn new(world: &World) -> Self {
        let noise = world.noise.max(0.0);
        let error = Normal::new(1.0, noise).ok();
        let random = StdRng::seed_from_u64(world.seed ^ 0x5161);
        Self { lag_ms: world.lag_ms, error, noise, random, past: VecDeque::new() }
    }

    /// Notes what is true now and says what is seen of it: visible, in flight.
    pub(super) fn look(&mut self, now: Millis, visible: u64, in_flight: u64) -> (u64, u64) {
        self.past.push_back((now, visible, in_flight));
        let shown = now.saturating_sub(self.lag_ms);
        while self.past.get(1).is_some_and(|(at, ..)| *at <= shown) {
            self.past.pop_front();
        }
        match self.past.front().copied() {
            Some((at, visible, in_flight)) if at <= shown || self.lag_ms == 0 => {
                (self.blur(visible), self.blur(in_flight))
            }
            _ => (0, 0),
        }
    }

    fn blur(&mut self, count: u64) -> u64 {
        let part = self.error.map_or(1.0, |error| error.sample(&mut self.random));
        (count as f64 * part).round().max(0.0) as u64
    }

    /// A count with what is known of its error: three standard deviations.
    pub(super) fn count(&self, value: u64) -> Count {
        Count { value, error: 3.0 * self.noise, lag_ms: self.lag_ms }
    }
}

/// The fleet's books: senders and workers write down what they counted about once a second, each in
/// its own time, so both sums are of a while ago, and not of the same.
pub(super) struct Books {
    lag_ms: Millis,
    random: StdRng,
    finished: u64,
    /// When the last ended, for as long as the books may not have them.
    ends: VecDeque<Millis>,
}

impl Books {
    pub(super) fn new(world: &World) -> Self {
        let random = StdRng::seed_from_u64(world.seed ^ 0xB00C);
        Self { lag_ms: world.books_lag_ms, random, finished: 0, ends: VecDeque::new() }
    }

    /// Notes that a job is done.
    pub(super) fn finish(&mut self, now: Millis) {
        self.finished += 1;
        self.ends.push_back(now);
        while self.ends.front().is_some_and(|at| at + self.lag_ms < now) {
            self.ends.pop_front();
        }
    }

    /// What was sent and what was finished, as far as the books have it; `arrived` in their order.
    pub(super) fn look(&mut self, now: Millis, arrived: &[Job]) -> (u64, u64) {
        let [sent, done] =
            [(); 2].map(|()| now.saturating_sub(self.random.random_range(0..=self.lag_ms)));
        let late = self.ends.iter().rev().take_while(|at| **at > done).count() as u64;
        (arrived.partition_point(|job| job.at <= sent) as u64, self.finished - late)
    }
}
