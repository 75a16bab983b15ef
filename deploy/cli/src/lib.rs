//! The operator's command, `flotilla`, as a library: stacks, submissions and the local fleet.
//!
//! The tests use it too, so that stacks are made in one way everywhere: see [`aws::Clients`],
//! [`stack::Stack`] and [`submission::Submission`].

pub mod aws;
mod bucket;
pub mod cli;
mod commands;
mod console;
mod containers;
mod dead_letters;
mod depth;
mod error;
mod examples;
mod fleet;
mod http;
mod kind;
mod ministack;
pub mod names;
mod places;
mod process;
mod progress;
mod signed;
mod signing;
pub mod stack;
mod stop;
pub mod submission;
mod target;
mod ticker;
mod verdict;
mod versions;
mod worker;

pub use error::{Error, chain};
