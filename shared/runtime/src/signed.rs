//! Signed plain requests, for a service that is asked one question.
//!
//! An SDK is minutes of every build. Where all that is wanted of a service is one answer, this
//! asks for it: signed like the SDK's own requests, without its types and without its retries.

use std::time::{Duration, SystemTime};

use aws_config::SdkConfig;
use aws_sdk_s3::config::ProvideCredentials;
use aws_sigv4::{
    http_request::{SignableBody, SignableRequest, SigningSettings, sign},
    sign::v4::SigningParams,
};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Request, body::Bytes};
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::{client::legacy::Client, rt::TokioExecutor};

use crate::failure::{Failure, chain};

/// The most of an answer that is read.
const ANSWER_LIMIT: usize = 1 << 20;
const PATIENCE: Duration = Duration::from_secs(20);

/// A request.
#[derive(Debug, Clone, Copy)]
pub struct Call<'a> {
    /// The service's name in signatures, such as `monitoring`.
    pub service: &'a str,
    /// The region that it is signed for.
    pub region: &'a str,
    /// The whole URL.
    pub url: &'a str,
    /// Headers beside those of the signature.
    pub headers: &'a [(&'a str, &'a str)],
    /// What is posted; without it, it is a `GET`.
    pub body: Option<&'a str>,
}

impl Call<'_> {
    /// Sends it with the credentials of a configuration; gives status and body.
    ///
    /// # Errors
    /// Transient, when there are no credentials, or the service does not answer.
    pub async fn send(&self, sdk: &SdkConfig) -> Result<(u16, String), Failure> {
        let request = self.signed(sdk).await.map_err(|why| self.failed(&why))?;
        let answer = tokio::time::timeout(PATIENCE, fetch(request)).await;
        answer.map_err(|_| self.failed("no answer"))?.map_err(|why| self.failed(&why))
    }

    fn failed(&self, why: &str) -> Failure {
        let Self { service, url, .. } = self;
        Failure::transient("unreachable", format!("asking {service} at {url}: {why}"))
    }

    async fn signed(&self, sdk: &SdkConfig) -> Result<Request<Full<Bytes>>, String> {
        let provider = sdk.credentials_provider().ok_or("there are no credentials")?;
        let keys = provider.provide_credentials().await.map_err(|e| chain(&e))?;
        let identity = keys.into();
        let params = SigningParams::builder()
            .identity(&identity)
            .region(self.region)
            .name(self.service)
            .time(SystemTime::now())
            .settings(SigningSettings::default())
            .build()
            .map_err(|e| e.to_string())?
            .into();
        let body = self.body.unwrap_or_default();
        let method = if self.body.is_some() { "POST" } else { "GET" };
        let mut request = Request::builder().method(method).uri(self.url);
        for (name, value) in self.headers {
            request = request.header(*name, *value);
        }
        let mut request = request.body(Full::from(body.to_owned())).map_err(|e| e.to_string())?;
        let signable = SignableRequest::new(
            method,
            self.url,
            self.headers.iter().copied(),
            SignableBody::Bytes(body.as_bytes()),
        );
        let signable = signable.map_err(|e| e.to_string())?;
        let (instructions, _) = sign(signable, &params).map_err(|e| e.to_string())?.into_parts();
        instructions.apply_to_request_http1x(&mut request);
        Ok(request)
    }
}

async fn fetch(request: Request<Full<Bytes>>) -> Result<(u16, String), String> {
    let connector = HttpsConnectorBuilder::new().with_native_roots().map_err(|e| e.to_string())?;
    let connector = connector.https_or_http().enable_http1().build();
    let client = Client::builder(TokioExecutor::new()).build(connector);
    let response = client.request(request).await.map_err(|e| chain(&e))?;
    let status = response.status().as_u16();
    let body = Limited::new(response.into_body(), ANSWER_LIMIT).collect().await;
    let bytes = body.map_err(|e| e.to_string())?.to_bytes();
    Ok((status, String::from_utf8_lossy(&bytes).into_owned()))
}
