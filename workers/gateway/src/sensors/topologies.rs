//! `/v1/topologies`: which sensor follows which, uploaded in TOML or JSON.

use std::sync::Arc;

use anomaly_worker::{
    tables::{NotStored, now_ms},
    topology::Format,
};
use axum::{
    Json,
    body::Bytes,
    extract::{State, rejection::BytesRejection},
    http::{HeaderMap, StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};

use super::{
    Sensors,
    ask::{DeviceId, Refused},
};

type Answer = Result<Json<Value>, Refused>;

/// `GET /v1/topologies`: their names, and since when each holds.
pub(super) async fn list(State(it): State<Arc<Sensors>>) -> Answer {
    let index = it.topologies.index().await?;
    let topologies = index.names.iter().map(|(name, stored)| {
        json!({ "name": name, "format": stored.format, "at": stored.at, "version": stored.stored })
    });
    let topologies: Vec<_> = topologies.collect();
    Ok(Json(json!({ "version": index.version, "topologies": topologies })))
}

/// `GET /v1/topologies/{name}`: its text as it was uploaded.
pub(super) async fn one(
    State(it): State<Arc<Sensors>>,
    DeviceId(name): DeviceId,
) -> Result<Response, Refused> {
    let index = it.topologies.index().await?;
    let stored = index.names.get(&name).ok_or_else(|| missing(&name))?;
    let text = it.topologies.text(&name, stored).await?;
    Ok(([(CONTENT_TYPE, format!("application/{}", stored.format))], text).into_response())
}

/// `PUT /v1/topologies/{name}`: in place of the one of that name, unless it is refused: then with
/// every fault and its place.
pub(super) async fn put(
    State(it): State<Arc<Sensors>>,
    DeviceId(name): DeviceId,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Answer {
    let body =
        body.map_err(|why| Refused::Other(why.status(), json!({ "error": why.body_text() })))?;
    let text = std::str::from_utf8(&body).map_err(|e| Refused::Bad(format!("the body: {e}")))?;
    let stored = it.topologies.put(&name, text, format(&headers, text)?, now_ms()).await;
    match stored {
        Ok(version) => {
            it.zones.refresh(&it.topologies).await?;
            Ok(Json(json!({ "name": name, "version": version })))
        }
        Err(NotStored::Failed(failure)) => Err(Refused::Down(failure)),
        Err(NotStored::Refused(why)) => {
            let body = json!({ "error": why.to_string(), "faults": why.faults });
            Err(Refused::Other(StatusCode::BAD_REQUEST, body))
        }
    }
}

/// `DELETE /v1/topologies/{name}`.
pub(super) async fn delete(
    State(it): State<Arc<Sensors>>,
    DeviceId(name): DeviceId,
) -> Result<StatusCode, Refused> {
    match it.topologies.remove(&name).await? {
        true => {
            it.zones.refresh(&it.topologies).await?;
            Ok(StatusCode::NO_CONTENT)
        }
        false => Err(missing(&name)),
    }
}

/// As the content type says, else as the text begins.
fn format(headers: &HeaderMap, text: &str) -> Result<Format, Refused> {
    let kind = headers.get(CONTENT_TYPE).and_then(|it| it.to_str().ok()).unwrap_or_default();
    match kind.split(';').next().unwrap_or_default().trim() {
        "application/json" => Ok(Format::Json),
        "application/toml" | "text/toml" | "text/x-toml" => Ok(Format::Toml),
        "" | "text/plain" | "application/octet-stream" | "application/x-www-form-urlencoded" => {
            Ok(if text.trim_start().starts_with('{') { Format::Json } else { Format::Toml })
        }
        other => {
            let why = format!("content-type is {other:.60?}: application/toml or application/json");
            Err(Refused::Other(StatusCode::UNSUPPORTED_MEDIA_TYPE, json!({ "error": why })))
        }
    }
}

fn missing(name: &str) -> Refused {
    Refused::Missing(format!("there is no topology {name}"))
}
