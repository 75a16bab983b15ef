//! HTTP for Flotilla: turns requests into messages, and rows into answers.
//!
//! One module per domain, each with its own router and state; [`router`] puts them together. The
//! same router runs as a process here and could on Lambda. Workers do not know the gateway.
//! Until it has keys and roles, it listens on loopback only.

pub mod clock;
pub mod config;
pub mod cors;
pub mod measured;
pub mod packages;
pub mod schedule;
pub mod sensors;
pub mod serve;
pub mod throttle;
mod traced;
mod unserved;

use aws_config::SdkConfig;
use axum::{Router, middleware, routing::get};
use flotilla_runtime::Failure;

pub use config::GatewayConfig;

/// All that the gateway serves with these settings.
///
/// # Errors
/// What the parts for packages and sensors need and cannot have (see [`packages::Packages::new`] and
/// [`sensors::Sensors::new`]).
pub fn router(config: GatewayConfig, sdk: &SdkConfig) -> Result<Router, Failure> {
    let ok = || get(|| std::future::ready("ok\n"));
    let mut router = Router::new().route("/healthz", ok()).route("/readyz", ok());
    router = router.merge(clock::router(config.time_rate));
    if let Some(packages) = config.packages {
        router = router.merge(packages::router(packages::Packages::new(packages, sdk)?));
    }
    if let Some(schedule) = config.schedule {
        router = router.merge(schedule::Schedules::new(schedule, sdk).router());
    }
    if let Some(sensors) = config.sensors {
        router = router.merge(sensors::Sensors::new(sensors, sdk)?.router());
    }
    Ok(router.fallback(unserved::path).layer(middleware::from_fn(measured::measured)))
}
