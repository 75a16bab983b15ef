//! An AWS in memory, for measuring consumers and not an endpoint: SQS, the part of DynamoDB that
//! the ledger uses, and the part of SNS that a peer asks for. Every call takes a fixed time, as
//! over a network; nothing is signed, nothing is stored.

mod dynamo;
pub mod expression;
pub mod queue;
mod rows;
mod sns;
mod sqs;

use std::{
    collections::{BTreeMap, HashMap},
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
use serde_json::{Value, json};
use tokio::net::TcpListener;

use queue::Source;

/// An error that the SDKs know, by its code.
#[derive(Debug)]
pub struct Refusal {
    code: &'static str,
    message: String,
}

impl Refusal {
    fn new(code: &'static str, message: &str) -> Self {
        Self { code, message: message.to_owned() }
    }

    fn unknown(operation: &str) -> Self {
        Self::new("UnknownOperationException", &format!("{operation} is not known here"))
    }

    fn invalid(message: &str) -> Self {
        Self::new("ValidationException", message)
    }

    /// The error's JSON. A message that is itself an object brings the error's own fields.
    fn body(&self) -> String {
        let mut body = match serde_json::from_str(&self.message) {
            Ok(fields @ Value::Object(_)) => fields,
            _ => json!({ "message": self.message }),
        };
        body["__type"] = json!(format!("com.amazonaws#{}", self.code));
        body.to_string()
    }
}

/// The endpoint.
#[derive(Debug)]
pub struct Stub {
    latency: Duration,
    sqs: sqs::Sqs,
    dynamo: dynamo::Dynamo,
    calls: Mutex<BTreeMap<String, u64>>,
}

impl Stub {
    /// An endpoint at `url` where every call takes `latency`, with queues that fill themselves.
    pub fn new(url: &str, latency: Duration, sources: HashMap<String, Source>) -> Arc<Self> {
        let (sqs, dynamo) = (sqs::Sqs::new(url, sources), dynamo::Dynamo::default());
        Arc::new(Self { latency, sqs, dynamo, calls: Mutex::default() })
    }

    /// Answers on `listener` until the process ends.
    ///
    /// # Errors
    /// When a connection cannot be accepted.
    pub async fn serve(self: Arc<Self>, listener: TcpListener) -> std::io::Result<()> {
        loop {
            let (connection, _) = listener.accept().await?;
            connection.set_nodelay(true)?;
            let stub = self.clone();
            tokio::spawn(async move {
                let service = service_fn(move |request| {
                    let stub = stub.clone();
                    async move { Ok::<_, Infallible>(stub.respond(request).await) }
                });
                // A consumer that is killed leaves its connections in the middle of a request.
                let _ =
                    http1::Builder::new().serve_connection(TokioIo::new(connection), service).await;
            });
        }
    }

    async fn respond(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let path = request.uri().path().to_owned();
        let target = request.headers().get("x-amz-target").and_then(|t| t.to_str().ok());
        let target = target.unwrap_or_default().to_owned();
        let Ok(body) = request.into_body().collect().await else {
            return response(StatusCode::BAD_REQUEST, "text/plain", "the body was cut off");
        };
        let body = body.to_bytes();
        if path == "/stub/counts" {
            return response(StatusCode::OK, "application/json", self.counts().await.to_string());
        }
        if let Some(rows) = path.strip_prefix("/stub/sum/").and_then(|rest| rest.split_once('/')) {
            let sum = self.dynamo.sum(rows.0, rows.1).await;
            return response(StatusCode::OK, "application/json", sum.to_string());
        }
        self.count(&target);
        tokio::time::sleep(self.latency).await;
        self.call(&target, &body).await
    }

    async fn call(&self, target: &str, body: &Bytes) -> Response<Full<Bytes>> {
        let Some((service, operation)) = target.split_once('.') else {
            return sns::answer(&String::from_utf8_lossy(body));
        };
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        let answer = match service {
            "AmazonSQS" => self.sqs.answer(operation, &body).await,
            "DynamoDB_20120810" => self.dynamo.answer(operation, &body).await,
            _ => Err(Refusal::unknown(target)),
        };
        let (status, body) = match answer {
            Ok(body) => (StatusCode::OK, body),
            Err(refusal) => (StatusCode::BAD_REQUEST, refusal.body()),
        };
        response(status, "application/x-amz-json-1.0", body)
    }

    fn count(&self, target: &str) {
        let mut calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        match calls.get_mut(target) {
            Some(count) => *count += 1,
            None => drop(calls.insert(target.to_owned(), 1)),
        }
    }

    /// What happened so far: calls by operation, and messages by queue.
    async fn counts(&self) -> Value {
        let queues = self.sqs.counts().await;
        let calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        json!({ "calls": *calls, "queues": queues })
    }
}

fn response(
    status: StatusCode,
    content_type: &'static str,
    body: impl Into<Bytes>,
) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert("content-type", hyper::header::HeaderValue::from_static(content_type));
    headers.insert("x-amzn-requestid", hyper::header::HeaderValue::from_static("stub"));
    response
}

#[cfg(test)]
mod tests;
