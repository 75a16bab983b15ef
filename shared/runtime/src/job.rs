//! What a worker does with a message.

use std::{
    borrow::Cow,
    future::Future,
    panic::AssertUnwindSafe,
    time::{Duration, SystemTime},
};

use futures::FutureExt;
use serde::de::DeserializeOwned;

use crate::{failure::Failure, lease::Lease, trace};

/// A kind of work that arrives on a queue.
///
/// The loop calls [`ready`](Job::ready) before it receives, then for every message
/// [`prepare`](Job::prepare) (find out what exactly is to be done, and what its effect is
/// called), claims that effect, and calls [`run`](Job::run). See the [crate's
/// introduction](crate) for what is promised to a job.
pub trait Job: Send + Sync + 'static {
    /// The name of the job in logs, metrics and ledger keys, such as `grading`.
    const NAME: &'static str;

    /// The message body, parsed from JSON. A body that does not parse is a permanent failure
    /// and never reaches the job.
    type Message: DeserializeOwned + Send;

    /// A message together with all that had to be looked up to name its effect.
    type Work: Send;

    /// Whether the job can work now. While it fails, nothing is received: messages stay on the
    /// queue, no attempt is spent, and `/healthz` fails with the reason.
    fn ready(&self) -> impl Future<Output = Result<(), Failure>> + Send {
        async { Ok(()) }
    }

    /// Whose message it is, where its sender did not say so with a `MessageGroupId`. Asked only
    /// where the slots of a tenant are bounded.
    fn tenant(message: &Self::Message) -> Option<String> {
        let _ = message;
        None
    }

    /// Gives the exporter the help texts of the job's own metrics, once there is an exporter.
    fn describe_metrics(&self) {}

    /// Looks up what the message stands for and names its effect.
    fn prepare(
        &self,
        message: Self::Message,
        delivery: &Delivery,
    ) -> impl Future<Output = Result<(Effect, Self::Work), Failure>> + Send;

    /// The image that the job's containers for a message are made of, by its digest, for the dead
    /// letter of the message (which may be none of ours); `None` where there is none, or none is known
    /// yet.
    fn image(&self, message: Option<&Self::Message>) -> Option<String> {
        let _ = message;
        None
    }

    /// Called instead of [`run`](Job::run) when the effect has happened already: mends what
    /// follows the commit and may have been cut off (a copy under a fixed name, say).
    fn repair(&self, work: Self::Work) -> impl Future<Output = Result<(), Failure>> + Send {
        drop(work);
        async { Ok(()) }
    }

    /// Called under the claim before a message goes to the dead-letter queue: after the last
    /// attempt, whatever ended it (a failure, a panic, a worker that died). Whoever waits for the
    /// effect can be told here, through [`Lease::record`], which leaves the effect open to a
    /// redrive.
    fn give_up(
        &self,
        work: Self::Work,
        lease: &Lease,
        reason: &str,
    ) -> impl Future<Output = Result<(), Failure>> + Send {
        let _ = (work, lease, reason);
        async { Ok(()) }
    }

    /// Called once, when every message is settled and before the group that waits for this
    /// instance is told so: releases what the job holds (containers, say).
    fn end(&self) -> impl Future<Output = ()> + Send {
        async {}
    }

    /// Does the work and commits its effect through [`Lease::complete`].
    ///
    /// The future is dropped at once when the lease is lost, cancelled or handed back at the
    /// end of a drain: whatever must not outlive it (a container) is released by `Drop`.
    fn run(
        &self,
        work: Self::Work,
        lease: &Lease,
    ) -> impl Future<Output = Result<(), Failure>> + Send;
}

/// Asks a job whether it can work. A panic is a failure like any other: the loop goes on.
pub(crate) async fn ready<J: Job>(job: &J) -> Result<(), Failure> {
    let asked = AssertUnwindSafe(async { job.ready().await }).catch_unwind().await;
    let panicked = || Failure::transient("panic", "the job panicked when asked if it can work");
    asked.unwrap_or_else(|_| Err(panicked()))
}

/// How an effect is kept from happening twice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// The effect of this key happens once, whoever tries and however often: the ledger sees to
    /// it. The key names the effect, never the delivery: redrives and duplicate events carry new
    /// message ids.
    Once(String),
    /// Doing it again changes nothing (a write under its own key), so it pays for no ledger row.
    Idempotent,
}

/// One delivery of a message, as SQS tells it.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// The message id; a redrive of the same message has another.
    pub message_id: String,
    /// When the message was sent.
    pub sent_at: SystemTime,
    /// How many times SQS has handed it out, this time included (approximate).
    pub receive_count: u32,
    /// The tenant, where the sender named one (`MessageGroupId`).
    pub group: Option<String>,
    /// The W3C trace context of the sender (`traceparent` attribute).
    pub traceparent: Option<String>,
}

impl Delivery {
    /// How long ago the message was sent; zero if the clocks disagree.
    pub fn age(&self) -> Duration {
        self.sent_at.elapsed().unwrap_or_default()
    }

    /// The id of the trace that it belongs to: its sender's, or one that it begins itself. That is made of
    /// its message id, so that it is the same at every delivery.
    pub fn trace_id(&self) -> Option<Cow<'_, str>> {
        let given = self.traceparent.as_deref().and_then(trace::trace_id);
        given.map(Cow::Borrowed).or_else(|| trace::of_message(&self.message_id).map(Cow::Owned))
    }

    /// What a message says that this one leads to, to belong to its trace.
    pub(crate) fn passed_on(&self) -> Option<Cow<'_, str>> {
        let given = self.traceparent.as_deref().filter(|text| trace::trace_id(text).is_some());
        given.map(Cow::Borrowed).or_else(|| trace::begun_by(&self.message_id).map(Cow::Owned))
    }
}
