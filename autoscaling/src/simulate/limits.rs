//! What AWS lets an account do in a while.

use crate::observed::Millis;

/// The limits of the services around a group.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// Messages of a queue in flight at most: a standard queue gives no more than 120,000 out.
    pub in_flight: u64,
    /// Instances that are launched.
    pub launches: Rate,
    /// Instances that are ended by name: a call each.
    pub ends: Rate,
}

/// A token bucket: so many at once, and so many a second after that.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rate {
    /// What the bucket holds.
    pub burst: f64,
    /// By how much it fills a second.
    pub per_second: f64,
}

impl Limits {
    /// As documented where they are documented, in the defaults of a new account: 120,000 messages
    /// in flight (SQS quotas), and the resource tokens of `RunInstances`, 1,000 and 2 a second
    /// (<https://docs.aws.amazon.com/ec2/latest/devguide/ec2-api-throttling.html>). Auto Scaling
    /// publishes no number for its calls; 100 and 10 a second are taken for ending by name.
    pub fn of_a_new_account() -> Self {
        Self {
            in_flight: 120_000,
            launches: Rate { burst: 1_000.0, per_second: 2.0 },
            ends: Rate { burst: 100.0, per_second: 10.0 },
        }
    }
}

/// A bucket in use.
#[derive(Debug)]
pub(super) struct Bucket {
    rate: Rate,
    tokens: f64,
    filled: Millis,
}

impl Bucket {
    pub(super) fn new(rate: Rate) -> Self {
        Self { rate, tokens: rate.burst, filled: 0 }
    }

    /// Takes up to so many tokens; gives how many there were.
    pub(super) fn take(&mut self, wanted: u32, now: Millis) -> u32 {
        let seconds = now.saturating_sub(self.filled) as f64 / 1000.0;
        self.tokens = (self.tokens + seconds * self.rate.per_second).min(self.rate.burst);
        self.filled = now;
        let given = wanted.min(self.tokens as u32);
        self.tokens -= f64::from(given);
        given
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_bucket_gives_its_burst_and_then_its_rate() {
        let mut bucket = Bucket::new(Rate { burst: 10.0, per_second: 2.0 });
        assert_eq!(bucket.take(25, 0), 10);
        assert_eq!(bucket.take(25, 400), 0);
        assert_eq!(bucket.take(25, 3_000), 6);
        assert_eq!(bucket.take(3, 1_000_000), 3);
        assert_eq!(bucket.take(25, 1_000_000), 7, "it holds no more than its burst");
    }

    proptest! {
        #[test]
        fn no_more_than_the_burst_and_what_filled_in_is_ever_given(
            takes in proptest::collection::vec((0u32..50, 0u64..5_000), 1..50),
        ) {
            let rate = Rate { burst: 20.0, per_second: 3.0 };
            let (mut bucket, mut now, mut given) = (Bucket::new(rate), 0, 0);
            for (wanted, later) in takes {
                now += later;
                given += bucket.take(wanted, now);
                prop_assert!(f64::from(given) <= 20.0 + now as f64 / 1000.0 * 3.0 + 1e-6);
            }
        }
    }
}
