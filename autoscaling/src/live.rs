//! The process `autoscaler`: looks, decides, does it, and logs it, in turns.
//!
//! It is *level-triggered*: every turn begins from what there is, so that a lost event, a crash or
//! a call that failed changes nothing but the time. It launches by the group's desired capacity,
//! and ends instances by name alone, in two steps: an order to drain in the row of the instance
//! (see `flotilla_runtime::presence`), and its termination once the worker said that it holds
//! nothing.

mod account;
mod act;
mod books;
mod config;
mod fleet;
mod group;
mod hearing;
mod log;
mod look;
mod metrics;
mod owner;
mod queues;
mod sightings;
mod turn;
mod wanted;
mod watch;

pub use config::AutoscalerConfig;
pub use turn::run;

use std::time::{SystemTime, UNIX_EPOCH};

use crate::observed::Millis;

fn now_ms() -> Millis {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as Millis)
}
