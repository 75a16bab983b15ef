//! Other people's policies, from their published formulas.
//!
//! Each is a few lines of arithmetic, tested on the examples of its own documentation, and a
//! [`Scaler`] that keeps what it remembers between looks.

mod aws;
mod buildkite;
mod keda;
mod knative;

pub use aws::TargetTracking;
pub use buildkite::Buildkite;
pub use keda::Keda;
pub use knative::Knative;

use super::{Kill, Order, Scaler, View};
use crate::observed::Millis;

/// Always so many instances.
#[derive(Debug, Clone, Copy)]
pub struct Static(pub u32);

impl Scaler for Static {
    fn every_ms(&self) -> Millis {
        60_000
    }

    fn look(&mut self, _: &View<'_>) -> Order {
        Order::size(self.0, Kill::None)
    }
}

/// What a policy sees that looks at counts and sizes alone.
#[cfg(test)]
fn seen(
    observed: &crate::Observed,
    visible: u64,
    in_flight: u64,
    ready: u32,
    live: u32,
) -> View<'_> {
    View { now: 0, observed, visible, in_flight, ready, live }
}

/// How many of `per` hold `count`.
fn divided(count: f64, per: f64) -> u32 {
    // A float becomes the nearest whole number that there is; none is u32::MAX here.
    (count / per.max(f64::MIN_POSITIVE)).ceil() as u32
}
