//! A message as SQS gives it.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, SystemTime},
};

use aws_sdk_sqs::types::{Message, MessageAttributeValue, MessageSystemAttributeName as System};
use tokio::time::Instant;

use crate::job::Delivery;

/// What SQS tells of a delivery that is looked at here.
pub(super) const TOLD: [System; 4] = [
    System::SentTimestamp,
    System::ApproximateReceiveCount,
    System::MessageGroupId,
    System::AwsTraceHeader,
];

/// A message in our hands.
#[derive(Debug, Clone)]
pub struct Received {
    /// The body, as sent.
    pub body: String,
    /// The message's attributes, as sent; they follow it to the dead-letter queue.
    pub attributes: HashMap<String, MessageAttributeValue>,
    /// The trace of AWS X-Ray that it came with (`AWSTraceHeader`); it follows it, too.
    pub trace_header: Option<String>,
    /// The handle of this delivery: deletes and visibility changes name it, not the message.
    pub receipt_handle: String,
    /// When it arrived here.
    pub received_at: Instant,
    /// What SQS says of the delivery; its lease has it too.
    pub delivery: Arc<Delivery>,
}

pub(super) fn received(message: Message) -> Option<Received> {
    let mut told = message.attributes.unwrap_or_default();
    let mut system = |name| told.remove(&name);
    let attributes = message.message_attributes.unwrap_or_default();
    let traceparent = attributes.get("traceparent").and_then(|a| a.string_value());
    let sent = system(System::SentTimestamp).and_then(|ms| ms.parse().ok());
    let delivery = Delivery {
        message_id: message.message_id.unwrap_or_default(),
        sent_at: sent
            .map_or_else(SystemTime::now, |ms| SystemTime::UNIX_EPOCH + Duration::from_millis(ms)),
        receive_count: system(System::ApproximateReceiveCount)
            .and_then(|n| n.parse().ok())
            .unwrap_or(1),
        group: system(System::MessageGroupId),
        traceparent: traceparent.map(str::to_owned),
    };
    let trace_header = system(System::AwsTraceHeader);
    Some(Received {
        trace_header,
        body: message.body.unwrap_or_default(),
        receipt_handle: message.receipt_handle?,
        received_at: Instant::now(),
        attributes,
        delivery: Arc::new(delivery),
    })
}
