//! The messages of the clock, where no EventBridge Scheduler sends them.

use std::time::Duration;

use aws_sdk_sqs::Client;
use jiff::Timestamp;
use serde_json::json;
use tokio::{task::JoinHandle, time::MissedTickBehavior};

use crate::console::note;

/// Sends a message now and once in every period, until it is dropped.
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
                let call = sqs.send_message().queue_url(&queue_url).message_body(body());
                if let Err(error) = call.send().await {
                    note(format!(
                        "no message of the clock was sent to {queue_url}: {}",
                        crate::chain(&error)
                    ));
                }
            }
        }))
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

/// The event that a rule of EventBridge would send to the scheduler; only its time counts.
pub(crate) fn tick() -> String {
    let time = Timestamp::from_second(Timestamp::now().as_second()).unwrap_or_default();
    let (source, kind) = ("flotilla.up", "Scheduled Event");
    json!({ "version": "0", "source": source, "detail-type": kind, "time": time }).to_string()
}
