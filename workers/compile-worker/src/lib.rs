//! Builds source packages with the options asked for, network off, once.
//!
//! An order ([`message`]) names a package, a version and an option set ([`options`]); its row in
//! the table of [`builds`] was there before it, so that all who ask for the same wait for one
//! build. An [`ecosystem`] makes the artifact; the first is [`pypi`]: the source comes from
//! [`upstream`] and is looked into ([`sdist`]), its build requirements are resolved to wheels
//! ([`resolve`]), and all of it goes into a fresh container ([`recipe`]). What comes out is
//! checked ([`check`]) and published ([`publish`]). The second is [`crates`]. The gateway uses the
//! same tables and names.

pub mod builder;
pub mod builds;
pub mod check;
pub mod config;
mod container;
pub mod crates;
pub mod ecosystem;
pub mod ecosystems;
pub mod error;
#[cfg(test)]
mod fake;
pub mod groups;
pub mod job;
pub mod keys;
mod live;
pub mod message;
pub mod metadata;
pub mod metrics;
pub mod names;
pub mod options;
pub mod packages;
pub mod progress;
pub mod publish;
pub mod pypi;
pub mod recipe;
pub mod requirement;
pub mod resolve;
mod retention;
pub mod sdist;
pub mod steps;
pub mod upstream;
pub mod versions;
pub mod wish;

pub use config::CompileConfig;
pub use job::Compile;
