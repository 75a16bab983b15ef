//! `POST /v1/readings`: readings by HTTP, on to the queue.

use std::sync::Arc;

use anomaly_worker::message::AnomalyMessage;
use aws_sdk_sqs::types::SendMessageBatchRequestEntry as Entry;
use axum::{
    Json,
    extract::{State, rejection::JsonRejection},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use flotilla_runtime::{Failure, failure::chain};
use futures::{StreamExt, TryStreamExt, stream};
use serde_json::{Value, json};

use super::Sensors;

/// The most readings of a request.
const READINGS: usize = 10_000;
/// The most messages of a call.
const BATCH: usize = 10;
/// Calls on their way at a time.
const AT_A_TIME: usize = 8;

/// Takes a reading, or a list of them (`[…]` or `{"readings": […]}`), in any shape that the queue
/// takes. 202: what is not refused is on the queue. 400: nothing is.
pub(super) async fn readings(
    State(sensors): State<Arc<Sensors>>,
    body: Result<Json<Value>, JsonRejection>,
) -> Response {
    let readings = match body {
        Ok(Json(body)) => list(body),
        Err(why) => return refusal(why.status(), &why.body_text()),
    };
    if readings.len() > READINGS {
        let why =
            format!("{} readings are more than {READINGS}: send them in parts", readings.len());
        return refusal(StatusCode::PAYLOAD_TOO_LARGE, &why);
    }
    let (mut good, mut refused) = (Vec::new(), Vec::new());
    for (index, reading) in readings.into_iter().enumerate() {
        let body = reading.to_string();
        match AnomalyMessage::try_from(reading) {
            Ok(_) => good.push(body),
            Err(why) => refused.push(json!({ "index": index, "error": why })),
        }
    }
    let status = if good.is_empty() { StatusCode::BAD_REQUEST } else { StatusCode::ACCEPTED };
    match sensors.send(&good).await {
        Ok(()) => {
            let answer = json!({ "accepted": good.len(), "refused": refused });
            (status, Json(answer)).into_response()
        }
        Err(failure) => refusal(
            StatusCode::SERVICE_UNAVAILABLE,
            &format!("{failure}: some may be on the queue; send all of them again"),
        ),
    }
}

fn list(body: Value) -> Vec<Value> {
    match body {
        Value::Array(readings) => readings,
        Value::Object(mut fields) if fields.get("readings").is_some_and(Value::is_array) => {
            match fields.remove("readings") {
                Some(Value::Array(readings)) => readings,
                _ => Vec::new(),
            }
        }
        one => vec![one],
    }
}

fn refusal(status: StatusCode, why: &str) -> Response {
    (status, Json(json!({ "error": why }))).into_response()
}

impl Sensors {
    async fn send(&self, bodies: &[String]) -> Result<(), Failure> {
        let calls: Vec<_> = bodies.chunks(BATCH).map(|bodies| self.send_batch(bodies)).collect();
        stream::iter(calls).buffer_unordered(AT_A_TIME).try_collect().await
    }

    async fn send_batch(&self, bodies: &[String]) -> Result<(), Failure> {
        let url = &self.config.queue_url;
        let failed =
            |why: String| Failure::transient("sqs", format!("SendMessageBatch to {url}: {why}"));
        let mut call = self.sqs.send_message_batch().queue_url(url);
        for (number, body) in bodies.iter().enumerate() {
            let entry = Entry::builder().id(number.to_string()).message_body(body).build();
            call = call.entries(entry.map_err(|e| failed(e.to_string()))?);
        }
        let answer = call.send().await.map_err(|e| failed(chain(&e)))?;
        match answer.failed().first() {
            None => Ok(()),
            Some(entry) => Err(failed(entry.message().unwrap_or(entry.code()).to_owned())),
        }
    }
}
