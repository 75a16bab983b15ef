//! `/v1/artifacts/{key}/{filename}`: an artifact for programs. Who is told its address has it when he asks
//! here, so that what is downloaded is known to be, and the address is good for as long as the artifact is.

use std::sync::Arc;

use axum::{
    extract::{Path, State as Shared},
    http::{HeaderMap, Method},
    response::Response,
};
use compile_worker::builds::{Artifact, Row, State};

use super::{
    Packages,
    answer::Refusal,
    builds::{base, log_url, row},
    index::part,
    wheel::serve,
};

/// When to ask again for what is built anew, in seconds.
const AGAIN: u64 = 10;

/// `GET` and `HEAD /v1/artifacts/{key}/{filename}`, by the key of the artifact.
pub(super) async fn artifact(
    Shared(packages): Shared<Arc<Packages>>,
    Path((key, filename)): Path<(String, String)>,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let row = row(&packages, &key).await?;
    let State::Done(artifact) = &row.state else {
        let (package, version, state) = (&row.package, &row.version, row.state.name());
        return Err(Refusal::Absent(format!("{package} {version} has no artifact: it is {state}")));
    };
    if filename != artifact.filename {
        let what = format!("{filename} is not under the key {key}; {} is", artifact.filename);
        return Err(Refusal::Absent(what));
    }
    if !packages.is_there(artifact).await? {
        return Err(lost(&packages, &row, artifact, &headers).await?);
    }
    // Who has the address of what was overtaken wants the package with these options, too.
    let request = row.request();
    serve(&packages, (request.as_ref(), &row), artifact, (&method, &headers)).await
}

/// An artifact whose blob is gone is built again, unless there is another in its place.
async fn lost(
    packages: &Packages,
    row: &Row,
    artifact: &Artifact,
    headers: &HeaderMap,
) -> Result<Refusal, Refusal> {
    let filename = &artifact.filename;
    let stands = row.overtaken_by.as_ref().is_none_or(|by| *by == row.request);
    let Some(request) = row.request().filter(|_| stands) else {
        return Ok(Refusal::Absent(format!("{filename} is not stored any more")));
    };
    // In an image that is gone it would never be built.
    packages.check_builder(row).await?;
    Ok(match &packages.ordered(&request).await?.state {
        State::Failed(failed) => Refusal::failed(failed, Some(log_url(headers, &row.request))),
        _ => Refusal::Later(format!("{filename} was lost and is built again; ask again"), AGAIN),
    })
}

/// The address of an artifact.
pub(super) fn artifact_url(headers: &HeaderMap, artifact: &Artifact) -> String {
    let Artifact { artifact: key, filename, .. } = artifact;
    format!("{}/v1/artifacts/{key}/{}", base(headers), part(filename))
}
