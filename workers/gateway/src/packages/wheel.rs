//! A wheel: served when it is built, held by redirects to itself while it is not.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    body::Body,
    extract::{Path, Query, State as Shared},
    http::{HeaderMap, Method, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use compile_worker::{
    builds::{Artifact, Request, State},
    names::WheelName,
    options::Options,
};
use serde::Deserialize;

use super::{Packages, answer::Refusal, programs::log_url};

/// How long one answer is held back: clients give up after 15 s.
const HOLD: Duration = Duration::from_secs(12);
/// How often a client is sent to the same place again.
const HOPS: u32 = 9;
/// When to ask again, after that.
const AGAIN: u64 = 10;

#[derive(Debug, Deserialize)]
pub(super) struct Hop {
    #[serde(default)]
    hop: u32,
}

/// `GET` and `HEAD /o/{optset}/wheels/{name}/{version}/{filename}`.
pub(super) async fn wheel(
    Shared(packages): Shared<Arc<Packages>>,
    Path((optset, name, version, filename)): Path<(String, String, String, String)>,
    Query(Hop { hop }): Query<Hop>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    if WheelName::parse(&filename).is_none() {
        return Err(Refusal::Absent(format!("{filename} is no wheel")));
    }
    let options: Options = optset.parse()?;
    let request = packages.request(&name, &version, options).await?;
    let row = packages.ended(&request, Instant::now() + HOLD).await?;
    match row.state {
        State::Done(artifact) => serve(&packages, &request, &artifact, &method).await,
        State::Failed(failed) => {
            let log = failed.log.is_some().then(|| log_url(&headers, &request));
            Err(Refusal::failed(&failed, log))
        }
        State::Ordered if hop < HOPS => Ok(again(&uri, hop + 1)),
        State::Ordered => {
            let what = format!("{} {} is still being built; ask again", request.name, version);
            Err(Refusal::Later(what, AGAIN))
        }
    }
}

/// A GET is sent to the bucket; a HEAD is answered here, since a signed URL is good for one method.
async fn serve(
    packages: &Packages,
    request: &Request,
    artifact: &Artifact,
    method: &Method,
) -> Result<Response, Refusal> {
    let about = [
        (header::ETAG, format!("\"{}\"", artifact.sha256)),
        (header::CACHE_CONTROL, "no-store".to_owned()),
        (header::ACCEPT_RANGES, "bytes".to_owned()),
    ];
    if method == Method::HEAD {
        let length = [
            (header::CONTENT_LENGTH, artifact.size.to_string()),
            (header::CONTENT_TYPE, "application/zip".to_owned()),
        ];
        return Ok((about, length, Body::empty()).into_response());
    }
    packages.note_download(request).await?;
    let url = packages.url(&artifact.blob).await?;
    Ok((StatusCode::FOUND, about, [(header::LOCATION, url)]).into_response())
}

fn again(uri: &Uri, hop: u32) -> Response {
    let location = format!("{}?hop={hop}", uri.path());
    let about = [(header::LOCATION, location), (header::CACHE_CONTROL, "no-store".to_owned())];
    (StatusCode::FOUND, about).into_response()
}
