//! GET over HTTP and HTTPS, bounded in time and size.

use std::time::Duration;

use flotilla_runtime::{Failure, failure::chain};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::{
    Request, Response,
    body::{Bytes, Incoming},
    header::{CONTENT_RANGE, HeaderName, LOCATION},
};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use url::Url;

use super::validator;
use crate::error::TOO_LARGE;

const REDIRECTS: usize = 5;
const SERIAL: &str = "x-pypi-last-serial";
/// Of who gives a part of what was asked for, and of who does not know what that is.
const PARTIAL: u16 = 206;
const NOT_IMPLEMENTED: u16 = 501;

#[derive(Debug, Clone)]
pub(crate) struct Http {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
}

/// What was answered.
#[derive(Debug)]
pub(crate) struct Page {
    /// Where from, after redirects.
    pub(crate) url: Url,
    pub(crate) status: u16,
    /// What it is known by when it is asked for again.
    pub(crate) validator: Option<String>,
    /// The serial that PyPI gives a page.
    pub(crate) serial: Option<u64>,
    pub(crate) body: Vec<u8>,
}

/// A part of a file.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) bytes: Vec<u8>,
    /// The length of the whole.
    pub(crate) total: u64,
}

impl Page {
    pub(crate) fn expect_ok(&self) -> Result<(), Failure> {
        match self.status {
            200 => Ok(()),
            status => {
                let what = format!("GET {}: it answers {status}", self.url);
                Err(Failure::transient("upstream", what))
            }
        }
    }
}

impl Http {
    pub(crate) fn new() -> Result<Self, Failure> {
        let connector = HttpsConnectorBuilder::new().with_native_roots().map_err(|e| {
            Failure::permanent("certificates", "the certificates of this machine").caused_by(e)
        })?;
        let connector = connector.https_or_http().enable_http1().build();
        Ok(Self { client: Client::builder(TokioExecutor::new()).build(connector) })
    }

    pub(crate) async fn get(
        &self,
        url: &str,
        headers: &[(&str, &str)],
        limit: usize,
        patience: Duration,
    ) -> Result<Page, Failure> {
        let failed = |why: Broken| why.failure(&format!("GET {url}"), limit);
        let parsed = Url::parse(url).map_err(|e| failed(e.to_string().into()))?;
        let got = async {
            let (url, answer) = self.follow(parsed, headers).await?;
            page(url, answer, limit).await
        };
        let got = tokio::time::timeout(patience, got).await;
        got.unwrap_or_else(|_| Err(late(patience))).map_err(failed)
    }

    /// A part of what is at `url`, `from` up to but without `to`, with the length of the whole; `None`
    /// from who gives no parts.
    pub(crate) async fn part(
        &self,
        url: &str,
        (from, to): (u64, u64),
        patience: Duration,
    ) -> Result<Option<Part>, Failure> {
        let limit = usize::try_from(to.saturating_sub(from)).unwrap_or(usize::MAX);
        let failed = |why: Broken| why.failure(&format!("GET {url}"), limit);
        let parsed = Url::parse(url).map_err(|e| failed(e.to_string().into()))?;
        let range = format!("bytes={from}-{}", to.saturating_sub(1));
        let got = async {
            let (url, answer) = self.follow(parsed, &[("range", &range)]).await?;
            let status = answer.status();
            if status.is_server_error() && status.as_u16() != NOT_IMPLEMENTED {
                return Err(format!("it answers {status}").into());
            }
            let total = given(&answer, from).filter(|_| status.as_u16() == PARTIAL);
            let Some(total) = total else { return Ok(None) };
            let bytes = match page(url, answer, limit).await {
                Err(Broken::TooLarge) => return Ok(None),
                answered => answered?.body,
            };
            let whole = bytes.len() as u64 == to.min(total).saturating_sub(from);
            Ok(whole.then_some(Part { bytes, total }))
        };
        let got = tokio::time::timeout(patience, got).await;
        got.unwrap_or_else(|_| Err(late(patience))).map_err(failed)
    }

    /// Posts a body of XML; redirects are not followed.
    pub(crate) async fn post(
        &self,
        url: &str,
        body: String,
        limit: usize,
        patience: Duration,
    ) -> Result<Page, Failure> {
        let failed = |why: Broken| why.failure(&format!("POST {url}"), limit);
        let parsed = Url::parse(url).map_err(|e| failed(e.to_string().into()))?;
        let posted = async {
            let request = Request::post(parsed.as_str())
                .header("user-agent", "flotilla")
                .header("content-type", "text/xml")
                .body(Full::from(body))
                .map_err(|e| e.to_string())?;
            let answer = self.client.request(request).await;
            let answer = answer.map_err(|e| chain(&e))?;
            page(parsed.clone(), answer, limit).await
        };
        let posted = tokio::time::timeout(patience, posted).await;
        posted.unwrap_or_else(|_| Err(late(patience))).map_err(failed)
    }

    async fn follow(
        &self,
        mut url: Url,
        headers: &[(&str, &str)],
    ) -> Result<(Url, Response<Incoming>), Broken> {
        for _ in 0..=REDIRECTS {
            let answer = self.send(&url, headers).await?;
            let status = answer.status().as_u16();
            let header =
                |name: HeaderName| Some(answer.headers().get(name)?.to_str().ok()?.to_owned());
            if let (301 | 302 | 303 | 307 | 308, Some(next)) = (status, header(LOCATION)) {
                url = url.join(&next).map_err(|e| format!("redirected to {next:?}: {e}"))?;
                continue;
            }
            return Ok((url, answer));
        }
        Err(format!("more than {REDIRECTS} redirects").into())
    }

    async fn send(
        &self,
        url: &Url,
        headers: &[(&str, &str)],
    ) -> Result<Response<Incoming>, String> {
        let mut request = Request::get(url.as_str()).header("user-agent", "flotilla");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::default()).map_err(|e| e.to_string())?;
        self.client.request(request).await.map_err(|e| chain(&e))
    }
}

/// The length of the whole of which an answer has a part that begins there.
fn given(answer: &Response<Incoming>, from: u64) -> Option<u64> {
    let range = answer.headers().get(CONTENT_RANGE)?.to_str().ok()?.strip_prefix("bytes ")?;
    let (span, total) = range.split_once('/')?;
    let (first, _) = span.split_once('-')?;
    total.parse().ok().filter(|_| first.parse() == Ok(from))
}

fn late(patience: Duration) -> Broken {
    format!("no answer within {} s", patience.as_secs()).into()
}

/// Why there is no answer.
enum Broken {
    Why(String),
    TooLarge,
}

impl From<String> for Broken {
    fn from(why: String) -> Self {
        Self::Why(why)
    }
}

impl Broken {
    fn failure(self, what: &str, limit: usize) -> Failure {
        match self {
            Self::Why(why) => Failure::transient("upstream", format!("{what}: {why}")),
            Self::TooLarge => {
                let why = format!("{what}: it has over {} MiB", limit >> 20);
                Failure::permanent(TOO_LARGE, why)
            }
        }
    }
}

/// Reads an answer, of at most this many bytes.
async fn page(url: Url, answer: Response<Incoming>, limit: usize) -> Result<Page, Broken> {
    let status = answer.status().as_u16();
    let header = |name: &str| Some(answer.headers().get(name)?.to_str().ok()?.to_owned());
    let validator = validator::of(answer.headers());
    let serial = header(SERIAL).and_then(|it| it.parse().ok());
    let length = header("content-length").and_then(|it| it.parse::<usize>().ok());
    if status == 200 && length.is_some_and(|length| length > limit) {
        return Err(Broken::TooLarge);
    }
    let body = Limited::new(answer.into_body(), limit).collect().await;
    let body = body.map_err(|e| match e.is::<LengthLimitError>() {
        true => Broken::TooLarge,
        false => format!("its body: {e}").into(),
    })?;
    Ok(Page { url, status, validator, serial, body: body.to_bytes().to_vec() })
}
