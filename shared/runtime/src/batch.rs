//! Jobs that are cheap each and dear one by one: a batch of messages in, an outcome for each out.

use std::{future::Future, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures::{FutureExt, future::join_all};
use serde::de::DeserializeOwned;
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, timeout_at},
};
use tracing::{Instrument, Span, field::Empty};

use crate::{
    attempt::said,
    failure::Failure,
    job::{Delivery, Effect, Job},
    lease::Lease,
    queue::BATCH,
};

/// How long the first message of a batch waits for others.
const LINGER: Duration = Duration::from_millis(5);

/// A kind of work that is done for several messages at once (one batch write, say).
///
/// Its effects must be idempotent: there is no ledger row for each, and a message whose lease is
/// lost while its batch is under way is simply done again. Run it as [`Batched`].
pub trait BatchJob: Send + Sync + 'static {
    /// The name of the job in logs and metrics.
    const NAME: &'static str;

    /// The most messages of a batch; no batch has more than its worker has slots (`FLOTILLA_SLOTS`).
    const AT_ONCE: usize = BATCH;

    /// The message body, parsed from JSON. One that does not parse is dead-lettered, and is in no batch.
    type Message: DeserializeOwned + Send + Sync + 'static;

    /// As [`Job::ready`].
    fn ready(&self) -> impl Future<Output = Result<(), Failure>> + Send {
        async { Ok(()) }
    }

    /// As [`Job::tenant`].
    fn tenant(message: &Self::Message) -> Option<String> {
        let _ = message;
        None
    }

    /// As [`Job::describe_metrics`].
    fn describe_metrics(&self) {}

    /// As [`Job::image`].
    fn image(&self, message: Option<&Self::Message>) -> Option<String> {
        let _ = message;
        None
    }

    /// As [`Job::end`].
    fn end(&self) -> impl Future<Output = ()> + Send {
        async {}
    }

    /// Does the work of up to [`AT_ONCE`](Self::AT_ONCE) messages; gives an outcome for each, in their order. What is
    /// missing of the outcomes counts as a transient failure. After a panic each message of the batch is
    /// tried alone, and only one that panics alone has failed.
    fn run(
        &self,
        batch: &[(Self::Message, Delivery)],
    ) -> impl Future<Output = Vec<Result<(), Failure>>> + Send;
}

/// A [`BatchJob`] as a [`Job`]: each message keeps its own lease, disposition and metrics, and
/// shares the work with those that are there at the same moment.
#[derive(Debug)]
pub struct Batched<B: BatchJob> {
    job: Arc<B>,
    waiting: mpsc::UnboundedSender<Waiting<B::Message>>,
}

/// The way to a message's own task.
#[derive(Debug)]
struct Outcome {
    to: oneshot::Sender<Result<(), Failure>>,
    /// The span of the message.
    span: Span,
}

#[derive(Debug)]
struct Waiting<M> {
    message: M,
    delivery: Delivery,
    outcome: Outcome,
}

impl<B: BatchJob> Batched<B> {
    /// The job; must be made within a Tokio runtime.
    pub fn new(job: B) -> Self {
        let (job, (waiting, arriving)) = (Arc::new(job), mpsc::unbounded_channel());
        tokio::spawn(collect(job.clone(), arriving));
        Self { job, waiting }
    }
}

impl<B: BatchJob> Job for Batched<B> {
    const NAME: &'static str = B::NAME;
    type Message = B::Message;
    type Work = B::Message;

    async fn ready(&self) -> Result<(), Failure> {
        self.job.ready().await
    }

    fn tenant(message: &B::Message) -> Option<String> {
        B::tenant(message)
    }

    fn describe_metrics(&self) {
        self.job.describe_metrics();
    }

    fn image(&self, message: Option<&B::Message>) -> Option<String> {
        self.job.image(message)
    }

    async fn end(&self) {
        self.job.end().await;
    }

    async fn prepare(
        &self,
        message: B::Message,
        _: &Delivery,
    ) -> Result<(Effect, B::Message), Failure> {
        Ok((Effect::Idempotent, message))
    }

    async fn run(&self, message: B::Message, lease: &Lease) -> Result<(), Failure> {
        let (to, told) = oneshot::channel();
        let outcome = Outcome { to, span: Span::current() };
        let waiting = Waiting { message, delivery: lease.delivery().clone(), outcome };
        let lost =
            || Failure::transient("batch", "the batch of this message told no outcome for it");
        self.waiting.send(waiting).map_err(|_| lost())?;
        told.await.unwrap_or_else(|_| Err(lost()))
    }
}

async fn collect<B: BatchJob>(
    job: Arc<B>,
    mut arriving: mpsc::UnboundedReceiver<Waiting<B::Message>>,
) {
    while let Some(first) = arriving.recv().await {
        let (mut batch, deadline) = (vec![first], Instant::now() + LINGER);
        while batch.len() < B::AT_ONCE {
            match timeout_at(deadline, arriving.recv()).await {
                Ok(Some(next)) => batch.push(next),
                _ => break,
            }
        }
        // Beside the next batch: as many may run at a time as there are slots to fill them.
        tokio::spawn(run(job.clone(), batch));
    }
}

async fn run<B: BatchJob>(job: Arc<B>, batch: Vec<Waiting<B::Message>>) {
    // Nobody waits any more for what a lost lease has left behind.
    let batch: Vec<_> = batch.into_iter().filter(|it| !it.outcome.to.is_closed()).collect();
    if batch.is_empty() {
        return;
    }
    let span = span(&batch);
    let (messages, outcomes): (Vec<_>, Vec<_>) =
        batch.into_iter().map(|it| ((it.message, it.delivery), it.outcome)).unzip();
    settled(&*job, messages, outcomes).instrument(span).await;
}

/// The span of a batch. It follows from those of its messages, so that what is logged in it is in the log
/// of each; it has their trace's id where they are all of one.
fn span<M>(batch: &[Waiting<M>]) -> Span {
    let messages = batch.len();
    let span = tracing::error_span!("batch", messages, trace_id = Empty);
    if !span.is_disabled() {
        for it in batch {
            span.follows_from(&it.outcome.span);
        }
        let mut traces = batch.iter().map(|it| it.delivery.trace_id());
        let first = traces.next().flatten();
        if let Some(trace) = first.filter(|first| traces.all(|it| it.as_ref() == Some(first))) {
            span.record("trace_id", &*trace);
        }
    }
    span
}

/// Does the work of a batch, and tells each message what came of its own.
async fn settled<B: BatchJob>(
    job: &B,
    messages: Vec<(B::Message, Delivery)>,
    outcomes: Vec<Outcome>,
) {
    match tried(job, &messages).await {
        Err(said) if messages.len() > 1 => {
            let (name, size) = (B::NAME, messages.len());
            tracing::warn!(job = name, size, said, "a batch panicked: each message is tried alone");
            let each = messages.iter().zip(outcomes);
            let alone = each.map(|(message, outcome)| {
                let span = outcome.span.clone();
                alone(job, message, outcome).instrument(span)
            });
            join_all(alone).await;
        }
        Err(said) => outcomes.into_iter().for_each(|outcome| panicked(outcome, &said)),
        Ok(results) => {
            for (outcome, result) in outcomes.into_iter().zip(results) {
                let _ = outcome.to.send(result);
            }
        }
    }
}

/// Tries a message of a batch that panicked.
async fn alone<B: BatchJob>(job: &B, message: &(B::Message, Delivery), outcome: Outcome) {
    if outcome.to.is_closed() {
        return;
    }
    match tried(job, std::slice::from_ref(message)).await {
        Ok(results) => drop(results.into_iter().next().map(|result| outcome.to.send(result))),
        Err(said) => panicked(outcome, &said),
    }
}

/// What the job makes of these messages; as an error what it says where it panics.
async fn tried<B: BatchJob>(
    job: &B,
    messages: &[(B::Message, Delivery)],
) -> Result<Vec<Result<(), Failure>>, String> {
    // A job may panic before it has a future.
    let run = AssertUnwindSafe(async { job.run(messages).await }).catch_unwind();
    run.await.map_err(|panic| said(&*panic))
}

fn panicked(outcome: Outcome, said: &str) {
    let _ = outcome.to.send(Err(Failure::transient("panic", format!("the job panicked: {said}"))));
}

#[cfg(test)]
mod tests;
