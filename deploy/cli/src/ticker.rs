//! The messages of the clock, where no EventBridge Scheduler sends them.

use std::time::Duration;

use aws_sdk_sqs::Client;
use flotilla_runtime::tally;
use jiff::Timestamp;
use schedule_executor::store::Store;
use serde_json::json;
use tokio::{task::JoinHandle, time::MissedTickBehavior};

use crate::console::note;

/// How often the period is looked up.
const LOOK: Duration = Duration::from_secs(2);

/// Sends a message now and once in every period, or does what belongs to it, until it is dropped.
#[derive(Debug)]
pub(crate) struct Ticker(JoinHandle<()>);

impl Ticker {
    /// Starts sending to a queue what `body` says.
    pub(crate) fn start(
        sqs: Client,
        queue_url: String,
        period: Duration,
        body: fn() -> String,
    ) -> Self {
        Self(tokio::spawn(async move {
            let mut clock = tokio::time::interval(period);
            // They are about the present: those that were missed have nothing to tell.
            clock.set_missed_tick_behavior(MissedTickBehavior::Skip);
            loop {
                clock.tick().await;
                send(&sqs, &queue_url, body()).await;
            }
        }))
    }

    /// Starts writing down in the fleet table how many messages this process sends.
    pub(crate) fn of_counts(dynamo: aws_sdk_dynamodb::Client, table: String) -> Self {
        Self(tokio::spawn(async move {
            tally::telling(Some(&table), dynamo, std::future::pending()).await
        }))
    }

    /// Starts ticking the scheduler, at once and then as often as its settings say; `period` is
    /// that of a scheduler without any.
    pub(crate) fn of_scheduler(
        sqs: Client,
        queue_url: String,
        store: Store,
        period: Duration,
    ) -> Self {
        Self(tokio::spawn(async move {
            let mut last = None;
            let mut seconds = i64::try_from(period.as_secs()).unwrap_or(i64::MAX);
            loop {
                if let Ok(settings) = store.settings().await {
                    let period = i64::try_from(period.as_secs()).unwrap_or(i64::MAX);
                    seconds = settings.period.unwrap_or(period).max(1);
                }
                // The spans that the scheduler counts by, so that none has two ticks or none.
                let span = Timestamp::now().as_second().div_euclid(seconds);
                if last != Some((span, seconds)) {
                    last = Some((span, seconds));
                    send(&sqs, &queue_url, tick()).await;
                }
                let left = (span + 1) * seconds - Timestamp::now().as_second();
                let left = Duration::from_secs(u64::try_from(left).unwrap_or(1).max(1));
                tokio::time::sleep(left.min(LOOK)).await;
            }
        }))
    }
}

async fn send(sqs: &Client, queue_url: &str, body: String) {
    let call = sqs.send_message().queue_url(queue_url).message_body(body);
    match call.send().await {
        Ok(_) => tally::sent(queue_url, 1),
        Err(error) => {
            let why = crate::chain(&error);
            note(format!("no message of the clock was sent to {queue_url}: {why}"));
        }
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Has the compile worker look for new versions of packages.
pub(crate) fn refresh() -> String {
    json!({ "refresh": {} }).to_string()
}

/// Has the scheduler look now, whatever its period is. Such a tick is named by its moment: two of one
/// second are two.
pub(crate) fn look_now() -> String {
    let now = Timestamp::now().as_millisecond();
    let time = Timestamp::from_millisecond(now).unwrap_or_default();
    json!({ "time": time, "forced": true }).to_string()
}

/// The event that a rule of EventBridge would send to the scheduler; only its time counts.
pub(crate) fn tick() -> String {
    let time = Timestamp::from_second(Timestamp::now().as_second()).unwrap_or_default();
    let (source, kind) = ("flotilla.up", "Scheduled Event");
    json!({ "version": "0", "source": source, "detail-type": kind, "time": time }).to_string()
}
