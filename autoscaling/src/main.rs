//! The autoscaler's process.

use std::process::ExitCode;

use flotilla_autoscaling::live::{self, AutoscalerConfig};
use flotilla_runtime::{aws, config::Reader, process};

#[tokio::main]
async fn main() -> ExitCode {
    process::run(async |stop| {
        let mut settings = Reader::from_env();
        let config = AutoscalerConfig::read(&mut settings);
        settings.finish()?;
        Ok(live::run(config, &aws::sdk_config().await, stop).await?)
    })
    .await
}
