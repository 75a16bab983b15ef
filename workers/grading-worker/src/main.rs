//! The grading worker's process.

use std::process::ExitCode;

use flotilla_runtime::{
    aws,
    config::{Reader, WorkerConfig},
    shutdown, telemetry,
};
use grading_worker::{Grading, GradingConfig};

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
    let worker = WorkerConfig::read(&mut settings);
    let grading = GradingConfig::read(&mut settings, &worker);
    settings.finish()?;
    let sdk = aws::sdk_config().await;
    let job = Grading::new(grading, &sdk);
    Ok(flotilla_runtime::run(job, worker, &sdk, shutdown::on_signals()?).await?)
}
