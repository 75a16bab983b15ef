//! What is seen of the queue: late, and not quite right.

use std::collections::VecDeque;

use rand::{SeedableRng, rngs::StdRng};
use rand_distr::{Distribution, Normal};

use super::World;
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
