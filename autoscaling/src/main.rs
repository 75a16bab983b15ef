//! The autoscaler's process.

use std::process::ExitCode;

use flotilla_autoscaling::live::{self, AutoscalerConfig};
use flotilla_runtime::{
    args::{self, About},
    aws,
    config::Reader,
    process,
};

/// What it says of itself.
const ABOUT: About = About {
    name: "autoscaler",
    version: env!("CARGO_PKG_VERSION"),
    what: "Scales the Auto Scaling group of a fleet's workers.",
    guide: "autoscaling/README.md",
};

#[tokio::main]
async fn main() -> ExitCode {
    if let Some(code) = args::answered(&ABOUT) {
        return code;
    }
    process::run(async |stop| {
        let mut settings = Reader::from_env();
        let config = AutoscalerConfig::read(&mut settings);
        settings.finish()?;
        Ok(live::run(config, &aws::sdk_config().await, stop).await?)
    })
    .await
}
