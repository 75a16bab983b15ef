//! The job: ticks and orders are planned and split; batches are worked off.

use std::time::Duration;

use aws_config::SdkConfig;
use flotilla_runtime::{Delivery, Effect, Failure, Job, Lease};
use jiff::{SignedDuration, Timestamp};

use crate::{
    audit::Audit,
    batch::{Hands, effect_key},
    config::ScheduleConfig,
    message::{Batch, Message, Order},
    metrics as names,
    store::Store,
    tick::{Planned, Sources},
};

/// A tick that waited longer than this looks at the present, not at its own time.
const PROMPT: Duration = Duration::from_secs(60);
/// A batch of the schedule that waited longer than this is left to the next tick.
const STALE: Duration = Duration::from_secs(15 * 60);

/// Switches resources by schedule and by order.
#[derive(Debug)]
pub struct Scheduler {
    sources: Sources,
    hands: Hands,
}

/// A message, ready to be worked off.
#[derive(Debug)]
pub enum Work {
    /// Plan all schedules at this clock.
    Tick(Timestamp),
    /// Plan an order.
    Hand(Order),
    /// Observe and act.
    Batch(Batch),
    /// A batch that waited too long.
    Stale(Batch),
}

impl Scheduler {
    /// The job, on the SDK's endpoints.
    pub fn new(config: ScheduleConfig, sdk: &SdkConfig) -> Self {
        names::describe();
        let dynamo = aws_sdk_dynamodb::Client::new(sdk);
        let store = Store::new(dynamo.clone(), config.tables);
        let home = sdk.region().map(ToString::to_string).unwrap_or_default();
        let regions = if config.regions.is_empty() { vec![home.clone()] } else { config.regions };
        let hands = Hands {
            store: store.clone(),
            audit: Audit::new(dynamo, config.audit),
            sdk: sdk.clone(),
        };
        Self { sources: Sources { store, sdk: sdk.clone(), regions, home }, hands }
    }

    async fn send(&self, planned: Planned, lease: &Lease) -> Result<(), Failure> {
        for entry in &planned.entries {
            metrics::counter!(names::SKIPS, "kind" => entry.kind).increment(1);
        }
        let (batches, skips) = (planned.batches.len(), planned.entries.len());
        self.hands.audit.write(planned.entries).await?;
        for batch in &planned.batches {
            lease.send(&serde_json::json!({ "batch": batch }).to_string()).await?;
        }
        metrics::counter!(names::BATCHES).increment(batches as u64);
        tracing::info!(actor = planned.actor, batches, skips, "planned");
        Ok(())
    }
}

impl Job for Scheduler {
    const NAME: &'static str = "schedule";
    type Message = Message;
    type Work = Work;

    async fn prepare(
        &self,
        message: Message,
        delivery: &Delivery,
    ) -> Result<(Effect, Work), Failure> {
        // Planning again plans the same: what must not happen twice is in the batches.
        Ok(match message {
            Message::Tick(time) => (Effect::Idempotent, Work::Tick(time)),
            Message::Hand(order) => (Effect::Idempotent, Work::Hand(order)),
            Message::Batch(batch) if batch.actor == "schedule" && delivery.age() > STALE => {
                (Effect::Idempotent, Work::Stale(batch))
            }
            Message::Batch(batch) => (Effect::Once(effect_key(&batch)), Work::Batch(batch)),
        })
    }

    async fn run(&self, work: Work, lease: &Lease) -> Result<(), Failure> {
        match work {
            Work::Tick(time) => {
                let at = present(time, lease.delivery().age());
                self.send(self.sources.tick(time, at).await?, lease).await
            }
            Work::Hand(order) => {
                let delivery = lease.delivery();
                let sent =
                    Timestamp::try_from(delivery.sent_at).unwrap_or_else(|_| Timestamp::now());
                let planned = self.sources.order(&order, &delivery.message_id, sent).await?;
                self.send(planned, lease).await
            }
            Work::Batch(batch) => self.hands.work(&batch, lease).await,
            Work::Stale(batch) => {
                let tick = batch.tick;
                tracing::warn!(%tick, count = batch.items.len(), "a batch waited too long: the next tick plans anew");
                Ok(())
            }
        }
    }

    async fn repair(&self, work: Work) -> Result<(), Failure> {
        if let Work::Batch(batch) = work {
            let (tick, occasion) = (batch.tick, &batch.occasion);
            tracing::info!(%tick, occasion, "acted on already: nothing to do");
        }
        Ok(())
    }
}

/// The clock to plan at: a tick that waited in the queue must not bring back the past.
fn present(tick: Timestamp, waited: Duration) -> Timestamp {
    let waited = if waited > PROMPT { waited } else { Duration::ZERO };
    let waited = SignedDuration::try_from(waited).unwrap_or_default();
    tick.checked_add(waited).unwrap_or(tick)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tick_that_waited_looks_at_the_present() {
        let tick: Timestamp = "2026-06-01T18:59:00Z".parse().unwrap();
        assert_eq!(present(tick, Duration::from_secs(5)), tick);
        let later = present(tick, Duration::from_secs(3600));
        assert_eq!(later, "2026-06-01T19:59:00Z".parse().unwrap());
    }
}
