//! What a worker tells of itself, for whoever sizes its group.
//!
//! One row per instance in the fleet table, under the group and the instance's id: since when it is
//! idle or at work, how many messages it holds and how many of each queue it is done with, how long its
//! jobs took. The row is the meeting
//! point of a drain, too. The autoscaler writes an order into it; the worker finds the order in the
//! answer to its next beat, receives nothing more, ends what it holds, however long that takes, and
//! writes that it is drained. Only then is the instance terminated, so that no job can begin between the
//! look at an instance and its end.

use std::{
    future::Future,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use aws_config::SdkConfig;
use aws_sdk_dynamodb::{
    Client,
    error::SdkError,
    operation::update_item::UpdateItemError,
    types::{AttributeValue as Attr, ReturnValue},
};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::{
    config::{Reader, WorkerConfig},
    drain::Drain,
    failure::chain,
    health::Health,
    tally,
};

/// Changes between idle and busy, and ends of jobs, are told at once, but not more often than this.
const SOONEST: Duration = Duration::from_secs(1);
/// A row of an instance that is gone is removed after this.
const ROW_LIFE: Duration = Duration::from_secs(24 * 3600);

/// How long the end of the process waits for its last row.
const LAST: Duration = Duration::from_secs(5);

/// A beat that was given up, since the worker ended meanwhile, may reach the table after the word that it is
/// drained: that stands, unless it is of a worker before this one.
const NOT_OVER: &str = "attribute_not_exists(drained) OR started_at <> :started_at";

/// When the worker was ready, in its row.
const READY: &str = "ready_at";

/// Where a worker tells of itself.
#[derive(Debug, Clone)]
pub struct PresenceConfig {
    /// `FLOTILLA_FLEET_TABLE`: the table. Without it the worker tells nobody.
    pub table: String,
    /// `FLOTILLA_GROUP`: the Auto Scaling group.
    pub group: String,
    /// `FLOTILLA_INSTANCE_ID`: the instance that the worker runs on.
    pub instance: String,
    /// `FLOTILLA_INSTANCE_LIFE_CYCLE`: `spot` or `on-demand`, as the instance's metadata say; what
    /// it costs depends on it.
    pub life_cycle: Option<String>,
    /// `FLOTILLA_PRESENCE_SECONDS`: how often (default 5 s).
    pub every: Duration,
}

impl PresenceConfig {
    /// Reads the settings; `None` where there is no table.
    pub(crate) fn read(settings: &mut Reader) -> Option<Self> {
        settings.knows(&[
            "FLOTILLA_GROUP",
            "FLOTILLA_INSTANCE_ID",
            "FLOTILLA_INSTANCE_LIFE_CYCLE",
            "FLOTILLA_PRESENCE_SECONDS",
        ]);
        let table = settings.optional("FLOTILLA_FLEET_TABLE")?;
        Some(Self {
            table,
            group: settings.required("FLOTILLA_GROUP"),
            instance: settings.required("FLOTILLA_INSTANCE_ID"),
            life_cycle: settings.optional("FLOTILLA_INSTANCE_LIFE_CYCLE"),
            every: settings.seconds("FLOTILLA_PRESENCE_SECONDS", 5.0, (0.1, 60.0)),
        })
    }
}

/// Tells of the worker while its `work` lasts, and afterwards that it is drained.
pub(crate) async fn telling(
    presence: Option<Arc<Presence>>,
    drain: &Drain,
    work: impl Future<Output = ()>,
) {
    let Some(presence) = presence else {
        return work.await;
    };
    // Before the first receive: an order to drain may be there from before a restart.
    presence.beat(drain).await;
    let end = CancellationToken::new();
    let working = async {
        work.await;
        end.cancel();
    };
    tokio::join!(working, presence.run(drain, &end));
    presence.drained().await;
}

/// Tells of this worker, in beats.
#[derive(Debug)]
pub(crate) struct Presence {
    client: Client,
    config: PresenceConfig,
    /// The fields that never change: worker, queue, kind of job, slots, start.
    fixed: Vec<(&'static str, Attr)>,
    /// Its queues.
    queues: Vec<String>,
    work: Mutex<Work>,
    changed: Notify,
    health: Arc<Health>,
}

/// What the worker does, in numbers.
#[derive(Debug, Clone, Copy)]
struct Work {
    held: u64,
    since: u64,
    jobs: u64,
    total_ms: u64,
    ready_at: Option<u64>,
}

impl Presence {
    /// The presence of a worker that is to have one.
    pub(crate) fn new(
        worker: &WorkerConfig,
        sdk: &SdkConfig,
        health: Arc<Health>,
        job: &str,
    ) -> Option<Arc<Self>> {
        let config = worker.presence.clone()?;
        let queues: Vec<String> = worker.queues.iter().map(|queue| queue.url.clone()).collect();
        let mut fixed = vec![
            ("worker", text(&worker.worker_id)),
            ("queue", text(&queues.join(","))),
            ("job", text(job)),
            ("slots", number(worker.slots as u64)),
            ("started_at", number(now_ms())),
        ];
        fixed.extend(config.life_cycle.as_deref().map(|it| ("life_cycle", text(it))));
        let work = Work { held: 0, since: now_ms(), jobs: 0, total_ms: 0, ready_at: None };
        let (work, changed) = (Mutex::new(work), Notify::new());
        let client = crate::aws::dynamo_client(sdk);
        Some(Arc::new(Self { client, config, fixed, queues, work, changed, health }))
    }

    /// Notes that a message is in hand.
    pub(crate) fn began(&self) {
        self.note(|work| {
            work.held += 1;
            work.held == 1
        });
    }

    /// Notes that a message is no longer in hand, and how long it was worked on, if it was.
    pub(crate) fn ended(&self, took: Option<Duration>) {
        self.note(|work| {
            work.held = work.held.saturating_sub(1);
            work.jobs += u64::from(took.is_some());
            work.total_ms += took.unwrap_or_default().as_millis() as u64;
            work.held == 0
        });
        // What is done with is told soon, too: until then it seems to be on its queue.
        self.changed.notify_one();
    }

    /// Applies a change; one between idle and busy is told at once.
    fn note(&self, change: impl FnOnce(&mut Work) -> bool) {
        let mut work = self.work.lock().unwrap_or_else(PoisonError::into_inner);
        if change(&mut work) {
            work.since = now_ms();
            self.changed.notify_one();
        }
    }

    /// Beats until the end; an order to drain begins the drain.
    async fn run(&self, drain: &Drain, end: &CancellationToken) {
        while !end.is_cancelled() {
            let _ = end.run_until_cancelled(self.beat(drain)).await;
            let pause = async {
                tokio::time::sleep(SOONEST.min(self.config.every)).await;
                let _ = tokio::time::timeout(self.config.every, self.changed.notified()).await;
            };
            let _ = end.run_until_cancelled(pause).await;
        }
    }

    /// Tells once, and takes the order that is in the row.
    async fn beat(&self, drain: &Drain) {
        if self.write(None).await && !drain.begun().is_cancelled() {
            // Nobody waits for this instance: a job that met the order is not cut off.
            drain.begin_without_deadline("the autoscaler's order");
        }
    }

    /// Tells that nothing is in hand and nothing will be.
    async fn drained(&self) {
        // A table that does not answer prolongs no stop.
        if tokio::time::timeout(LAST, self.write(Some(now_ms()))).await.is_err() {
            tracing::warn!("the fleet table was not told in time that this worker is drained");
        }
    }

    /// Writes the row; true when an order to drain is in it.
    async fn write(&self, drained: Option<u64>) -> bool {
        let PresenceConfig { table, group, instance, .. } = &self.config;
        let fields: Vec<_> = self.fixed.iter().cloned().chain(self.moving(drained)).collect();
        let mut sets: Vec<_> =
            fields.iter().map(|(name, _)| format!("#{name} = :{name}")).collect();
        let ready = fields.iter().any(|(name, _)| *name == READY);
        if ready {
            // That of the first worker: one that starts again on the instance is no boot.
            sets.push(format!("first_ready_at = if_not_exists(first_ready_at, :{READY})"));
        }
        let gone = match (drained.is_some(), ready) {
            (true, _) => "",
            (false, true) => " REMOVE drained",
            // What a worker before this one said of itself holds no more.
            (false, false) => " REMOVE drained, ready_at",
        };
        let mut call = self.client.update_item().table_name(table).key("group", text(group));
        call = call.key("instance", text(instance)).return_values(ReturnValue::AllNew);
        call = call.update_expression(format!("SET {}{gone}", sets.join(", ")));
        if drained.is_none() {
            call = call.condition_expression(NOT_OVER);
        }
        for (name, value) in fields {
            call = call.expression_attribute_names(format!("#{name}"), name);
            call = call.expression_attribute_values(format!(":{name}"), value);
        }
        match call.send().await {
            Ok(answer) => answer.attributes.is_some_and(|row| row.contains_key("drain")),
            Err(error) if is_over(&error) => false,
            Err(error) => {
                let error = chain(&error);
                tracing::warn!(%error, table, instance, "the fleet table was not told");
                false
            }
        }
    }

    fn moving(&self, drained: Option<u64>) -> Vec<(&'static str, Attr)> {
        let ready = self.health.unready().is_none();
        let mut work = self.work.lock().unwrap_or_else(PoisonError::into_inner);
        if work.ready_at.is_none() && ready {
            work.ready_at = Some(now_ms());
        }
        let mut fields = vec![
            ("at", number(now_ms())),
            ("held", number(work.held)),
            ("since", number(work.since)),
            ("jobs", number(work.jobs)),
            ("total_ms", number(work.total_ms)),
            ("expires_at", number(now_ms() / 1000 + ROW_LIFE.as_secs())),
        ];
        let gone = |url: &String| (tally::queue_name(url).to_owned(), number(tally::gone_of(url)));
        fields.push(("gone", Attr::M(self.queues.iter().map(gone).collect())));
        fields.extend(work.ready_at.map(|at| (READY, number(at))));
        fields.extend(drained.map(|at| ("drained", number(at))));
        fields
    }
}

fn is_over(error: &SdkError<UpdateItemError>) -> bool {
    error.as_service_error().is_some_and(UpdateItemError::is_conditional_check_failed_exception)
}

fn text(value: &str) -> Attr {
    Attr::S(value.to_owned())
}

fn number(value: u64) -> Attr {
    Attr::N(value.to_string())
}

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64)
}

#[cfg(test)]
mod tests;
