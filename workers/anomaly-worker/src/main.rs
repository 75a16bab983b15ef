//! The anomaly worker's process.

use std::process::ExitCode;

use anomaly_worker::{Anomaly, AnomalyConfig};
use flotilla_runtime::{
    Batched,
    args::{self, About},
    process,
};

/// The SDK allocates so much that the C library's allocator took a sixth of a message's time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What it says of itself.
const ABOUT: About = About {
    name: "anomaly-worker",
    version: env!("CARGO_PKG_VERSION"),
    what: "Compares sensors by their readings from a queue.",
    guide: "workers/anomaly-worker/README.md",
};

#[tokio::main]
async fn main() -> ExitCode {
    if let Some(code) = args::answered(&ABOUT) {
        return code;
    }
    let job = |config, sdk: &_| Ok(Batched::new(Anomaly::new(config, sdk)));
    process::worker(AnomalyConfig::read, job).await
}
