//! What a policy costs and how long it has jobs wait, found by running it on a trace.
//!
//! [`run`] moves jobs, instances and what is seen of them from event to event: instances take a
//! drawn time to boot, are paid for from their launch on and for a minimum at least; counts of the
//! queue are late and noisy; an order to drain takes its time, and may meet a job that has just begun;
//! instances are lost at random and their jobs done again, whose time is
//! paid for like any other. A [`Scaler`] looks at it as it would at a real group: [`Ours`] calls
//! [`decide`](crate::decide) and nothing else, the [others](policies) follow their published
//! formulas, and [`clairvoyant()`](clairvoyant::clairvoyant) says what the cheapest schedule without
//! any wait costs.

pub mod clairvoyant;
mod engine;
mod figures;
mod group;
mod limits;
mod named;
mod ours;
mod picture;
pub mod policies;
mod scaler;
mod sight;
mod synthetic;
mod table;
mod trace;

pub use engine::{Outcome, run};
pub use figures::{Interval, Point, dominated, front, quantile};
pub use limits::{Limits, Rate};
pub use named::{NAMES, named};
pub use ours::Ours;
pub use picture::Format;
pub use scaler::{Kill, Order, Scaler, View};
pub use synthetic::Shape;
pub use table::table;
pub use trace::{Job, Trace, TraceError};

use crate::observed::Millis;

/// How the simulated world behaves.
#[derive(Debug, Clone, PartialEq)]
pub struct World {
    /// The median of the time from a launch to readiness.
    pub boot_ms: Millis,
    /// The standard deviation of the boot time's logarithm (boot times are log-normal).
    pub boot_spread: f64,
    /// An instance is paid for at least this long.
    pub minimum_billed_ms: Millis,
    /// How late the queue's counts are.
    pub lag_ms: Millis,
    /// The standard deviation of the counts' error, as a part of the count.
    pub noise: f64,
    /// Whether all senders count what they send, so that the fleet's books tell what is there (in
    /// the process: `FLOTILLA_COUNTED_QUEUES`). What is finished the workers count in any case.
    pub books: bool,
    /// How late the books are, at the most: each of the two sums is as it was a drawn time ago.
    pub books_lag_ms: Millis,
    /// How long an order to drain is on its way, at the most, for a policy that writes it into a row: the
    /// worker finds it at its next beat, and the policy at its next look that it was heeded. With zero
    /// an instance is gone with the order.
    pub order_ms: Millis,
    /// After how long a job that met such an order is cut off; never without.
    pub grace_ms: Option<Millis>,
    /// Losses of instances per instance and hour.
    pub losses_per_hour: f64,
    /// After how long the job of a lost instance is visible again.
    pub visibility_ms: Millis,
    /// Never more instances.
    pub max: u32,
    /// What the services around it allow; everything, without.
    pub limits: Option<Limits>,
    /// What all that is drawn depends on.
    pub seed: u64,
}

impl Default for World {
    fn default() -> Self {
        Self {
            boot_ms: 120_000,
            boot_spread: 0.1,
            minimum_billed_ms: 60_000,
            lag_ms: 10_000,
            noise: 0.05,
            books: true,
            books_lag_ms: 2_000,
            order_ms: 6_000,
            grace_ms: None,
            losses_per_hour: 0.0,
            visibility_ms: 30_000,
            max: 100_000,
            limits: None,
            seed: 1,
        }
    }
}

#[cfg(test)]
mod tests;
