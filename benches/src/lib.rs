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

/// What went wrong with the parts of something that goes on all the same: the figures of the others
/// are not lost by it.
#[derive(Debug, Default)]
pub struct Parts(Vec<String>);

impl Parts {
    /// Notes how a part ended, and says at once what went wrong with it.
    pub fn note(&mut self, part: &str, ended: Result<(), Trouble>) {
        if let Err(why) = ended {
            eprintln!("failed: {part}: {why}");
            self.0.push(format!("{part}: {why}"));
        }
    }

    /// How all ended.
    ///
    /// # Errors
    /// When a part did not end well; all such parts are named.
    pub fn all(self) -> Result<(), Trouble> {
        if self.0.is_empty() { Ok(()) } else { Err(Trouble(self.0.join("; "))) }
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
    fn a_part_that_fails_takes_no_other_with_it_and_is_named_at_the_end() {
        let mut parts = Parts::default();
        parts.note("one", Err(Trouble::new("no port")));
        parts.note("two", Ok(()));
        parts.note("three", Err(Trouble::new("no disk")));
        assert_eq!(parts.all().unwrap_err().to_string(), "one: no port; three: no disk");
        assert!(Parts::default().all().is_ok());
    }

    #[test]
    fn no_two_benches_have_one_name() {
        let names: std::collections::BTreeSet<_> = ALL.iter().map(|bench| bench.name).collect();
        assert_eq!(names.len(), ALL.len());
    }
}
