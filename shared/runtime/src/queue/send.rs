//! What is put on a queue, and on its dead-letter queue.

use std::{borrow::Cow, collections::HashMap, time::Duration};

use aws_sdk_sqs::{
    error::ProvideErrorMetadata,
    primitives::Blob,
    types::{
        MessageAttributeValue, MessageSystemAttributeNameForSends as ForSends,
        MessageSystemAttributeValue as SystemValue,
    },
};
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::{Queue, Received, unavailable};
use crate::{
    failure::Failure,
    job::Delivery,
    metrics,
    payload::{Payloads, hex},
    tally, trace,
};

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

    /// Puts a message on the dead-letter queue with what is enclosed.
    ///
    /// # Errors
    /// Transient, when SQS does not take it.
    pub(crate) async fn bury(
        &self,
        body: &str,
        message: &Received,
        Enclosed(attributes): Enclosed,
    ) -> Result<(), Failure> {
        let call = self.client.send_message().queue_url(&*self.dead_letter_url).message_body(body);
        let Delivery { message_id, receive_count, group, .. } = &*message.delivery;
        // One death is one letter, however often the call is repeated; another death is another.
        let death = self.dead_letter_url.ends_with(".fifo");
        let death = death.then(|| format!("{message_id}-{receive_count}"));
        let call = call.set_message_attributes(Some(attributes));
        let call = call.set_message_system_attributes(traced(message.trace_header.as_deref()));
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
/// Where in S3 all of them are, in the same form, where there was no room in the reason either.
const ASIDE: &str = "attributes_at";
/// Room for a body that is a pointer to S3.
const POINTER: usize = 1024;
/// SQS takes ten attributes, and the reason is one.
const BESIDE: usize = 9;

/// A message's attributes.
pub type Told = HashMap<String, MessageAttributeValue>;

/// What goes with the body of a dead letter: the attributes of its message, and the reason as one more.
#[derive(Debug)]
pub(crate) struct Enclosed(Told);

impl Enclosed {
    /// What says `why` a message is dead. Those of its attributes that there is no room for among ten stand
    /// in the reason. Where all of it is more than a queue takes, the attributes are put into S3, and but
    /// for the trace only there.
    ///
    /// # Errors
    /// Transient, when S3 does not take what is put aside.
    pub(crate) async fn of(
        message: &Received,
        why: &Value,
        (payloads, most): (&Payloads, usize),
    ) -> Result<Self, Failure> {
        let (attributes, folded) = fitting(message.attributes.clone());
        let mut why = why.clone();
        if !folded.is_empty() {
            why[FOLDED] = folded.into();
        }
        let enclosed = Self::with(attributes, &why)?;
        match size(&enclosed.0) + POINTER <= most {
            true => Ok(enclosed),
            false => Self::aside(message, why, payloads).await,
        }
    }

    async fn aside(
        message: &Received,
        mut why: Value,
        payloads: &Payloads,
    ) -> Result<Self, Failure> {
        let all = &message.attributes;
        let trace = all.get_key_value(trace::TRACEPARENT).filter(|(_, it)| size_of(it) < POINTER);
        let trace = trace.map(|(name, it)| (name.clone(), it.clone())).into_iter().collect();
        if let Some(why) = why.as_object_mut() {
            why.remove(FOLDED);
        }
        why[ASIDE] = payloads.put_aside(&Value::from(as_json(all)).to_string()).await?;
        Self::with(trace, &why)
    }

    fn with(mut attributes: Told, why: &Value) -> Result<Self, Failure> {
        attributes.insert(REASON.to_owned(), text_attribute(&legible(&why.to_string()))?);
        Ok(Self(attributes))
    }

    /// How much of the size of a message it takes, in bytes.
    pub(crate) fn size(&self) -> usize {
        size(&self.0)
    }
}

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

/// A message's attributes as JSON: each as `{"type", "text"}` or `{"type", "base64"}`, by name.
pub fn as_json(attributes: &Told) -> Map<String, Value> {
    attributes.iter().map(|(name, it)| (name.clone(), folded(it))).collect()
}

fn folded(value: &MessageAttributeValue) -> Value {
    match value.binary_value() {
        Some(bytes) => json!({ "type": value.data_type(), "base64": BASE64.encode(bytes) }),
        None => json!({ "type": value.data_type(), "text": value.string_value() }),
    }
}

/// What a message's attributes take of its size, in bytes: names, types and values.
fn size(attributes: &Told) -> usize {
    attributes.iter().map(|(name, value)| name.len() + size_of(value)).sum()
}

fn size_of(value: &MessageAttributeValue) -> usize {
    let text = value.string_value().map_or(0, str::len);
    let binary = value.binary_value().map_or(0, |blob| blob.as_ref().len());
    value.data_type().len() + text + binary
}

/// The attributes of a message that its dead letter has elsewhere than among its own: in the reason, or in
/// S3. They go back to the message's queue with it.
///
/// # Errors
/// Where S3 does not have them any more, or does not answer.
pub async fn enclosed(payloads: &Payloads, why: &Value) -> Result<Told, Failure> {
    if why[ASIDE].is_null() {
        return Ok(unfolded(why));
    }
    let text = payloads.taken_back(&why[ASIDE]).await?;
    let all: Value = serde_json::from_str(&text).map_err(|e| {
        let what = format!("the attributes of a dead letter at {}", why[ASIDE]);
        Failure::permanent("payload", what).caused_by(e)
    })?;
    Ok(unfolded(&json!({ FOLDED: all })))
}

/// Whether what a dead letter was sent with lies in S3.
pub fn is_aside(why: &Value) -> bool {
    !why[ASIDE].is_null()
}

/// The attributes that stand in a dead letter's reason.
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

/// What has a message go on in the trace of AWS X-Ray that it came with.
pub fn traced(header: Option<&str>) -> Option<HashMap<ForSends, SystemValue>> {
    let value = SystemValue::builder().data_type("String").string_value(header?).build();
    Some(HashMap::from([(ForSends::AwsTraceHeader, value.ok()?)]))
}

/// The trace of a message, for those that it leads to.
fn trace(cause: &Delivery) -> Option<HashMap<String, MessageAttributeValue>> {
    trace::carried(&cause.passed_on()?)
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
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::{fake::FakeAws, payload::SQS_LIMIT};

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

    fn message(attributes: Told) -> Received {
        Received {
            body: String::new(),
            attributes,
            trace_header: None,
            receipt_handle: "h".to_owned(),
            received_at: tokio::time::Instant::now(),
            delivery: Arc::new(Delivery {
                message_id: "m".to_owned(),
                sent_at: std::time::SystemTime::UNIX_EPOCH,
                receive_count: 1,
                group: None,
                traceparent: None,
            }),
        }
    }

    #[tokio::test]
    async fn attributes_that_a_letter_has_no_room_for_go_by_way_of_s3_and_come_back() {
        let mut ten: Told = ('a'..='i').map(|it| (it.to_string(), attribute("x", false))).collect();
        ten.insert("z".to_owned(), attribute(&"x".repeat(900_000), true));
        let large = attribute(&"x".repeat(1_048_000), false);
        let one = Told::from([
            ("large".to_owned(), large),
            (trace::TRACEPARENT.to_owned(), attribute("00-1-2-03", false)),
        ]);
        for all in [ten, one] {
            let text = Value::from(as_json(&all)).to_string();
            let fake = FakeAws::new(move |operation, _| match operation.starts_with("GET") {
                true => json!({ "__text": text }),
                false => json!({}),
            });
            let payloads = Payloads::new(crate::aws::s3_client(&fake.sdk()), "payloads");
            let (message, why) = (message(all.clone()), json!({ "reason": "r" }));
            let letter = Enclosed::of(&message, &why, (&payloads, SQS_LIMIT)).await.unwrap();
            assert!(letter.size() + POINTER <= SQS_LIMIT, "{}", letter.size());
            let traced = all.contains_key(trace::TRACEPARENT);
            assert_eq!(letter.0.contains_key(trace::TRACEPARENT), traced);
            let why: Value =
                serde_json::from_str(letter.0[REASON].string_value().unwrap()).unwrap();
            assert!(is_aside(&why) && why["reason"] == "r", "{why}");
            assert_eq!(enclosed(&payloads, &why).await.unwrap(), all);
        }
    }

    #[tokio::test]
    async fn on_a_fifo_queue_the_same_body_of_one_cause_is_one_message() {
        let fake = FakeAws::new(|_, _| json!({}));
        let cause = |id: &str| {
            let mut delivery = (*message(Told::new()).delivery).clone();
            (delivery.message_id, delivery.group) = (id.to_owned(), Some("g".to_owned()));
            delivery
        };
        for url in ["http://q/main.fifo", "http://q/main"] {
            let queue = Queue::of(fake.sqs(), url, "http://q/dead");
            for (body, cause) in
                [("a", cause("m")), ("a", cause("m")), ("b", cause("m")), ("a", cause("n"))]
            {
                queue.send(body, &cause).await.unwrap();
            }
        }
        let calls = fake.calls();
        assert!(calls.iter().all(|(_, body)| body["MessageGroupId"] == "g"));
        let names: Vec<_> =
            calls.iter().map(|it| it.1["MessageDeduplicationId"].as_str()).collect();
        assert!(names[..4].iter().all(Option::is_some) && names[4..].iter().all(Option::is_none));
        assert!(names[0] == names[1] && names[0] != names[2] && names[0] != names[3], "{names:?}");
    }

    #[tokio::test]
    async fn a_dead_letter_stays_in_the_trace_of_x_ray_that_its_message_came_with() {
        for header in [Some("Root=1-5759e988-bd862e3fe1be46a994272793"), None] {
            let fake = FakeAws::new(|_, _| json!({}));
            let queue = Queue::of(fake.sqs(), "http://q/main", "http://q/dead");
            let mut message = message(Told::new());
            message.trace_header = header.map(str::to_owned);
            let enclosed = Enclosed::with(Told::new(), &json!({ "reason": "r" })).unwrap();
            queue.bury("{}", &message, enclosed).await.unwrap();
            let sent = &fake.calls()[0].1["MessageSystemAttributes"];
            assert_eq!(sent["AWSTraceHeader"]["StringValue"].as_str(), header);
        }
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
