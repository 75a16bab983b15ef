//! An AWS for unit tests of faults that no endpoint produces on demand: it answers in process,
//! so that a test's paused clock governs it too.

use std::{
    fmt,
    sync::{Arc, Mutex},
    time::Duration,
};

use aws_config::{BehaviorVersion, Region};
use aws_sdk_sqs::config::{Credentials, StalledStreamProtectionConfig, http::HttpRequest};
use aws_smithy_runtime_api::{
    client::{
        http::{HttpConnector, HttpConnectorFuture, SharedHttpConnector, http_client_fn},
        orchestrator::HttpResponse,
    },
    http::StatusCode,
};
use aws_smithy_types::body::SdkBody;
use serde_json::{Value, json};

type Calls = Arc<Mutex<Vec<(String, Value)>>>;
type Answer = dyn Fn(&str, &Value) -> Value + Send + Sync;

/// Answers each call by its operation and body; an operation that no header names is its form's
/// `Action`, or method and path. In an answer, `"__hang"` is how many seconds it takes, `"__status"`
/// its HTTP status, and `"__text"` what it says where that is no JSON.
#[derive(Clone)]
pub(crate) struct FakeAws {
    answer: Arc<Answer>,
    calls: Calls,
    agents: Arc<Mutex<Vec<String>>>,
}

impl fmt::Debug for FakeAws {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FakeAws")
    }
}

impl FakeAws {
    pub(crate) fn new(answer: impl Fn(&str, &Value) -> Value + Send + Sync + 'static) -> Self {
        Self { answer: Arc::new(answer), calls: Calls::default(), agents: Arc::default() }
    }

    /// Every call so far: operation and body.
    pub(crate) fn calls(&self) -> Vec<(String, Value)> {
        self.calls.lock().unwrap().clone()
    }

    /// Every name under which it was called, in all headers that may say one.
    pub(crate) fn agents(&self) -> Vec<String> {
        self.agents.lock().unwrap().clone()
    }

    /// How often an operation was called.
    pub(crate) fn count(&self, operation: &str) -> usize {
        self.calls().iter().filter(|(name, _)| name == operation).count()
    }

    pub(crate) fn sdk(&self) -> aws_config::SdkConfig {
        let connector = SharedHttpConnector::new(self.clone());
        aws_config::SdkConfig::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("eu-west-1"))
            .endpoint_url("http://q")
            .credentials_provider(aws_sdk_sqs::config::SharedCredentialsProvider::new(
                Credentials::new("a", "b", None, None, "fake"),
            ))
            .timeout_config(crate::aws::timeouts())
            // It looks at the real clock, and waits by the paused one.
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
            .http_client(http_client_fn(move |_, _| connector.clone()))
            .build()
    }

    pub(crate) fn sqs(&self) -> aws_sdk_sqs::Client {
        crate::aws::sqs_client(&self.sdk())
    }

    pub(crate) fn dynamo(&self) -> aws_sdk_dynamodb::Client {
        crate::aws::dynamo_client(&self.sdk())
    }
}

impl HttpConnector for FakeAws {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let (operation, body) = read(&request);
        let answer = (self.answer)(&operation, &body);
        self.calls.lock().unwrap().push((operation, body));
        let named = |name| request.headers().get(name).map(str::to_owned);
        let names = ["user-agent", "x-amz-user-agent"].into_iter().filter_map(named);
        self.agents.lock().unwrap().extend(names);
        HttpConnectorFuture::new(async move {
            let seconds = answer["__hang"].as_f64().unwrap_or_default();
            tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
            let status = answer["__status"].as_u64().unwrap_or(200) as u16;
            let status = StatusCode::try_from(status).unwrap();
            let text = answer["__text"].as_str().map_or_else(|| answer.to_string(), str::to_owned);
            let mut response = HttpResponse::new(status, SdkBody::from(text));
            response.headers_mut().insert("content-type", "application/x-amz-json-1.0");
            // What the metadata service says with a token.
            response.headers_mut().insert("x-aws-ec2-metadata-token-ttl-seconds", "21600");
            Ok(response)
        })
    }
}

/// What a request asks for: the operation, and its body.
fn read(request: &HttpRequest) -> (String, Value) {
    let bytes = request.body().bytes().unwrap_or_default();
    if let Some(target) = request.headers().get("x-amz-target") {
        let operation = target.rsplit('.').next().unwrap_or_default().to_owned();
        return (operation, serde_json::from_slice(bytes).unwrap_or(Value::Null));
    }
    let text = String::from_utf8_lossy(bytes);
    let pairs = text.split('&').filter_map(|pair| pair.split_once('='));
    let form: serde_json::Map<_, _> =
        pairs.map(|(name, value)| (name.to_owned(), json!(value))).collect();
    let uri = request.uri();
    let path =
        uri.find("://").and_then(|at| uri[at + 3..].find('/').map(|end| &uri[at + 3 + end..]));
    let asked = || format!("{} {}", request.method(), path.unwrap_or(uri));
    let action = form.get("Action").and_then(Value::as_str).map(str::to_owned);
    (action.unwrap_or_else(asked), Value::Object(form))
}

/// The answer to a batch call: these entries failed, all others went well.
pub(crate) fn batch(body: &Value, failed: &[(usize, bool)]) -> Value {
    let refused = |id: usize| failed.iter().find(|(index, _)| *index == id);
    let (mut good, mut bad) = (Vec::new(), Vec::new());
    for entry in body["Entries"].as_array().into_iter().flatten() {
        let id = entry["Id"].as_str().unwrap();
        match refused(id.parse().unwrap()) {
            None => good.push(json!({ "Id": id })),
            Some((_, ours)) => bad.push(json!({ "Id": id, "Code": "c", "SenderFault": ours })),
        }
    }
    json!({ "Successful": good, "Failed": bad })
}
