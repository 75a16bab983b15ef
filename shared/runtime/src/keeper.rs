//! The lease keeper: one task per process that extends every held message, in batches.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use futures::future::join_all;
use rand::RngExt;
use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};
use tokio_util::sync::CancellationToken;

use crate::{
    failure::Failure,
    ledger::{Claim, Ledger},
    metrics,
    queue::{BATCH, MAX_VISIBILITY, Queue, Received},
};

/// Extends held messages and claims well before they run out, and cancels the job of a lease
/// that cannot be extended.
#[derive(Debug)]
pub(crate) struct Keeper {
    queue: Queue,
    ledger: Ledger,
    visibility: Duration,
    held: Mutex<HashMap<String, Held>>,
}

#[derive(Debug)]
struct Held {
    receipt_handle: String,
    received_at: Instant,
    invisible_until: Instant,
    due: Instant,
    claim: Option<Claim>,
    cancel: CancellationToken,
    /// Locked while an extension of this message is on its way, so that none can land after the
    /// delete or the backoff that ends the lease.
    beat: Arc<AsyncMutex<()>>,
}

/// One message of a beat.
struct Beat {
    id: String,
    handle: String,
    visibility: Duration,
    claim: Option<Claim>,
    _on_its_way: OwnedMutexGuard<()>,
}

impl Keeper {
    pub(crate) fn new(queue: Queue, ledger: Ledger, visibility: Duration) -> Arc<Self> {
        Arc::new(Self { queue, ledger, visibility, held: Mutex::default() })
    }

    /// Takes a message into keeping. `None` when it is held already: then this delivery is a
    /// duplicate, whose newer receipt handle replaces the old one.
    pub(crate) fn hold(
        &self,
        message: &Received,
        stop: &CancellationToken,
    ) -> Option<CancellationToken> {
        let mut held = self.held();
        if let Some(old) = held.get_mut(&message.delivery.message_id) {
            old.receipt_handle.clone_from(&message.receipt_handle);
            return None;
        }
        let cancel = stop.child_token();
        let new = Held {
            receipt_handle: message.receipt_handle.clone(),
            received_at: message.received_at,
            invisible_until: message.received_at + self.visibility,
            due: message.received_at + self.pause(),
            claim: None,
            cancel: cancel.clone(),
            beat: Arc::default(),
        };
        held.insert(message.delivery.message_id.clone(), new);
        Some(cancel)
    }

    /// Adds the ledger claim to what is renewed.
    pub(crate) fn claimed(&self, message_id: &str, claim: &Claim) {
        if let Some(held) = self.held().get_mut(message_id) {
            held.claim = Some(claim.clone());
        }
    }

    /// Ends the keeping: when this returns, no extension of the message is on its way. Gives the
    /// newest receipt handle, and the claim if there is one.
    pub(crate) async fn let_go(&self, message_id: &str) -> Option<(String, Option<Claim>)> {
        let held = self.held().remove(message_id)?;
        drop(held.beat.lock().await);
        Some((held.receipt_handle, held.claim))
    }

    /// Renews until the token is cancelled.
    pub(crate) async fn run(self: Arc<Self>, stop: CancellationToken) {
        let mut tick = tokio::time::interval(self.visibility.div_f64(20.0));
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = tick.tick() => self.beat().await,
            }
        }
    }

    async fn beat(&self) {
        let due = self.take_due(Instant::now());
        let mut batches = Vec::new();
        let mut rest = due.into_iter();
        loop {
            let batch: Vec<_> = rest.by_ref().take(BATCH).collect();
            if batch.is_empty() {
                break;
            }
            batches.push(self.extend(batch));
        }
        join_all(batches).await;
    }

    /// What must be extended now, and what soon enough to share its calls.
    fn take_due(&self, now: Instant) -> Vec<Beat> {
        let mut held = self.held();
        held.values().filter(|h| h.expired(now)).for_each(|h| h.lose("expired"));
        if !held.values().any(|h| h.due <= now) {
            return Vec::new();
        }
        let soon = now + self.visibility.div_f64(10.0);
        let due = held.iter_mut().filter(|(_, h)| h.due <= soon && !h.cancel.is_cancelled());
        due.filter_map(|(id, h)| h.beat(id, now, self.visibility)).collect()
    }

    async fn extend(&self, batch: Vec<Beat>) {
        let asked = Instant::now();
        let entries: Vec<_> = batch.iter().map(|b| (b.handle.clone(), b.visibility)).collect();
        let renewals = join_all(batch.iter().map(|beat| self.renew(beat)));
        let (visible, renewed) = tokio::join!(self.queue.change_visibility(&entries), renewals);
        let mut held = self.held();
        for (index, (beat, renewed)) in batch.iter().zip(renewed).enumerate() {
            let Some(lease) = held.get_mut(&beat.id) else {
                continue;
            };
            let refused = match &visible {
                Ok(refused) => refused.iter().find(|r| r.index == index).map(|r| r.sender_fault),
                Err(_) => Some(false),
            };
            match (refused, renewed) {
                (Some(true), _) => lease.lose("receipt_handle"),
                (_, Ok(false)) => lease.lose("fenced"),
                (None, Ok(true)) => lease.extended(asked, beat.visibility, self.pause()),
                // Neither refused nor done: tried again at the next tick, until it has expired.
                (Some(false), _) | (None, Err(_)) => lease.due = asked,
            }
        }
    }

    async fn renew(&self, beat: &Beat) -> Result<bool, Failure> {
        match &beat.claim {
            Some(claim) => self.ledger.renew(claim).await,
            None => Ok(true),
        }
    }

    /// A third of the visibility, less up to a fifth of that, so that beats spread out.
    fn pause(&self) -> Duration {
        self.visibility.div_f64(3.0).mul_f64(1.0 - 0.2 * rand::rng().random::<f64>())
    }

    fn held(&self) -> std::sync::MutexGuard<'_, HashMap<String, Held>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    fn beat(&mut self, id: &str, now: Instant, visibility: Duration) -> Option<Beat> {
        let _on_its_way = self.beat.clone().try_lock_owned().ok()?;
        let left = MAX_VISIBILITY.saturating_sub(now - self.received_at);
        Some(Beat {
            id: id.to_owned(),
            handle: self.receipt_handle.clone(),
            visibility: visibility.min(left),
            claim: self.claim.clone(),
            _on_its_way,
        })
    }

    fn extended(&mut self, asked: Instant, visibility: Duration, pause: Duration) {
        self.invisible_until = asked + visibility;
        self.due = asked + pause;
    }

    fn expired(&self, now: Instant) -> bool {
        // A second before the others see it: a job must have ended by then.
        let margin = Duration::from_secs(1);
        !self.cancel.is_cancelled() && now + margin >= self.invisible_until
    }

    fn lose(&self, reason: &'static str) {
        ::metrics::counter!(metrics::LEASES_LOST, "reason" => reason).increment(1);
        tracing::warn!(reason, "a lease is lost: its job is cancelled");
        self.cancel.cancel();
    }
}
