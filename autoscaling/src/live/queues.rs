//! What is on the queues.

use aws_config::SdkConfig;
use aws_sdk_sqs::{Client, types::QueueAttributeName as Name};
use flotilla_runtime::{aws::sqs_client, failure::chain};

use super::config::{AutoscalerConfig, queue_name};
use crate::observed::{Count, Millis, QueueSeen};

/// SQS calls its counts approximate and tells no bound; the shards it adds up are many.
const ERROR: f64 = 0.1;

/// The queues that a group serves.
#[derive(Debug, Clone)]
pub(super) struct Queues {
    client: Client,
    urls: Vec<String>,
    lag_ms: Millis,
}

impl Queues {
    pub(super) fn new(sdk: &SdkConfig, config: &AutoscalerConfig) -> Self {
        let lag_ms = config.count_lag.as_millis() as Millis;
        Self { client: sqs_client(sdk), urls: config.queue_urls.clone(), lag_ms }
    }

    /// Each queue; without counts where SQS does not answer.
    pub(super) async fn look(&self) -> Vec<QueueSeen> {
        let mut seen = Vec::new();
        for url in &self.urls {
            let name = queue_name(url);
            let [visible, delayed, in_flight] = self.counts(url).await;
            seen.push(QueueSeen { visible, delayed, in_flight, ..QueueSeen::empty(name) });
        }
        seen
    }

    async fn counts(&self, url: &str) -> [Option<Count>; 3] {
        let names = [
            Name::ApproximateNumberOfMessages,
            Name::ApproximateNumberOfMessagesDelayed,
            Name::ApproximateNumberOfMessagesNotVisible,
        ];
        let call = self.client.get_queue_attributes().queue_url(url);
        let answer = call.set_attribute_names(Some(names.to_vec())).send().await;
        let attributes = match answer {
            Ok(answer) => answer.attributes.unwrap_or_default(),
            Err(error) => {
                tracing::warn!(url, error = chain(&error), "a queue cannot be seen");
                return [None; 3];
            }
        };
        let count = |value| Count { value, error: ERROR, lag_ms: self.lag_ms };
        names.map(|name| attributes.get(&name)?.parse().ok().map(count))
    }
}
