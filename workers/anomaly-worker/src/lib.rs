//! Compares neighbouring sensors: one blockage is one problem, opened and resolved at the right
//! time, whatever order readings come in.
//!
//! A [`message`] is a [`reading`] of a device. It is stored under a key of its own ([`tables`]),
//! and then both edges of the device ([`topology`]) are looked at again: the [`engine`] makes the
//! problems of an edge a function of the set of readings of its two ends, and what differs from
//! the table of problems is written. The gateway serves the same tables.

pub mod engine;
#[cfg(test)]
mod fake;
pub mod message;
pub mod reading;
pub mod replay;
pub mod root;
pub mod tables;
pub mod topology;

#[cfg(feature = "worker")]
pub mod config;
#[cfg(feature = "worker")]
mod crew;
#[cfg(feature = "worker")]
pub mod job;
#[cfg(feature = "worker")]
pub mod metrics;
#[cfg(feature = "worker")]
mod plans;
#[cfg(feature = "worker")]
mod turns;

#[cfg(feature = "worker")]
pub use config::AnomalyConfig;
#[cfg(feature = "worker")]
pub use job::Anomaly;
