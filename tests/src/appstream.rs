//! A stub of AppStream, which no emulator has.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

/// Fleets by name, with their state.
type Fleets = Arc<Mutex<BTreeMap<String, String>>>;

/// Answers `DescribeFleets`, `StartFleet` and `StopFleet`, and nothing else. Fleets change their
/// state at once, without `STARTING` and `STOPPING`; nothing is checked of a request but the names
/// in it; a page holds one fleet; there are no permissions or limits.
#[derive(Debug)]
pub struct FakeAppStream {
    fleets: Fleets,
    url: String,
    server: JoinHandle<()>,
}

impl FakeAppStream {
    /// Starts it with these fleets, all `STOPPED`.
    pub async fn start(names: &[&str]) -> Self {
        let states = names.iter().map(|name| ((*name).to_owned(), "STOPPED".to_owned()));
        let fleets: Fleets = Arc::new(Mutex::new(states.collect()));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let shared = fleets.clone();
        let server = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, shared.clone()));
            }
        });
        Self { fleets, url, server }
    }

    /// Its URL.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Puts a fleet into a state, which it stays in until something switches it.
    pub fn put(&self, name: &str, state: &str) {
        self.fleets.lock().expect("no panic before").insert(name.to_owned(), state.to_owned());
    }

    /// The state of a fleet.
    pub fn state(&self, name: &str) -> String {
        self.fleets.lock().expect("no panic before")[name].clone()
    }
}

impl Drop for FakeAppStream {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn serve(mut stream: TcpStream, fleets: Fleets) -> Option<()> {
    let (mut text, mut buffer) = (Vec::new(), [0; 4096]);
    let (action, body) = loop {
        let count = stream.read(&mut buffer).await.ok().filter(|count| *count > 0)?;
        text.extend_from_slice(&buffer[..count]);
        if let Some(request) = whole(&text) {
            break request;
        }
    };
    let (status, answer) = answer(&action, &body, &fleets);
    let mut body = Vec::new();
    ciborium::into_writer(&answer, &mut body).ok()?;
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/cbor\r\n\
         smithy-protocol: rpc-v2-cbor\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(&[head.as_bytes(), &body].concat()).await.ok()
}

/// The action and body of a request that has arrived whole:
/// `POST /service/…/operation/StartFleet`, with CBOR.
fn whole(bytes: &[u8]) -> Option<(String, Value)> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
    let (head, body) = (String::from_utf8_lossy(&bytes[..end]), &bytes[end + 4..]);
    let mut headers = head.lines().filter_map(|line| line.split_once(": "));
    let length = headers.find(|(key, _)| key.eq_ignore_ascii_case("content-length"))?.1;
    let body = body.get(..length.parse().ok()?)?;
    let action = head.split(' ').nth(1)?.rsplit('/').next()?.to_owned();
    Some((action, ciborium::from_reader(body).ok()?))
}

fn answer(action: &str, body: &Value, fleets: &Fleets) -> (&'static str, Value) {
    let mut fleets = fleets.lock().expect("no panic before");
    let mut switch = |to: &str| match fleets.get_mut(body["Name"].as_str().unwrap_or_default()) {
        Some(state) => {
            to.clone_into(state);
            ("200 OK", json!({}))
        }
        None => unknown(),
    };
    match action {
        "StartFleet" => switch("RUNNING"),
        "StopFleet" => switch("STOPPED"),
        "DescribeFleets" => {
            let names: Vec<String> = serde_json::from_value(body["Names"].clone()).expect("names");
            let found = names.iter().map(|name| Some((name, fleets.get(name)?)));
            let found: Option<Vec<_>> = found.collect();
            found.map_or_else(unknown, |found| ("200 OK", page(&found, body)))
        }
        _ => ("400 Bad Request", json!({ "__type": "UnknownOperationException" })),
    }
}

fn fleet(name: &str, state: &str) -> Value {
    json!({
        "Arn": format!("arn:aws:appstream:us-east-1:123456789012:fleet/{name}"), "Name": name,
        "InstanceType": "stream.standard.medium", "State": state,
        "ComputeCapacityStatus": { "Desired": 1 },
    })
}

/// One fleet of those found, and where the next one is.
fn page(found: &[(&String, &String)], body: &Value) -> Value {
    let number = body["NextToken"].as_str().and_then(|it| it.parse().ok()).unwrap_or(0);
    let rows = found.iter().skip(number).take(1).map(|(name, state)| fleet(name, state));
    let mut page = json!({ "Fleets": rows.collect::<Vec<_>>() });
    if number + 1 < found.len() {
        page["NextToken"] = json!((number + 1).to_string());
    }
    page
}

fn unknown() -> (&'static str, Value) {
    let error = json!({ "__type": "com.amazonaws.appstream#ResourceNotFoundException", "message": "no such fleet" });
    ("400 Bad Request", error)
}
