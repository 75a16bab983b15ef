//! A worker's process, from its start to its end.

use std::{sync::Arc, time::Duration};

use aws_config::SdkConfig;
use futures::future::try_join_all;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::{
    config::WorkerConfig,
    failure::Failure,
    health::{self, Health},
    instance::Instance,
    job::Job,
    metrics, presence,
    queue::Queue,
    retry::RetryPolicy,
    worker::Worker,
};

/// Consumes the queues of `config` with `job` until `shutdown`, then drains.
///
/// It returns when every message is settled: its effect durable and deleted, or handed back.
///
/// # Errors
/// When the worker cannot start at all: the HTTP address is taken, or a queue has no
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
    let job = Arc::new(job);
    let ended = consume(job.clone(), config, sdk, health, shutdown).await;
    job.end().await;
    if let Some(watching) = ended? {
        watching.end().await;
    }
    Ok(())
}

/// The tasks that look after the instance under the worker.
struct Watching {
    notices: JoinHandle<()>,
    end: CancellationToken,
}

impl Watching {
    fn start<J: Job>(instance: Arc<Instance>, worker: &Worker<J>) -> Self {
        let end = CancellationToken::new();
        let (drain, in_hand) = (worker.drain.clone(), worker.in_hand.subscribe());
        let notices = tokio::spawn(instance.clone().watch(drain, end.clone()));
        tokio::spawn(instance.protect(in_hand, end.clone()));
        Self { notices, end }
    }

    /// Tells the group that the instance is drained, where it waits for that.
    async fn end(self) {
        self.end.cancel();
        let _ = self.notices.await;
    }
}

async fn consume<J: Job>(
    job: Arc<J>,
    config: WorkerConfig,
    sdk: &SdkConfig,
    health: Arc<Health>,
    shutdown: CancellationToken,
) -> Result<Option<Watching>, Failure> {
    let instance = Instance::find(config.instance.clone(), sdk).await?;
    let Some(queues) = open(&config, sdk, &health, &shutdown).await? else {
        return Ok(None);
    };
    let worker = Worker::new(job, config, sdk, queues, health);
    let watching = instance.map(|instance| Watching::start(instance, &worker));
    let (presence, drain) = (worker.presence.clone(), worker.drain.clone());
    presence::telling(presence, &drain, worker.consume(shutdown)).await;
    Ok(watching)
}

/// Opens the queues, for as long as it takes: SQS may be up later than the worker.
async fn open(
    config: &WorkerConfig,
    sdk: &SdkConfig,
    health: &Health,
    shutdown: &CancellationToken,
) -> Result<Option<Vec<Queue>>, Failure> {
    let client = crate::aws::sqs_client(sdk);
    let mut attempt = 0;
    while !shutdown.is_cancelled() {
        let queues = config.queues.iter().map(|queue| Queue::open(client.clone(), &queue.url));
        match try_join_all(queues).await {
            Ok(queues) => return Ok(Some(queues)),
            Err(failure @ Failure::Permanent(_)) => return Err(failure),
            Err(failure) => {
                attempt += 1;
                health.failing(&failure, attempt);
                tracing::warn!(%failure, attempt, "not every queue can be opened yet");
                pause(RetryPolicy::CALL.delay(attempt), shutdown).await;
            }
        }
    }
    Ok(None)
}

/// Waits, unless the worker must stop.
pub(crate) async fn pause(delay: Duration, shutdown: &CancellationToken) {
    let _ = tokio::time::timeout(delay, shutdown.cancelled()).await;
}
