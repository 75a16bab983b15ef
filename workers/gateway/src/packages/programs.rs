//! The original's `GET /package`, and `GET /refresh`.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    Json,
    extract::{Query, State as Shared},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use compile_worker::{
    builds::State,
    message::{Wanted, Wish},
    pypi::PYPI,
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Packages, answer::Refusal};

/// How long `wait=1` waits.
const WAIT: Duration = Duration::from_secs(900);
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
    let patience = if asked.wait.as_deref() == Some("1") { WAIT } else { Duration::ZERO };
    let answer = answer(&packages, asked, patience);
    let late = || Refusal::Later("it takes long to look that up; ask again".to_owned(), 2);
    let answer = tokio::time::timeout(patience + AT_ONCE, answer).await;
    match answer.unwrap_or_else(|_| Err(late())) {
        Ok(state) => Json(state).into_response(),
        Err(Refusal::Bad(why)) => Refusal::Bad(why).into_response(),
        // It is not said that it cannot be built, so it is not said that it failed.
        Err(refusal @ Refusal::Later(..)) => {
            refusal.with(Json(json!({ "status": "WAIT", "errorMessage": refusal.why() })))
        }
        Err(refusal) => {
            refusal.with(Json(json!({ "status": "FAILED", "errorMessage": refusal.why() })))
        }
    }
}

async fn answer(
    packages: &Arc<Packages>,
    asked: Asked,
    patience: Duration,
) -> Result<Value, Refusal> {
    let need = |value: Option<String>, name: &str| {
        value.ok_or_else(|| Refusal::Bad(format!("the parameter {name} is missing")))
    };
    let package = need(asked.package, "package")?;
    let version = need(asked.version, "version")?;
    let useflag = need(asked.useflag, "useflag")?;
    let (category, name) = package.split_once('/').unwrap_or((PYPI, &package));
    let wish = Wish {
        ecosystem: category.to_owned(),
        package: name.to_owned(),
        version,
        options: Wanted::Text(useflag),
    };
    let request = packages.wished(&wish).await?;
    let row = packages.ended(&request, Instant::now() + patience).await?;
    Ok(match &row.state {
        State::Ordered => json!({ "status": "WAIT" }),
        State::Failed(failed) => {
            // Our own fault is not remembered: whoever asks again has it tried again.
            let status = if failed.ours { "WAIT" } else { "FAILED" };
            json!({ "status": status, "errorMessage": failed.reason })
        }
        State::Done(artifact) => {
            packages.note_download(&request, &row);
            json!({ "status": "SUCCESS", "linkS3": packages.url(&artifact.blob).await? })
        }
    })
}

/// `GET /refresh`: has the workers look for new versions now.
pub(super) async fn refresh(
    Shared(packages): Shared<Arc<Packages>>,
) -> Result<impl IntoResponse, Refusal> {
    packages.refresh().await?;
    Ok((StatusCode::ACCEPTED, Json(json!({ "status": "REFRESHING" }))))
}
