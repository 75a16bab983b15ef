//! An SQS queue and its dead-letter queue: every call is a batch where SQS has one.

mod message;
mod send;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use aws_sdk_sqs::{
    Client,
    config::retry::RetryConfig,
    types::{
        ChangeMessageVisibilityBatchRequestEntry, DeleteMessageBatchRequestEntry,
        QueueAttributeName,
    },
};
use serde_json::Value;

pub use self::message::Received;
use self::message::{TOLD, received};
pub(crate) use self::send::legible;
use crate::failure::{Failure, chain};

/// The most messages that one SQS call carries.
pub const BATCH: usize = 10;
/// The longest visibility, counted from the receive (SQS quota).
pub const MAX_VISIBILITY: Duration = Duration::from_secs(12 * 3600);

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
    url: Arc<str>,
    dead_letter_url: Arc<str>,
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
        let dead_letter_url = dead.queue_url().unwrap_or_default().into();
        Ok(Self { client, receivers: Arc::default(), url: url.into(), dead_letter_url })
    }

    #[cfg(test)]
    pub(crate) fn of(client: Client, url: &str, dead_letter_url: &str) -> Self {
        let (receivers, url) = (Arc::default(), url.into());
        Self { client, receivers, url, dead_letter_url: dead_letter_url.into() }
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
            .queue_url(&*self.url)
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
        let call = self.client.delete_message_batch().queue_url(&*self.url);
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
        let call = self.client.change_message_visibility_batch().queue_url(&*self.url);
        let answer = call.set_entries(Some(entries)).send().await;
        let answer =
            answer.map_err(|e| unavailable("ChangeMessageVisibilityBatch", &self.url, e))?;
        Ok(refused(answer.failed()))
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
