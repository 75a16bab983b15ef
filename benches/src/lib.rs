//! Flotilla's figures. Each is measured in the run that prints it, as one JSON object on a line of
//! standard output ([`figure::Figure`]); all else goes to standard error.
//!
//! A *bench* is a module with a [`Bench`] in [`ALL`]; `make bench` runs them all, `make bench
//! BENCH=queue` one. What a bench compares runs in processes of its own ([`process`]), against an
//! AWS in memory ([`stub`]) that is on another core.

pub mod anomaly;
pub mod autoscaling;
pub mod compile;
pub mod figure;
pub mod http;
pub mod peers;
pub mod process;
pub mod queue;
pub mod rates;
pub mod rig;
pub mod schedule;
pub mod settings;
pub mod stack;
pub mod stub;

use futures::future::BoxFuture;

use settings::Settings;

/// Why a bench could not be run to its end.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Trouble(String);

impl Trouble {
    /// What happened, to what, and what to do about it.
    pub fn new(what: impl Into<String>) -> Self {
        Self(what.into())
    }
}

/// A bench: it prints its figures as it goes.
pub struct Bench {
    /// What it is called, and what its figures' names begin with.
    pub name: &'static str,
    /// What it measures, in a line.
    pub about: &'static str,
    /// Measures and prints.
    pub run: fn(Settings) -> BoxFuture<'static, Result<(), Trouble>>,
}

/// Every bench there is.
pub const ALL: &[Bench] =
    &[queue::BENCH, compile::BENCH, schedule::BENCH, autoscaling::BENCH, anomaly::BENCH];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_benches_have_one_name() {
        let names: std::collections::BTreeSet<_> = ALL.iter().map(|bench| bench.name).collect();
        assert_eq!(names.len(), ALL.len());
    }
}
