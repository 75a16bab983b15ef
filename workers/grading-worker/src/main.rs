//! The grading worker's process.

use std::process::ExitCode;

use flotilla_runtime::{
    args::{self, About},
    process,
};
use grading_worker::{Grading, GradingConfig};

/// The SDK allocates so much that the C library's allocator took a sixth of a message's time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What it says of itself.
const ABOUT: About = About {
    name: "grading-worker",
    version: env!("CARGO_PKG_VERSION"),
    what: "Grades submissions from a queue.",
    guide: "workers/grading-worker/README.md",
};

#[tokio::main]
async fn main() -> ExitCode {
    if let Some(code) = args::answered(&ABOUT) {
        return code;
    }
    process::worker(GradingConfig::read, |config, sdk| Ok(Grading::new(config, sdk))).await
}
