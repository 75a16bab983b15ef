//! The delay before a retry: full jitter under an exponential ceiling.

use std::time::Duration;

use backoff::{ExponentialBackoff, ExponentialBackoffBuilder, backoff::Backoff};
use rand::{Rng, RngExt};

/// How long an operation waits between attempts.
///
/// The delay is drawn uniformly from zero to a ceiling that grows exponentially ("full jitter",
/// AWS Architecture Blog, "Exponential Backoff And Jitter", 2015), so that many failures at one
/// moment do not come back at one moment.
#[derive(Debug, Clone, Copy)]
pub struct RetryPolicy {
    /// The ceiling before the first retry.
    pub first: Duration,
    /// The ceiling never grows above this.
    pub max: Duration,
    /// The factor from one ceiling to the next.
    pub factor: f64,
}

impl RetryPolicy {
    /// For jobs: 2 s, 4 s, … up to 15 minutes.
    pub const JOB: Self = Self::new(Duration::from_secs(2), Duration::from_secs(900));
    /// For calls that the loop itself repeats (receives, acknowledgements): 100 ms … 10 s.
    pub const CALL: Self = Self::new(Duration::from_millis(100), Duration::from_secs(10));

    /// A policy that doubles its ceiling from `first` to `max`.
    pub const fn new(first: Duration, max: Duration) -> Self {
        Self { first, max, factor: 2.0 }
    }

    /// The upper bound of the delay after failed attempt number `attempt` (from 1).
    pub fn ceiling(&self, attempt: u32) -> Duration {
        let mut series = self.series();
        let steps = attempt.clamp(1, 64);
        let ceiling = (0..steps).filter_map(|_| series.next_backoff()).last();
        // The series draws within a nanosecond of its value, the last one included.
        ceiling.unwrap_or(self.max).min(self.max)
    }

    /// A delay drawn uniformly from zero to the ceiling of `attempt`.
    pub fn delay(&self, attempt: u32) -> Duration {
        self.drawn(attempt, &mut rand::rng())
    }

    fn drawn(&self, attempt: u32, rng: &mut impl Rng) -> Duration {
        self.ceiling(attempt).mul_f64(rng.random::<f64>())
    }

    fn series(&self) -> ExponentialBackoff {
        ExponentialBackoffBuilder::new()
            .with_initial_interval(self.first)
            .with_max_interval(self.max)
            .with_multiplier(self.factor)
            .with_randomization_factor(0.0)
            .with_max_elapsed_time(None)
            .build()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::{SeedableRng, rngs::StdRng};

    use super::*;

    /// How many delays are drawn to look at.
    const DRAWS: usize = 1000;
    /// What the largest distance between so many draws and their distribution is beyond once in ten
    /// thousand million times (Dvoretzky, Kiefer and Wolfowitz).
    const FAR: f64 = 0.11;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn delays_are_uniform_from_zero_to_a_ceiling_that_grows_exponentially(
            seed in any::<u64>(), attempt in 1u32..=20, first in 1u64..=5_000,
        ) {
            let (first, max) = (Duration::from_millis(first), Duration::from_secs(900));
            let policy = RetryPolicy::new(first, max);
            let ceiling = first.as_secs_f64() * 2f64.powi(attempt as i32 - 1);
            let ceiling = ceiling.min(max.as_secs_f64());
            let mut rng = StdRng::seed_from_u64(seed);
            let draw = |_| policy.drawn(attempt, &mut rng).as_secs_f64() / ceiling;
            let mut drawn: Vec<f64> = (0..DRAWS).map(draw).collect();
            drawn.sort_unstable_by(f64::total_cmp);
            for (rank, drawn) in drawn.into_iter().enumerate() {
                prop_assert!((0.0..=1.000_01).contains(&drawn), "{drawn} of the ceiling");
                let share = rank as f64 / DRAWS as f64;
                prop_assert!((drawn - share).abs() < FAR, "{share} of the draws are below {drawn}");
            }
        }

        #[test]
        fn a_delay_lies_between_zero_and_its_ceiling(attempt in 0u32..200) {
            let policy = RetryPolicy::JOB;
            prop_assert!(policy.delay(attempt) <= policy.ceiling(attempt));
            prop_assert!(policy.ceiling(attempt) <= policy.max);
        }
    }

    #[test]
    fn the_ceiling_doubles_up_to_its_maximum() {
        let policy = RetryPolicy::new(Duration::from_secs(1), Duration::from_secs(5));
        let seconds: Vec<_> = (1..=5).map(|n| policy.ceiling(n).as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 5, 5]);
    }

    #[test]
    fn delays_are_spread_over_the_whole_range() {
        let policy = RetryPolicy::new(Duration::from_secs(10), Duration::from_secs(10));
        let mean = (0..2000).map(|_| policy.delay(1).as_secs_f64()).sum::<f64>() / 2000.0;
        assert!((4.5..5.5).contains(&mean), "the mean of U(0, 10) is 5, this is {mean}");
    }
}
