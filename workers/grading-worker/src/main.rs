//! The grading worker's process.

use std::process::ExitCode;

use flotilla_runtime::process;
use grading_worker::{Grading, GradingConfig};

/// The SDK allocates so much that the C library's allocator took a sixth of a message's time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> ExitCode {
    process::worker(GradingConfig::read, |config, sdk| Ok(Grading::new(config, sdk))).await
}
