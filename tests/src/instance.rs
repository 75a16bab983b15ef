//! An EC2 instance, as a worker sees it.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{
    Router,
    extract::{Form, Path, State},
    http::StatusCode,
    routing::{get, post, put},
};

use crate::{WorkerBuilder, eventually};

/// Answers as the metadata service (IMDSv2) and as Auto Scaling do to the calls that a worker
/// makes, since nothing emulates `Terminating:Wait`. It checks no token and no signature, ends no
/// instance, and knows no hook's timeout.
#[derive(Debug)]
pub struct FakeInstance {
    addr: SocketAddr,
    state: Arc<Seen>,
    task: tokio::task::JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Seen {
    metadata: Mutex<HashMap<String, String>>,
    calls: Mutex<Vec<String>>,
}

/// The group that the instance is in.
const GROUP: &str = "a-group";

impl FakeInstance {
    /// An instance in service, under this id.
    pub async fn start(id: &str) -> Self {
        let state = Arc::new(Seen::default());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let addr = listener.local_addr().expect("an address");
        let app = Router::new()
            .route("/latest/api/token", put(token))
            .route("/latest/meta-data/{*path}", get(metadata))
            .route("/", post(call))
            .with_state(state.clone());
        let task = tokio::spawn(async move { axum::serve(listener, app).await.expect("served") });
        let instance = Self { addr, state, task };
        instance.says("instance-id", id);
        instance.says("autoscaling/target-lifecycle-state", "InService");
        instance
    }

    /// Sets a value of the metadata.
    pub fn says(&self, path: &str, value: &str) {
        let mut all = self.state.metadata.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(path.to_owned(), value.to_owned());
    }

    /// Runs a worker on it.
    pub fn under(&self, worker: WorkerBuilder) -> WorkerBuilder {
        let url = format!("http://{}", self.addr);
        worker
            .env("FLOTILLA_INSTANCE_METADATA", "true")
            .env("FLOTILLA_GROUP", GROUP)
            .env("FLOTILLA_UNPROTECT_SECONDS", "1")
            .env("AWS_EC2_METADATA_SERVICE_ENDPOINT", &url)
            .env("AWS_ENDPOINT_URL_AUTO_SCALING", &url)
    }

    /// The calls to Auto Scaling so far: `ACTION`, or `ACTION VALUE`.
    pub fn calls(&self) -> Vec<String> {
        self.state.calls.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits for a call.
    pub async fn until(&self, call: &str) {
        eventually(call, Duration::from_secs(30), async || {
            self.calls().iter().any(|it| it == call).then_some(())
        })
        .await;
    }
}

impl Drop for FakeInstance {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn token() -> ([(&'static str, &'static str); 1], &'static str) {
    ([("x-aws-ec2-metadata-token-ttl-seconds", "21600")], "a-token")
}

async fn metadata(
    State(seen): State<Arc<Seen>>,
    Path(path): Path<String>,
) -> Result<String, StatusCode> {
    let all = seen.metadata.lock().unwrap_or_else(PoisonError::into_inner);
    all.get(&path).cloned().ok_or(StatusCode::NOT_FOUND)
}

async fn call(
    State(seen): State<Arc<Seen>>,
    Form(form): Form<HashMap<String, String>>,
) -> Result<String, StatusCode> {
    let action = form.get("Action").ok_or(StatusCode::BAD_REQUEST)?;
    if form.get("AutoScalingGroupName").is_none_or(|group| group != GROUP) {
        return Err(StatusCode::BAD_REQUEST);
    }
    let value = form.get("ProtectedFromScaleIn").or(form.get("LifecycleActionResult"));
    let call = value.map_or(action.clone(), |value| format!("{action} {value}"));
    seen.calls.lock().unwrap_or_else(PoisonError::into_inner).push(call);
    Ok(format!(
        "<{action}Response xmlns=\"http://autoscaling.amazonaws.com/doc/2011-01-01/\">\
         <{action}Result/><ResponseMetadata><RequestId>r</RequestId></ResponseMetadata>\
         </{action}Response>"
    ))
}
