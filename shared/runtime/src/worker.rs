//! The loop: receive for free slots, run, settle, and drain.

use std::sync::Arc;

use aws_config::SdkConfig;
use futures::future::join_all;
use tokio::{
    sync::{OwnedSemaphorePermit, watch},
    task::JoinHandle,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::Instrument;

use crate::{
    acks::Acks,
    config::WorkerConfig,
    control::{Control, Obedience},
    depth,
    drain::Drain,
    failure::{Disposition, Failure},
    health::Health,
    job::{Delivery, Job},
    keeper::Keeper,
    ledger::Ledger,
    metrics::Meter,
    payload::Payloads,
    pollers::Pollers,
    presence::Presence,
    queue::{Queue, Received},
    retry::RetryPolicy,
    tail::Tail,
};

/// A running worker.
pub(crate) struct Worker<J> {
    pub(crate) job: Arc<J>,
    pub(crate) config: WorkerConfig,
    pub(crate) queue: Queue,
    pub(crate) ledger: Ledger,
    pub(crate) payloads: Payloads,
    pub(crate) keeper: Arc<Keeper>,
    pub(crate) health: Arc<Health>,
    pub(crate) meter: Meter,
    pub(crate) depth: Arc<depth::Watch>,
    pub(crate) presence: Option<Arc<Presence>>,
    pub(crate) drain: Arc<Drain>,
    /// Whether an operator wants nothing received now.
    paused: watch::Sender<bool>,
    /// How many messages are in hand.
    pub(crate) in_hand: watch::Sender<usize>,
    /// Cancelled at the end of the grace: every job still running is handed back.
    pub(crate) hand_back: CancellationToken,
    control: Control,
    pollers: Pollers,
    tasks: TaskTracker,
}

impl<J: Job> Worker<J> {
    pub(crate) fn new(
        job: Arc<J>,
        config: WorkerConfig,
        sdk: &SdkConfig,
        queue: Queue,
        health: Arc<Health>,
    ) -> Arc<Self> {
        let dynamo = crate::aws::dynamo_client(sdk);
        let (table, owner) = (&config.ledger_table, &config.worker_id);
        let ledger = Ledger::new(dynamo.clone(), table, owner, config.visibility);
        let control = Control::new(dynamo, table);
        let meter = Meter::new(queue.url());
        meter.slots(config.slots);
        let (held, visibility) = (queue.clone(), config.visibility);
        Arc::new(Self {
            presence: Presence::new(&config, sdk, health.clone(), J::NAME),
            keeper: Keeper::new(held, ledger.clone(), visibility, meter.clone()),
            depth: depth::Watch::new(queue.clone(), meter.clone(), config.depth_every),
            payloads: Payloads::new(crate::aws::s3_client(sdk), &config.payloads_bucket),
            pollers: Pollers::new(config.slots),
            tasks: TaskTracker::new(),
            hand_back: CancellationToken::new(),
            drain: Arc::new(Drain::new(config.grace)),
            paused: watch::Sender::new(false),
            in_hand: watch::Sender::new(0),
            control,
            job,
            config,
            queue,
            ledger,
            health,
            meter,
        })
    }

    /// Consumes until `shutdown` or another reason to drain, and drains.
    pub(crate) async fn consume(self: Arc<Self>, shutdown: CancellationToken) {
        let (acks, flushed) = Acks::start(self.queue.clone());
        let (end, begun) = (CancellationToken::new(), self.drain.begun().clone());
        let keeping = tokio::spawn(self.keeper.clone().run(end.clone()));
        let watching = tokio::spawn(self.depth.clone().run(begun.clone()));
        let obeying = tokio::spawn(self.obedience().run(end.clone()));
        let stopping = tokio::spawn(self.clone().hand_back_after_grace(shutdown));
        tracing::info!(worker = self.config.worker_id, queue = self.queue.url(), "consuming");
        self.receive_until(&begun, &acks).await;
        self.settle_all(acks, flushed).await;
        end.cancel();
        stopping.abort();
        let _ = tokio::join!(keeping, watching, obeying);
        tracing::info!("drained: nothing is in flight");
    }

    fn obedience(&self) -> Obedience {
        Obedience {
            control: self.control.clone(),
            names: [J::NAME.to_owned(), self.config.worker_id.clone()],
            every: self.config.control_every,
            drain: self.drain.clone(),
            health: self.health.clone(),
            paused: self.paused.clone(),
        }
    }

    async fn receive_until(self: &Arc<Self>, shutdown: &CancellationToken, acks: &Acks) {
        let pollers = self.pollers.numbers().map(|number| self.poller(number, shutdown, acks));
        join_all(pollers).await;
    }

    /// Receives whenever it is called for, until the stop.
    async fn poller(self: &Arc<Self>, number: usize, shutdown: &CancellationToken, acks: &Acks) {
        let mut failures = 0;
        while self.pollers.called(number, shutdown).await {
            match self.poll(number, shutdown, acks).await {
                Ok(()) => failures = 0,
                Err(failure) => {
                    failures += 1;
                    self.health.failing(&failure, failures);
                    tracing::warn!(%failure, kind = failure.kind(), failures, "not receiving");
                    crate::run::pause(RetryPolicy::CALL.delay(failures), shutdown).await;
                }
            }
        }
    }

    /// One receive, for as many messages as there are free slots.
    async fn poll(
        self: &Arc<Self>,
        number: usize,
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
        let wait = self.pollers.wait(number, self.config.wait);
        let received = self.queue.receive(permits.len(), wait, self.config.visibility).await;
        self.pollers.returned(permits.len(), received.as_ref().map_or(0, Vec::len));
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

    /// Waits for free slots, and takes up to a batch of them. None is taken while an operator has
    /// the worker paused.
    async fn free_slots(&self, shutdown: &CancellationToken) -> Option<Vec<OwnedSemaphorePermit>> {
        let mut paused = self.paused.subscribe();
        tokio::select! {
            () = shutdown.cancelled() => return None,
            resumed = paused.wait_for(|paused| !paused) => drop(resumed.ok()?),
        }
        let turn = self.pollers.turn().await;
        self.health.busy(true);
        let slots = turn.free_slots(shutdown).await;
        self.health.busy(false);
        slots
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
        self.in_hand.send_modify(|count| *count += 1);
        self.presence.iter().for_each(|presence| presence.began());
        let tail = Tail::default();
        let disposition = match stopping {
            true => Disposition::Released,
            false => self.decide(&message, &cancel).instrument(tail.of(|| span(&message))).await,
        };
        let disposition = self.settle(&message, disposition, &acks, &tail).await;
        self.meter.disposed(&disposition, message.received_at.elapsed());
        self.meter.in_flight().decrement(1);
        self.in_hand.send_modify(|count| *count -= 1);
        self.presence.iter().for_each(|presence| presence.ended(message.received_at.elapsed()));
        self.health.moved();
    }

    /// Begins the drain at the signal, and hands back what still runs when its budget is used up.
    /// That is counted from the signal, and not from the end of the long poll that the loop still
    /// awaits.
    async fn hand_back_after_grace(self: Arc<Self>, shutdown: CancellationToken) {
        tokio::select! {
            () = shutdown.cancelled() => self.drain.begin("asked to stop", None),
            () = self.drain.begun().cancelled() => {}
        }
        self.health.draining();
        self.drain.over().await;
        tracing::info!(jobs = self.tasks.len(), "the grace is over: handing jobs back");
        self.hand_back.cancel();
    }

    /// Waits until every job has ended or is handed back, and flushes.
    async fn settle_all(&self, acks: Acks, flushed: JoinHandle<()>) {
        self.tasks.close();
        self.tasks.wait().await;
        drop(acks);
        let _ = flushed.await;
    }
}

fn span(message: &Received) -> tracing::Span {
    let Delivery { message_id: id, .. } = &message.delivery;
    tracing::info_span!("message", id, trace_id = message.delivery.trace_id())
}

#[cfg(test)]
mod tests;
