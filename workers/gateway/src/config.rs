//! The gateway's settings.

use std::net::SocketAddr;

use flotilla_runtime::config::Reader;

use crate::packages::PackagesConfig;

/// What the gateway needs to know.
#[derive(Debug, Clone)]
pub struct GatewayConfig {
    /// `FLOTILLA_GATEWAY_ADDR`: where it listens (default `127.0.0.1:8080`); loopback only.
    pub addr: SocketAddr,
    /// The part for packages, where `FLOTILLA_COMPILE_QUEUE_URL` is set.
    pub packages: Option<PackagesConfig>,
}

impl GatewayConfig {
    /// Reads the settings.
    pub fn read(settings: &mut Reader) -> Self {
        let default = SocketAddr::from(([127, 0, 0, 1], 8080));
        let addr = settings.parsed("FLOTILLA_GATEWAY_ADDR", default);
        if !addr.ip().is_loopback() {
            settings.mistake(
                "FLOTILLA_GATEWAY_ADDR must be a loopback address: the gateway has no keys yet",
            );
        }
        Self { addr, packages: PackagesConfig::read(settings) }
    }
}
