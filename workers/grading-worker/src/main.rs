//! The grading worker's process.

use std::process::ExitCode;

use flotilla_runtime::process;
use grading_worker::{Grading, GradingConfig};

#[tokio::main]
async fn main() -> ExitCode {
    process::worker(GradingConfig::read, |config, sdk| Ok(Grading::new(config, sdk))).await
}
