//! Plain HTTP to addresses of this machine: health pages, readiness, metrics.

use std::time::Duration;

use http_body_util::{BodyExt, Empty};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};

/// The most of a page that is read; health and metrics pages are far smaller.
const PAGE_LIMIT: usize = 4 << 20;

/// Gets `url` (http only) and returns status and body; `None` where nothing answers within
/// `patience`, or the page is over 4 MiB.
pub(crate) async fn get(url: &str, patience: Duration) -> Option<(u16, String)> {
    tokio::time::timeout(patience, fetch(url)).await.ok().flatten()
}

async fn fetch(url: &str) -> Option<(u16, String)> {
    let client: Client<HttpConnector, Empty<&'static [u8]>> =
        Client::builder(TokioExecutor::new()).build_http();
    let response = client.get(url.parse().ok()?).await.ok()?;
    let status = response.status().as_u16();
    let body = http_body_util::Limited::new(response.into_body(), PAGE_LIMIT);
    let bytes = body.collect().await.ok()?.to_bytes();
    Some((status, String::from_utf8_lossy(&bytes).into_owned()))
}
