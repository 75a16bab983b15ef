//! The loop over one queue: receive for free slots, run, settle.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures::FutureExt;
use tokio::{
    task::{JoinHandle, JoinSet},
    time::Instant,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::Instrument;

use crate::{
    acks::Acks,
    attempt::said,
    depth,
    failure::{Disposition, Failure},
    job::{self, Delivery, Job},
    keeper::Keeper,
    lanes::Lanes,
    lease::Means,
    metrics::Meter,
    place::Place,
    pollers::{Asked, Pollers},
    queue::{Queue, Received},
    retry::RetryPolicy,
    tail::Tail,
    worker::Worker,
};

/// A message in hand.
#[derive(Debug)]
struct Hand {
    message: Box<Received>,
    /// Cancelled when its job must end.
    cancel: CancellationToken,
}

/// A worker at one of its queues.
pub(crate) struct Consumer<J> {
    pub(crate) worker: Arc<Worker<J>>,
    pub(crate) queue: Queue,
    pub(crate) keeper: Arc<Keeper>,
    pub(crate) meter: Meter,
    pub(crate) depth: Arc<depth::Watch>,
    pub(crate) means: Arc<Means>,
    /// Its place among the worker's queues.
    place: usize,
    pollers: Pollers,
    lanes: Lanes<Hand>,
    tasks: TaskTracker,
}

impl<J: Job> Consumer<J> {
    pub(crate) fn new(worker: Arc<Worker<J>>, place: usize) -> Arc<Self> {
        let (queue, config) = (worker.queues[place].clone(), &worker.config);
        let meter = Meter::new(queue.url());
        let (held, ledger) = (queue.clone(), (worker.ledger.clone(), worker.in_advance.clone()));
        Arc::new(Self {
            keeper: Keeper::new(held, ledger, config.visibility, meter.clone()),
            depth: depth::Watch::new(
                queue.clone(),
                meter.clone(),
                config.depth_every,
                worker.paused.subscribe(),
            ),
            pollers: Pollers::new(worker.slots.clone(), place),
            lanes: Lanes::default(),
            tasks: TaskTracker::new(),
            means: Arc::new(worker.means(&queue)),
            place,
            worker,
            queue,
            meter,
        })
    }

    /// Consumes until the drain begins, and drains: until the end of its budget, and what little
    /// time is to settle what is left then. An endpoint that hangs prolongs no stop.
    pub(crate) async fn run(self: Arc<Self>) {
        let (acks, flushed) = Acks::start(self.queue.clone(), self.keeper.clone());
        let (end, begun) = (CancellationToken::new(), self.worker.drain.begun().clone());
        let keeping = tokio::spawn(self.keeper.clone().run(end.clone()));
        let watching = tokio::spawn(self.depth.clone().run(begun.clone()));
        let pollers = self.pollers.numbers().map(|number| {
            let (consumer, begun, acks) = (self.clone(), begun.clone(), acks.clone());
            async move { consumer.poller(number, &begun, &acks).await }
        });
        let (flushing, pollers) = (flushed.abort_handle(), pollers.collect::<JoinSet<()>>());
        let settled = async {
            pollers.join_all().await;
            self.settle_all(acks, flushed).await;
        };
        tokio::select! {
            () = settled => {}
            () = self.worker.drain.spent(self.worker.config.wait) => {
                flushing.abort();
                let queue = self.queue.url();
                tracing::error!(queue, "not all was settled in time: what is left comes again by itself");
            }
        }
        end.cancel();
        let _ = tokio::join!(keeping, watching);
    }

    /// Receives whenever it is called for, until the stop.
    async fn poller(self: &Arc<Self>, number: usize, stop: &CancellationToken, acks: &Acks) {
        let (mut failures, mut vain, mut attempt) = (0, 0, self.queue.attempt());
        while self.pollers.called(number, stop).await {
            match self.poll((number, attempt.as_deref()), stop, acks).await {
                Ok(of_use) => {
                    (failures, attempt) = (0, self.queue.attempt());
                    vain = if of_use { 0 } else { vain + 1 };
                    if vain > 0 {
                        self.pollers.rest();
                        self.worker.tenants.pause(vain, stop).await;
                    }
                }
                Err(failure) => {
                    failures += 1;
                    self.worker.health.failing_at(self.place, &failure, failures);
                    let queue = self.queue.url();
                    tracing::warn!(queue, %failure, kind = failure.kind(), failures, "not receiving");
                    crate::run::pause(RetryPolicy::CALL.delay(failures), stop).await;
                }
            }
        }
    }

    /// One receive, for as many messages as there are free slots. False where nothing came of it
    /// but messages of tenants that have enough.
    async fn poll(
        self: &Arc<Self>,
        (number, attempt): (usize, Option<&str>),
        stop: &CancellationToken,
        acks: &Acks,
    ) -> Result<bool, Failure> {
        let Some(Asked { most, wait, mut slots }) = self.ask(number, stop).await else {
            return Ok(true);
        };
        tokio::select! {
            () = stop.cancelled() => return Ok(true),
            ready = self.able() => ready?,
        }
        // Both waits may have taken hours: an operator may have paused the worker meanwhile.
        if *self.worker.paused.borrow() {
            self.pollers.unasked(slots.len());
            return Ok(true);
        }
        // Not under the select: messages of a dropped receive would be stranded.
        let (visibility, asked) = (self.worker.config.visibility, Instant::now());
        let received = self.queue.receive(most, wait, visibility, attempt).await;
        let got = received.as_ref().map_or(0, Vec::len);
        self.pollers.returned(most, got, slots.len(), asked.elapsed());
        let messages = self.counted(received)?;
        self.worker.health.polled_at(self.place);
        if slots.is_empty() && !messages.is_empty() {
            slots = self.pollers.spare(stop).await;
        }
        let mut of_use = messages.is_empty();
        // An operator may have paused the worker during the long poll, too: what that has brought is
        // begun with after a resume, or by another.
        let paused = *self.worker.paused.borrow();
        for message in messages {
            // Held from here on, so that a message that is here twice is worked on once, and not
            // handed back under the hands of the job that has it.
            let Some(cancel) = self.keeper.hold(&message, &self.worker.hand_back) else {
                self.meter.duplicates("held", 1);
                continue;
            };
            let place = match paused {
                true => Err(Duration::ZERO),
                false => self.place_for(&message, &mut slots),
            };
            let message = Box::new(message);
            of_use |= place.is_ok();
            self.take(Hand { message, cancel }, place, acks);
        }
        Ok(of_use)
    }

    /// Whether messages can be worked on: the job says so, and where the ledger has refused every
    /// claim for a while, it is asked first. What came meanwhile would only go again.
    async fn able(&self) -> Result<(), Failure> {
        let Worker { job, ledger, health, .. } = &*self.worker;
        job::ready(&**job).await?;
        if health.unclaimable().is_some() {
            let asked = Instant::now();
            let answered = ledger.answers().await;
            health.claimed(asked, answered.as_ref().err());
            answered?;
        }
        Ok(())
    }

    /// Waits until there is something to receive for. Nothing is while an operator has the worker
    /// paused.
    async fn ask(&self, number: usize, stop: &CancellationToken) -> Option<Asked> {
        let mut paused = self.worker.paused.subscribe();
        tokio::select! {
            () = stop.cancelled() => return None,
            resumed = paused.wait_for(|paused| !paused) => drop(resumed.ok()?),
        }
        let turn = self.pollers.turn().await;
        self.worker.health.busy(self.place);
        let asked = turn.ask(number, self.worker.config.wait, stop).await;
        self.worker.health.free(self.place);
        asked
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
        self.depth.received(messages.iter().map(|message| message.delivery.age()).max());
        let first = messages.iter().filter(|message| message.delivery.receive_count == 1);
        first.for_each(|message| self.meter.waited(message.delivery.age()));
        if !messages.is_empty() {
            self.depth.stir();
        }
        Ok(messages)
    }

    /// Has a message worked on: now, or after those of its group that are in hand already. Where
    /// there is no place for it, it goes back.
    fn take(self: &Arc<Self>, hand: Hand, place: Result<Place, Duration>, acks: &Acks) {
        self.worker.began();
        let group = self.queue.order(&hand.message).map(str::to_owned);
        let first = match &group {
            Some(group) => self.lanes.join(group, hand),
            None => Some(hand),
        };
        if let Some(hand) = first {
            // In a box, since a task is moved several times until it runs, and once more when it ends.
            self.tasks.spawn(Box::pin(self.clone().work(hand, group, place, acks.clone())));
        }
    }

    /// Works on a message, and then on those that wait in its lane. Once one of them is to come
    /// again, those behind it go back to come after as long: SQS gives none of them before it, but
    /// some that speak its language would if they came sooner.
    async fn work(
        self: Arc<Self>,
        first: Hand,
        group: Option<String>,
        place: Result<Place, Duration>,
        acks: Acks,
    ) {
        let (mut place, stop) = (place, self.worker.drain.begun());
        let began = match &mut place {
            Ok(place) => place.slot.begin(first.message.received_at, stop).await,
            Err(_) => false,
        };
        let soon = place.as_ref().err().copied().unwrap_or_default();
        let (mut next, mut back) = (Some(first), (!began).then_some(soon));
        while let Some(hand) = next {
            if back.is_none() && stop.is_cancelled() {
                back = Some(Duration::ZERO);
            }
            let again = self.handle(hand, back, &acks).await;
            back = back.or(again);
            next = group.as_ref().and_then(|group| self.lanes.next(group));
            // What waited behind it has not begun, and does not under a pause.
            if next.is_some() && *self.worker.paused.borrow() {
                back = back.or(Some(Duration::ZERO));
            }
        }
    }

    /// How many bytes it takes to work on a message.
    #[cfg(test)]
    pub(crate) fn size_of_work(self: &Arc<Self>, message: Received) -> usize {
        let (acks, _) = Acks::start(self.queue.clone(), self.keeper.clone());
        let hand = Hand { message: Box::new(message), cancel: CancellationToken::new() };
        size_of_val(&self.clone().work(hand, None, Err(Duration::ZERO), acks))
    }

    /// Works on a message, or hands it back as it is, to come again after some time. After how long
    /// it comes again, if it does.
    async fn handle(&self, hand: Hand, back: Option<Duration>, acks: &Acks) -> Option<Duration> {
        let Hand { message, cancel } = hand;
        let (tail, began) = (Tail::default(), Instant::now());
        self.meter.in_flight().increment(1);
        let disposition = match back {
            Some(after) => Disposition::Released { after },
            None => self.decided(&message, &cancel).instrument(tail.of(|| span(&message))).await,
        };
        let disposition = self.settle(&message, disposition, acks, &tail).await;
        self.meter.disposed(&disposition, message.received_at.elapsed());
        self.meter.in_flight().decrement(1);
        self.worker.ended(back.is_none().then(|| began.elapsed()));
        disposition.comes_after()
    }

    /// What is to become of a message, though its job panic while it is ended, when it is dropped:
    /// otherwise the message would stay in hand for ever.
    async fn decided(&self, message: &Received, cancel: &CancellationToken) -> Disposition {
        match AssertUnwindSafe(self.decide(message, cancel)).catch_unwind().await {
            Ok(disposition) => disposition,
            Err(panic) if cancel.is_cancelled() => {
                let id = &message.delivery.message_id;
                tracing::error!(id, "the job panicked while it was ended: {}", said(&*panic));
                Box::pin(self.cut_off(message)).await
            }
            Err(panic) => self.panicked(message, &*panic),
        }
    }

    /// Waits until every job has ended or is handed back, and flushes.
    async fn settle_all(&self, acks: Acks, flushed: JoinHandle<()>) {
        self.tasks.close();
        self.tasks.wait().await;
        drop(acks);
        let _ = flushed.await;
    }
}

/// The span of a message. It is of the highest level: whatever is logged of a message, if only errors,
/// says of which.
fn span(message: &Received) -> tracing::Span {
    let Delivery { message_id: id, .. } = &*message.delivery;
    tracing::error_span!("message", id, trace_id = message.delivery.trace_id().as_deref())
}
