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
    builds::{Artifact, Request, Row, State, now},
    keys::sha256,
    names::WheelName,
    publish::kind,
};
use serde::Deserialize;

use super::{Packages, answer::Refusal, builds::log_url, index::is_known, metadata};

/// How long one answer is held back: clients give up after 15 s.
const HOLD: Duration = Duration::from_secs(12);
/// And this long at most, whatever else takes long.
const LIMIT: Duration = Duration::from_millis(13_500);
/// How often a client is sent to the same place again.
const HOPS: u32 = 9;
/// When to ask again, after that.
const AGAIN: u64 = 10;
/// An order this old, in seconds, is told to be so, with its log: it takes longer than others.
const PATIENCE: u64 = 180;
/// What the address says to which a client is sent at last. pip asks five times more after a 503, and then
/// shows none of its words, only that they were too many, and the address.
const NOTE: &str = "note=it-is-still-being-built;run-the-same-command-again-later";

#[derive(Debug, Deserialize)]
pub(super) struct Hop {
    #[serde(default)]
    hop: u32,
}

/// `GET` and `HEAD /o/{optset}/wheels/{name}/{version}/{filename}`, and the same with `.metadata`.
pub(super) async fn wheel(
    Shared(packages): Shared<Arc<Packages>>,
    Path((optset, name, version, filename)): Path<(String, String, String, String)>,
    Query(Hop { hop }): Query<Hop>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let asked = Asked { optset, name, version, filename, hop };
    match tokio::time::timeout(LIMIT, answer(&packages, &asked, &method, &uri, &headers)).await {
        Ok(answer) => answer,
        // What was begun goes on.
        Err(_) => asked.later(&uri),
    }
}

/// What is asked for, and how often it was sent to itself.
struct Asked {
    optset: String,
    name: String,
    version: String,
    filename: String,
    hop: u32,
}

impl Asked {
    /// Sent to itself again, or told to ask again.
    fn later(&self, uri: &Uri) -> Result<Response, Refusal> {
        let Self { name, version, hop, .. } = self;
        match *hop < HOPS {
            true => Ok(again(uri, hop + 1)),
            false => {
                let what = format!("{name} {version} is still being built; ask again");
                Err(Refusal::Later(what, AGAIN))
            }
        }
    }

    /// The same of an order, which may have been waited for too long by now.
    fn later_of(&self, row: &Row, uri: &Uri, log: &str) -> Result<Response, Refusal> {
        // At 0 its message could not be sent, so that it is ordered anew.
        let age = now().saturating_sub(row.ordered_at);
        if self.hop < HOPS || row.ordered_at == 0 || age < PATIENCE {
            return self.later(uri);
        }
        let Self { name, version, .. } = self;
        let what = format!(
            "{name} {version} was ordered {age} s ago and is still being built, which goes on; run the \
             same command again later; log: {log}"
        );
        Err(Refusal::Later(what, AGAIN))
    }
}

async fn answer(
    packages: &Arc<Packages>,
    asked: &Asked,
    method: &Method,
    uri: &Uri,
    headers: &HeaderMap,
) -> Result<Response, Refusal> {
    let until = Instant::now() + HOLD;
    let (wheel, of_metadata) = match asked.filename.strip_suffix(".metadata") {
        Some(wheel) => (wheel, true),
        None => (asked.filename.as_str(), false),
    };
    let named = WheelName::parse(wheel);
    if !named.is_some_and(|named| named.is_of(&asked.name, &asked.version)) {
        let (name, version) = (&asked.name, &asked.version);
        return Err(Refusal::Absent(format!("{wheel} is no wheel of {name} {version}")));
    }
    let request = packages.request_at((&asked.optset, &asked.name, &asked.version)).await?;
    if of_metadata && let Some(text) = metadata::of(packages, &request).await? {
        return Ok(metadata_answer(headers, &text));
    }
    let row = packages.ended(&request, until).await?;
    match &row.state {
        State::Done(_) if of_metadata && asked.hop < HOPS => asked.later(uri),
        State::Done(_) if of_metadata => {
            Err(Refusal::Absent(format!("the metadata of {wheel} is not stored any more")))
        }
        State::Done(artifact) => {
            serve(packages, (Some(&request), &row), artifact, (method, headers)).await
        }
        State::Failed(failed) => {
            let log = failed.log.is_some().then(|| log_url(headers, &request.key));
            Err(Refusal::failed(failed, log))
        }
        State::Ordered => asked.later_of(&row, uri, &log_url(headers, &request.key)),
    }
}

/// A GET is sent to the bucket, and noted where there is a request to note it of; a HEAD is answered here,
/// since a signed URL is good for one method.
pub(super) async fn serve(
    packages: &Arc<Packages>,
    (request, row): (Option<&Request>, &Row),
    artifact: &Artifact,
    (method, headers): (&Method, &HeaderMap),
) -> Result<Response, Refusal> {
    let etag = format!("\"{}\"", artifact.sha256);
    let known = is_known(headers, &etag);
    let about = [
        (header::ETAG, etag),
        (header::CACHE_CONTROL, "no-store".to_owned()),
        (header::ACCEPT_RANGES, "bytes".to_owned()),
    ];
    if known {
        return Ok((StatusCode::NOT_MODIFIED, about).into_response());
    }
    if method == Method::HEAD {
        let length = [
            (header::CONTENT_LENGTH, artifact.size.to_string()),
            (header::CONTENT_TYPE, kind(&artifact.blob).to_owned()),
        ];
        return Ok((about, length, Body::empty()).into_response());
    }
    if let Some(request) = request {
        packages.note_download(request, row);
    }
    let url = packages.url(&artifact.blob).await?;
    Ok((StatusCode::FOUND, about, [(header::LOCATION, url)]).into_response())
}

fn metadata_answer(headers: &HeaderMap, text: &str) -> Response {
    let etag = format!("\"{}\"", &sha256(text.as_bytes())[..32]);
    let about = [
        (header::ETAG, etag.clone()),
        (header::CACHE_CONTROL, "max-age=0".to_owned()),
        (header::CONTENT_TYPE, "text/plain; charset=utf-8".to_owned()),
    ];
    match is_known(headers, &etag) {
        true => (StatusCode::NOT_MODIFIED, about).into_response(),
        false => (about, text.to_owned()).into_response(),
    }
}

fn again(uri: &Uri, hop: u32) -> Response {
    let note = if hop < HOPS { String::new() } else { format!("&{NOTE}") };
    let location = format!("{}?hop={hop}{note}", uri.path());
    let about = [(header::LOCATION, location), (header::CACHE_CONTROL, "no-store".to_owned())];
    (StatusCode::FOUND, about).into_response()
}
