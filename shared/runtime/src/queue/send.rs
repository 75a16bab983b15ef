//! What is put on a queue, and on its dead-letter queue.

use std::{borrow::Cow, collections::HashMap, time::Duration};

use aws_sdk_sqs::{error::ProvideErrorMetadata, primitives::Blob, types::MessageAttributeValue};
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::{Queue, Received, unavailable};
use crate::{failure::Failure, job::Delivery, metrics, payload::hex, tally, trace};

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
        E: std::error::Error + ProvideErrorMetadata + Send + Sync + 'static,
    {
        counted(&self.url, answer)?;
        tally::sent(&self.url, 1);
        Ok(())
    }

    /// Puts a message on the dead-letter queue with `why` in the attribute `flotilla`.
    ///
    /// # Errors
    /// Transient, when SQS does not take it.
    pub async fn bury(&self, body: &str, message: &Received, why: &Value) -> Result<(), Failure> {
        let (mut attributes, folded) = fitting(message.attributes.clone());
        let mut why = why.clone();
        if !folded.is_empty() {
            why[FOLDED] = folded.into();
        }
        attributes.insert(REASON.to_owned(), text_attribute(&legible(&why.to_string()))?);
        let call = self.client.send_message().queue_url(&*self.dead_letter_url).message_body(body);
        let Delivery { message_id, receive_count, group, .. } = &message.delivery;
        // One death is one letter, however often the call is repeated; another death is another.
        let death = self.dead_letter_url.ends_with(".fifo");
        let death = death.then(|| format!("{message_id}-{receive_count}"));
        let call = call.set_message_attributes(Some(attributes));
        let call = call.set_message_group_id(group.clone()).set_message_deduplication_id(death);
        counted(&self.dead_letter_url, call.send().await)
    }
}

/// Counts a message that was sent to a queue, whether SQS took it or not.
fn counted<T, E>(queue: &str, answer: Result<T, E>) -> Result<(), Failure>
where
    E: std::error::Error + ProvideErrorMetadata + Send + Sync + 'static,
{
    let taken = answer.map(drop).map_err(|e| unavailable("SendMessage", queue, e));
    metrics::sent(queue, taken.as_ref().err().map(Failure::kind));
    taken
}

/// The attribute that says why a message is dead.
const REASON: &str = "flotilla";
/// What is in the reason of the attributes that there was no room for beside it: each as
/// `{"type", "text"}` or `{"type", "base64"}`, by name.
const FOLDED: &str = "attributes";
/// SQS takes ten attributes, and the reason is one.
const BESIDE: usize = 9;

type Told = HashMap<String, MessageAttributeValue>;

/// A message's attributes, as far as there is room for them beside the reason, and the rest as JSON:
/// nothing of the message is lost. The trace stays where every tool looks for it.
/// An attribute of the sender's under the reason's own name stands in the reason, too.
fn fitting(mut all: Told) -> (Told, Map<String, Value>) {
    let own = all.remove(REASON).map(|it| (REASON.to_owned(), folded(&it)));
    let mut names: Vec<_> = all.keys().cloned().collect();
    names.sort_unstable_by_key(|name| (name != "traceparent", name.clone()));
    let folded = names.into_iter().skip(BESIDE).filter_map(|name| {
        let value = all.remove(&name)?;
        Some((name, folded(&value)))
    });
    let folded = folded.chain(own).collect();
    (all, folded)
}

fn folded(value: &MessageAttributeValue) -> Value {
    match value.binary_value() {
        Some(bytes) => json!({ "type": value.data_type(), "base64": BASE64.encode(bytes) }),
        None => json!({ "type": value.data_type(), "text": value.string_value() }),
    }
}

/// Takes what [`Queue::bury`] has folded into a dead letter's reason out of it again, for a message
/// that goes back to its queue.
pub fn unfolded(why: &Value) -> HashMap<String, MessageAttributeValue> {
    let folded = why[FOLDED].as_object().into_iter().flatten();
    let one = |(name, value): (&String, &Value)| {
        let built = MessageAttributeValue::builder().data_type(value["type"].as_str()?);
        let built = match value["base64"].as_str() {
            Some(text) => built.binary_value(Blob::new(BASE64.decode(text).ok()?)),
            None => built.string_value(value["text"].as_str()?),
        };
        Some((name.clone(), built.build().ok()?))
    };
    folded.filter_map(one).collect()
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

    fn attribute(text: &str, binary: bool) -> MessageAttributeValue {
        let built = MessageAttributeValue::builder();
        let built = match binary {
            true => built.data_type("Binary.it").binary_value(Blob::new(text)),
            false => built.data_type("String").string_value(text),
        };
        built.build().unwrap()
    }

    proptest! {
        #[test]
        fn a_dead_letter_has_every_attribute_of_its_message_whatever_there_is_room_for(
            names in prop::collection::btree_set("[a-zA-Z]{1,12}", 0..=10), binary: bool, traced: bool,
        ) {
            let mut all: Told =
                names.iter().take(9).map(|name| (name.clone(), attribute(name, binary))).collect();
            let more = if traced { "traceparent" } else { REASON };
            all.insert(more.to_owned(), attribute("00-1-2-03", false));
            let (mut kept, folded) = fitting(all.clone());
            prop_assert!(kept.len() <= BESIDE);
            prop_assert_eq!(kept.contains_key("traceparent"), traced);
            kept.extend(unfolded(&json!({ FOLDED: folded })));
            prop_assert_eq!(kept, all);
        }

        #[test]
        fn whatever_a_reason_says_the_queue_takes_it_and_nothing_of_it_is_lost(reason in texts()) {
            let why = json!({ "reason": reason });
            let text = legible(&why.to_string()).into_owned();
            prop_assert!(!text.contains(refused), "{text:?}");
            prop_assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), why);
        }
    }
}
