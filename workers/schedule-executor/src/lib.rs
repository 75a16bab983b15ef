//! Starts and stops resources when they should be, in every zone, and says why.
//!
//! The domain depends on no service that is switched: [`schedule`] decides when, [`rows`] and
//! [`store`] hold what, [`plan`] compares desired with observed. The gateway and the command use
//! these alone. With the feature `handlers` there is the worker too: [`job`] plans at a tick and
//! sends batches to its own queue, [`batch`] observes and acts through [`handlers`], and [`audit`]
//! keeps the reason of every action and every skip.

pub mod arn;
#[cfg(feature = "handlers")]
pub mod audit;
#[cfg(feature = "handlers")]
pub mod batch;
#[cfg(feature = "handlers")]
pub mod config;
#[cfg(feature = "handlers")]
pub mod handlers;
#[cfg(feature = "handlers")]
pub mod job;
pub mod message;
#[cfg(feature = "handlers")]
pub mod metrics;
pub mod plan;
#[cfg(feature = "handlers")]
pub mod resource;
pub mod rows;
pub mod schedule;
pub mod store;
#[cfg(feature = "handlers")]
pub mod tick;
