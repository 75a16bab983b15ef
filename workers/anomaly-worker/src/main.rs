//! The anomaly worker's process.

use std::process::ExitCode;

use anomaly_worker::{Anomaly, AnomalyConfig};
use flotilla_runtime::{
    aws,
    config::{Reader, WorkerConfig},
    shutdown, telemetry,
};

#[tokio::main]
async fn main() -> ExitCode {
    telemetry::init();
    match start().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn start() -> Result<(), Box<dyn std::error::Error>> {
    let mut settings = Reader::from_env();
    let mut worker = WorkerConfig::read(&mut settings);
    let anomaly = AnomalyConfig::read(&mut settings, &mut worker);
    settings.finish()?;
    let sdk = aws::sdk_config().await;
    let job = Anomaly::new(anomaly, &sdk);
    Ok(flotilla_runtime::run(job, worker, &sdk, shutdown::on_signals()?).await?)
}
