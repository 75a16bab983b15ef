//! The anomaly worker's process.

use std::process::ExitCode;

use anomaly_worker::{Anomaly, AnomalyConfig};
use flotilla_runtime::{Batched, process};

/// The SDK allocates so much that the C library's allocator took a sixth of a message's time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> ExitCode {
    let job = |config, sdk: &_| Ok(Batched::new(Anomaly::new(config, sdk)));
    process::worker(AnomalyConfig::read, job).await
}
