//! What may go wrong between a worker and its endpoint, and when: decided by a seed.

use std::sync::atomic::{AtomicU64, Ordering};

use rand::{RngExt, SeedableRng, rngs::StdRng};

/// A kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// The call is done, and its answer is cut off.
    Dropped,
    /// HTTP 500; the call is not done.
    ServerError,
    /// The service's own error for too many calls; the call is not done.
    Throttled,
    /// The call is done, and its answer is held for longer than any client waits.
    Hung,
    /// Some entries of a batch are not done and answered as failed by the service.
    PartlyFailed,
    /// Some entries of a batch are not done and answered as if their handle had run out.
    Expired,
    /// The call is done late.
    Delayed,
    /// A receive also brings a message that was handed out before.
    Duplicated,
    /// The times that a call writes to the ledger are those of a clock that is wrong.
    Skewed,
}

/// Where a call of it suffers a fault: one of every so many calls.
#[derive(Debug, Clone, Copy)]
pub struct Rule {
    /// What happens.
    pub fault: Fault,
    /// The calls it happens to, such as `ReceiveMessage`; all of them, where none is named.
    pub calls: &'static [&'static str],
    /// One in so many.
    pub one_in: u64,
}

/// What a run's chances come from: the same seed gives the same faults to the same calls (the
/// n-th `ReceiveMessage`, say), whatever else happens between them.
#[derive(Debug, Clone, Copy)]
pub struct Seed(pub u64);

impl Seed {
    /// The seed that `FLOTILLA_CHAOS_SEED` names, else one that was never used before.
    ///
    /// # Panics
    /// When the variable is not a number.
    pub fn from_env() -> Self {
        let named = std::env::var("FLOTILLA_CHAOS_SEED").ok();
        let named = named.map(|text| text.parse().expect("FLOTILLA_CHAOS_SEED is a number"));
        Self(named.unwrap_or_else(|| rand::rng().random_range(0..1_000_000)))
    }

    /// The chances of one of the seed's matters.
    pub fn chances(self, matter: u64) -> StdRng {
        // Far apart in the generator's eyes, since it mixes its seed.
        StdRng::seed_from_u64(self.0.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(matter))
    }
}

/// A set of rules at work.
#[derive(Debug)]
pub(crate) struct Plan {
    seed: Seed,
    rules: Vec<(Rule, AtomicU64)>,
}

impl Plan {
    pub(crate) fn new(seed: Seed, rules: &[Rule]) -> Self {
        Self { seed, rules: rules.iter().map(|rule| (*rule, AtomicU64::new(0))).collect() }
    }

    /// The fault of a call, if it has one, and the chances of its particulars.
    pub(crate) fn draw(&self, call: &str) -> Option<(Fault, StdRng)> {
        let mut drawn = None;
        for (number, (rule, calls)) in self.rules.iter().enumerate() {
            if !rule.calls.is_empty() && !rule.calls.contains(&call) {
                continue;
            }
            // Counted though an earlier rule has struck, so that no rule moves another.
            let count = calls.fetch_add(1, Ordering::SeqCst);
            if drawn.is_none() {
                drawn = self.strikes(number as u64, rule, count).map(|dice| (rule.fault, dice));
            }
        }
        drawn
    }

    /// One call of each block of `one_in` is struck: how many are is certain, which is not.
    fn strikes(&self, number: u64, rule: &Rule, count: u64) -> Option<StdRng> {
        let block = count / rule.one_in;
        let mut dice = self.seed.chances((number << 40) + block);
        (dice.random_range(0..rule.one_in) == count % rule.one_in).then_some(dice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn struck(seed: u64, calls: usize) -> Vec<bool> {
        let rule = Rule { fault: Fault::Delayed, calls: &["A"], one_in: 10 };
        let plan = Plan::new(Seed(seed), &[rule]);
        (0..calls).map(|_| plan.draw("A").is_some()).collect()
    }

    #[test]
    fn of_every_ten_calls_one_is_struck_and_the_seed_says_which() {
        let first = struck(1, 200);
        assert!(first.chunks(10).all(|ten| ten.iter().filter(|hit| **hit).count() == 1));
        assert_eq!(first, struck(1, 200));
        assert_ne!(first, struck(2, 200));
    }

    #[test]
    fn other_calls_are_let_alone() {
        let rule = Rule { fault: Fault::Hung, calls: &["A"], one_in: 1 };
        let plan = Plan::new(Seed(0), &[rule]);
        assert!(plan.draw("B").is_none() && plan.draw("A").is_some());
    }
}
