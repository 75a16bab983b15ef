//! An SQS queue and its dead-letter queue: every call is a batch where SQS has one.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use aws_sdk_sqs::{
    Client,
    config::retry::RetryConfig,
    types::{
        ChangeMessageVisibilityBatchRequestEntry, DeleteMessageBatchRequestEntry, Message,
        MessageAttributeValue, MessageSystemAttributeName as System, QueueAttributeName,
    },
};
use serde_json::Value;
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use crate::{
    failure::{Failure, chain},
    job::Delivery,
    payload::hex,
};

/// The most messages that one SQS call carries.
pub const BATCH: usize = 10;
/// The longest visibility, counted from the receive (SQS quota).
pub const MAX_VISIBILITY: Duration = Duration::from_secs(12 * 3600);

/// What SQS tells of a delivery that is looked at here.
const TOLD: [System; 3] =
    [System::SentTimestamp, System::ApproximateReceiveCount, System::MessageGroupId];

/// A message in our hands.
#[derive(Debug, Clone)]
pub struct Received {
    /// The body, as sent.
    pub body: String,
    /// The message's attributes, as sent; they follow it to the dead-letter queue.
    pub attributes: HashMap<String, MessageAttributeValue>,
    /// The handle of this delivery: deletes and visibility changes name it, not the message.
    pub receipt_handle: String,
    /// When it arrived here.
    pub received_at: Instant,
    /// What SQS says of the delivery.
    pub delivery: Delivery,
}

impl Received {
    /// What the attributes take of the size of a message, in bytes: names, types and values.
    pub fn attributes_size(&self) -> usize {
        let size = |(name, value): (&String, &MessageAttributeValue)| {
            let text = value.string_value().map_or(0, str::len);
            let binary = value.binary_value().map_or(0, |blob| blob.as_ref().len());
            name.len() + value.data_type().len() + text + binary
        };
        self.attributes.iter().map(size).sum()
    }
}

/// An entry of a batch call that SQS refused.
#[derive(Debug, Clone)]
pub struct Refused {
    /// The entry's place in the batch.
    pub index: usize,
    /// SQS's error code.
    pub code: String,
    /// Whether the request was at fault (an expired receipt handle): no retry mends that.
    pub sender_fault: bool,
}

/// Numbers of messages, as SQS counts them (approximately).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Depths {
    /// Waiting to be received.
    pub visible: u64,
    /// Received and not deleted.
    pub in_flight: u64,
    /// Sent with a delay that is not over.
    pub delayed: u64,
    /// Waiting on the dead-letter queue.
    pub dead: u64,
}

/// A queue to consume, with the place for what cannot be done.
#[derive(Debug, Clone)]
pub struct Queue {
    client: Client,
    /// Clients for receives, by the seconds that these wait.
    receivers: Arc<Mutex<HashMap<u64, Client>>>,
    url: String,
    dead_letter_url: String,
}

impl Queue {
    /// Opens a queue; its redrive policy names the dead-letter queue.
    ///
    /// # Errors
    /// Permanent when the queue has no dead-letter queue: without one, bad messages would have
    /// nowhere to go. Transient when SQS does not answer.
    pub async fn open(client: Client, url: &str) -> Result<Self, Failure> {
        let attributes = client
            .get_queue_attributes()
            .queue_url(url)
            .attribute_names(QueueAttributeName::RedrivePolicy)
            .send()
            .await
            .map_err(|e| unavailable("GetQueueAttributes", url, e))?;
        let policy =
            attributes.attributes().and_then(|a| a.get(&QueueAttributeName::RedrivePolicy));
        let name = policy.and_then(|text| dead_letter_name(text)).ok_or_else(|| {
            let advice = "give it a RedrivePolicy (deploy/cfn/data.yaml does)";
            Failure::permanent("no_dlq", format!("queue {url} has no dead-letter queue: {advice}"))
        })?;
        let dead = client.get_queue_url().queue_name(&name).send().await;
        let dead = dead.map_err(|e| unavailable("GetQueueUrl", &name, e))?;
        let dead_letter_url = dead.queue_url().unwrap_or_default().to_owned();
        Ok(Self { client, receivers: Arc::default(), url: url.to_owned(), dead_letter_url })
    }

    #[cfg(test)]
    pub(crate) fn of(client: Client, url: &str, dead_letter_url: &str) -> Self {
        let (receivers, url) = (Arc::default(), url.to_owned());
        Self { client, receivers, url, dead_letter_url: dead_letter_url.to_owned() }
    }

    /// Whether it keeps the order of its groups. AWS demands the name's end of such queues, and of
    /// their dead-letter queues too.
    pub fn is_fifo(&self) -> bool {
        self.url.ends_with(".fifo")
    }

    /// The group whose order a message must keep; on a standard queue a group is a tenant, and no
    /// order.
    pub fn order<'m>(&self, message: &'m Received) -> Option<&'m str> {
        self.is_fifo().then(|| message.delivery.group.as_deref().unwrap_or_default())
    }

    /// A name for a receive, where the queue takes one: repeated under it, the receive brings
    /// the same messages again (within five minutes). Without it an answer that is lost would lock its groups
    /// until the visibility ends.
    pub(crate) fn attempt(&self) -> Option<String> {
        self.is_fifo().then(|| uuid::Uuid::new_v4().to_string())
    }

    /// The queue's name: the last part of its URL.
    pub fn name(&self) -> &str {
        self.url.rsplit('/').next().unwrap_or(&self.url)
    }

    /// The URL of its dead-letter queue.
    pub fn dead_letter_url(&self) -> &str {
        &self.dead_letter_url
    }

    /// The queue's URL.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// How many messages SQS thinks there are, here and on the dead-letter queue (two calls).
    ///
    /// # Errors
    /// Transient, when SQS does not answer.
    pub async fn depths(&self) -> Result<Depths, Failure> {
        let [visible, in_flight, delayed] = self.counts(&self.url).await?;
        let [dead, ..] = self.counts(&self.dead_letter_url).await?;
        Ok(Depths { visible, in_flight, delayed, dead })
    }

    async fn counts(&self, url: &str) -> Result<[u64; 3], Failure> {
        let names = [
            QueueAttributeName::ApproximateNumberOfMessages,
            QueueAttributeName::ApproximateNumberOfMessagesNotVisible,
            QueueAttributeName::ApproximateNumberOfMessagesDelayed,
        ];
        let call = self.client.get_queue_attributes().queue_url(url);
        let answer = call.set_attribute_names(Some(names.to_vec())).send().await;
        let answer = answer.map_err(|e| unavailable("GetQueueAttributes", url, e))?;
        let count = |name| answer.attributes()?.get(&name)?.parse().ok();
        Ok(names.map(|name| count(name).unwrap_or_default()))
    }

    /// Receives up to `max` messages, waiting up to `wait` for the first.
    ///
    /// Dropping this future can strand messages until their visibility ends: await it. `attempt`
    /// names the receive for FIFO queues, so that it can be repeated.
    ///
    /// # Errors
    /// Transient, when SQS does not answer within the wait and ten seconds.
    pub async fn receive(
        &self,
        max: usize,
        wait: Duration,
        visibility: Duration,
        attempt: Option<&str>,
    ) -> Result<Vec<Received>, Failure> {
        let answer = self
            .receiver(wait)
            .receive_message()
            .queue_url(&self.url)
            .max_number_of_messages(max.clamp(1, BATCH) as i32)
            .wait_time_seconds(wait.as_secs() as i32)
            .visibility_timeout(whole_seconds(visibility))
            .set_message_system_attribute_names(Some(TOLD.to_vec()))
            .message_attribute_names("All")
            .set_receive_request_attempt_id(attempt.map(str::to_owned))
            .send()
            .await
            .map_err(|e| unavailable("ReceiveMessage", &self.url, e))?;
        Ok(answer.messages.unwrap_or_default().into_iter().filter_map(received).collect())
    }

    /// The client for receives of this wait. One for each, and not a client whose configuration is
    /// overridden for each call: that costs as much as the rest of the call.
    fn receiver(&self, wait: Duration) -> Client {
        let mut receivers = self.receivers.lock().unwrap_or_else(PoisonError::into_inner);
        let receiver = receivers.entry(wait.as_secs()).or_insert_with(|| {
            // The long poll is part of the attempt, so its timeout is longer than the others'.
            let limit = wait + crate::aws::ATTEMPT_TIMEOUT;
            let timeouts = crate::aws::timeouts().into_builder();
            let timeouts = timeouts.operation_attempt_timeout(limit).build();
            // One attempt: the loop repeats it, sees every failure, and stops between two.
            let config = self.client.config().to_builder().timeout_config(timeouts);
            Client::from_conf(config.retry_config(RetryConfig::disabled()).build())
        });
        receiver.clone()
    }

    /// Deletes up to ten messages; gives back those that SQS refused.
    ///
    /// # Errors
    /// Transient, when the whole call failed.
    pub async fn delete(&self, handles: &[String]) -> Result<Vec<Refused>, Failure> {
        let entries = handles.iter().enumerate().map(|(index, handle)| {
            DeleteMessageBatchRequestEntry::builder().id(index.to_string()).receipt_handle(handle)
        });
        let entries = built(entries.map(|entry| entry.build()))?;
        let call = self.client.delete_message_batch().queue_url(&self.url);
        let answer = call.set_entries(Some(entries)).send().await;
        let answer = answer.map_err(|e| unavailable("DeleteMessageBatch", &self.url, e))?;
        Ok(refused(answer.failed()))
    }

    /// Sets how long up to ten messages stay invisible from now on; gives back those refused.
    ///
    /// # Errors
    /// Transient, when the whole call failed.
    pub async fn change_visibility(
        &self,
        handles: &[(String, Duration)],
    ) -> Result<Vec<Refused>, Failure> {
        let entries = handles.iter().enumerate().map(|(index, (handle, visibility))| {
            ChangeMessageVisibilityBatchRequestEntry::builder()
                .id(index.to_string())
                .receipt_handle(handle)
                .visibility_timeout(whole_seconds(*visibility))
        });
        let entries = built(entries.map(|entry| entry.build()))?;
        let call = self.client.change_message_visibility_batch().queue_url(&self.url);
        let answer = call.set_entries(Some(entries)).send().await;
        let answer =
            answer.map_err(|e| unavailable("ChangeMessageVisibilityBatch", &self.url, e))?;
        Ok(refused(answer.failed()))
    }

    /// Puts a message on the queue, as one of the tenant or group of `cause`. On a FIFO queue the
    /// same body from the same cause is one message, however often it is sent (within SQS's five
    /// minutes).
    ///
    /// # Errors
    /// Transient, when SQS does not take it.
    pub async fn send(&self, body: &str, cause: &Delivery) -> Result<(), Failure> {
        let call = self.client.send_message().queue_url(&self.url).message_body(body);
        let name = self.is_fifo().then(|| {
            hex(&Sha256::new().chain_update(&cause.message_id).chain_update(body).finalize())
        });
        let call = call.set_message_group_id(cause.group.clone());
        let sent = call.set_message_deduplication_id(name).send().await;
        sent.map(drop).map_err(|e| unavailable("SendMessage", &self.url, e))
    }

    /// The same, to be received only after a while (whole seconds, 900 at most); at once on a FIFO
    /// queue, which has no delay for a message.
    ///
    /// # Errors
    /// Transient, when SQS does not take it.
    pub async fn send_after(
        &self,
        body: &str,
        cause: &Delivery,
        delay: Duration,
    ) -> Result<(), Failure> {
        if self.is_fifo() || delay < Duration::from_secs(1) {
            return self.send(body, cause).await;
        }
        let seconds = i32::try_from(delay.as_secs().min(900)).unwrap_or(900);
        let call = self.client.send_message().queue_url(&self.url).message_body(body);
        let call = call.delay_seconds(seconds).set_message_group_id(cause.group.clone());
        let sent = call.send().await;
        sent.map(drop).map_err(|e| unavailable("SendMessage", &self.url, e))
    }

    /// Puts a message on the dead-letter queue with `why` in the attribute `flotilla`.
    ///
    /// # Errors
    /// Transient, when SQS does not take it.
    pub async fn bury(&self, body: &str, message: &Received, why: &Value) -> Result<(), Failure> {
        let mut attributes = message.attributes.clone();
        // SQS takes ten attributes; the reason is the one that must not be missing.
        while attributes.len() >= 10 {
            let Some(name) = attributes.keys().max().cloned() else {
                break;
            };
            attributes.remove(&name);
        }
        attributes.insert("flotilla".to_owned(), text_attribute(&why.to_string())?);
        let call = self.client.send_message().queue_url(&self.dead_letter_url).message_body(body);
        let Delivery { message_id, receive_count, group, .. } = &message.delivery;
        // One death is one letter, however often the call is repeated; another death is another.
        let death = self.dead_letter_url.ends_with(".fifo");
        let death = death.then(|| format!("{message_id}-{receive_count}"));
        let call = call.set_message_attributes(Some(attributes));
        let call = call.set_message_group_id(group.clone()).set_message_deduplication_id(death);
        let sent = call.send().await;
        sent.map(drop).map_err(|e| unavailable("SendMessage", &self.dead_letter_url, e))
    }
}

/// Whole seconds, never fewer than was meant, and within what SQS takes.
fn whole_seconds(visibility: Duration) -> i32 {
    visibility.min(MAX_VISIBILITY).as_secs_f64().ceil() as i32
}

fn unavailable<E>(operation: &str, queue: &str, error: E) -> Failure
where
    E: std::error::Error + Send + Sync + 'static,
{
    Failure::transient("sqs", format!("{operation} on {queue}: {}", chain(&error)))
}

fn dead_letter_name(policy: &str) -> Option<String> {
    let policy: Value = serde_json::from_str(policy).ok()?;
    let arn = policy.get("deadLetterTargetArn")?.as_str()?;
    arn.rsplit(':').next().map(str::to_owned)
}

fn text_attribute(text: &str) -> Result<MessageAttributeValue, Failure> {
    let built = MessageAttributeValue::builder().data_type("String").string_value(text).build();
    built.map_err(|e| Failure::permanent("request", "a message attribute").caused_by(e))
}

fn built<T, E>(entries: impl Iterator<Item = Result<T, E>>) -> Result<Vec<T>, Failure>
where
    E: std::error::Error + Send + Sync + 'static,
{
    entries
        .collect::<Result<_, _>>()
        .map_err(|e| Failure::permanent("request", "an SQS batch entry").caused_by(e))
}

fn refused(failed: &[aws_sdk_sqs::types::BatchResultErrorEntry]) -> Vec<Refused> {
    let entry = |e: &aws_sdk_sqs::types::BatchResultErrorEntry| {
        let index = e.id().parse().ok()?;
        Some(Refused { index, code: e.code().to_owned(), sender_fault: e.sender_fault() })
    };
    failed.iter().filter_map(entry).collect()
}

fn received(message: Message) -> Option<Received> {
    let system = |name| message.attributes().and_then(|all| all.get(&name)).cloned();
    let attributes = message.message_attributes().cloned().unwrap_or_default();
    let traceparent = attributes.get("traceparent").and_then(|a| a.string_value());
    let sent = system(System::SentTimestamp).and_then(|ms| ms.parse().ok());
    let delivery = Delivery {
        message_id: message.message_id().unwrap_or_default().to_owned(),
        sent_at: sent
            .map_or_else(SystemTime::now, |ms| SystemTime::UNIX_EPOCH + Duration::from_millis(ms)),
        receive_count: system(System::ApproximateReceiveCount)
            .and_then(|n| n.parse().ok())
            .unwrap_or(1),
        group: system(System::MessageGroupId),
        traceparent: traceparent.map(str::to_owned),
    };
    Some(Received {
        body: message.body().unwrap_or_default().to_owned(),
        receipt_handle: message.receipt_handle()?.to_owned(),
        received_at: Instant::now(),
        attributes,
        delivery,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dead_letter_queue_is_named_by_the_redrive_policy() {
        let policy =
            r#"{"deadLetterTargetArn":"arn:aws:sqs:eu-west-1:1:dead","maxReceiveCount":9}"#;
        assert_eq!(dead_letter_name(policy).as_deref(), Some("dead"));
        assert_eq!(dead_letter_name("no json"), None);
    }
}
