//! An AWS in process, for what no endpoint does when it is asked to.

use std::{fmt, sync::Arc};

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_s3::config::{Credentials, SharedCredentialsProvider, http::HttpRequest};
use aws_smithy_runtime_api::{
    client::{
        http::{HttpConnector, HttpConnectorFuture, SharedHttpConnector, http_client_fn},
        orchestrator::HttpResponse,
    },
    http::StatusCode,
};
use aws_smithy_types::body::SdkBody;

/// Gives status and body of the answer to each request.
type Answer = dyn Fn(&HttpRequest) -> (u16, Vec<u8>) + Send + Sync;

#[derive(Clone)]
struct Fake(Arc<Answer>);

impl fmt::Debug for Fake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fake")
    }
}

impl HttpConnector for Fake {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let (status, body) = (self.0)(&request);
        let status = StatusCode::try_from(status).unwrap();
        HttpConnectorFuture::ready(Ok(HttpResponse::new(status, SdkBody::from(body))))
    }
}

/// A configuration whose clients are answered so.
pub(crate) fn sdk(
    answer: impl Fn(&HttpRequest) -> (u16, Vec<u8>) + Send + Sync + 'static,
) -> SdkConfig {
    let connector = SharedHttpConnector::new(Fake(Arc::new(answer)));
    let credentials = Credentials::new("a", "b", None, None, "fake");
    SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("eu-west-1"))
        .endpoint_url("http://fake")
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .http_client(http_client_fn(move |_, _| connector.clone()))
        .build()
}
