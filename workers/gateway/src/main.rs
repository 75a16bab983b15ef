//! The gateway's process.

use std::{error::Error, process::ExitCode, time::Duration};

use axum::routing::get;
use flotilla_runtime::{
    args::{self, About},
    aws,
    config::Reader,
    health, metrics, process, tally,
};
use gateway::{GatewayConfig, measured};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// How long a stop waits for answers: longer than a wheel is held back, shorter than `wait=1` may.
const GRACE: Duration = Duration::from_secs(14);

/// The SDK allocates so much that the C library's allocator took a sixth of a message's time in the workers.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What it says of itself.
const ABOUT: About = About {
    name: "gateway",
    version: env!("CARGO_PKG_VERSION"),
    what: "The gateway of a Flotilla fleet: its index of packages and its HTTP interface.",
    guide: "workers/gateway/README.md",
};

#[tokio::main]
async fn main() -> ExitCode {
    if let Some(code) = args::answered(&ABOUT) {
        return code;
    }
    process::run(serve).await
}

async fn serve(stop: CancellationToken) -> Result<(), Box<dyn Error>> {
    let mut settings = Reader::from_env();
    let config = GatewayConfig::read(&mut settings);
    settings.finish()?;
    let listener = TcpListener::bind(config.addr).await?;
    tracing::info!(addr = %listener.local_addr()?, "listening");
    let (head, table) = (config.head, config.fleet_table.clone());
    let counted = metrics::install("gateway")?;
    measured::describe();
    tokio::spawn(health::keep_up(counted.clone(), stop.clone()));
    let sdk = aws::sdk_config().await;
    let router = gateway::router(config, &sdk)?;
    let router = router.route("/metrics", get(move || std::future::ready(counted.render())));
    let serving = gateway::serve::serve(listener, router, head, &stop);
    let cut_off = async {
        stop.cancelled().await;
        tokio::time::sleep(GRACE).await;
    };
    let served = async {
        tokio::select! {
            () = serving => {}
            () = cut_off => {}
        }
    };
    tally::telling(table.as_deref(), aws::dynamo_client(&sdk), served).await;
    Ok(())
}
