//! Grades student submissions.
//!
//! A message names a submission in the bucket ([`message`]); [`locate`] finds out what exactly
//! is to be graded, [`problem`] fetches what it is tested with, [`grade`] runs the tests in a
//! sandbox, [`verdict`] judges each on this side of the wall (expected answers never enter a
//! cell), and [`publish`] makes the result durable, once.

pub mod config;
pub mod grade;
pub mod job;
pub mod locate;
pub mod message;
pub mod metrics;
pub mod names;
pub mod problem;
pub mod publish;
pub mod result;
pub mod verdict;

pub use config::GradingConfig;
pub use job::Grading;
