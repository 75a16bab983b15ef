//! How fast a consumer is, on a queue that never ends.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::consumers::endless;
use crate::{
    Trouble,
    process::Process,
    rig::{Consumer, Counts, Rig},
    settings::Settings,
};

/// How long a consumer may take from its start to its first message.
const START: Duration = Duration::from_secs(60);

/// What was measured of a consumer over a window.
#[derive(Debug, Clone)]
pub(crate) struct Rate {
    /// Messages received, worked on and deleted, a second.
    pub(crate) per_second: f64,
    /// The same, a second of the consumer's processor time.
    pub(crate) per_cpu: f64,
    /// Calls to SQS, a message.
    pub(crate) calls: f64,
    /// The share of a core that the endpoint used: near 1 it would be the endpoint that was measured.
    pub(crate) endpoint_cpu: f64,
    /// The share of a core that the consumer used.
    pub(crate) consumer_cpu: f64,
}

impl Rate {
    pub(crate) fn json(&self) -> Value {
        json!({
            "messages_per_second": self.per_second.round(),
            "messages_per_cpu_second": self.per_cpu.round(),
            "sqs_calls_per_message": (self.calls * 1e4).round() / 1e4,
            "consumer_cpu": (self.consumer_cpu * 100.0).round() / 100.0,
            "endpoint_cpu": (self.endpoint_cpu * 100.0).round() / 100.0,
        })
    }
}

/// Puts a consumer alone on a fresh endpoint and measures it over the settings' window.
pub(crate) async fn measure(consumer: &Consumer, settings: &Settings) -> Result<Rate, Trouble> {
    let rig = Rig::start(&endless(&consumer.body)).await?;
    let process = rig.consume(consumer)?;
    first_message(&rig, consumer, &process).await?;
    sleep(settings.warm_up).await;
    let (before, cost, endpoint, start) =
        (rig.counts().await?, process.cost(), rig.cpu(), Instant::now());
    sleep(settings.window).await;
    let (after, spent, served) =
        (rig.counts().await?, process.cost().cpu - cost.cpu, rig.cpu() - endpoint);
    let rate = rate(&before, &after, start.elapsed().as_secs_f64(), spent, served);
    process.kill().await;
    rig.stop().await;
    Ok(rate)
}

fn rate(before: &Counts, after: &Counts, seconds: f64, spent: f64, served: f64) -> Rate {
    let deleted = (after.messages().deleted - before.messages().deleted) as f64;
    Rate {
        per_second: deleted / seconds,
        per_cpu: deleted / spent,
        calls: (after.sqs_calls() - before.sqs_calls()) as f64 / deleted,
        endpoint_cpu: served / seconds,
        consumer_cpu: spent / seconds,
    }
}

async fn first_message(rig: &Rig, consumer: &Consumer, process: &Process) -> Result<(), Trouble> {
    let start = Instant::now();
    while rig.counts().await?.messages().deleted == 0 {
        if start.elapsed() > START {
            let (name, words) = (consumer.name, process.last_words());
            let what = format!("{name} has deleted no message within {START:?}{words}");
            return Err(Trouble::new(what));
        }
        sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

/// Measures two consumers in turns, and each first in every other round, so that what else the
/// machine does meets both.
pub(crate) async fn in_turns(
    ours: &Consumer,
    theirs: &Consumer,
    settings: &Settings,
) -> Result<Vec<(Rate, Rate)>, Trouble> {
    let mut pairs = Vec::new();
    for round in 1..=settings.rounds {
        let pair = if round % 2 == 1 {
            let us = measure(ours, settings).await?;
            (us, measure(theirs, settings).await?)
        } else {
            let them = measure(theirs, settings).await?;
            (measure(ours, settings).await?, them)
        };
        let (us, them) = (pair.0.per_second, pair.1.per_second);
        eprintln!(
            "   {} {us:.0}/s, {} {them:.0}/s (round {round} of {})",
            ours.name, theirs.name, settings.rounds
        );
        pairs.push(pair);
    }
    Ok(pairs)
}
