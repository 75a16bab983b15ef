//! The operator's command, `flotilla`, as a library: stacks, submissions and the local fleet.
//!
//! The tests use it too, so that stacks are made in one way everywhere: see [`aws::Clients`] and
//! [`stack::Stack`].

pub mod aws;
pub mod cli;
mod commands;
mod error;
mod http;
pub mod names;
pub mod stack;

pub use error::{Error, chain};
