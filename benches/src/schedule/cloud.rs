//! EC2 and STS in memory, of any number of accounts: every instance that is asked for is there,
//! and runs until it is stopped.

use std::{
    collections::{HashMap, HashSet},
    convert::Infallible,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use http_body_util::{BodyExt, Full};
use hyper::{
    Request, Response, StatusCode,
    body::{Bytes, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

use super::estate::Dice;

/// What a role gives: keys that nobody looks at.
const KEYS: &str = "<AssumeRoleResponse><AssumeRoleResult><Credentials><AccessKeyId>k</AccessKeyId>\
    <SecretAccessKey>s</SecretAccessKey><SessionToken>t</SessionToken>\
    <Expiration>2099-01-01T00:00:00Z</Expiration></Credentials></AssumeRoleResult></AssumeRoleResponse>";

/// The services.
#[derive(Debug)]
pub(super) struct Cloud {
    latency: Duration,
    throttled: u64,
    dice: Dice,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    stopped: HashSet<String>,
    calls: HashMap<String, u64>,
}

impl Cloud {
    /// Every call takes `latency`; of a hundred so many are throttled.
    pub(super) fn new(latency: Duration, throttled: u64) -> Self {
        Self { latency, throttled, dice: Dice::default(), state: Mutex::default() }
    }

    /// How many instances were stopped.
    pub(super) fn stopped(&self) -> usize {
        self.with(|state| state.stopped.len())
    }

    /// Calls by name, throttled ones included.
    pub(super) fn calls(&self) -> HashMap<String, u64> {
        self.with(|state| state.calls.clone())
    }

    fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Answers on `listener` until it is aborted.
    pub(super) async fn serve(self: Arc<Self>, listener: TcpListener) {
        while let Ok((connection, _)) = listener.accept().await {
            // An answer that waits for an acknowledgement would be a latency of its own.
            let _ = connection.set_nodelay(true);
            let cloud = self.clone();
            tokio::spawn(async move {
                let service = service_fn(move |request| {
                    let cloud = cloud.clone();
                    async move { Ok::<_, Infallible>(cloud.respond(request).await) }
                });
                // The worker is killed in the end, with its connections.
                let _ =
                    http1::Builder::new().serve_connection(TokioIo::new(connection), service).await;
            });
        }
    }

    async fn respond(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let body = request.into_body().collect().await.map(|it| it.to_bytes()).unwrap_or_default();
        let body = String::from_utf8_lossy(&body).into_owned();
        tokio::time::sleep(self.latency).await;
        let fields: Vec<(&str, &str)> =
            body.split('&').filter_map(|it| it.split_once('=')).collect();
        let field =
            |name: &str| fields.iter().find(|(key, _)| *key == name).map(|(_, value)| *value);
        let action = field("Action").unwrap_or_default();
        let dry = field("DryRun") == Some("true");
        let name = if dry { format!("{action} (dry)") } else { action.to_owned() };
        self.with(|state| *state.calls.entry(name).or_default() += 1);
        if self.dice.roll() < self.throttled {
            let code = if action == "AssumeRole" { "Throttling" } else { "RequestLimitExceeded" };
            return refused(code, action);
        }
        let ids = |prefix: &'static str| {
            fields.iter().filter(move |(key, _)| key.starts_with(prefix)).map(|(_, value)| *value)
        };
        match action {
            "AssumeRole" => answer(StatusCode::OK, KEYS.to_owned()),
            "DescribeInstances" if dry => refused("DryRunOperation", action),
            "DescribeInstances" => self.describe(ids("Filter.1.Value.")),
            "StopInstances" if dry => refused("DryRunOperation", action),
            "StopInstances" => {
                self.with(|state| state.stopped.extend(ids("InstanceId.").map(str::to_owned)));
                answer(StatusCode::OK, "<StopInstancesResponse/>".to_owned())
            }
            _ => refused("InvalidAction", action),
        }
    }

    fn describe<'a>(&self, ids: impl Iterator<Item = &'a str>) -> Response<Full<Bytes>> {
        let items = self.with(|state| {
            let item = |id: &str| {
                let name = if state.stopped.contains(id) { "stopped" } else { "running" };
                format!(
                    "<item><instancesSet><item><instanceId>{id}</instanceId><instanceState>\
                     <name>{name}</name></instanceState></item></instancesSet></item>"
                )
            };
            ids.map(item).collect::<String>()
        });
        let body = format!(
            "<DescribeInstancesResponse><reservationSet>{items}</reservationSet>\
             </DescribeInstancesResponse>"
        );
        answer(StatusCode::OK, body)
    }
}

fn refused(code: &str, action: &str) -> Response<Full<Bytes>> {
    let error = format!("<Error><Code>{code}</Code><Message>{action}</Message></Error>");
    let body = match action {
        "AssumeRole" => format!("<ErrorResponse>{error}<RequestId>0</RequestId></ErrorResponse>"),
        _ => format!("<Response><Errors>{error}</Errors><RequestID>0</RequestID></Response>"),
    };
    answer(StatusCode::BAD_REQUEST, body)
}

fn answer(status: StatusCode, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let content = hyper::header::HeaderValue::from_static("text/xml");
    response.headers_mut().insert("content-type", content);
    response
}
