//! The anomaly worker's process.

use std::process::ExitCode;

use anomaly_worker::{Anomaly, AnomalyConfig};
use flotilla_runtime::process;

#[tokio::main]
async fn main() -> ExitCode {
    process::worker(AnomalyConfig::read, |config, sdk| Ok(Anomaly::new(config, sdk))).await
}
