//! A token bucket: so many requests a second, and so many at once.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// How often something may be asked for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rate {
    /// Requests a second in the long run.
    pub per_second: f64,
    /// Requests at once after a rest.
    pub burst: u32,
}

/// A bucket that fills at a rate.
#[derive(Debug)]
pub struct Throttle {
    rate: Rate,
    state: Mutex<(f64, Instant)>,
}

impl Throttle {
    /// A full bucket.
    pub fn new(rate: Rate) -> Self {
        Self { rate, state: Mutex::new((f64::from(rate.burst), Instant::now())) }
    }

    /// Takes a token, or says how long to wait for the next.
    ///
    /// # Errors
    /// The wait.
    pub fn take(&self, now: Instant) -> Result<(), Duration> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (tokens, filled) = *state;
        let passed = now.saturating_duration_since(filled).as_secs_f64();
        let tokens = (tokens + passed * self.rate.per_second).min(f64::from(self.rate.burst));
        let taken = if tokens >= 1.0 { 1.0 } else { 0.0 };
        *state = (tokens - taken, now.max(filled));
        if taken == 1.0 {
            return Ok(());
        }
        Err(Duration::from_secs_f64((1.0 - tokens) / self.rate.per_second))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_let_through_and_then_the_rate() {
        let throttle = Throttle::new(Rate { per_second: 2.0, burst: 3 });
        let start = Instant::now();
        let taken = |after: u64, count: usize| {
            let now = start + Duration::from_millis(after);
            (0..count).filter(|_| throttle.take(now).is_ok()).count()
        };
        assert_eq!(taken(0, 5), 3);
        assert_eq!(taken(400, 1), 0);
        assert_eq!(taken(500, 2), 1);
        assert_eq!(taken(1500, 9), 2);
        assert_eq!(taken(60_000, 9), 3);
        assert_eq!(throttle.take(start + Duration::from_secs(60)), Err(Duration::from_millis(500)));
    }
}
