//! The autoscaler's process.

use std::process::ExitCode;

use flotilla_autoscaling::live::{self, AutoscalerConfig};
use flotilla_runtime::{aws, config::Reader, shutdown, telemetry};

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
    let config = AutoscalerConfig::read(&mut settings);
    settings.finish()?;
    let sdk = aws::sdk_config().await;
    Ok(live::run(config, &sdk, shutdown::on_signals()?).await?)
}
