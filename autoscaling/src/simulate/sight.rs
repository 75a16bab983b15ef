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

#[cfg(test)]
mod tests {
    use super::*;

    fn world(lag_ms: Millis, noise: f64, books_lag_ms: Millis) -> World {
        World { lag_ms, noise, books_lag_ms, ..World::default() }
    }

    #[test]
    fn counts_are_those_of_a_while_ago() {
        let mut sight = Sight::new(&world(10_000, 0.0, 0));
        let shown = [(20_000, 1), (25_000, 2), (30_000, 3), (35_000, 4), (60_000, 5)]
            .map(|(now, there)| sight.look(now, there, 10 * there));
        assert_eq!(shown, [(0, 0), (0, 0), (1, 10), (2, 20), (4, 40)]);
        let mut present = Sight::new(&world(0, 0.0, 0));
        assert_eq!([0, 5_000].map(|now| present.look(now, now, 1)), [(0, 1), (5_000, 1)]);
    }

    #[test]
    fn counts_are_as_wrong_as_the_world_says_and_tell_so() {
        let mut sight = Sight::new(&world(0, 0.05, 0));
        let shown: Vec<f64> =
            (0..2_000).map(|now| sight.look(now, 10_000, 0).0 as f64 / 10_000.0).collect();
        let mean = shown.iter().sum::<f64>() / 2_000.0;
        let spread = shown.iter().map(|it| (it - mean).powi(2)).sum::<f64>() / 2_000.0;
        assert!((mean - 1.0).abs() < 0.01, "{mean}");
        assert!((spread.sqrt() - 0.05).abs() < 0.005, "{}", spread.sqrt());
        assert!((sight.count(7).error - 0.15).abs() < 1e-9, "three standard deviations");
    }

    #[test]
    fn books_are_late_by_no_more_than_the_world_says_and_end_right() {
        let jobs: Vec<Job> = (0..100).map(|n| Job { at: n * 100, service: 0 }).collect();
        let mut books = Books::new(&world(0, 0.0, 2_000));
        (0..100).for_each(|n| books.finish(n * 100));
        let looks: Vec<_> = (0..200).map(|_| books.look(9_900, &jobs)).collect();
        let all = |range: std::ops::RangeInclusive<u64>| {
            looks.iter().all(|(sent, done)| range.contains(sent) && range.contains(done))
        };
        assert!(all(80..=100), "{looks:?}");
        assert!(looks.iter().any(|it| *it != looks[0]), "each look has its own lateness");
        assert_eq!(books.look(11_900, &jobs), (100, 100));
    }
}
