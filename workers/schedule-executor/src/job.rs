//! The job: ticks and orders are planned and split; batches are worked off.

use std::{sync::Arc, time::Duration};

use aws_config::SdkConfig;
use flotilla_runtime::{Delivery, Effect, Failure, Job, Lease, aws};
use futures::{StreamExt, TryStreamExt, stream};
use jiff::{SignedDuration, Timestamp};
use tokio::sync::Semaphore;

use crate::{
    arn::Home,
    audit::Audit,
    batch::{Hands, effect_key},
    config::ScheduleConfig,
    handlers::{Limits, Places},
    message::{Batch, Message, Order, Tick, Undo},
    metrics as names,
    rows::Settings,
    store::Store,
    tick::{Planned, Sources},
};

/// A tick that waited in the queue longer than this looks at the present, not at its own time.
const PROMPT: Duration = Duration::from_secs(60);
/// A tick whose time is no longer ago than this is of the present: its clock may send it late.
const LATELY: SignedDuration = SignedDuration::from_mins(15);
/// How many batches are sent at a time.
const SENDS: usize = 16;
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
    Tick(Tick),
    /// Plan to bring back what a bulk action changed.
    Undo(Undo),
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
        let dynamo = aws::dynamo_client(sdk);
        let store = Store::new(dynamo.clone(), config.tables);
        let region = sdk.region().map(ToString::to_string).unwrap_or_default();
        let regions = if config.regions.is_empty() { vec![region.clone()] } else { config.regions };
        let home = Home { account: config.accounts.own.clone(), region };
        let audit = Audit::new(dynamo, config.audit);
        let places = Places::new(sdk, config.accounts);
        let limits = Arc::<Limits>::default();
        let hands = Hands {
            store: store.clone(),
            audit: audit.clone(),
            places: places.clone(),
            limits: limits.clone(),
            home: home.clone(),
            stage_wait: config.stage_wait,
            stage_limit: config.stage_limit,
            seats: Arc::new(Semaphore::new(config.seats)),
        };
        let (tag_accounts, dry_run) = (config.tag_accounts, config.dry_run);
        let sources =
            Sources { store, audit, places, limits, regions, tag_accounts, home, dry_run };
        Self { sources, hands }
    }

    /// Plans a tick, unless it is not due by the period, or the past.
    async fn tick(&self, tick: Tick, lease: &Lease) -> Result<(), Failure> {
        let delivery = lease.delivery();
        let time = tick.time.unwrap_or_else(|| second(sent(delivery)));
        let now = Timestamp::now();
        if !tick.dry_run && Settings::is_ahead(time, now) {
            let what =
                format!("the tick is of {time}, and it is {now}: what will be is only previewed");
            return Err(Failure::permanent("future", what));
        }
        let settings = self.sources.store.settings().await?;
        let counts = !tick.forced && !tick.dry_run;
        if counts && settings.is_past(time, now) {
            return self.send(self.sources.past(settings, time), lease).await;
        }
        if counts && !settings.is_due(time) {
            let period = settings.period.unwrap_or_default();
            tracing::debug!(%time, period, "a tick that is not due by its period is left out");
            return Ok(());
        }
        let at = present(time, delivery.age(), now);
        let planned = self.sources.tick(settings, time, at, tick.dry_run).await?;
        self.send(planned, lease).await?;
        if counts {
            // Only now: a tick that failed on the way is to be planned by its next delivery.
            self.sources.store.note_tick(time).await?;
        }
        Ok(())
    }

    /// Plans an order. Who undoes it is not to wait for one that changes nothing, or that is refused for
    /// good.
    async fn hand(&self, order: &Order, lease: &Lease) -> Result<(), Failure> {
        let delivery = lease.delivery();
        let id = &delivery.message_id;
        let planned = self.sources.order(order, id, sent(delivery)).await;
        let ends = match &planned {
            Ok(planned) => planned.batches.is_empty(),
            Err(why) => matches!(why, Failure::Permanent(_)),
        };
        if ends && !order.dry_run {
            self.sources.store.note_unchanged(&order.name(id)).await?;
        }
        self.send(planned?, lease).await
    }

    /// Where nothing is to be switched at all, a batch that was sent before that was so is tried too.
    fn tried(&self, message: Message) -> Message {
        match message {
            Message::Batch(batch) => {
                let dry_run = batch.dry_run || self.sources.dry_run;
                Message::Batch(Batch { dry_run, ..batch })
            }
            other => other,
        }
    }

    async fn send(&self, planned: Planned, lease: &Lease) -> Result<(), Failure> {
        for entry in &planned.entries {
            metrics::counter!(names::SKIPS, "kind" => entry.kind).increment(1);
        }
        let (batches, skips) = (planned.batches.len(), planned.entries.len());
        let send = async |batch: &Batch| {
            lease.send(&serde_json::json!({ "batch": batch }).to_string()).await
        };
        let sends = planned.batches.iter().map(send).collect::<Vec<_>>();
        stream::iter(sends).buffer_unordered(SENDS).try_collect::<()>().await?;
        metrics::counter!(names::BATCHES).increment(batches as u64);
        tracing::info!(actor = planned.actor, bulk = planned.bulk, batches, skips, "planned");
        // Last: an audit that cannot be written keeps nobody's batch back.
        self.hands.audit.write(planned.entries).await
    }
}

impl Job for Scheduler {
    const NAME: &'static str = "schedule";
    type Message = Message;
    type Work = Work;

    fn describe_metrics(&self) {
        names::begin();
    }

    async fn prepare(
        &self,
        message: Message,
        delivery: &Delivery,
    ) -> Result<(Effect, Work), Failure> {
        // Planning again plans the same: what must not happen twice is in the batches.
        Ok(match self.tried(message) {
            Message::Tick(time) => (Effect::Idempotent, Work::Tick(time)),
            Message::Hand(order) => (Effect::Idempotent, Work::Hand(order)),
            Message::Undo(undo) => (Effect::Idempotent, Work::Undo(undo)),
            // Nothing happens, so there is nothing to happen once.
            Message::Batch(batch) if batch.dry_run => (Effect::Idempotent, Work::Batch(batch)),
            Message::Batch(batch) if is_stale(&batch, delivery.age()) => {
                (Effect::Idempotent, Work::Stale(batch))
            }
            Message::Batch(batch) => (Effect::Once(effect_key(&batch)), Work::Batch(batch)),
        })
    }

    async fn run(&self, work: Work, lease: &Lease) -> Result<(), Failure> {
        match work {
            Work::Tick(tick) => self.tick(tick, lease).await,
            Work::Hand(order) => self.hand(&order, lease).await,
            Work::Undo(undo) => {
                let delivery = lease.delivery();
                let at = second(sent(delivery));
                let planned = self.sources.undo(&undo, &delivery.message_id, at).await?;
                self.send(planned, lease).await
            }
            Work::Batch(batch) => self.hands.work(&batch, lease).await,
            Work::Stale(batch) => {
                let tick = batch.tick;
                tracing::warn!(%tick, count = batch.items.len(), "a batch waited too long: the next tick plans anew");
                let why = format!("its batch of {tick} waited too long: the next tick plans anew");
                self.hands.left(&batch, "stale", &why).await
            }
        }
    }

    /// A transition that was acted on already may not have been told to its sources, or what they
    /// were told is gone: they are told here, so that the next tick mends what differs.
    async fn repair(&self, work: Work) -> Result<(), Failure> {
        let Work::Batch(batch) = work else { return Ok(()) };
        let (tick, occasion) = (batch.tick, &batch.occasion);
        tracing::info!(%tick, occasion, "acted on already: nothing to do");
        self.hands.looked_at(&batch).await
    }

    /// What used its attempts up is the next tick's, under that tick's own name.
    async fn give_up(&self, work: Work, _: &Lease, reason: &str) -> Result<(), Failure> {
        let Work::Batch(batch) = work else { return Ok(()) };
        tracing::warn!(tick = %batch.tick, reason, "a batch is given up: the next tick plans anew");
        let next = match batch.actor.as_str() {
            "hand" => "order it again",
            _ => "the next tick plans anew",
        };
        self.hands.left(&batch, "given_up", &format!("{reason}: {next}")).await?;
        self.hands.looked_at(&batch).await
    }
}

/// Whether a batch is left to the next tick, which plans anew. Of an order there is none.
fn is_stale(batch: &Batch, age: Duration) -> bool {
    batch.actor == "schedule" && age > STALE
}

/// When a message was sent.
fn sent(delivery: &Delivery) -> Timestamp {
    Timestamp::try_from(delivery.sent_at).unwrap_or_else(|_| Timestamp::now())
}

/// The whole second of an instant: the clock of ticks.
fn second(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second()).unwrap_or(at)
}

/// The clock to plan at: a tick that comes late, from its clock or out of the queue, must not bring
/// back what was before it. One of long ago that did not wait is asked for its own time.
fn present(tick: Timestamp, waited: Duration, now: Timestamp) -> Timestamp {
    let late = now.duration_since(tick);
    if SignedDuration::ZERO <= late && late < LATELY {
        return second(now).max(tick);
    }
    let waited = if waited > PROMPT { waited } else { Duration::ZERO };
    let waited = SignedDuration::try_from(waited).unwrap_or_default();
    tick.checked_add(waited).unwrap_or(tick)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_of_the_schedule_that_waited_for_a_quarter_of_an_hour_is_left_and_an_order_is_not() {
        let stale = |actor: &str, minutes: u64| {
            let batch = serde_json::from_value(serde_json::json!({
                "account": "", "region": "r", "service": "ec2:instance", "action": "START",
                "tick": "2026-06-01T08:00:00Z", "actor": actor, "occasion": "o", "items": [],
            }));
            is_stale(&batch.unwrap(), Duration::from_secs(minutes * 60))
        };
        assert!(!stale("schedule", 15) && stale("schedule", 16) && !stale("hand", 600));
    }

    #[test]
    fn a_tick_that_waited_looks_at_the_present() {
        let tick: Timestamp = "2026-06-01T18:59:00Z".parse().unwrap();
        let now: Timestamp = "2026-06-03T00:00:00Z".parse().unwrap();
        assert_eq!(present(tick, Duration::from_secs(5), now), tick);
        let later = present(tick, Duration::from_secs(3600), now);
        assert_eq!(later, "2026-06-01T19:59:00Z".parse().unwrap());
    }

    #[test]
    fn a_tick_that_its_clock_sent_late_looks_at_the_present() {
        let tick: Timestamp = "2026-06-01T18:59:00Z".parse().unwrap();
        let planned = |now: &str| {
            let now = now.parse().unwrap();
            present(tick, Duration::from_secs(1), now).to_string()
        };
        assert_eq!(planned("2026-06-01T18:59:59.5Z"), "2026-06-01T18:59:59Z");
        assert_eq!(planned("2026-06-01T19:13:59Z"), "2026-06-01T19:13:59Z");
        // Not before its own time, by a clock that is behind.
        assert_eq!(planned("2026-06-01T18:58:30Z"), "2026-06-01T18:59:00Z");
    }
}
