//! An endpoint in memory, in a process of its own, and the consumers that are put on it.

use std::{collections::BTreeMap, ffi::OsString, path::PathBuf, process::Stdio, time::Duration};

use serde::Deserialize;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    process::Command,
};

use crate::{
    Trouble,
    process::{CONSUMER_CORE, ENDPOINT_CORE, Process, sibling},
    stub::queue::Source,
};

/// What every call to the endpoint takes.
pub const LATENCY: Duration = Duration::from_millis(10);
/// The queue that the consumers consume.
pub const QUEUE: &str = "bench";

/// The endpoint.
#[derive(Debug)]
pub struct Rig {
    stub: Process,
    address: String,
}

/// A consumer: a program and what it is told in its environment.
#[derive(Debug, Clone)]
pub struct Consumer {
    /// What it is called in the figures.
    pub name: &'static str,
    /// Its program.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<String>,
    /// Its environment, beside that of the endpoint.
    pub env: Vec<(&'static str, OsString)>,
    /// The body of its messages.
    pub body: String,
}

/// What the endpoint has counted.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Counts {
    /// Calls by service and operation.
    pub calls: BTreeMap<String, u64>,
    /// Messages by queue.
    pub queues: BTreeMap<String, Messages>,
}

/// What became of a queue's messages.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
pub struct Messages {
    /// They can be received.
    pub visible: u64,
    /// They are in somebody's hands.
    pub in_flight: u64,
    /// They were handed out, each time counted.
    pub received: u64,
    /// They were deleted.
    pub deleted: u64,
}

impl Consumer {
    /// Starts it on a queue of an endpoint, on the consumers' core.
    ///
    /// # Errors
    /// When its program cannot be started.
    pub fn start(&self, endpoint: &str, queue_url: &str) -> Result<Process, Trouble> {
        let mut command = Command::new(&self.program);
        command.args(&self.args).envs(credentials()).envs(self.env.iter().cloned());
        command.env("AWS_ENDPOINT_URL", endpoint).env("BENCH_QUEUE_URL", queue_url);
        command.env("FLOTILLA_QUEUE_URL", queue_url);
        Process::start(command, CONSUMER_CORE, Stdio::null())
    }
}

impl Counts {
    /// The messages of the queue that is consumed.
    pub fn messages(&self) -> Messages {
        self.queues.get(QUEUE).copied().unwrap_or_default()
    }

    /// Calls to SQS.
    pub fn sqs_calls(&self) -> u64 {
        self.calls.iter().filter(|(name, _)| name.starts_with("AmazonSQS.")).map(|(_, n)| n).sum()
    }
}

impl Rig {
    /// Starts an endpoint whose queue fills itself from `source`.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn start(source: &Source) -> Result<Self, Trouble> {
        let mut command = Command::new(sibling("aws-stub"));
        command.args(["--queue", QUEUE, "--body", &source.template]);
        command.args(["--messages", &source.left.to_string()]);
        command.args(["--twice-every", &source.twice_every.to_string()]);
        command.args(["--latency-ms", &LATENCY.as_millis().to_string()]);
        let mut stub = Process::start(command, ENDPOINT_CORE, Stdio::piped())?;
        let output = stub.child().stdout.take();
        let mut address = String::new();
        if let Some(output) = output {
            let read = BufReader::new(output).read_line(&mut address).await;
            read.map_err(|e| Trouble::new(format!("the endpoint does not say its address: {e}")))?;
        }
        match address.trim() {
            "" => Err(Trouble::new("the endpoint in memory did not start")),
            address => Ok(Self { stub, address: address.to_owned() }),
        }
    }

    /// Starts a consumer on the other core.
    ///
    /// # Errors
    /// When its program cannot be started.
    pub fn consume(&self, consumer: &Consumer) -> Result<Process, Trouble> {
        let endpoint = format!("http://{}", self.address);
        consumer.start(&endpoint, &format!("{endpoint}/000000000000/{QUEUE}"))
    }

    /// What happened so far.
    ///
    /// # Errors
    /// When the endpoint does not answer.
    pub async fn counts(&self) -> Result<Counts, Trouble> {
        self.ask("/stub/counts").await
    }

    /// How many rows a table has, and the sum of a number in them.
    ///
    /// # Errors
    /// When the endpoint does not answer.
    pub async fn sum(&self, table: &str, attribute: &str) -> Result<(u64, u64), Trouble> {
        #[derive(Deserialize)]
        struct Answer {
            rows: u64,
            sum: u64,
        }
        let answer: Answer = self.ask(&format!("/stub/sum/{table}/{attribute}")).await?;
        Ok((answer.rows, answer.sum))
    }

    /// Seconds of processor time that the endpoint itself has used.
    pub fn cpu(&self) -> f64 {
        self.stub.cost().cpu
    }

    /// Calls an operation such as `DynamoDB_20120810.UpdateItem`; gives its answer.
    ///
    /// # Errors
    /// When the endpoint does not answer, or not with JSON.
    pub async fn call(&self, target: &str, body: &Value) -> Result<Value, Trouble> {
        let body = body.to_string();
        let head = format!("X-Amz-Target: {target}\r\nContent-Length: {}", body.len());
        let request =
            format!("POST / HTTP/1.1\r\nHost: stub\r\n{head}\r\nConnection: close\r\n\r\n");
        self.exchange(target, request + &body).await
    }

    /// Puts a message on the queue that is consumed.
    ///
    /// # Errors
    /// When the endpoint does not take it.
    pub async fn send(&self, body: &str) -> Result<(), Trouble> {
        let url = format!("http://{}/000000000000/{QUEUE}", self.address);
        let message = json!({ "QueueUrl": url, "MessageBody": body });
        self.call("AmazonSQS.SendMessage", &message).await.map(drop)
    }

    async fn ask<T: for<'a> Deserialize<'a>>(&self, path: &str) -> Result<T, Trouble> {
        let request = format!("GET {path} HTTP/1.1\r\nHost: stub\r\nConnection: close\r\n\r\n");
        self.exchange(path, request).await
    }

    async fn exchange<T: for<'a> Deserialize<'a>>(
        &self,
        what: &str,
        request: String,
    ) -> Result<T, Trouble> {
        let failed = |e: &dyn std::fmt::Display| {
            Trouble::new(format!("the endpoint in memory does not answer {what}: {e}"))
        };
        let mut connection = TcpStream::connect(&self.address).await.map_err(|e| failed(&e))?;
        connection.write_all(request.as_bytes()).await.map_err(|e| failed(&e))?;
        let mut answer = String::new();
        connection.read_to_string(&mut answer).await.map_err(|e| failed(&e))?;
        let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        serde_json::from_str(body).map_err(|e| failed(&e))
    }

    /// Ends the endpoint.
    pub async fn stop(self) {
        self.stub.kill().await;
    }
}

/// Nothing of the caller's account may reach a consumer.
fn credentials() -> [(&'static str, &'static str); 7] {
    [
        ("AWS_REGION", "us-east-1"),
        ("AWS_DEFAULT_REGION", "us-east-1"),
        ("AWS_ACCESS_KEY_ID", "bench"),
        ("AWS_SECRET_ACCESS_KEY", "bench"),
        ("AWS_EC2_METADATA_DISABLED", "true"),
        ("AWS_CONFIG_FILE", "/dev/null"),
        ("AWS_SHARED_CREDENTIALS_FILE", "/dev/null"),
    ]
}
