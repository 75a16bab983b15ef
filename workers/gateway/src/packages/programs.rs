//! The original's `GET /package`, and `GET /refresh`.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    Json,
    body::Body,
    extract::{Query, State as Shared},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use compile_worker::{
    builds::{Request, Row, State},
    message::{Wanted, Wish},
    pypi::PYPI,
};
use futures::stream;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Packages, answer::Refusal, groups::kept_alive};

/// How long `wait=1` looks at a row before it is asked for anew.
const TURN: Duration = Duration::from_secs(900);
/// When a look that failed is tried again.
const AGAIN: Duration = Duration::from_secs(1);
/// How long "at once" may take, where upstream has to be asked.
const AT_ONCE: Duration = Duration::from_secs(10);

/// The query of `GET /package`.
#[derive(Debug, Deserialize)]
pub(super) struct Asked {
    package: Option<String>,
    version: Option<String>,
    useflag: Option<String>,
    wait: Option<String>,
}

/// `GET /package?package=&version=&useflag=[&wait=1]`, in the original's shape.
pub(super) async fn package(
    Shared(packages): Shared<Arc<Packages>>,
    Query(asked): Query<Asked>,
) -> Response {
    let waits = asked.wait.as_deref() == Some("1");
    let late = || Refusal::Later("it takes long to look that up; ask again".to_owned(), 2);
    let answer = tokio::time::timeout(AT_ONCE, at_once(&packages, asked)).await;
    match answer.unwrap_or_else(|_| Err(late())) {
        Ok((request, row, _)) if waits && row.state == State::Ordered => held(packages, request),
        Ok((_, _, told)) => Json(told).into_response(),
        Err(Refusal::Bad(why)) => Refusal::Bad(why).into_response(),
        Err(refusal) => refusal.with(Json(refused(&refusal))),
    }
}

/// Where a build stands that is started if need be.
async fn at_once(
    packages: &Arc<Packages>,
    asked: Asked,
) -> Result<(Request, Arc<Row>, Value), Refusal> {
    let request = packages.wished(&wish(asked)?).await?;
    let row = packages.ordered(&request).await?;
    let told = told(packages, &request, &row).await?;
    Ok((request, row, told))
}

fn wish(asked: Asked) -> Result<Wish, Refusal> {
    let need = |value: Option<String>, name: &str| {
        value.ok_or_else(|| Refusal::Bad(format!("the parameter {name} is missing")))
    };
    let package = need(asked.package, "package")?;
    let version = need(asked.version, "version")?;
    let useflag = need(asked.useflag, "useflag")?;
    let (category, name) = package.split_once('/').unwrap_or((PYPI, &package));
    Ok(Wish {
        ecosystem: category.to_owned(),
        package: name.to_owned(),
        version,
        options: Wanted::Text(useflag),
    })
}

/// A row in the original's shape.
async fn told(packages: &Arc<Packages>, request: &Request, row: &Row) -> Result<Value, Refusal> {
    Ok(match &row.state {
        State::Ordered => json!({ "status": "WAIT" }),
        State::Failed(failed) => {
            // Our own fault is not remembered: whoever asks again has it tried again.
            let status = if failed.ours { "WAIT" } else { "FAILED" };
            json!({ "status": status, "errorMessage": failed.reason })
        }
        State::Done(artifact) => {
            packages.note_download(request, row);
            json!({ "status": "SUCCESS", "linkS3": packages.url(&artifact.blob).await? })
        }
    })
}

fn refused(why: &Refusal) -> Value {
    // Of what may be asked again it is not said that it cannot be built, so not that it failed.
    let status = if matches!(why, Refusal::Later(..)) { "WAIT" } else { "FAILED" };
    json!({ "status": status, "errorMessage": why.why() })
}

/// Begun at once, kept alive by blanks, and ended with the object when the build has: a build may take
/// hours, and what is silent for a minute is cut off on the way.
fn held(packages: Arc<Packages>, request: Request) -> Response {
    let told = async move { ended(&packages, &request).await.to_string() };
    let about = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")];
    (about, Body::from_stream(kept_alive(stream::once(told)))).into_response()
}

/// What a build has come to, however long it takes.
async fn ended(packages: &Arc<Packages>, request: &Request) -> Value {
    loop {
        let look = async {
            let row = packages.ended(request, Instant::now() + TURN).await?;
            let over = row.state != State::Ordered;
            Ok::<_, Refusal>(if over { Some(told(packages, request, &row).await?) } else { None })
        };
        match look.await {
            Ok(Some(told)) => return told,
            Ok(None) => {}
            // Not now: the build goes on.
            Err(Refusal::Later(..)) => tokio::time::sleep(AGAIN).await,
            Err(why) => return refused(&why),
        }
    }
}

/// `GET /refresh`: has the workers look for new versions now.
pub(super) async fn refresh(
    Shared(packages): Shared<Arc<Packages>>,
) -> Result<impl IntoResponse, Refusal> {
    packages.refresh().await?;
    Ok((StatusCode::ACCEPTED, Json(json!({ "status": "REFRESHING" }))))
}
