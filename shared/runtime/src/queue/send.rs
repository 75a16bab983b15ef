//! What is put on a queue, and on its dead-letter queue.

use std::time::Duration;

use aws_sdk_sqs::types::MessageAttributeValue;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::{Queue, Received, unavailable};
use crate::{failure::Failure, job::Delivery, payload::hex};

impl Queue {
    /// Puts a message on the queue, as one of the tenant or group of `cause`. On a FIFO queue the
    /// same body from the same cause is one message, however often it is sent (within SQS's five
    /// minutes).
    ///
    /// # Errors
    /// Transient, when SQS does not take it.
    pub async fn send(&self, body: &str, cause: &Delivery) -> Result<(), Failure> {
        let call = self.client.send_message().queue_url(&*self.url).message_body(body);
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
        let call = self.client.send_message().queue_url(&*self.url).message_body(body);
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
        let call = self.client.send_message().queue_url(&*self.dead_letter_url).message_body(body);
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

fn text_attribute(text: &str) -> Result<MessageAttributeValue, Failure> {
    let built = MessageAttributeValue::builder().data_type("String").string_value(text).build();
    built.map_err(|e| Failure::permanent("request", "a message attribute").caused_by(e))
}
