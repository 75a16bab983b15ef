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
    failure::{Disposition, Failure},
    health::{self, Health},
    job::Job,
    keeper::Keeper,
    ledger::Ledger,
    metrics,
    payload::Payloads,
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
    let handle = metrics::install()
        .map_err(|e| Failure::permanent("metrics", "the metrics recorder").caused_by(e))?;
    let (health, end) = (Health::new(config.wait), CancellationToken::new());
    // The endpoint outlives the drain, so that an operator can watch it.
    let _end = end.clone().drop_guard();
    health::serve(&config.http_addr, health.clone(), handle, end.clone()).await?;
    let Some(queue) = open(&config, sdk, &health, &shutdown).await? else {
        return Ok(());
    };
    let worker = Worker::new(job, config, sdk, queue, health);
    worker.consume(shutdown).await;
    Ok(())
}

/// Opens the queue, for as long as it takes: SQS may be up later than the worker.
async fn open(
    config: &WorkerConfig,
    sdk: &SdkConfig,
    health: &Health,
    shutdown: &CancellationToken,
) -> Result<Option<Queue>, Failure> {
    let client = aws_sdk_sqs::Client::new(sdk);
    let mut attempt = 0;
    while !shutdown.is_cancelled() {
        match Queue::open(client.clone(), &config.queue_url).await {
            Ok(queue) => return Ok(Some(queue)),
            Err(failure @ Failure::Permanent(_)) => return Err(failure),
            Err(failure) => {
                attempt += 1;
                health.failing(&failure);
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
        let dynamo = aws_sdk_dynamodb::Client::new(sdk);
        let (table, owner) = (&config.ledger_table, &config.worker_id);
        let ledger = Ledger::new(dynamo, table, owner, config.visibility);
        ::metrics::gauge!(metrics::SLOTS).set(config.slots as f64);
        Arc::new(Self {
            keeper: Keeper::new(queue.clone(), ledger.clone(), config.visibility),
            payloads: Payloads::new(crate::aws::s3_client(sdk), &config.payloads_bucket),
            slots: Arc::new(Semaphore::new(config.slots)),
            tasks: TaskTracker::new(),
            hand_back: CancellationToken::new(),
            job,
            config,
            queue,
            ledger,
            health,
        })
    }

    async fn consume(self: Arc<Self>, shutdown: CancellationToken) {
        let (acks, flushed) = Acks::start(self.queue.clone());
        let end = CancellationToken::new();
        let keeping = tokio::spawn(self.keeper.clone().run(end.clone()));
        tracing::info!(worker = self.config.worker_id, queue = self.queue.url(), "consuming");
        self.receive_until(&shutdown, &acks).await;
        self.drain(acks, flushed).await;
        end.cancel();
        let _ = keeping.await;
        tracing::info!("drained: nothing is in flight");
    }

    async fn receive_until(self: &Arc<Self>, shutdown: &CancellationToken, acks: &Acks) {
        let mut failures = 0;
        while !shutdown.is_cancelled() {
            match self.poll(shutdown, acks).await {
                Ok(()) => failures = 0,
                Err(failure) => {
                    failures += 1;
                    self.health.failing(&failure);
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
        let result = if received.is_ok() { "ok" } else { "error" };
        ::metrics::counter!(metrics::RECEIVES, "result" => result).increment(1);
        let messages = received?;
        self.health.polled();
        if messages.is_empty() {
            ::metrics::counter!(metrics::RECEIVES, "result" => "empty").increment(1);
        }
        for (message, permit) in messages.into_iter().zip(permits) {
            if shutdown.is_cancelled() {
                acks.visible_after(message.receipt_handle, Duration::ZERO);
                continue;
            }
            self.tasks.spawn(self.clone().handle(message, permit, acks.clone()));
        }
        Ok(())
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

    async fn handle(self: Arc<Self>, message: Received, _slot: OwnedSemaphorePermit, acks: Acks) {
        ::metrics::counter!(metrics::CONSUMED, "job" => J::NAME).increment(1);
        ::metrics::histogram!(metrics::WAIT, "job" => J::NAME).record(message.delivery.age());
        let Some(cancel) = self.keeper.hold(&message, &self.hand_back) else {
            ::metrics::counter!(metrics::DUPLICATES, "job" => J::NAME).increment(1);
            return;
        };
        ::metrics::gauge!(metrics::IN_FLIGHT, "job" => J::NAME).increment(1);
        let disposition = self.decide(&message, &cancel).await;
        let disposition = self.settle(&message, disposition, &acks).await;
        metrics::disposed(J::NAME, &disposition, message.received_at.elapsed());
        ::metrics::gauge!(metrics::IN_FLIGHT, "job" => J::NAME).decrement(1);
        self.health.moved();
    }

    /// Lets running jobs finish within the grace, hands the rest back, and flushes.
    async fn drain(&self, acks: Acks, flushed: JoinHandle<()>) {
        self.health.draining();
        self.tasks.close();
        let grace = tokio::time::timeout(self.config.grace, self.tasks.wait()).await;
        if grace.is_err() {
            tracing::info!(jobs = self.tasks.len(), "the grace is over: handing jobs back");
            self.hand_back.cancel();
            self.tasks.wait().await;
        }
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
        let Some((handle, claim)) = self.keeper.let_go(&message.delivery.message_id).await else {
            return Disposition::Lost;
        };
        if let Some(claim) = claim {
            let noted = match &what {
                Disposition::Done => Ok(true),
                Disposition::Released | Disposition::Lost => self.ledger.release(&claim).await,
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
            let body = self.payloads.shrink(&message.body).await?;
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
