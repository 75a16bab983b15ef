//! How many messages a queue has.

use aws_sdk_sqs::types::QueueAttributeName as Attribute;
use serde::Serialize;

use crate::{
    aws::Clients,
    error::{Doing, Error},
};

/// The messages of a queue, by what they wait for; SQS counts approximately.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct Depth {
    /// Waiting to be received.
    pub(crate) visible: u64,
    /// Received, and neither deleted nor visible again.
    pub(crate) in_flight: u64,
    /// Not visible yet.
    pub(crate) delayed: u64,
}

/// Asks a queue for its depth.
pub(crate) async fn of(clients: &Clients, queue: &str) -> Result<Depth, Error> {
    let wanted = [
        Attribute::ApproximateNumberOfMessages,
        Attribute::ApproximateNumberOfMessagesNotVisible,
        Attribute::ApproximateNumberOfMessagesDelayed,
    ];
    let call = clients.sqs.get_queue_attributes().queue_url(queue);
    let answer = call.set_attribute_names(Some(wanted.to_vec())).send().await;
    let found = answer.doing(|| format!("asking queue {queue} for its depth"))?.attributes;
    let found = found.unwrap_or_default();
    let number = |name| found.get(name).and_then(|text| text.parse().ok()).unwrap_or(0);
    let [visible, in_flight, delayed] = wanted.each_ref().map(number);
    Ok(Depth { visible, in_flight, delayed })
}
