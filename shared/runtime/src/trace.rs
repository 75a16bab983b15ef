//! The trace that a message belongs to: W3C Trace Context, from a request to the job that it leads to.
//!
//! Whoever answers a request does so within [`Traceparent::scope`]; what is put on a queue meanwhile
//! carries [`attributes`], and the worker's span of the message has the trace's id.

use std::{cell::OnceCell, collections::HashMap, fmt, future::Future};

use aws_sdk_sqs::types::MessageAttributeValue;

/// The name of the HTTP header, and of the message attribute.
pub const TRACEPARENT: &str = "traceparent";

tokio::task_local! {
    /// Empty where nobody asked yet which one it is.
    static CURRENT: OnceCell<Traceparent>;
}

/// A place in a trace: `version-traceid-parentid-flags`, in lower-case hexadecimal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Traceparent(String);

impl Traceparent {
    /// The one that a header or an attribute says, where it says one. It is passed on as it is: who
    /// notes no span of its own is to change nothing of it.
    pub fn given(text: &str) -> Option<Self> {
        trace_id(text).map(|_| Self(text.to_owned()))
    }

    /// The beginning of a trace.
    pub fn begun() -> Self {
        // Neither may be zero.
        let trace = rand::random::<u128>().max(1);
        let parent = rand::random::<u64>().max(1);
        Self(format!("00-{trace:032x}-{parent:016x}-01"))
    }

    /// Has what runs within `future` belong to it.
    pub async fn scope<F: Future>(self, future: F) -> F::Output {
        CURRENT.scope(OnceCell::from(self), future).await
    }

    /// Has what runs within `future` belong to one that begins there, if anything is sent.
    pub async fn begun_within<F: Future>(future: F) -> F::Output {
        CURRENT.scope(OnceCell::new(), future).await
    }
}

impl fmt::Display for Traceparent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The attributes of a message that is sent now: it belongs to what is answered now, or begins a trace.
pub fn attributes() -> Option<HashMap<String, MessageAttributeValue>> {
    let current = CURRENT.try_with(|it| it.get_or_init(Traceparent::begun).clone());
    let current = current.unwrap_or_else(|_| Traceparent::begun());
    carried(&current.0)
}

/// The attributes of a message that belongs to the same trace as another, if that does to one.
pub(crate) fn carried(traceparent: &str) -> Option<HashMap<String, MessageAttributeValue>> {
    trace_id(traceparent)?;
    let value = MessageAttributeValue::builder().data_type("String").string_value(traceparent);
    Some(HashMap::from([(TRACEPARENT.to_owned(), value.build().ok()?)]))
}

/// The trace's id, where the text is a `traceparent`. A version to come may say more at the end.
pub fn trace_id(text: &str) -> Option<&str> {
    let mut fields = text.split('-');
    let version = hexadecimal(fields.next()?, 2)?;
    let trace = hexadecimal(fields.next()?, 32)?;
    let parent = hexadecimal(fields.next()?, 16)?;
    hexadecimal(fields.next()?, 2)?;
    let known = version != "ff" && (version != "00" || fields.next().is_none());
    let zero = |id: &str| id.bytes().all(|digit| digit == b'0');
    (known && !zero(trace) && !zero(parent)).then_some(trace)
}

/// The trace of a message that came without one, of the id that SQS gave it: a UUID has as many digits.
pub(crate) fn of_message(message_id: &str) -> Option<String> {
    let id = message_id.replace('-', "").to_ascii_lowercase();
    let good = hexadecimal(&id, 32).is_some() && id.bytes().any(|digit| digit != b'0');
    good.then_some(id)
}

/// What says that something belongs to that trace.
pub(crate) fn begun_by(message_id: &str) -> Option<String> {
    let trace = of_message(message_id)?;
    let parent = rand::random::<u64>().max(1);
    Some(format!("00-{trace}-{parent:016x}-01"))
}

fn hexadecimal(text: &str, digits: usize) -> Option<&str> {
    let all = text.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
    (text.len() == digits && all).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::Delivery;

    const ID: &str = "0af7651916cd43dd8448eb211c80319c";

    #[test]
    fn only_what_the_standard_calls_one_is_a_traceparent() {
        let good = [
            format!("00-{ID}-b7ad6b7169203331-01"),
            format!("cc-{ID}-b7ad6b7169203331-01-what-else"),
        ];
        for text in &good {
            assert_eq!(trace_id(text), Some(ID), "{text}");
        }
        let zero = "0".repeat(32);
        let bad = [
            String::new(),
            "00".to_owned(),
            format!("ff-{ID}-b7ad6b7169203331-01"),
            format!("00-{ID}-b7ad6b7169203331-01-what-else"),
            format!("00-{ID}-b7ad6b7169203331"),
            format!("00-{zero}-b7ad6b7169203331-01"),
            format!("00-{ID}-0000000000000000-01"),
            format!("00-{}-b7ad6b7169203331-01", ID.to_uppercase()),
            format!("00-{ID}é-b7ad6b7169203331-01"),
        ];
        for text in &bad {
            assert!(trace_id(text).is_none() && Traceparent::given(text).is_none(), "{text}");
        }
    }

    #[test]
    fn a_message_without_a_trace_begins_one_that_is_the_same_at_every_delivery() {
        let mut delivery = Delivery {
            message_id: "0AF76519-16cd-43dd-8448-eb211c80319c".to_owned(),
            sent_at: std::time::SystemTime::UNIX_EPOCH,
            receive_count: 1,
            group: None,
            traceparent: None,
        };
        for no_trace in [None, Some("none".to_owned())] {
            delivery.traceparent = no_trace;
            assert_eq!(delivery.trace_id().as_deref(), Some(ID));
            assert_eq!(trace_id(&delivery.passed_on().unwrap()), Some(ID));
        }
        let given = "00-1af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        delivery.traceparent = Some(given.to_owned());
        assert_eq!(delivery.trace_id().as_deref(), trace_id(given));
        assert_eq!(delivery.passed_on().as_deref(), Some(given));
        for odd in ["m", "", "00000000-0000-0000-0000-000000000000"] {
            assert_eq!(of_message(odd), None, "{odd}");
        }
    }

    fn sent() -> String {
        attributes().unwrap()[TRACEPARENT].string_value().unwrap().to_owned()
    }

    #[tokio::test]
    async fn what_is_sent_within_a_request_belongs_to_its_trace_and_else_begins_one() {
        let given = format!("00-{ID}-b7ad6b7169203331-01");
        let request = Traceparent::given(&given).unwrap();
        assert_eq!(request.scope(async { sent() }).await, given);
        let (first, second) = Traceparent::begun_within(async { (sent(), sent()) }).await;
        assert!(trace_id(&first).is_some() && first == second, "one request is one trace");
        let (one, other) = (sent(), sent());
        assert!(trace_id(&one).is_some() && trace_id(&one) != trace_id(&other), "{one} {other}");
    }
}
