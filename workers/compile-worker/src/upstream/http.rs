//! GET over HTTP and HTTPS, bounded in time and size.

use std::time::Duration;

use flotilla_runtime::{Failure, failure::chain};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    Request, Response,
    body::{Bytes, Incoming},
    header::{ETAG, HeaderName, LOCATION},
};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use url::Url;

const REDIRECTS: usize = 5;
const SERIAL: &str = "x-pypi-last-serial";

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
    pub(crate) etag: Option<String>,
    /// The serial that PyPI gives a page.
    pub(crate) serial: Option<u64>,
    pub(crate) body: Vec<u8>,
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
        let failed = |why: String| Failure::transient("upstream", format!("GET {url}: {why}"));
        let parsed = Url::parse(url).map_err(|e| failed(e.to_string()))?;
        let followed = tokio::time::timeout(patience, self.follow(parsed, headers, limit)).await;
        followed
            .unwrap_or_else(|_| Err(format!("no answer within {} s", patience.as_secs())))
            .map_err(failed)
    }

    /// Posts a body of XML; redirects are not followed.
    pub(crate) async fn post(
        &self,
        url: &str,
        body: String,
        limit: usize,
        patience: Duration,
    ) -> Result<Page, Failure> {
        let failed = |why: String| Failure::transient("upstream", format!("POST {url}: {why}"));
        let parsed = Url::parse(url).map_err(|e| failed(e.to_string()))?;
        let posted = async {
            let request = Request::post(parsed.as_str())
                .header("user-agent", "flotilla")
                .header("content-type", "text/xml")
                .body(Full::from(body))
                .map_err(|e| e.to_string())?;
            let answer = self.client.request(request).await.map_err(|e| chain(&e))?;
            page(parsed.clone(), answer, limit).await
        };
        let posted = tokio::time::timeout(patience, posted).await;
        posted
            .unwrap_or_else(|_| Err(format!("no answer within {} s", patience.as_secs())))
            .map_err(failed)
    }

    async fn follow(
        &self,
        mut url: Url,
        headers: &[(&str, &str)],
        limit: usize,
    ) -> Result<Page, String> {
        for _ in 0..=REDIRECTS {
            let answer = self.send(&url, headers).await?;
            let status = answer.status().as_u16();
            let header =
                |name: HeaderName| Some(answer.headers().get(name)?.to_str().ok()?.to_owned());
            if let (301 | 302 | 303 | 307 | 308, Some(next)) = (status, header(LOCATION)) {
                url = url.join(&next).map_err(|e| format!("redirected to {next:?}: {e}"))?;
                continue;
            }
            return page(url, answer, limit).await;
        }
        Err(format!("more than {REDIRECTS} redirects"))
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

/// Reads an answer, of at most this many bytes.
async fn page(url: Url, answer: Response<Incoming>, limit: usize) -> Result<Page, String> {
    let status = answer.status().as_u16();
    let header = |name: &str| Some(answer.headers().get(name)?.to_str().ok()?.to_owned());
    let (etag, serial) = (header(ETAG.as_str()), header(SERIAL).and_then(|it| it.parse().ok()));
    let body = Limited::new(answer.into_body(), limit).collect().await;
    let body = body.map_err(|e| format!("its body ({limit} bytes at most): {e}"))?;
    Ok(Page { url, status, etag, serial, body: body.to_bytes().to_vec() })
}
