//! The gateway's process.

use std::{error::Error, process::ExitCode};

use flotilla_runtime::{config::Reader, shutdown, telemetry};
use gateway::GatewayConfig;
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
    axum::serve(listener, gateway::router()).with_graceful_shutdown(stop.cancelled_owned()).await?;
    Ok(())
}
