//! A server of the tests' own that writes down what it is sent, and answers as it is told.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode, Uri},
    response::{IntoResponse, Response},
};
use serde_json::Value;
use tokio::{net::TcpListener, task::JoinHandle};

use crate::wait::eventually;

/// A request as it came.
#[derive(Debug, Clone)]
pub struct Recorded {
    /// When.
    pub at: Instant,
    /// The path with its query.
    pub path: String,
    /// Headers, by their names in lower case.
    pub headers: HashMap<String, String>,
    /// The body's text.
    pub body: String,
}

impl Recorded {
    /// The body's JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_default()
    }
}

type Answer = dyn Fn(&Recorded) -> (u16, String) + Send + Sync;

struct Shared {
    requests: Mutex<Vec<Recorded>>,
    answer: Box<Answer>,
}

/// The server; ends when it is dropped.
pub struct Recorder {
    shared: Arc<Shared>,
    url: String,
    server: JoinHandle<()>,
}

impl fmt::Debug for Recorder {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.debug_struct("Recorder").field("url", &self.url).finish_non_exhaustive()
    }
}

impl Recorder {
    /// A server that answers so.
    pub async fn new(answer: impl Fn(&Recorded) -> (u16, String) + Send + Sync + 'static) -> Self {
        let shared = Arc::new(Shared { requests: Mutex::default(), answer: Box::new(answer) });
        let routes = Router::new().fallback(record).with_state(shared.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let server = tokio::spawn(async move {
            let _ = axum::serve(listener, routes).await;
        });
        Self { shared, url, server }
    }

    /// Its address, `http://127.0.0.1:PORT`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// What has come so far.
    pub fn requests(&self) -> Vec<Recorded> {
        self.shared.requests.lock().expect("no panic before").clone()
    }

    /// Waits until so many have come, and gives all.
    pub async fn until(&self, count: usize) -> Vec<Recorded> {
        let what = format!("{count} requests");
        eventually(&what, Duration::from_secs(30), async || {
            Some(self.requests()).filter(|it| it.len() >= count)
        })
        .await
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn record(
    State(shared): State<Arc<Shared>>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let headers = headers.iter().map(|(name, value)| {
        (name.as_str().to_owned(), value.to_str().unwrap_or_default().to_owned())
    });
    let request = Recorded {
        at: Instant::now(),
        path: uri.to_string(),
        headers: headers.collect(),
        body: String::from_utf8_lossy(&body).into_owned(),
    };
    let (status, answer) = (shared.answer)(&request);
    shared.requests.lock().expect("no panic before").push(request);
    (StatusCode::from_u16(status).expect("a status"), answer).into_response()
}
