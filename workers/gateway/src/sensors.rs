//! Sensors: what they said, what is wrong between them, and both live.
//!
//! `GET /device/{id}`, `/device/scan`, `/problem/{id}` and `/problem/scan` have the shapes of the
//! original service, and so have the broadcasts at `/ws`. `POST /v1/readings` takes readings for
//! those who have no way to the queue. The tables' streams are the event bus: as long as somebody
//! listens, the gateway reads them itself (a shard takes two readers, so that is for a lone one).

mod config;
mod hub;
mod ingest;
mod rest;
mod socket;
mod tail;

use std::sync::Arc;

use anomaly_worker::tables::{Devices, Problems, Readings};
use aws_config::SdkConfig;
use axum::{
    Router,
    routing::{any, get, post},
};
use flotilla_runtime::aws;

pub use self::config::SensorsConfig;
use self::{hub::Hub, tail::Tail};

/// What the routes for sensors share.
#[derive(Debug)]
pub struct Sensors {
    config: SensorsConfig,
    sqs: aws_sdk_sqs::Client,
    devices: Devices,
    readings: Readings,
    problems: Problems,
    hub: Arc<Hub>,
}

impl Sensors {
    /// Sensors on the SDK's endpoint. Starts the task that follows the streams while somebody
    /// listens.
    pub fn new(config: SensorsConfig, sdk: &SdkConfig) -> Self {
        let dynamo = aws::dynamo_client(sdk);
        let streams = aws_sdk_dynamodbstreams::Client::new(sdk);
        let tails = [
            Tail::new(&dynamo, &streams, &config.problems_table, tail::problem),
            Tail::new(&dynamo, &streams, &config.readings_table, tail::reading),
        ];
        let hub = Arc::new(Hub::new(config.connections));
        tokio::spawn(tail::follow(Arc::clone(&hub), tails));
        Self {
            sqs: aws::sqs_client(sdk),
            devices: Devices::new(dynamo.clone(), &config.devices_table),
            readings: Readings::new(dynamo.clone(), &config.readings_table),
            problems: Problems::new(dynamo, &config.problems_table),
            hub,
            config,
        }
    }

    /// All routes for sensors.
    pub fn router(self) -> Router {
        Router::new()
            .route("/device/scan", get(rest::devices))
            .route("/device/{id}", get(rest::device))
            .route("/problem/scan", get(rest::problems))
            .route("/problem/{id}", get(rest::problem))
            .route("/v1/readings", post(ingest::readings))
            .route("/ws", any(socket::listen))
            .with_state(Arc::new(self))
    }
}
