//! What a worker costs that has nothing to do.

use std::{collections::BTreeMap, time::Duration};

use serde_json::json;
use tokio::time::sleep;

use super::consumers::{BODY, SLOTS, flotilla};
use crate::{
    Trouble,
    figure::{Better, Figure},
    rig::Rig,
    settings::Settings,
    stub::queue::Source,
};

/// From the first receive on, a worker is idle; so long for what it does at its start.
const START: Duration = Duration::from_secs(3);

/// Watches a worker on an empty queue.
pub(super) async fn run(settings: &Settings) -> Result<(), Trouble> {
    let [requests, rss] = ["queue.idle_requests_per_minute", "queue.idle_rss_mib"];
    if !settings.wants(&[requests, rss]) {
        return Ok(());
    }
    let rig = Rig::start(&Source { template: BODY.to_owned(), ..Source::default() }).await?;
    let process = rig.consume(&flotilla(&[]))?;
    while !rig.counts().await?.calls.contains_key("AmazonSQS.ReceiveMessage") {
        sleep(Duration::from_millis(20)).await;
    }
    sleep(START).await;
    let (before, cpu) = (rig.counts().await?, process.cost().cpu);
    sleep(settings.idle).await;
    let (after, cost) = (rig.counts().await?, process.cost());
    let minutes = settings.idle.as_secs_f64() / 60.0;
    let calls = after.sqs_calls() - before.sqs_calls();
    let every = after.calls.iter().map(|(name, count)| {
        (name.as_str(), count - before.calls.get(name).copied().unwrap_or_default())
    });
    let every: BTreeMap<_, _> = every.filter(|(_, count)| *count > 0).collect();
    let detail = json!({
        "all_calls": every,
        "seconds": settings.idle.as_secs_f64(),
        "calls": calls,
        "queues": 1,
        "slots": SLOTS,
        "cpu_seconds": cost.cpu - cpu,
    });
    Figure::new(requests, calls as f64 / minutes, "requests/min", Better::Lower)
        .target(3.1)
        .detail(detail.clone())
        .print();
    Figure::new(rss, cost.rss, "MiB", Better::Lower).target(25.0).detail(detail).print();
    process.kill().await;
    rig.stop().await;
    Ok(())
}
