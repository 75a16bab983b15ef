//! A worker: what its queues share, and its end.

use std::{sync::Arc, time::Duration};

use aws_config::SdkConfig;
use futures::future::join_all;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{
    advance::InAdvance,
    config::{QueueConfig, WorkerConfig},
    consumer::Consumer,
    control::{self, Control, Obedience},
    drain::Drain,
    failures::Failures,
    health::Health,
    job::Job,
    lease::Means,
    ledger::Ledger,
    metrics,
    payload::Payloads,
    presence::Presence,
    queue::Queue,
    slots::{Part, Slots},
    tenants::Tenants,
};

/// A running worker.
pub(crate) struct Worker<J> {
    pub(crate) job: Arc<J>,
    pub(crate) config: WorkerConfig,
    /// The queues, in the configuration's order.
    pub(crate) queues: Vec<Queue>,
    pub(crate) slots: Arc<Slots>,
    pub(crate) tenants: Arc<Tenants>,
    pub(crate) ledger: Ledger,
    pub(crate) payloads: Payloads,
    pub(crate) health: Arc<Health>,
    pub(crate) presence: Option<Arc<Presence>>,
    pub(crate) drain: Arc<Drain>,
    /// Whether an operator wants nothing received now.
    pub(crate) paused: watch::Sender<bool>,
    /// What an operator has cancelled before anybody has begun with it.
    pub(crate) in_advance: Arc<InAdvance>,
    pub(crate) failures: Failures,
    /// How many messages are in hand.
    pub(crate) in_hand: watch::Sender<usize>,
    /// Cancelled at the end of the grace: every job still running is handed back.
    pub(crate) hand_back: CancellationToken,
    control: Control,
}

/// What there is of a worker from the start of its process on, before its queues can be opened.
#[derive(Debug)]
pub(crate) struct Course {
    pub(crate) health: Arc<Health>,
    pub(crate) drain: Arc<Drain>,
    pub(crate) in_hand: watch::Sender<usize>,
}

impl Course {
    pub(crate) fn new(config: &WorkerConfig) -> Self {
        let health = Health::of(config.wait, config.stuck_after);
        let drain = Drain::new(config.grace);
        Self { health, drain: Arc::new(drain), in_hand: watch::Sender::new(0) }
    }
}

impl<J: Job> Worker<J> {
    pub(crate) fn new(
        job: Arc<J>,
        config: WorkerConfig,
        sdk: &SdkConfig,
        queues: Vec<Queue>,
        course: Course,
    ) -> Arc<Self> {
        let Course { health, drain, in_hand } = course;
        let dynamo = crate::aws::dynamo_client(sdk);
        let (table, owner) = (&config.ledger_table, &config.worker_id);
        let ledger = Ledger::new(dynamo.clone(), table, owner, config.visibility);
        let control = Control::new(dynamo, table);
        health.watch(queues.iter().map(|queue| queue.name().to_owned()));
        metrics::slots(config.slots);
        metrics::prices(queues.iter().any(Queue::is_fifo));
        Arc::new(Self {
            presence: Presence::new(&config, sdk, health.clone(), J::NAME),
            payloads: Payloads::new(crate::aws::s3_client(sdk), &config.payloads_bucket),
            slots: slots(&config, &queues),
            tenants: Tenants::new(config.tenant_slots),
            hand_back: CancellationToken::new(),
            paused: watch::Sender::new(false),
            in_advance: Arc::new(InAdvance::new(J::NAME)),
            failures: Failures::default(),
            drain,
            in_hand,
            control,
            job,
            config,
            queues,
            ledger,
            health,
        })
    }

    /// What the leases of a queue's messages have in common.
    pub(crate) fn means(&self, queue: &Queue) -> Means {
        Means {
            ledger: self.ledger.clone(),
            queue: queue.clone(),
            first: self.queues.first().unwrap_or(queue).clone(),
            payloads: self.payloads.clone(),
            max_attempts: self.config.max_attempts,
        }
    }

    /// Consumes until `shutdown` or another reason to drain, and drains.
    pub(crate) async fn consume(self: Arc<Self>, shutdown: CancellationToken) {
        let end = CancellationToken::new();
        let stopping = tokio::spawn(self.clone().hand_back_after_grace(shutdown));
        let queues: Vec<_> = self.queues.iter().map(Queue::url).collect();
        let (worker, slots) = (&self.config.worker_id, self.config.slots);
        let mut obedience = self.obedience();
        obedience.first(self.drain.begun()).await;
        let obeying = tokio::spawn(obedience.run(end.clone()));
        tracing::info!(worker, slots, ?queues, "consuming");
        let consumers = (0..self.queues.len()).map(|place| Consumer::new(self.clone(), place));
        join_all(consumers.map(Consumer::run)).await;
        end.cancel();
        stopping.abort();
        let _ = obeying.await;
        match *self.in_hand.borrow() {
            0 => tracing::info!("drained: nothing is in flight"),
            left => tracing::warn!(left, "drained: what is left in flight comes again by itself"),
        }
    }

    fn obedience(&self) -> Obedience {
        Obedience {
            control: self.control.clone(),
            names: [J::NAME.to_owned(), self.config.worker_id.clone()],
            every: self.config.control_every,
            drain: self.drain.clone(),
            health: self.health.clone(),
            paused: self.paused.clone(),
            in_advance: self.in_advance.clone(),
            started: control::now_ms(),
            known: None,
        }
    }

    /// Notes that a message is in hand.
    pub(crate) fn began(&self) {
        // Whoever waits for this waits for work, or for the end of all: one count more is no news.
        self.in_hand.send_if_modified(|count| {
            *count += 1;
            *count == 1
        });
        self.presence.iter().for_each(|presence| presence.began());
    }

    /// Notes that a message is no longer in hand, and how long it was worked on, if it was.
    pub(crate) fn ended(&self, took: Option<Duration>) {
        self.in_hand.send_if_modified(|count| {
            *count -= 1;
            *count == 0
        });
        self.presence.iter().for_each(|presence| presence.ended(took));
        self.health.moved();
    }

    /// Begins the drain at the signal, and hands back what still runs when its budget is used up.
    /// That is counted from the signal, and not from the end of the long poll that the loop still
    /// awaits.
    async fn hand_back_after_grace(self: Arc<Self>, shutdown: CancellationToken) {
        let stop = async {
            shutdown.cancelled().await;
            self.drain.begin("asked to stop", None);
            std::future::pending::<()>().await;
        };
        let course = async {
            self.drain.begun().cancelled().await;
            self.health.draining();
            self.drain.over().await;
        };
        // The signal bounds a drain, too, that has begun without a deadline.
        tokio::select! {
            () = stop => {}
            () = course => {}
        }
        let jobs = *self.in_hand.borrow();
        tracing::info!(jobs, "the grace is over: handing jobs back");
        self.hand_back.cancel();
    }
}

/// The slots that the queues share. A message of a group in order, or of a tenant with a share, needs
/// more than a free slot, so it is not received before there is one.
fn slots(config: &WorkerConfig, queues: &[Queue]) -> Arc<Slots> {
    let part = |(queue, opened): (&QueueConfig, &Queue)| Part {
        weight: queue.weight,
        ahead: config.tenant_slots.is_none() && !opened.is_fifo(),
    };
    Slots::new(config.slots, config.receive_ahead, config.queues.iter().zip(queues).map(part))
}

#[cfg(test)]
mod tests;
