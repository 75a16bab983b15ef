//! One module per subcommand.

pub(crate) mod autoscale;
pub(crate) mod demo;
mod demo_packages;
mod demo_schedule;
mod demo_sensors;
pub(crate) mod dlq;
pub(crate) mod orders;
mod overrides;
pub(crate) mod problem;
pub(crate) mod replay;
pub(crate) mod resource;
pub(crate) mod schedule;
pub(crate) mod schema;
pub(crate) mod sensors;
pub(crate) mod stack;
pub(crate) mod status;
pub(crate) mod submit;
pub(crate) mod up;
