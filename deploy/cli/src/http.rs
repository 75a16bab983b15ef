//! Plain HTTP to addresses of this machine: health pages, readiness, metrics.

use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::{Request, body::Bytes, header::CONTENT_TYPE};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde_json::Value;

/// The most of a page that is read; health and metrics pages are far smaller.
const PAGE_LIMIT: usize = 4 << 20;

/// Gets `url` (http only) and returns status and body; `None` where nothing answers within
/// `patience`, or the page is over 4 MiB.
pub(crate) async fn get(url: &str, patience: Duration) -> Option<(u16, String)> {
    let request = Request::get(url).body(Full::default()).ok()?;
    tokio::time::timeout(patience, fetch(request)).await.ok().flatten()
}

/// Puts a JSON body to `url`, and returns as [`get`] does.
pub(crate) async fn put(url: &str, body: &Value, patience: Duration) -> Option<(u16, String)> {
    let request = Request::put(url).header(CONTENT_TYPE, "application/json");
    let request = request.body(Full::from(body.to_string())).ok()?;
    tokio::time::timeout(patience, fetch(request)).await.ok().flatten()
}

async fn fetch(request: Request<Full<Bytes>>) -> Option<(u16, String)> {
    let client: Client<HttpConnector, Full<Bytes>> =
        Client::builder(TokioExecutor::new()).build_http();
    let response = client.request(request).await.ok()?;
    let status = response.status().as_u16();
    let body = http_body_util::Limited::new(response.into_body(), PAGE_LIMIT);
    let bytes = body.collect().await.ok()?.to_bytes();
    Some((status, String::from_utf8_lossy(&bytes).into_owned()))
}
