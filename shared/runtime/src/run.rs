//! A worker's process, from its start to its end.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use aws_config::SdkConfig;
use futures::{FutureExt, future::try_join_all};
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
    tally,
    worker::{Course, Worker},
};

/// Consumes the queues of `config` with `job` until `shutdown`, then drains.
///
/// It returns when every message is settled: its effect durable and deleted, or handed back. `sdk` may
/// be of anybody's making: where it does not bound the attempts of a call, the clients made of it here do.
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
    let (course, end) = (Course::new(&config), CancellationToken::new());
    // The endpoint outlives the drain, so that an operator can watch it.
    let _end = end.clone().drop_guard();
    health::serve(&config.http_addr, course.health.clone(), handle, end.clone()).await?;
    let instance = Instance::find(config.instance.clone(), sdk).await?;
    // Notices are looked for from the start on: a group does not wait for queues to open.
    let watching = instance.map(|instance| Watching::start(instance, &course));
    if let Some(Watching { instance, .. }) = &watching {
        tokio::select! {
            () = instance.in_service() => {}
            () = shutdown.cancelled() => {}
            () = course.drain.begun().cancelled() => {}
        }
    }
    let job = Arc::new(job);
    let ended = consume(job.clone(), config, sdk, course, shutdown).await;
    if AssertUnwindSafe(job.end()).catch_unwind().await.is_err() {
        tracing::error!("the job panicked at its end");
    }
    if let Some(watching) = watching {
        watching.end().await;
    }
    ended
}

/// The tasks that look after the instance under the worker.
struct Watching {
    instance: Arc<Instance>,
    /// Whether the group waited for the instance.
    notices: JoinHandle<bool>,
    /// Whether the instance is protected.
    protection: JoinHandle<bool>,
    end: CancellationToken,
}

impl Watching {
    fn start(instance: Arc<Instance>, course: &Course) -> Self {
        let end = CancellationToken::new();
        let (drain, in_hand) = (course.drain.clone(), course.in_hand.subscribe());
        let notices = tokio::spawn(instance.clone().watch(drain, end.clone()));
        let protection = tokio::spawn(instance.clone().protect(in_hand, end.clone()));
        Self { instance, notices, protection, end }
    }

    /// Tells the group that the instance is drained, where it waits for that; else it may be scaled in
    /// until a worker begins here again.
    async fn end(self) {
        self.end.cancel();
        let waited_for = self.notices.await.unwrap_or_default();
        let protected = self.protection.await.unwrap_or_default();
        if protected && !waited_for {
            self.instance.unprotect().await;
        }
    }
}

async fn consume<J: Job>(
    job: Arc<J>,
    config: WorkerConfig,
    sdk: &SdkConfig,
    course: Course,
    shutdown: CancellationToken,
) -> Result<(), Failure> {
    let drain = course.drain.clone();
    let queues = tokio::select! {
        () = shutdown.cancelled() => return Ok(()),
        () = drain.begun().cancelled() => return Ok(()),
        queues = open(&config, sdk, &course.health) => queues?,
    };
    let worker = Worker::new(job, config, sdk, queues, course);
    let presence = worker.presence.clone();
    let table = worker.config.presence.as_ref().map(|it| it.table.clone());
    let consuming = presence::telling(presence, &drain, worker.consume(shutdown));
    tally::telling(table.as_deref(), crate::aws::dynamo_client(sdk), consuming).await;
    Ok(())
}

/// Opens the queues, for as long as it takes: SQS may be up later than the worker.
async fn open(
    config: &WorkerConfig,
    sdk: &SdkConfig,
    health: &Health,
) -> Result<Vec<Queue>, Failure> {
    let client = crate::aws::sqs_client(sdk);
    let mut attempt = 0;
    loop {
        let queues = config.queues.iter().map(|queue| Queue::open(client.clone(), &queue.url));
        match try_join_all(queues).await {
            Ok(queues) => return Ok(queues),
            Err(failure @ Failure::Permanent(_)) => return Err(failure),
            Err(failure) => {
                attempt += 1;
                health.failing(&failure, attempt);
                tracing::warn!(%failure, attempt, "not every queue can be opened yet");
                tokio::time::sleep(RetryPolicy::CALL.delay(attempt)).await;
            }
        }
    }
}

/// Waits, unless the worker must stop.
pub(crate) async fn pause(delay: Duration, shutdown: &CancellationToken) {
    let _ = tokio::time::timeout(delay, shutdown.cancelled()).await;
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        config::Reader,
        fake::FakeAws,
        job::{Delivery, Effect},
        lease::Lease,
    };

    /// An instance of a group that ends it, and a queue.
    fn ended_by_its_group() -> FakeAws {
        let policy = json!({ "deadLetterTargetArn": "arn:aws:sqs:r:1:dead" }).to_string();
        FakeAws::new(move |operation, _| match operation {
            "PUT /latest/api/token" => json!({ "__text": "a-token" }),
            "GET /latest/meta-data/instance-id" => json!({ "__text": "i-0123" }),
            "GET /latest/meta-data/autoscaling/target-lifecycle-state" => {
                json!({ "__text": "Terminated" })
            }
            _ if operation.starts_with("GET ") => json!({ "__status": 404, "__text": "none" }),
            "GetQueueAttributes" => json!({ "Attributes": { "RedrivePolicy": policy } }),
            "GetQueueUrl" => json!({ "QueueUrl": "http://q/dead" }),
            "SetInstanceProtection"
            | "CompleteLifecycleAction"
            | "RecordLifecycleActionHeartbeat" => {
                json!({ "__text": format!("<{operation}Response><{operation}Result/></{operation}Response>") })
            }
            _ => json!({}),
        })
    }

    /// Takes its time to release what it holds, and notes what the group was told until then.
    struct Holding {
        fake: FakeAws,
        told: Arc<std::sync::Mutex<Option<usize>>>,
    }

    impl Job for Holding {
        const NAME: &'static str = "holding";
        type Message = Value;
        type Work = ();

        async fn prepare(&self, _: Value, _: &Delivery) -> Result<(Effect, ()), Failure> {
            Ok((Effect::Idempotent, ()))
        }

        async fn run(&self, (): (), _: &Lease) -> Result<(), Failure> {
            Ok(())
        }

        async fn end(&self) {
            tokio::time::sleep(Duration::from_secs(30)).await;
            *self.told.lock().unwrap() = Some(self.fake.count("CompleteLifecycleAction"));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_group_is_told_to_go_on_only_when_the_job_has_released_what_it_holds() {
        let (fake, told) = (ended_by_its_group(), Arc::default());
        let job = Holding { fake: fake.clone(), told: Arc::clone(&told) };
        let mut settings = Reader::from_pairs([
            ("FLOTILLA_QUEUE_URL", "http://q/main"),
            ("FLOTILLA_LEDGER_TABLE", "ledger"),
            ("FLOTILLA_PAYLOADS_BUCKET", "payloads"),
            ("FLOTILLA_HTTP_ADDR", "127.0.0.1:0"),
            ("FLOTILLA_INSTANCE_METADATA", "true"),
            ("FLOTILLA_GROUP", "a-group"),
        ]);
        let config = WorkerConfig::read(&mut settings);
        settings.finish().unwrap();
        run(job, config, &fake.sdk(), CancellationToken::new()).await.unwrap();
        assert_eq!(*told.lock().unwrap(), Some(0), "a container may be left");
        assert_eq!(fake.count("CompleteLifecycleAction"), 1);
    }
}
