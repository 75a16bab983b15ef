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
    error::ProvideErrorMetadata,
    types::{
        ChangeMessageVisibilityBatchRequestEntry, DeleteMessageBatchRequestEntry,
        QueueAttributeName,
    },
};
use serde_json::Value;

pub use self::message::Received;
use self::message::{TOLD, received};
pub(crate) use self::send::{Enclosed, legible};
pub use self::send::{Told, as_json, enclosed, is_aside, traced, unfolded};
use crate::{
    failure::{Failure, chain},
    payload::SQS_LIMIT,
};

/// The most messages that one SQS call carries.
pub const BATCH: usize = 10;
/// The longest visibility, counted from the receive (SQS quota).
pub const MAX_VISIBILITY: Duration = Duration::from_secs(12 * 3600);

/// Fewer receives than this are used up by hand-backs of a few deploys.
const FEW: u32 = 100;

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
    bounds: Bounds,
}

/// What a queue and its dead-letter queue are set to take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// A message that is received more often is moved to the dead-letter queue by SQS, without a reason
    /// (`maxReceiveCount`).
    receives: u32,
    /// The largest message that both queues take, body and attributes together, in bytes
    /// (`MaximumMessageSize`).
    pub(crate) size: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { receives: 1000, size: SQS_LIMIT }
    }
}

impl Bounds {
    /// From this receive on a message that nothing else counts is dead-lettered with its reason,
    /// before SQS does it without one.
    pub(crate) fn last_receives(self) -> u32 {
        self.receives - self.receives / 10
    }
}

impl Queue {
    /// Opens a queue; its redrive policy names the dead-letter queue.
    ///
    /// # Errors
    /// Permanent when the queue has no dead-letter queue: without one, bad messages would have
    /// nowhere to go. Transient when SQS does not answer.
    pub async fn open(client: Client, url: &str) -> Result<Self, Failure> {
        let own = attributes(&client, url).await?;
        let policy = own.get(&QueueAttributeName::RedrivePolicy);
        let policy = policy.and_then(|text| redrive_policy(text)).ok_or_else(|| {
            let advice = "give it a RedrivePolicy (deploy/cfn/data.yaml does)";
            Failure::permanent("no_dlq", format!("queue {url} has no dead-letter queue: {advice}"))
        })?;
        let dead = client.get_queue_url().queue_name(&policy.dead).send().await;
        let dead = dead.map_err(|e| unavailable("GetQueueUrl", &policy.dead, e))?;
        let dead_letter_url: Arc<str> = dead.queue_url().unwrap_or_default().into();
        let deads = attributes(&client, &dead_letter_url).await?;
        let size = size_of(&own).min(size_of(&deads));
        if policy.receives < FEW {
            let (receives, advice) = (policy.receives, "give it a maxReceiveCount of 1000");
            tracing::warn!(
                queue = url,
                receives,
                advice,
                "SQS moves a message to the dead-letter queue after so many receives, without a \
                 reason, and every deploy that hands it back is one"
            );
        }
        let bounds = Bounds { receives: policy.receives, size };
        Ok(Self { client, receivers: Arc::default(), url: url.into(), dead_letter_url, bounds })
    }

    /// What it takes.
    pub(crate) fn bounds(&self) -> Bounds {
        self.bounds
    }

    #[cfg(test)]
    pub(crate) fn of(client: Client, url: &str, dead_letter_url: &str) -> Self {
        let (receivers, url) = (Arc::default(), url.into());
        let bounds = Bounds::default();
        Self { client, receivers, url, dead_letter_url: dead_letter_url.into(), bounds }
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
    pub async fn delete<'h>(
        &self,
        handles: impl Iterator<Item = &'h str>,
    ) -> Result<Vec<Refused>, Failure> {
        let entries = handles.enumerate().map(|(index, handle)| {
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
    pub async fn change_visibility<'h>(
        &self,
        handles: impl Iterator<Item = (&'h str, Duration)>,
    ) -> Result<Vec<Refused>, Failure> {
        let entries = handles.enumerate().map(|(index, (handle, visibility))| {
            ChangeMessageVisibilityBatchRequestEntry::builder()
                .id(index.to_string())
                .receipt_handle(handle)
                .visibility_timeout(whole_seconds(visibility))
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

/// The kind of failure of a call to a queue that is not there.
pub(crate) const NO_QUEUE: &str = "no_queue";

fn unavailable<E>(operation: &str, queue: &str, error: E) -> Failure
where
    E: std::error::Error + ProvideErrorMetadata + Send + Sync + 'static,
{
    let gone = error.code().is_some_and(|code| {
        code.contains("NonExistentQueue") || code.contains("QueueDoesNotExist")
    });
    Failure::transient(
        if gone { NO_QUEUE } else { "sqs" },
        format!("{operation} on {queue}: {}", chain(&error)),
    )
}

type Attributes = HashMap<QueueAttributeName, String>;

/// What is looked at of a queue before it is consumed.
async fn attributes(client: &Client, url: &str) -> Result<Attributes, Failure> {
    let names = [QueueAttributeName::RedrivePolicy, QueueAttributeName::MaximumMessageSize];
    let call = client.get_queue_attributes().queue_url(url);
    let answer = call.set_attribute_names(Some(names.to_vec())).send().await;
    let answer = answer.map_err(|e| unavailable("GetQueueAttributes", url, e))?;
    Ok(answer.attributes.unwrap_or_default())
}

fn size_of(attributes: &Attributes) -> usize {
    let told = attributes.get(&QueueAttributeName::MaximumMessageSize);
    told.and_then(|bytes| bytes.parse().ok()).unwrap_or(SQS_LIMIT).min(SQS_LIMIT)
}

/// Where SQS moves a message, and after how many receives.
#[derive(Debug, PartialEq, Eq)]
struct RedrivePolicy {
    /// The dead-letter queue's name.
    dead: String,
    receives: u32,
}

fn redrive_policy(text: &str) -> Option<RedrivePolicy> {
    let policy: Value = serde_json::from_str(text).ok()?;
    let arn = policy.get("deadLetterTargetArn")?.as_str()?;
    // Some that speak SQS's language say the number as a text.
    let receives = policy
        .get("maxReceiveCount")
        .and_then(|count| count.as_u64().or_else(|| count.as_str()?.parse().ok()));
    let receives = receives.and_then(|count| u32::try_from(count).ok()).filter(|count| *count > 0);
    let receives = receives.unwrap_or(Bounds::default().receives);
    Some(RedrivePolicy { dead: arn.rsplit(':').next()?.to_owned(), receives })
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
    fn the_redrive_policy_names_the_dead_letter_queue_and_how_often_a_message_is_received() {
        let policy = |count: &str| {
            let arn = "arn:aws:sqs:eu-west-1:1:dead";
            let text = format!(r#"{{"deadLetterTargetArn":"{arn}","maxReceiveCount":{count}}}"#);
            redrive_policy(&text).map(|it| (it.dead, it.receives))
        };
        for (count, receives) in [("9", 9), ("\"12\"", 12), ("0", 1000), ("null", 1000)] {
            assert_eq!(policy(count), Some(("dead".to_owned(), receives)), "{count}");
        }
        assert_eq!(redrive_policy("no json"), None);
    }

    #[tokio::test]
    async fn no_message_is_sent_that_is_larger_than_either_queue_takes() {
        let fake = crate::fake::FakeAws::new(|operation, body| match operation {
            "GetQueueUrl" => serde_json::json!({ "QueueUrl": "http://q/dead" }),
            _ => {
                let policy = r#"{"deadLetterTargetArn":"a:dead","maxReceiveCount":50}"#;
                let size = if body["QueueUrl"] == "http://q/dead" { "262144" } else { "1048576" };
                serde_json::json!({
                    "Attributes": { "RedrivePolicy": policy, "MaximumMessageSize": size },
                })
            }
        });
        let queue = Queue::open(fake.sqs(), "http://q/main").await.unwrap();
        assert_eq!((queue.bounds().size, queue.bounds().last_receives()), (262_144, 45));
    }

    proptest::proptest! {
        #[test]
        fn a_message_has_its_reason_before_sqs_moves_it_without_one(receives in 1u32..=1000) {
            let last = Bounds { receives, size: 0 }.last_receives();
            proptest::prop_assert!((1..=receives).contains(&last));
            proptest::prop_assert!(receives < 10 || last < receives);
        }
    }
}
