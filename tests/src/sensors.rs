//! Sensors, as their users see them.

use std::{collections::HashMap, time::Duration};

use aws_sdk_dynamodb::types::AttributeValue as Attr;
use aws_sdk_sqs::types::SendMessageBatchRequestEntry as Entry;
use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::{net::TcpStream, time::timeout};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{Error, Message},
};

use crate::{
    wait::{eventually, http},
    worker::{Worker, WorkerBuilder},
    world::World,
};

/// What a problem's row says of when it was worked on: all of it that depends on the order in which
/// readings came.
pub const PROCESSED: [&str; 3] = ["opened_processed", "resolved_processed", "corrected_processed"];
/// What else it says that a reading or its neighbours tell.
pub const TOLD: [&str; 15] = [
    "problem_id",
    "opened",
    "problem",
    "problem_time",
    "problem_status",
    "current",
    "following",
    "opening",
    "resolved",
    "resolution",
    "certainty",
    "recurrences",
    "flaps",
    "cause_id",
    "cause_opened",
];

/// A row, as DynamoDB gives it.
type Row = HashMap<String, Attr>;

/// A plain reading; `at` in Unix seconds.
pub fn reading(id: &str, filling: u32, at: i64) -> Value {
    json!({ "id": id, "filling": filling.to_string(), "at": at })
}

impl World {
    /// An anomaly worker, not started yet.
    pub fn anomaly_worker(&self) -> WorkerBuilder {
        self.sensors(self.worker("anomaly-worker"))
            .env("FLOTILLA_QUEUE_URL", &self.outputs().anomaly_queue_url)
    }

    /// A gateway for sensors, not started yet.
    pub fn sensor_gateway(&self) -> WorkerBuilder {
        let gateway = self.sensors(self.worker("gateway"));
        let addr = gateway.addr();
        let queue = &self.outputs().anomaly_queue_url;
        gateway.env("FLOTILLA_GATEWAY_ADDR", addr).env("FLOTILLA_ANOMALY_QUEUE_URL", queue)
    }

    fn sensors(&self, program: WorkerBuilder) -> WorkerBuilder {
        let outputs = self.outputs();
        program
            .env("FLOTILLA_DEVICES_TABLE", &outputs.devices_table_name)
            .env("FLOTILLA_READINGS_TABLE", &outputs.readings_table_name)
            .env("FLOTILLA_EDGES_TABLE", &outputs.edges_table_name)
            .env("FLOTILLA_NOTIFICATIONS_TABLE", &outputs.notifications_table_name)
            .env("FLOTILLA_PROBLEMS_TABLE", &outputs.problems_table_name)
    }

    /// Puts messages on the queue of readings.
    pub async fn measure(&self, readings: &[Value]) {
        for batch in readings.chunks(10) {
            let entry = |(number, body): (usize, &Value)| {
                let body = body.as_str().map_or_else(|| body.to_string(), str::to_owned);
                let entry = Entry::builder().id(number.to_string()).message_body(body).build();
                entry.expect("an entry")
            };
            let call =
                self.aws.sqs.send_message_batch().queue_url(&self.outputs().anomaly_queue_url);
            let call = call.set_entries(Some(batch.iter().enumerate().map(entry).collect()));
            assert!(call.send().await.expect("SendMessageBatch").failed().is_empty());
        }
    }

    /// Stores the first topology, written in TOML.
    pub async fn topology(&self, name: &str, toml: &str) {
        let table = &self.outputs().edges_table_name;
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let now = now.expect("a clock after 1970").as_millis() as u64;
        let stored = json!({ name: { "parts": 1, "format": "toml", "at": now, "stored": 1 } });
        let rows = [
            (format!("topologies:{name}:1:0"), "text", toml.to_owned()),
            ("topologies".to_owned(), "names", stored.to_string()),
        ];
        for (key, attribute, value) in rows {
            let call = self.aws.dynamo.put_item().table_name(table).item("edge", Attr::S(key));
            let call = call.item("version", Attr::N("1".to_owned()));
            call.item(attribute, Attr::S(value)).send().await.expect("PutItem");
        }
    }

    /// Waits until the queue of readings holds nothing, visible or not.
    pub async fn until_compared(&self) {
        eventually("an empty queue of readings", Duration::from_secs(240), async || {
            (self.left_on(&self.outputs().anomaly_queue_url).await == 0).then_some(())
        })
        .await;
    }

    /// All rows of a table.
    pub async fn table(&self, name: &str) -> Vec<Row> {
        let call = self.aws.dynamo.scan().table_name(name).consistent_read(true);
        let mut items = call.into_paginator().items().send();
        let mut rows = Vec::new();
        while let Some(row) = items.next().await {
            rows.push(row.expect("Scan"));
        }
        rows
    }

    /// The rows of all problems whose id begins so, in order, without that beginning and without
    /// [the times of processing](PROCESSED).
    pub async fn problems(&self, prefix: &str) -> Vec<Vec<(String, String)>> {
        let rows = self.table(&self.outputs().problems_table_name).await;
        let ours = rows
            .into_iter()
            .filter(|row| row["current"].as_s().is_ok_and(|current| current.starts_with(prefix)));
        let told = |name: &String| !PROCESSED.contains(&name.as_str());
        let shown = |value: &Attr| match value {
            Attr::S(text) => text.replace(prefix, ""),
            other => format!("{other:?}"),
        };
        let mut rows: Vec<Vec<_>> = ours
            .map(|row| {
                let fields = row.iter().filter(|(name, _)| told(name));
                let mut fields: Vec<_> =
                    fields.map(|(name, value)| (name.clone(), shown(value))).collect();
                fields.sort();
                fields
            })
            .collect();
        rows.sort();
        rows
    }
}

impl Worker {
    /// Posts readings to a gateway: status and JSON of its answer.
    pub async fn post_readings(&self, body: &str) -> (u16, Value) {
        let headers = [("content-type", "application/json")];
        let answer = http("POST", self.addr(), "/v1/readings", &headers, body).await;
        let (status, body) = answer.expect("an answer");
        (status, serde_json::from_str(&body).unwrap_or(Value::Null))
    }
}

impl Worker {
    /// Sends a gateway a body of this kind: status and JSON of its answer.
    pub async fn send(&self, method: &str, path: &str, kind: &str, body: &str) -> (u16, Value) {
        let answer = http(method, self.addr(), path, &[("content-type", kind)], body).await;
        let (status, body) = answer.expect("an answer");
        (status, serde_json::from_str(&body).unwrap_or(Value::Null))
    }

    /// Follows the `next` of a list's pages to its end: all of what is under `name`, and the
    /// number of pages.
    pub async fn pages(&self, path: &str, name: &str) -> (Vec<Value>, usize) {
        let (mut all, mut count, mut cursor) = (Vec::new(), 0, String::new());
        loop {
            let (status, mut page) = self.json(&format!("{path}{cursor}")).await;
            assert_eq!(status, 200, "{path}{cursor}: {page}");
            all.extend(page[name].as_array().expect("a list").clone());
            count += 1;
            match page["next"].take() {
                Value::String(next) => cursor = format!("&cursor={next}"),
                _ => return (all, count),
            }
            assert!(count < 1000, "{path} does not end");
        }
    }
}

/// A client at `/ws`.
#[derive(Debug)]
pub struct Listener {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
}

impl Listener {
    /// Connects, if it is let in.
    pub async fn connect(gateway: &Worker) -> Result<Self, u16> {
        Self::at(gateway, "/ws").await
    }

    /// Connects to a path, if it is let in.
    pub async fn at(gateway: &Worker, path: &str) -> Result<Self, u16> {
        match connect_async(format!("ws://{}{path}", gateway.addr())).await {
            Ok((socket, _)) => Ok(Self { socket }),
            Err(Error::Http(answer)) => Err(answer.status().as_u16()),
            Err(error) => panic!("/ws: {error}"),
        }
    }

    /// Says something; gives the answer.
    pub async fn ask(&mut self, what: &Value) -> Value {
        self.socket.send(Message::text(what.to_string())).await.expect("an open socket");
        self.next().await
    }

    /// The next event.
    pub async fn next(&mut self) -> Value {
        let next = async {
            loop {
                match self.socket.next().await.expect("an open socket").expect("a frame") {
                    Message::Text(text) => return serde_json::from_str(&text).expect("JSON"),
                    _ => continue,
                }
            }
        };
        timeout(Duration::from_secs(20), next).await.expect("an event within 20 s")
    }

    /// The next event that is about a problem.
    pub async fn next_problem(&mut self) -> Value {
        loop {
            let next = self.next().await;
            if next.get("problem_id").is_some() {
                return next;
            }
        }
    }

    /// The next events up to this one, which is the last of them.
    pub async fn until(&mut self, last: &Value) -> Vec<Value> {
        let mut events = Vec::new();
        while events.last() != Some(last) {
            events.push(self.next().await);
            assert!(events.len() < 1000, "{last} does not come: {events:?}");
        }
        events
    }
}
