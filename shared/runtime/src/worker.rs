//! The loop: receive for free slots, run, settle, and drain.

use std::sync::Arc;

use aws_config::SdkConfig;
use futures::future::join_all;
use tokio::{
    sync::{OwnedSemaphorePermit, watch},
    task::JoinHandle,
    time::Instant,
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
    lanes::Lanes,
    ledger::Ledger,
    metrics::Meter,
    payload::Payloads,
    pollers::Pollers,
    presence::Presence,
    queue::{Queue, Received},
    retry::RetryPolicy,
    tail::Tail,
};

/// A message in hand.
#[derive(Debug)]
struct Hand {
    message: Received,
    /// Cancelled when its job must end.
    cancel: CancellationToken,
}

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
    lanes: Lanes<Hand>,
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
            lanes: Lanes::default(),
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
        let (mut failures, mut attempt) = (0, self.queue.attempt());
        while self.pollers.called(number, shutdown).await {
            match self.poll((number, attempt.as_deref()), shutdown, acks).await {
                Ok(()) => (failures, attempt) = (0, self.queue.attempt()),
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
        (number, attempt): (usize, Option<&str>),
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
        let visibility = self.config.visibility;
        let received = self.queue.receive(permits.len(), wait, visibility, attempt).await;
        self.pollers.returned(permits.len(), received.as_ref().map_or(0, Vec::len));
        let messages = self.counted(received)?;
        self.health.polled();
        for (message, slot) in messages.into_iter().zip(permits) {
            // Held from here on, so that a message that is here twice is worked on once, and not
            // handed back under the hands of the job that has it.
            let Some(cancel) = self.keeper.hold(&message, &self.hand_back) else {
                self.meter.duplicates("held", 1);
                continue;
            };
            self.take(Hand { message, cancel }, slot, acks);
        }
        Ok(())
    }

    /// Has a message worked on: now, or after those of its group that are in hand already.
    fn take(self: &Arc<Self>, hand: Hand, slot: OwnedSemaphorePermit, acks: &Acks) {
        self.in_hand.send_modify(|count| *count += 1);
        self.presence.iter().for_each(|presence| presence.began());
        let group = self.queue.order(&hand.message).map(str::to_owned);
        let first = match &group {
            Some(group) => self.lanes.join(group, hand),
            None => Some(hand),
        };
        if let Some(hand) = first {
            self.tasks.spawn(self.clone().work(hand, group, slot, acks.clone()));
        }
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

    /// Works on a message, and then on those that wait in its lane. Once one of them is to come
    /// again, those behind it go back at once: SQS gives none of them before it.
    async fn work(
        self: Arc<Self>,
        first: Hand,
        group: Option<String>,
        _slot: OwnedSemaphorePermit,
        acks: Acks,
    ) {
        let (mut next, mut broken) = (Some(first), false);
        while let Some(hand) = next {
            broken |= self.drain.begun().is_cancelled();
            broken |= !self.handle(hand, broken, &acks).await;
            next = group.as_ref().and_then(|group| self.lanes.next(group));
        }
    }

    /// Works on a message, or hands it back as it is. False when it is to come again.
    async fn handle(&self, hand: Hand, back: bool, acks: &Acks) -> bool {
        let Hand { message, cancel } = hand;
        let (tail, began) = (Tail::default(), Instant::now());
        self.meter.in_flight().increment(1);
        let disposition = match back {
            true => Disposition::Released,
            false => self.decide(&message, &cancel).instrument(tail.of(|| span(&message))).await,
        };
        let disposition = self.settle(&message, disposition, acks, &tail).await;
        self.meter.disposed(&disposition, message.received_at.elapsed());
        self.meter.in_flight().decrement(1);
        self.in_hand.send_modify(|count| *count -= 1);
        let took = (!back).then(|| began.elapsed());
        self.presence.iter().for_each(|presence| presence.ended(took));
        self.health.moved();
        disposition.is_final()
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
