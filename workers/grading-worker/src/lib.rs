//! Grades student submissions.
//!
//! A message names a submission in the bucket ([`message`]); `locate` finds out what exactly
//! is to be graded, `problem` fetches what it is tested with, `grade` runs the tests in a
//! sandbox, `verdict` judges each on this side of the wall (expected answers never enter a
//! cell), and `publish` makes the result durable, once.

pub mod cases;
pub mod message;
pub mod names;

#[cfg(feature = "worker")]
pub mod claims;
#[cfg(feature = "worker")]
pub mod config;
#[cfg(feature = "worker")]
pub mod grade;
#[cfg(feature = "worker")]
pub mod job;
#[cfg(feature = "worker")]
pub mod locate;
#[cfg(feature = "worker")]
pub mod metrics;
#[cfg(feature = "worker")]
pub mod problem;
#[cfg(feature = "worker")]
pub mod publish;
#[cfg(feature = "worker")]
pub mod result;
#[cfg(feature = "worker")]
pub mod verdict;
#[cfg(feature = "worker")]
pub mod versions;

#[cfg(feature = "worker")]
pub use config::GradingConfig;
#[cfg(feature = "worker")]
pub use job::Grading;
