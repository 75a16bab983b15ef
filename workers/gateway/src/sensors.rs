//! Sensors: what they said, what is wrong between them, and both live.
//!
//! `GET /device/{id}`, `/device/scan`, `/problem/{id}` and `/problem/scan` have the shapes of the
//! original service, and so have the broadcasts at `/ws`. Under `/v1` the same is found by filters
//! and pages, and `POST /v1/readings` takes readings for those who have no way to the queue. The
//! tables' streams are the event bus: as long as somebody listens, the gateway reads them itself (a
//! shard takes two readers, so that is for a lone one).

mod ask;
mod buckets;
mod config;
mod devices;
mod event;
mod events;
mod filter;
mod hub;
mod ingest;
mod listener;
mod notify;
mod position;
mod problems;
mod replay;
mod rest;
mod socket;
mod stream;
mod subscription;
mod tail;
mod topologies;
mod view;
mod zones;

use std::{sync::Arc, time::Duration};

use anomaly_worker::{
    tables::{Devices, Problems, Readings, Topologies},
    topology,
};
use aws_config::SdkConfig;
use axum::{
    Json, Router,
    extract::{DefaultBodyLimit, Request},
    http::StatusCode,
    middleware::{Next, from_fn},
    response::{IntoResponse, Response},
    routing::{any, get, post},
};
use flotilla_runtime::{Failure, aws};
use serde_json::json;
use tokio::time::timeout;

pub use self::{config::SensorsConfig, notify::Notify};
use self::{hub::Hub, stream::Stream, zones::Zones};

/// How long a request may take, its body included.
const PATIENCE: Duration = Duration::from_secs(30);
/// The largest body of most requests, in bytes.
const BODY: usize = 64 * 1024;

/// What the routes for sensors share.
#[derive(Debug)]
pub struct Sensors {
    config: SensorsConfig,
    sqs: aws_sdk_sqs::Client,
    devices: Devices,
    readings: Readings,
    problems: Problems,
    topologies: Topologies,
    zones: Arc<Zones>,
    streams: Arc<[Stream; 2]>,
    hub: Arc<Hub>,
}

impl Sensors {
    /// Sensors on the SDK's endpoint. Starts the tasks that follow the streams, while somebody
    /// listens, and the topologies.
    ///
    /// # Errors
    /// Permanent, where somebody is to be notified and this machine has no certificates to trust.
    pub fn new(config: SensorsConfig, sdk: &SdkConfig) -> Result<Self, Failure> {
        let dynamo = aws::dynamo_client(sdk);
        let streams = aws_sdk_dynamodbstreams::Client::new(sdk);
        let tables = [&config.problems_table, &config.readings_table];
        let streams = Arc::new(tables.map(|table| Stream::new(&dynamo, &streams, table)));
        let hub = Arc::new(Hub::new(config.connections));
        tokio::spawn(tail::follow(Arc::clone(&hub), Arc::clone(&streams)));
        let topologies = Topologies::new(dynamo.clone(), &config.edges_table);
        let zones = Arc::new(Zones::default());
        tokio::spawn(Arc::clone(&zones).follow(topologies.clone()));
        let problems = Problems::new(dynamo.clone(), &config.problems_table);
        if let Some(notify) = &config.notify {
            notify::start(notify, sdk, &problems, &streams, &zones)?;
        }
        Ok(Self {
            sqs: aws::sqs_client(sdk),
            devices: Devices::new(dynamo.clone(), &config.devices_table),
            readings: Readings::new(dynamo, &config.readings_table),
            problems,
            topologies,
            zones,
            streams,
            hub,
            config,
        })
    }

    /// All routes for sensors.
    pub fn router(self) -> Router {
        Router::new()
            .route("/device/scan", get(rest::devices))
            .route("/device/{id}", get(rest::device))
            .route("/problem/scan", get(rest::problems))
            .route("/problem/{id}", get(rest::problem))
            .merge(v1())
            .layer(from_fn(in_time))
            .route("/ws", any(socket::listen))
            .route("/v1/events", get(events::listen))
            .with_state(Arc::new(self))
    }
}

fn v1() -> Router<Arc<Sensors>> {
    let readings = post(ingest::readings).layer(DefaultBodyLimit::max(ingest::BODY));
    let topology = get(topologies::one).put(topologies::put).delete(topologies::delete);
    let topology = topology.layer(DefaultBodyLimit::max(topology::TEXT_LIMIT));
    Router::new()
        .route("/v1/devices", get(devices::list))
        .route("/v1/devices/{id}", get(devices::one))
        .route("/v1/devices/{id}/measurements", get(devices::measurements))
        .route("/v1/late", get(devices::late))
        .route("/v1/problems", get(problems::list))
        .route("/v1/problems/{id}", get(problems::one))
        .route("/v1/problems/{id}/acknowledge", post(problems::acknowledge))
        .route("/v1/topologies", get(topologies::list))
        .layer(DefaultBodyLimit::max(BODY))
        .route("/v1/topologies/{name}", topology)
        .route("/v1/readings", readings)
}

/// Ends what takes too long: a body that does not come, a table that does not answer.
async fn in_time(request: Request, next: Next) -> Response {
    let late = || {
        let why = format!("not done within {} s: try again", PATIENCE.as_secs());
        (StatusCode::SERVICE_UNAVAILABLE, Json(json!({ "error": why }))).into_response()
    };
    timeout(PATIENCE, next.run(request)).await.unwrap_or_else(|_| late())
}
