//! The gateway's settings.

use std::{net::SocketAddr, time::Duration};

use flotilla_runtime::config::Reader;

use crate::{
    packages::PackagesConfig, schedule::ScheduleConfig, sensors::SensorsConfig, throttle::Rate,
};

/// What the gateway needs to know.
#[derive(Debug, Clone)]
pub struct GatewayConfig {
    /// `FLOTILLA_GATEWAY_ADDR`: where it listens (default `127.0.0.1:8080`); loopback only.
    pub addr: SocketAddr,
    /// `FLOTILLA_HEAD_SECONDS`: how long the head of a request may take, and how long a connection
    /// may ask nothing (default 30 s).
    pub head: Duration,
    /// `FLOTILLA_FLEET_TABLE`: where it writes down what it sends to each queue, for the autoscaler
    /// (see `flotilla_runtime::tally`); nowhere, where that is not set.
    pub fleet_table: Option<String>,
    /// The part for packages, where `FLOTILLA_COMPILE_QUEUE_URL` is set.
    pub packages: Option<PackagesConfig>,
    /// `FLOTILLA_TIME_RATE` and `FLOTILLA_TIME_BURST`: how often `GET /time` is answered, in
    /// requests a second and at once (default 100 and 100; the original service had 1 and 1).
    pub time_rate: Rate,
    /// The scheduler's part, where its tables are named.
    pub schedule: Option<ScheduleConfig>,
    /// The part for sensors, where `FLOTILLA_ANOMALY_QUEUE_URL` is set.
    pub sensors: Option<SensorsConfig>,
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
        let time_rate = Rate {
            per_second: settings.ranged("FLOTILLA_TIME_RATE", 100.0, 0.001..=1e6),
            burst: settings.ranged("FLOTILLA_TIME_BURST", 100, 1..=1_000_000),
        };
        Self {
            addr,
            head: settings.seconds("FLOTILLA_HEAD_SECONDS", 30.0, (0.1, 3600.0)),
            fleet_table: settings.optional("FLOTILLA_FLEET_TABLE"),
            packages: PackagesConfig::read(settings),
            time_rate,
            schedule: ScheduleConfig::read(settings),
            sensors: SensorsConfig::read(settings),
        }
    }
}
