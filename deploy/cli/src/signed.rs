//! Signed plain requests, for the one question that a service is asked without its SDK.

use std::time::{Duration, SystemTime};

use aws_sdk_s3::config::ProvideCredentials;
use aws_sigv4::{
    http_request::{SignableBody, SignableRequest, SigningSettings, sign},
    sign::v4::SigningParams,
};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::{Request, body::Bytes};
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::{client::legacy::Client, rt::TokioExecutor};

use crate::{aws::Clients, error::Error};

/// The most of an answer that is read.
const ANSWER_LIMIT: usize = 1 << 20;
const PATIENCE: Duration = Duration::from_secs(20);

/// Gets `path` of a service, signed; gives status and body.
pub(crate) async fn get(
    clients: &Clients,
    service: &str,
    path: &str,
) -> Result<(u16, String), Error> {
    let failed = |why: String| Error::Fleet(format!("asking {service} for {path}: {why}"));
    let (base, region) = place(clients, service);
    let url = format!("{}{path}", base.trim_end_matches('/'));
    let provider = clients.sdk.credentials_provider();
    let provider = provider.ok_or_else(|| failed("there are no credentials".to_owned()))?;
    let keys = provider.provide_credentials().await.map_err(|e| failed(crate::chain(&e)))?;
    let identity = keys.into();
    let params = SigningParams::builder()
        .identity(&identity)
        .region(&region)
        .name(service)
        .time(SystemTime::now())
        .settings(SigningSettings::default())
        .build()
        .map_err(|e| failed(e.to_string()))?
        .into();
    let mut request =
        Request::get(&url).body(Empty::<Bytes>::new()).map_err(|e| failed(e.to_string()))?;
    let signable = SignableRequest::new("GET", &*url, std::iter::empty(), SignableBody::Bytes(&[]))
        .map_err(|e| failed(e.to_string()))?;
    let (instructions, _) =
        sign(signable, &params).map_err(|e| failed(e.to_string()))?.into_parts();
    instructions.apply_to_request_http1x(&mut request);
    let answer = tokio::time::timeout(PATIENCE, fetch(request)).await;
    answer.map_err(|_| failed("no answer".to_owned()))?.map_err(failed)
}

async fn fetch(request: Request<Empty<Bytes>>) -> Result<(u16, String), String> {
    let connector = HttpsConnectorBuilder::new().with_native_roots().map_err(|e| e.to_string())?;
    let connector = connector.https_or_http().enable_http1().build();
    let client = Client::builder(TokioExecutor::new()).build(connector);
    let response = client.request(request).await.map_err(|e| crate::chain(&e))?;
    let status = response.status().as_u16();
    let body = Limited::new(response.into_body(), ANSWER_LIMIT).collect().await;
    let bytes = body.map_err(|e| e.to_string())?.to_bytes();
    Ok((status, String::from_utf8_lossy(&bytes).into_owned()))
}

/// Where a service is, and the region that its requests are signed for.
fn place(clients: &Clients, service: &str) -> (String, String) {
    let china = clients.region.starts_with("cn-");
    let home = if china { "cn-north-1" } else { "us-east-1" };
    let region = if service == "iam" { home } else { &clients.region };
    if let Some(url) = &clients.url {
        return (url.clone(), region.to_owned());
    }
    let suffix = if china { "amazonaws.com.cn" } else { "amazonaws.com" };
    let host = match service {
        "iam" if china => format!("iam.{home}.{suffix}"),
        "iam" => format!("iam.{suffix}"),
        _ => format!("{service}.{region}.{suffix}"),
    };
    (format!("https://{host}"), region.to_owned())
}
