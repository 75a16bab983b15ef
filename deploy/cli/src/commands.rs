//! One module per subcommand.

pub(crate) mod demo;
mod demo_packages;
pub(crate) mod problem;
pub(crate) mod schema;
pub(crate) mod stack;
pub(crate) mod status;
pub(crate) mod submit;
pub(crate) mod up;
