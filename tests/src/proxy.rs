//! A proxy between workers and their endpoint that does them harm.

mod batch;
mod hold;

use std::{
    collections::{BTreeMap, VecDeque},
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Router,
    body::{Body, Bytes, to_bytes},
    extract::{Request, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use rand::{RngExt, rngs::StdRng, seq::IndexedRandom};
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinHandle};

pub use self::hold::Held;
use self::{
    batch::{joined, refused},
    hold::Hold,
};
use crate::faults::{Fault, Plan, Rule, Seed};

/// Longer than a worker waits for a receive: its long poll and ten seconds.
const HUNG: Duration = Duration::from_secs(14);
/// How many messages are remembered, to be handed out again.
const REMEMBERED: usize = 64;
/// More than any call of SQS or DynamoDB takes.
const LARGEST: usize = 32 << 20;

/// Forwards every call, but for those that its rules strike.
///
/// It speaks the JSON protocols of SQS and DynamoDB, whose calls are named in `X-Amz-Target`;
/// what has no such header passes as it is. Each worker comes in by an [entrance](Self::entrance)
/// of its own.
#[derive(Debug)]
pub struct FaultProxy {
    shared: Arc<Shared>,
    servers: Mutex<Vec<JoinHandle<()>>>,
}

#[derive(Debug)]
struct Shared {
    endpoint: String,
    client: Client<HttpConnector, Body>,
    seed: Seed,
    plan: Mutex<Arc<Plan>>,
    done: Mutex<BTreeMap<Fault, u64>>,
    /// Messages that were handed out, each with its newest receipt handle.
    handed_out: Mutex<VecDeque<Value>>,
    /// The call that is to be held next.
    hold: Mutex<Option<Hold>>,
}

/// What a door knows of those who come in by it.
#[derive(Debug, Clone)]
struct Door {
    shared: Arc<Shared>,
    skew_ms: i64,
}

/// A call on its way.
struct Call {
    uri: String,
    headers: HeaderMap,
    /// Its name, such as `ReceiveMessage`; empty where it is none of SQS or DynamoDB.
    name: String,
    body: Bytes,
}

impl FaultProxy {
    /// A proxy in front of an endpoint, that does no harm yet.
    pub fn new(endpoint: &str, seed: Seed) -> Self {
        let shared = Shared {
            endpoint: endpoint.trim_end_matches('/').to_owned(),
            client: Client::builder(TokioExecutor::new()).build_http(),
            seed,
            plan: Mutex::new(Arc::new(Plan::new(seed, &[]))),
            done: Mutex::default(),
            handed_out: Mutex::default(),
            hold: Mutex::default(),
        };
        Self { shared: Arc::new(shared), servers: Mutex::default() }
    }

    /// Does harm by these rules from now on; where two strike one call, the first does.
    pub fn obey(&self, rules: &[Rule]) {
        let plan = Arc::new(Plan::new(self.shared.seed, rules));
        *self.shared.plan.lock().expect("no panic before") = plan;
    }

    /// How many calls have suffered what.
    pub fn injected(&self) -> BTreeMap<Fault, u64> {
        self.shared.done.lock().expect("no panic before").clone()
    }

    /// Holds the next call that has all of these words in its body, and no other from now on.
    pub fn hold(&self, words: &[&str]) -> Held {
        let (held, hold) = Held::new(words);
        *self.shared.hold.lock().expect("no panic before") = Some(hold);
        held
    }

    /// A new way in, `http://127.0.0.1:PORT`, for a worker whose clock is so much ahead (or
    /// behind, below zero): the times in its ledger calls are moved.
    pub async fn entrance(&self, skew_ms: i64) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let door = Door { shared: self.shared.clone(), skew_ms };
        let router = Router::new().fallback(pass).with_state(door);
        let server = tokio::spawn(async move {
            axum::serve(listener, router).await.expect("a server that does not end");
        });
        self.servers.lock().expect("no panic before").push(server);
        url
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        let servers = self.servers.lock().expect("no panic before");
        servers.iter().for_each(JoinHandle::abort);
    }
}

async fn pass(State(door): State<Door>, request: Request) -> Response {
    let method = request.method().clone();
    let Some(mut call) = read(request).await else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    if call.name.is_empty() {
        return door.shared.send(method, call).await;
    }
    if door.skew_ms != 0 && skew(&mut call, door.skew_ms) {
        door.shared.count(Fault::Skewed);
    }
    let hold = door.shared.held(&call);
    if let Some(hold) = hold {
        return hold.through(&door.shared, call).await;
    }
    let plan = door.shared.plan.lock().expect("no panic before").clone();
    match plan.draw(&call.name) {
        Some((fault, dice)) => door.shared.harm(fault, dice, call).await,
        None => door.shared.forward(call).await,
    }
}

async fn read(request: Request) -> Option<Call> {
    let (parts, body) = request.into_parts();
    let target = parts.headers.get("x-amz-target").and_then(|name| name.to_str().ok());
    let name = target.and_then(|name| name.rsplit('.').next()).unwrap_or_default().to_owned();
    let uri = parts.uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
    let body = to_bytes(body, LARGEST).await.ok()?;
    Some(Call { uri, headers: parts.headers, name, body })
}

/// Moves the times that the ledger compares and writes; the names are those of its expressions.
fn skew(call: &mut Call, by_ms: i64) -> bool {
    let mut body = call.json();
    let Some(values) = body["ExpressionAttributeValues"].as_object_mut() else {
        return false;
    };
    let mut moved = false;
    for name in [":now", ":until", ":over"] {
        let Some(time) = values.get_mut(name) else { continue };
        let now = time["N"].as_str().and_then(|text| text.parse::<i64>().ok()).expect("a time");
        *time = json!({ "N": (now + by_ms).to_string() });
        moved = true;
    }
    if moved {
        call.body = body.to_string().into();
    }
    moved
}

impl Call {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

impl Shared {
    fn held(&self, call: &Call) -> Option<Hold> {
        self.hold.lock().expect("no panic before").take_if(|hold| hold.is_for(call))
    }

    async fn harm(&self, fault: Fault, mut dice: StdRng, call: Call) -> Response {
        if matches!(fault, Fault::Duplicated | Fault::PartlyFailed | Fault::Expired) {
            return self.tamper(fault, dice, call).await;
        }
        self.count(fault);
        match fault {
            Fault::Delayed => {
                tokio::time::sleep(Duration::from_millis(dice.random_range(100..1200))).await;
                self.forward(call).await
            }
            Fault::ServerError => error(StatusCode::INTERNAL_SERVER_ERROR, "InternalFailure"),
            Fault::Throttled => error(StatusCode::BAD_REQUEST, throttled(&call)),
            Fault::Hung => {
                let answer = self.forward(call).await;
                tokio::time::sleep(HUNG).await;
                drop(answer);
                cut()
            }
            _ => {
                drop(self.forward(call).await);
                cut()
            }
        }
    }

    /// The faults that change what is asked for, or what is answered.
    async fn tamper(&self, fault: Fault, mut dice: StdRng, mut call: Call) -> Response {
        let mut body = call.json();
        let extra = match fault {
            Fault::Duplicated => self.again(&mut body, &mut dice).map(|again| ("Messages", again)),
            _ => Some(("Failed", refused(fault, &mut body, &mut dice))),
        };
        let Some((list, extra)) = extra else {
            return self.forward(call).await;
        };
        self.count(fault);
        call.body = body.to_string().into();
        // A batch of which nothing is left is no call.
        let answer = match body["Entries"].as_array().is_some_and(Vec::is_empty) {
            true => json!({ "Successful": [] }).to_string().into_response(),
            false => self.forward(call).await,
        };
        joined(answer, list, extra).await
    }

    /// A message that was handed out before, if the call leaves room for one more.
    fn again(&self, body: &mut Value, dice: &mut StdRng) -> Option<Vec<Value>> {
        let room = body["MaxNumberOfMessages"].as_i64().filter(|max| *max > 1)?;
        let known = self.handed_out.lock().expect("no panic before");
        let message = known.iter().collect::<Vec<_>>().choose(dice).map(|it| (*it).clone())?;
        body["MaxNumberOfMessages"] = json!(room - 1);
        Some(vec![message])
    }

    async fn forward(&self, call: Call) -> Response {
        let receives = call.name == "ReceiveMessage";
        let answer = self.send("POST".parse().expect("a method"), call).await;
        if !receives {
            return answer;
        }
        let (parts, body) = answer.into_parts();
        let bytes = to_bytes(body, LARGEST).await.unwrap_or_default();
        self.remember(&bytes);
        Response::from_parts(parts, Body::from(bytes))
    }

    fn remember(&self, answer: &[u8]) {
        let answer: Value = serde_json::from_slice(answer).unwrap_or_default();
        let mut known = self.handed_out.lock().expect("no panic before");
        for message in answer["Messages"].as_array().into_iter().flatten() {
            // An older handle of the same message is out of date.
            known.retain(|old| old["MessageId"] != message["MessageId"]);
            known.push_back(message.clone());
        }
        let old = known.len().saturating_sub(REMEMBERED);
        known.drain(..old);
    }

    async fn send(&self, method: axum::http::Method, call: Call) -> Response {
        let url = format!("{}{}", self.endpoint, call.uri);
        let mut request = Request::builder().method(method).uri(url);
        for (name, value) in &call.headers {
            if ![header::HOST, header::CONTENT_LENGTH, header::CONNECTION].contains(name) {
                request = request.header(name, value);
            }
        }
        let request = request.body(Body::from(call.body)).expect("a request");
        match self.client.request(request).await {
            Ok(answer) => {
                let (parts, body) = answer.into_parts();
                whole(parts, Body::new(body)).await
            }
            Err(_) => cut(),
        }
    }

    fn count(&self, fault: Fault) {
        *self.done.lock().expect("no panic before").entry(fault).or_default() += 1;
    }
}

/// The answer with its body read to the end, so that the call is over when it is dropped.
async fn whole(mut parts: axum::http::response::Parts, body: Body) -> Response {
    match to_bytes(body, LARGEST).await {
        Ok(bytes) => {
            parts.headers.remove(header::TRANSFER_ENCODING);
            parts.headers.remove(header::CONNECTION);
            Response::from_parts(parts, Body::from(bytes))
        }
        Err(_) => cut(),
    }
}

fn throttled(call: &Call) -> &'static str {
    let target = call.headers.get("x-amz-target").and_then(|name| name.to_str().ok());
    match target.is_some_and(|name| name.starts_with("DynamoDB")) {
        true => "com.amazonaws.dynamodb.v20120810#ProvisionedThroughputExceededException",
        false => "com.amazonaws.sqs#RequestThrottled",
    }
}

fn error(status: StatusCode, kind: &str) -> Response {
    let body = json!({ "__type": kind, "message": "as ordered" }).to_string();
    (status, [(header::CONTENT_TYPE, "application/x-amz-json-1.0")], body).into_response()
}

/// An answer that ends before it begins: the connection is closed.
fn cut() -> Response {
    let end = futures::stream::once(async { Err::<Bytes, _>(io::Error::other("cut")) });
    Response::new(Body::from_stream(end))
}
