//! What is put on a queue, and on its dead-letter queue.

use std::{borrow::Cow, collections::HashMap, time::Duration};

use aws_sdk_sqs::types::MessageAttributeValue;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::{Queue, Received, unavailable};
use crate::{failure::Failure, job::Delivery, payload::hex, tally, trace};

impl Queue {
    /// Puts a message on the queue, as one of the tenant or group of `cause`, and of its trace. On a
    /// FIFO queue the same body from the same cause is one message, however often it is sent (within SQS's five
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
        let call = call.set_message_attributes(trace(cause));
        self.sent(call.set_message_deduplication_id(name).send().await)
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
        self.sent(call.set_message_attributes(trace(cause)).send().await)
    }

    /// Counts a message that SQS took.
    fn sent<T, E>(&self, answer: Result<T, E>) -> Result<(), Failure>
    where
        E: std::error::Error + Send + Sync + 'static,
    {
        answer.map_err(|e| unavailable("SendMessage", &self.url, e))?;
        tally::sent(&self.url, 1);
        Ok(())
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
        attributes.insert("flotilla".to_owned(), text_attribute(&legible(&why.to_string()))?);
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

/// The trace of a message, for those that it leads to.
fn trace(cause: &Delivery) -> Option<HashMap<String, MessageAttributeValue>> {
    trace::carried(cause.traceparent.as_deref()?)
}

/// The same JSON in characters that SQS takes in bodies and attributes (its `SendMessage` names them):
/// each other one stands as its escape. All of those have four digits.
pub(crate) fn legible(json: &str) -> Cow<'_, str> {
    let taken = |c: char| matches!(c, '\t' | '\n' | '\r' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..);
    if json.chars().all(taken) {
        return Cow::Borrowed(json);
    }
    let mut text = String::with_capacity(json.len() + 16);
    for c in json.chars() {
        match taken(c) {
            true => text.push(c),
            false => text.push_str(&format!("\\u{:04x}", u32::from(c))),
        }
    }
    Cow::Owned(text)
}

fn text_attribute(text: &str) -> Result<MessageAttributeValue, Failure> {
    let built = MessageAttributeValue::builder().data_type("String").string_value(text).build();
    built.map_err(|e| Failure::permanent("request", "a message attribute").caused_by(e))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    /// What SQS refuses, by the ranges of its documentation.
    fn refused(c: char) -> bool {
        let taken = [0x9..=0x9, 0xa..=0xa, 0xd..=0xd, 0x20..=0xd7ff, 0xe000..=0xfffd];
        let code = u32::from(c);
        code < 0x10000 && !taken.iter().any(|range| range.contains(&code))
    }

    /// Any text, with more than its share of what is refused.
    fn texts() -> impl Strategy<Value = String> {
        let one = prop_oneof![
            any::<char>(),
            Just('\u{fffe}'),
            Just('\u{ffff}'),
            proptest::char::range('\0', ' ')
        ];
        prop::collection::vec(one, 0..40).prop_map(|all| all.into_iter().collect())
    }

    proptest! {
        #[test]
        fn whatever_a_reason_says_the_queue_takes_it_and_nothing_of_it_is_lost(reason in texts()) {
            let why = json!({ "reason": reason });
            let text = legible(&why.to_string()).into_owned();
            prop_assert!(!text.contains(refused), "{text:?}");
            prop_assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), why);
        }
    }
}
