//! The loop: receive for free slots, run, settle, and drain.

use std::{sync::Arc, time::Duration};

use aws_config::SdkConfig;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinHandle,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    acks::Acks,
    config::WorkerConfig,
    depth,
    failure::{Disposition, Failure},
    health::{self, Health},
    job::Job,
    keeper::Keeper,
    ledger::Ledger,
    metrics::{self, Meter},
    payload::Payloads,
    presence::{self, Presence},
    queue::{BATCH, Queue, Received},
    retry::RetryPolicy,
};

/// Consumes the queue of `config` with `job` until `shutdown`, then drains.
///
/// It returns when every message is settled: its effect durable and deleted, or handed back.
///
/// # Errors
/// When the worker cannot start at all: the HTTP address is taken, or the queue has no
/// dead-letter queue. Everything else is retried.
pub async fn run<J: Job>(
    job: J,
    config: WorkerConfig,
    sdk: &SdkConfig,
    shutdown: CancellationToken,
) -> Result<(), Failure> {
    let handle = metrics::install(J::NAME)
        .map_err(|e| Failure::permanent("metrics", "the metrics recorder").caused_by(e))?;
    job.describe_metrics();
    let (health, end) = (Health::new(config.wait), CancellationToken::new());
    // The endpoint outlives the drain, so that an operator can watch it.
    let _end = end.clone().drop_guard();
    health::serve(&config.http_addr, health.clone(), handle, end.clone()).await?;
    let Some(queue) = open(&config, sdk, &health, &shutdown).await? else {
        return Ok(());
    };
    let worker = Worker::new(job, config, sdk, queue, health);
    let presence = worker.presence.clone();
    presence::telling(presence, &shutdown, worker.consume(shutdown.clone())).await;
    Ok(())
}

/// Opens the queue, for as long as it takes: SQS may be up later than the worker.
async fn open(
    config: &WorkerConfig,
    sdk: &SdkConfig,
    health: &Health,
    shutdown: &CancellationToken,
) -> Result<Option<Queue>, Failure> {
    let client = crate::aws::sqs_client(sdk);
    let mut attempt = 0;
    while !shutdown.is_cancelled() {
        match Queue::open(client.clone(), &config.queue_url).await {
            Ok(queue) => return Ok(Some(queue)),
            Err(failure @ Failure::Permanent(_)) => return Err(failure),
            Err(failure) => {
                attempt += 1;
                health.failing(&failure, attempt);
                tracing::warn!(%failure, attempt, "the queue cannot be opened yet");
                pause(RetryPolicy::CALL.delay(attempt), shutdown).await;
            }
        }
    }
    Ok(None)
}

async fn pause(delay: Duration, shutdown: &CancellationToken) {
    let _ = tokio::time::timeout(delay, shutdown.cancelled()).await;
}

/// A running worker.
pub(crate) struct Worker<J> {
    pub(crate) job: J,
    pub(crate) config: WorkerConfig,
    pub(crate) queue: Queue,
    pub(crate) ledger: Ledger,
    pub(crate) payloads: Payloads,
    pub(crate) keeper: Arc<Keeper>,
    pub(crate) health: Arc<Health>,
    pub(crate) meter: Meter,
    depth: Arc<depth::Watch>,
    presence: Option<Arc<Presence>>,
    /// Cancelled at the end of the grace: every job still running is handed back.
    pub(crate) hand_back: CancellationToken,
    slots: Arc<Semaphore>,
    tasks: TaskTracker,
}

impl<J: Job> Worker<J> {
    fn new(
        job: J,
        config: WorkerConfig,
        sdk: &SdkConfig,
        queue: Queue,
        health: Arc<Health>,
    ) -> Arc<Self> {
        let dynamo = crate::aws::dynamo_client(sdk);
        let (table, owner) = (&config.ledger_table, &config.worker_id);
        let ledger = Ledger::new(dynamo, table, owner, config.visibility);
        let meter = Meter::new(queue.url());
        meter.slots(config.slots);
        let (held, visibility) = (queue.clone(), config.visibility);
        Arc::new(Self {
            presence: Presence::new(&config, sdk, health.clone(), J::NAME),
            keeper: Keeper::new(held, ledger.clone(), visibility, meter.clone()),
            depth: depth::Watch::new(queue.clone(), meter.clone(), config.depth_every),
            payloads: Payloads::new(crate::aws::s3_client(sdk), &config.payloads_bucket),
            slots: Arc::new(Semaphore::new(config.slots)),
            tasks: TaskTracker::new(),
            hand_back: CancellationToken::new(),
            job,
            config,
            queue,
            ledger,
            health,
            meter,
        })
    }

    async fn consume(self: Arc<Self>, shutdown: CancellationToken) {
        let (acks, flushed) = Acks::start(self.queue.clone());
        let end = CancellationToken::new();
        let keeping = tokio::spawn(self.keeper.clone().run(end.clone()));
        let watching = tokio::spawn(self.depth.clone().run(shutdown.clone()));
        let stopping = tokio::spawn(self.clone().hand_back_after_grace(shutdown.clone()));
        tracing::info!(worker = self.config.worker_id, queue = self.queue.url(), "consuming");
        self.receive_until(&shutdown, &acks).await;
        self.drain(acks, flushed).await;
        end.cancel();
        stopping.abort();
        let _ = tokio::join!(keeping, watching);
        tracing::info!("drained: nothing is in flight");
    }

    async fn receive_until(self: &Arc<Self>, shutdown: &CancellationToken, acks: &Acks) {
        let mut failures = 0;
        while !shutdown.is_cancelled() {
            match self.poll(shutdown, acks).await {
                Ok(()) => failures = 0,
                Err(failure) => {
                    failures += 1;
                    self.health.failing(&failure, failures);
                    tracing::warn!(%failure, kind = failure.kind(), failures, "not receiving");
                    pause(RetryPolicy::CALL.delay(failures), shutdown).await;
                }
            }
        }
    }

    /// One receive, for as many messages as there are free slots.
    async fn poll(
        self: &Arc<Self>,
        shutdown: &CancellationToken,
        acks: &Acks,
    ) -> Result<(), Failure> {
        let Some(permits) = self.free_slots(shutdown).await else {
            return Ok(());
        };
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            ready = self.job.ready() => ready?,
        }
        // Not under the select: messages of a dropped receive would be stranded.
        let (wait, visibility) = (self.config.wait, self.config.visibility);
        let received = self.queue.receive(permits.len(), wait, visibility).await;
        let messages = self.counted(received)?;
        self.health.polled();
        let stopping = shutdown.is_cancelled();
        for (message, permit) in messages.into_iter().zip(permits) {
            // Held from here on, so that a message that is here twice is worked on once, and not
            // handed back under the hands of the job that has it.
            let Some(cancel) = self.keeper.hold(&message, &self.hand_back) else {
                self.meter.duplicates("held", 1);
                continue;
            };
            self.tasks.spawn(self.clone().handle(message, cancel, stopping, permit, acks.clone()));
        }
        Ok(())
    }

    /// Counts what a receive has brought.
    fn counted(&self, received: Result<Vec<Received>, Failure>) -> Result<Vec<Received>, Failure> {
        let result = match &received {
            Ok(messages) if messages.is_empty() => "empty",
            Ok(_) => "messages",
            Err(_) => "error",
        };
        self.meter.receives(result, 1);
        let messages = received?;
        self.meter.consumed(messages.len() as u64);
        let ages = messages.iter().map(|message| message.delivery.age());
        self.meter.age(ages.max().unwrap_or_default());
        let first = messages.iter().filter(|message| message.delivery.receive_count == 1);
        first.for_each(|message| self.meter.waited(message.delivery.age()));
        if !messages.is_empty() {
            self.depth.stir();
        }
        Ok(messages)
    }

    /// Waits for a free slot, then takes all that are free, up to a batch.
    async fn free_slots(&self, shutdown: &CancellationToken) -> Option<Vec<OwnedSemaphorePermit>> {
        self.health.busy(true);
        let first = tokio::select! {
            () = shutdown.cancelled() => None,
            permit = self.slots.clone().acquire_owned() => permit.ok(),
        };
        self.health.busy(false);
        let more = std::iter::from_fn(|| self.slots.clone().try_acquire_owned().ok());
        Some(std::iter::once(first?).chain(more.take(BATCH - 1)).collect())
    }

    async fn handle(
        self: Arc<Self>,
        message: Received,
        cancel: CancellationToken,
        stopping: bool,
        _slot: OwnedSemaphorePermit,
        acks: Acks,
    ) {
        self.meter.in_flight().increment(1);
        self.presence.iter().for_each(|presence| presence.began());
        let disposition = match stopping {
            true => Disposition::Released,
            false => self.decide(&message, &cancel).await,
        };
        let disposition = self.settle(&message, disposition, &acks).await;
        self.meter.disposed(&disposition, message.received_at.elapsed());
        self.meter.in_flight().decrement(1);
        self.presence.iter().for_each(|presence| presence.ended(message.received_at.elapsed()));
        self.health.moved();
    }

    /// Hands back what still runs when the grace is over. The grace is counted from the signal,
    /// and not from the end of the long poll that the loop still awaits.
    async fn hand_back_after_grace(self: Arc<Self>, shutdown: CancellationToken) {
        shutdown.cancelled().await;
        self.health.draining();
        tokio::time::sleep(self.config.grace).await;
        tracing::info!(jobs = self.tasks.len(), "the grace is over: handing jobs back");
        self.hand_back.cancel();
    }

    /// Waits until every job has ended or is handed back, and flushes.
    async fn drain(&self, acks: Acks, flushed: JoinHandle<()>) {
        self.tasks.close();
        self.tasks.wait().await;
        drop(acks);
        let _ = flushed.await;
    }
}

/// What a message leaves behind when it is settled.
impl<J: Job> Worker<J> {
    async fn settle(&self, message: &Received, what: Disposition, acks: &Acks) -> Disposition {
        let what = match what {
            Disposition::Dead { kind, reason } => self.bury(message, kind, reason).await,
            what => what,
        };
        self.depth.stir();
        let Some((handle, claim)) = self.keeper.let_go(&message.delivery.message_id).await else {
            return Disposition::Lost;
        };
        if let Some(claim) = claim {
            let noted = match &what {
                Disposition::Done => Ok(true),
                Disposition::Released => self.ledger.release(&claim).await,
                // Counted: what outlives every lease would otherwise be tried for ever.
                Disposition::Lost => self.ledger.fail(&claim, "its lease was lost").await,
                Disposition::Retry { reason, .. } => self.ledger.fail(&claim, reason).await,
                Disposition::Dead { reason, .. } => self.ledger.bury(&claim, reason).await,
            };
            if let Err(failure) = noted {
                // The claim then ends with its lease; the message is safe either way.
                tracing::warn!(%failure, key = claim.key, "the ledger row was not released");
            }
        }
        match &what {
            Disposition::Done | Disposition::Dead { .. } => acks.delete(handle),
            Disposition::Retry { delay, .. } => acks.visible_after(handle, *delay),
            Disposition::Released => acks.visible_after(handle, Duration::ZERO),
            Disposition::Lost => {}
        }
        what
    }

    /// Puts a message on the dead-letter queue; when that fails it comes back here instead.
    async fn bury(&self, message: &Received, kind: &'static str, reason: String) -> Disposition {
        let why = serde_json::json!({
            "reason": crate::failure::shortened(&reason),
            "kind": kind,
            "job": J::NAME,
            "worker": self.config.worker_id,
            "image": self.config.image,
            "trace_id": message.delivery.trace_id(),
            "message_id": message.delivery.message_id,
            "receive_count": message.delivery.receive_count,
            "queue": self.queue.url(),
        });
        let sent = async {
            let body = self.payloads.shrink(&message.body, message.attributes_size()).await?;
            self.queue.bury(&body, message, &why).await
        };
        match sent.await {
            Ok(()) => {
                let id = &message.delivery.message_id;
                tracing::warn!(id, kind, reason, "dead-lettered");
                Disposition::Dead { kind, reason }
            }
            Err(failure) => {
                let delay = RetryPolicy::JOB.delay(message.delivery.receive_count);
                tracing::error!(%failure, "the dead-letter queue does not take the message");
                Disposition::Retry { delay, kind: "dead_letter", reason: failure.to_string() }
            }
        }
    }
}

#[cfg(test)]
mod tests;
