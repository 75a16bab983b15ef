//! Requests of programs: the original's `GET /package`, and `/v1/builds`.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    Json,
    extract::{Path, Query, State as Shared},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Redirect, Response},
};
use compile_worker::{
    builds::{PYPI, Request, Row, State},
    message::CompileMessage,
    options::Options,
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Packages, answer::Refusal, index::part};

/// How long `wait=1` waits.
const WAIT: Duration = Duration::from_secs(900);

/// The query of `GET /package`.
#[derive(Debug, Deserialize)]
pub(super) struct Asked {
    package: Option<String>,
    version: Option<String>,
    useflag: Option<String>,
    wait: Option<String>,
}

/// The body of `POST /v1/builds`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Order {
    #[serde(default = "pypi")]
    ecosystem: String,
    package: String,
    version: String,
    #[serde(default)]
    options: BTreeMap<String, Value>,
}

fn pypi() -> String {
    PYPI.to_owned()
}

/// `GET /package?package=&version=&useflag=[&wait=1]`, in the original's shape.
pub(super) async fn package(
    Shared(packages): Shared<Arc<Packages>>,
    Query(asked): Query<Asked>,
) -> Response {
    let state = match answer(&packages, asked).await {
        Ok(state) => state,
        Err(Refusal::Bad(why)) => return Refusal::Bad(why).into_response(),
        Err(refusal) => {
            let body = json!({ "status": "FAILED", "errorMessage": refusal.why() });
            return refusal.with(Json(body));
        }
    };
    Json(state).into_response()
}

async fn answer(packages: &Packages, asked: Asked) -> Result<Value, Refusal> {
    let need = |value: Option<String>, name: &str| {
        value.ok_or_else(|| Refusal::Bad(format!("the parameter {name} is missing")))
    };
    let package = need(asked.package, "package")?;
    let version = need(asked.version, "version")?;
    let options: Options = need(asked.useflag, "useflag")?.parse()?;
    let name = package.strip_prefix("pypi/").unwrap_or(&package);
    let request = packages.request(name, &version, options).await?;
    let patience = if asked.wait.as_deref() == Some("1") { WAIT } else { Duration::ZERO };
    let row = packages.ended(&request, Instant::now() + patience).await?;
    Ok(match row.state {
        State::Ordered => json!({ "status": "WAIT" }),
        State::Failed(failed) => json!({ "status": "FAILED", "errorMessage": failed.reason }),
        State::Done(artifact) => {
            packages.note_download(&request).await?;
            json!({ "status": "SUCCESS", "linkS3": packages.url(&artifact.blob).await? })
        }
    })
}

/// `GET /refresh`: has the workers look for new versions now.
pub(super) async fn refresh(
    Shared(packages): Shared<Arc<Packages>>,
) -> Result<impl IntoResponse, Refusal> {
    packages.send(&CompileMessage::refresh_all()).await?;
    Ok((StatusCode::ACCEPTED, Json(json!({ "status": "REFRESHING" }))))
}

/// `POST /v1/builds`: asks for a build, and says where it stands.
pub(super) async fn order(
    Shared(packages): Shared<Arc<Packages>>,
    headers: HeaderMap,
    Json(order): Json<Order>,
) -> Result<Response, Refusal> {
    if order.ecosystem != PYPI {
        let what = format!("there is no ecosystem {:?}; there is {PYPI:?}", order.ecosystem);
        return Err(Refusal::Impossible(what));
    }
    let pairs = order.options.iter().map(|(name, value)| {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        (name, value)
    });
    let options = Options::from_pairs(pairs)?;
    let request = packages.request(&order.package, &order.version, options).await?;
    let row = packages.ordered(&request).await?;
    let status = match row.state {
        State::Ordered => StatusCode::ACCEPTED,
        _ => StatusCode::OK,
    };
    let place = [(header::LOCATION, place(&request.name, &request.key))];
    let body = describe(&packages, &headers, &request.name, &row).await?;
    Ok((status, place, Json(body)).into_response())
}

/// `GET /v1/builds/pypi/{name}/{request}`: where a build stands.
pub(super) async fn build(
    Shared(packages): Shared<Arc<Packages>>,
    Path((name, request)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Json<Value>, Refusal> {
    let row = row(&packages, &name, &request).await?;
    Ok(Json(describe(&packages, &headers, &name, &row).await?))
}

/// `GET /v1/builds/pypi/{name}/{request}/log`: what a build said.
pub(super) async fn log(
    Shared(packages): Shared<Arc<Packages>>,
    Path((name, request)): Path<(String, String)>,
) -> Result<Redirect, Refusal> {
    let log = match row(&packages, &name, &request).await?.state {
        State::Done(artifact) => Some(artifact.log),
        State::Failed(failed) => failed.log,
        State::Ordered => None,
    };
    let log = log.ok_or_else(|| Refusal::Absent(format!("{name} {request} has no log")))?;
    Ok(Redirect::temporary(&packages.url(&log).await?))
}

async fn row(packages: &Packages, name: &str, request: &str) -> Result<Row, Refusal> {
    let row = packages.row(name, request).await?;
    row.ok_or_else(|| Refusal::Absent(format!("nobody asked for {name} {request}")))
}

/// A row for programs, with an address for the artifact and the log.
async fn describe(
    packages: &Packages,
    headers: &HeaderMap,
    name: &str,
    row: &Row,
) -> Result<Value, Refusal> {
    let mut told = json!({
        "ecosystem": PYPI, "package": name, "version": row.version, "options": row.options,
        "request": row.request, "build": row.state,
    });
    let log = match &row.state {
        State::Ordered => false,
        State::Failed(failed) => failed.log.is_some(),
        State::Done(artifact) => {
            told["url"] = json!(packages.url(&artifact.blob).await?);
            true
        }
    };
    if log {
        told["log"] = json!(format!("{}{}/log", base(headers), place(name, &row.request)));
    }
    Ok(told)
}

fn place(name: &str, request: &str) -> String {
    format!("/v1/builds/{PYPI}/{}/{}", part(name), part(request))
}

/// The address of a request's log.
pub(super) fn log_url(headers: &HeaderMap, request: &Request) -> String {
    format!("{}{}/log", base(headers), place(&request.name, &request.key))
}

/// This gateway, as the client called it.
fn base(headers: &HeaderMap) -> String {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    host.map(|host| format!("http://{host}")).unwrap_or_default()
}
