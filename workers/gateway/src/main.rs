//! The gateway's process.

use std::{error::Error, process::ExitCode};

use flotilla_runtime::{aws, config::Reader, shutdown, telemetry};
use gateway::{
    GatewayConfig,
    packages::{self, Packages},
};
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> ExitCode {
    telemetry::init();
    match serve().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn serve() -> Result<(), Box<dyn Error>> {
    let mut settings = Reader::from_env();
    let config = GatewayConfig::read(&mut settings);
    settings.finish()?;
    let stop = shutdown::on_signals()?;
    let listener = TcpListener::bind(config.addr).await?;
    tracing::info!(addr = %listener.local_addr()?, "listening");
    let mut router = gateway::router();
    if let Some(packages) = config.packages {
        let sdk = aws::sdk_config().await;
        router = router.merge(packages::router(Packages::new(packages, &sdk)?));
    }
    axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()).await?;
    Ok(())
}
