//! SQS's operations over AWS JSON 1.0, as far as consumers use them.

use std::{collections::HashMap, sync::Arc, time::Duration};

use serde::Serialize;
use serde_json::{Map, Value, json};
use tokio::{
    sync::{Mutex, Notify},
    time::{Instant, sleep_until, timeout_at},
};

use super::{
    Refusal,
    queue::{Message, Queue, Source, md5_hex},
};

/// The most messages that one call carries.
const BATCH: usize = 10;
const ACCOUNT: &str = "000000000000";

/// The queues; one that is named for the first time is there from then on, empty.
#[derive(Debug, Default)]
pub(super) struct Sqs {
    queues: Mutex<HashMap<String, Arc<Shared>>>,
    sources: HashMap<String, Source>,
    url: String,
}

#[derive(Debug, Default)]
struct Shared {
    queue: Mutex<Queue>,
    arrived: Notify,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Delivered {
    message_id: String,
    receipt_handle: String,
    #[serde(rename = "MD5OfBody")]
    md5_of_body: String,
    body: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    attributes: Option<SystemAttributes>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct SystemAttributes {
    sender_id: &'static str,
    sent_timestamp: String,
    approximate_receive_count: String,
    approximate_first_receive_timestamp: String,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Received {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    messages: Vec<Delivered>,
}

impl Sqs {
    /// Queues at `url`, some of which fill themselves.
    pub(super) fn new(url: &str, sources: HashMap<String, Source>) -> Self {
        Self { queues: Mutex::default(), sources, url: url.to_owned() }
    }

    /// Answers an operation with a JSON text.
    ///
    /// # Errors
    /// A [`Refusal`] that the SDKs know, where the operation is unknown or the request is wrong.
    pub(super) async fn answer(&self, operation: &str, body: &Value) -> Result<String, Refusal> {
        match operation {
            "ReceiveMessage" => self.receive(body).await,
            "DeleteMessage" => self.delete(body).await,
            "DeleteMessageBatch" => self.delete_batch(body).await,
            "ChangeMessageVisibility" => self.change(body).await,
            "ChangeMessageVisibilityBatch" => self.change_batch(body).await,
            "SendMessage" => self.send(body).await,
            "SendMessageBatch" => self.send_batch(body).await,
            "GetQueueUrl" | "CreateQueue" => {
                let name = body["QueueName"].as_str().unwrap_or_default();
                Ok(json!({ "QueueUrl": format!("{}/{ACCOUNT}/{name}", self.url) }).to_string())
            }
            "GetQueueAttributes" => self.attributes(body).await,
            "SetQueueAttributes" | "TagQueue" | "PurgeQueue" => Ok("{}".to_owned()),
            "ListQueues" => Ok(json!({ "QueueUrls": [] }).to_string()),
            _ => Err(Refusal::unknown(operation)),
        }
    }

    /// What there is on every queue: visible, in flight, received and deleted.
    pub(super) async fn counts(&self) -> Value {
        let mut counts = Map::new();
        for (name, shared) in self.queues.lock().await.iter() {
            let (mut queue, now) = (shared.queue.lock().await, Instant::now());
            let (visible, in_flight) = (queue.visible(now), queue.in_flight(now));
            let (received, deleted) = (queue.received, queue.deleted);
            counts.insert(
                name.clone(),
                json!({ "visible": visible, "in_flight": in_flight, "received": received, "deleted": deleted }),
            );
        }
        Value::Object(counts)
    }

    async fn queue(&self, body: &Value) -> Result<Arc<Shared>, Refusal> {
        let url = body["QueueUrl"].as_str().ok_or_else(|| Refusal::invalid("no QueueUrl"))?;
        let name = url.rsplit('/').next().unwrap_or_default();
        let mut queues = self.queues.lock().await;
        let fresh = || {
            let source = self.sources.get(name).cloned().unwrap_or_default();
            Arc::new(Shared { queue: Mutex::new(Queue::with_source(source)), ..Shared::default() })
        };
        Ok(queues.entry(name.to_owned()).or_insert_with(fresh).clone())
    }

    async fn receive(&self, body: &Value) -> Result<String, Refusal> {
        let shared = self.queue(body).await?;
        let max = body["MaxNumberOfMessages"].as_u64().unwrap_or(1).clamp(1, BATCH as u64);
        let wait = Duration::from_secs(body["WaitTimeSeconds"].as_u64().unwrap_or(0));
        let visibility = Duration::from_secs(body["VisibilityTimeout"].as_u64().unwrap_or(30));
        let messages = shared.wait_for(max as usize, wait, visibility).await;
        let asked = |name: &str| body[name].as_array().is_some_and(|names| !names.is_empty());
        let attributes = asked("MessageSystemAttributeNames") || asked("AttributeNames");
        let messages = messages.into_iter().map(|m| delivered(m, attributes)).collect();
        serde_json::to_string(&Received { messages }).map_err(|e| Refusal::invalid(&e.to_string()))
    }

    async fn delete(&self, body: &Value) -> Result<String, Refusal> {
        let shared = self.queue(body).await?;
        shared.queue.lock().await.delete(handle(body));
        Ok("{}".to_owned())
    }

    async fn delete_batch(&self, body: &Value) -> Result<String, Refusal> {
        let shared = self.queue(body).await?;
        let mut queue = shared.queue.lock().await;
        batch(body, |entry| {
            queue.delete(handle(entry));
            Ok(json!({}))
        })
    }

    async fn change(&self, body: &Value) -> Result<String, Refusal> {
        let shared = self.queue(body).await?;
        let changed = shared.queue.lock().await.change(Instant::now(), handle(body), timeout(body));
        shared.arrived.notify_waiters();
        changed.then(|| "{}".to_owned()).ok_or_else(not_in_flight)
    }

    async fn change_batch(&self, body: &Value) -> Result<String, Refusal> {
        let shared = self.queue(body).await?;
        let (mut queue, now) = (shared.queue.lock().await, Instant::now());
        let answer = batch(body, |entry| {
            let changed = queue.change(now, handle(entry), timeout(entry));
            changed.then(|| json!({})).ok_or_else(not_in_flight)
        });
        shared.arrived.notify_waiters();
        answer
    }

    async fn send(&self, body: &Value) -> Result<String, Refusal> {
        let shared = self.queue(body).await?;
        let sent = sent(&mut *shared.queue.lock().await, body);
        shared.arrived.notify_waiters();
        Ok(sent.to_string())
    }

    async fn send_batch(&self, body: &Value) -> Result<String, Refusal> {
        let shared = self.queue(body).await?;
        let mut queue = shared.queue.lock().await;
        let answer = batch(body, |entry| Ok(sent(&mut queue, entry)));
        shared.arrived.notify_waiters();
        answer
    }

    async fn attributes(&self, body: &Value) -> Result<String, Refusal> {
        let shared = self.queue(body).await?;
        let (mut queue, now) = (shared.queue.lock().await, Instant::now());
        let name = body["QueueUrl"].as_str().and_then(|url| url.rsplit('/').next()).unwrap_or("");
        let arn = format!("arn:aws:sqs:us-east-1:{ACCOUNT}:{name}");
        let policy =
            json!({ "deadLetterTargetArn": format!("{arn}-dead"), "maxReceiveCount": 1000 });
        let all = json!({
            "ApproximateNumberOfMessages": queue.visible(now).to_string(),
            "ApproximateNumberOfMessagesNotVisible": queue.in_flight(now).to_string(),
            "ApproximateNumberOfMessagesDelayed": "0",
            "QueueArn": arn,
            "RedrivePolicy": policy.to_string(),
            "VisibilityTimeout": "30",
        });
        Ok(json!({ "Attributes": all }).to_string())
    }
}

impl Shared {
    /// A long poll: it ends with the first messages, or with nothing when `wait` is over.
    async fn wait_for(&self, max: usize, wait: Duration, visibility: Duration) -> Vec<Message> {
        let deadline = Instant::now() + wait;
        loop {
            let arrival = self.arrived.notified();
            let (messages, end) = {
                let (mut queue, now) = (self.queue.lock().await, Instant::now());
                (queue.receive(now, max, visibility), queue.next_end())
            };
            if !messages.is_empty() || Instant::now() >= deadline {
                return messages;
            }
            let landing = sleep_until(end.unwrap_or(deadline).min(deadline));
            tokio::select! {
                () = landing => {}
                _ = timeout_at(deadline, arrival) => {}
            }
        }
    }
}

/// A batch call: what becomes of each entry, under its id.
fn batch(
    body: &Value,
    mut each: impl FnMut(&Value) -> Result<Value, Refusal>,
) -> Result<String, Refusal> {
    let (mut good, mut bad) = (Vec::new(), Vec::new());
    for entry in body["Entries"].as_array().into_iter().flatten() {
        match each(entry) {
            Ok(mut answer) => {
                answer["Id"] = entry["Id"].clone();
                good.push(answer);
            }
            Err(Refusal { code, message }) => bad.push(
                json!({ "Id": entry["Id"], "Code": code, "Message": message, "SenderFault": true }),
            ),
        }
    }
    Ok(json!({ "Successful": good, "Failed": bad }).to_string())
}

fn sent(queue: &mut Queue, body: &Value) -> Value {
    let text = body["MessageBody"].as_str().unwrap_or_default();
    let number = queue.send(text.to_owned());
    json!({ "MessageId": message_id(number), "MD5OfMessageBody": md5_hex(text) })
}

fn delivered(message: Message, attributes: bool) -> Delivered {
    let sent = message.sent_at.to_string();
    let attributes = attributes.then(|| SystemAttributes {
        sender_id: "AIDAEXAMPLE",
        sent_timestamp: sent.clone(),
        approximate_receive_count: message.receives.to_string(),
        approximate_first_receive_timestamp: sent,
    });
    Delivered {
        message_id: message_id(message.number),
        receipt_handle: message.handle(),
        md5_of_body: message.md5(),
        body: message.body,
        attributes,
    }
}

fn message_id(number: u64) -> String {
    format!("00000000-0000-4000-8000-{number:012x}")
}

fn handle(body: &Value) -> &str {
    body["ReceiptHandle"].as_str().unwrap_or_default()
}

fn timeout(body: &Value) -> Duration {
    Duration::from_secs(body["VisibilityTimeout"].as_u64().unwrap_or(0))
}

fn not_in_flight() -> Refusal {
    Refusal::new("MessageNotInflight", "the receipt handle is outdated")
}
