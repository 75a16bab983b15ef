//! The lease keeper: one task per process that extends every held message, in batches.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::future::join_all;
use rand::RngExt;
use tokio::{
    sync::{Mutex as AsyncMutex, OwnedMutexGuard},
    task::JoinSet,
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    advance::InAdvance,
    failure::Failure,
    ledger::{Claim, Ledger, Renewal},
    metrics::Meter,
    queue::{BATCH, MAX_VISIBILITY, NO_QUEUE, Queue, Received},
    retry::RetryPolicy,
};

/// A lease is given up this long before the others can see the message: a job must have ended by
/// then. Its end is looked for often enough to be seen in time.
const MARGIN: Duration = Duration::from_secs(1);
const LOOK: Duration = Duration::from_millis(250);
/// SQS counts its twelve hours from the moment that it handed the message out, which is before
/// the moment that we saw it.
pub(crate) const LONGEST: Duration = MAX_VISIBILITY.saturating_sub(Duration::from_secs(30));

/// Extends held messages and claims well before they run out, and cancels the job of a lease
/// that cannot be extended.
#[derive(Debug)]
pub(crate) struct Keeper {
    queue: Queue,
    ledger: Ledger,
    in_advance: Arc<InAdvance>,
    visibility: Duration,
    meter: Meter,
    held: Mutex<HashMap<String, Held>>,
}

#[derive(Debug)]
struct Held {
    receipt_handle: String,
    /// How often the message had been received with this handle.
    receives: u32,
    received_at: Instant,
    invisible_until: Instant,
    due: Instant,
    /// How many extensions in a row have failed.
    failures: u32,
    /// Whether the queue was not there at the last one.
    no_queue: bool,
    claim: Option<Claim>,
    /// The effect is committed: the claim is not renewed any more, only the visibility.
    completed: bool,
    cancel: CancellationToken,
    /// Why an operator does not want the effect any more.
    cancelled: Option<String>,
    /// Its work is over and its delete on its way: it is not extended any more, and where it comes again
    /// meanwhile, only its handle is of use.
    leaving: bool,
    /// Locked while an extension of this message is on its way, so that none can land after the
    /// delete or the backoff that ends the lease.
    beat: Arc<AsyncMutex<()>>,
}

/// What was known of a message that is kept no more.
#[derive(Debug)]
pub(crate) struct LetGo {
    /// The newest receipt handle.
    pub(crate) handle: String,
    pub(crate) claim: Option<Claim>,
    /// When it is visible by itself, at the latest.
    pub(crate) until: Instant,
}

/// A message that is on its way out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Going {
    /// Its id.
    pub(crate) id: String,
    /// The newest receipt handle, as far as is known.
    pub(crate) handle: String,
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
    pub(crate) fn new(
        queue: Queue,
        (ledger, in_advance): (Ledger, Arc<InAdvance>),
        visibility: Duration,
        meter: Meter,
    ) -> Arc<Self> {
        Arc::new(Self { queue, ledger, in_advance, visibility, meter, held: Mutex::default() })
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
            // An answer that was long on its way may be older than what is held.
            if message.delivery.receive_count >= old.receives {
                old.receives = message.delivery.receive_count;
                old.receipt_handle.clone_from(&message.receipt_handle);
                old.received_at = message.received_at;
                // The claim is renewed when it was to be: a delivery says nothing of it.
                let due = old.due;
                old.extended(message.received_at, self.visibility, self.pause());
                old.due = old.due.min(due);
            }
            return None;
        }
        let cancel = stop.child_token();
        let new = Held {
            receives: message.delivery.receive_count,
            receipt_handle: message.receipt_handle.clone(),
            received_at: message.received_at,
            invisible_until: message.received_at + self.visibility,
            due: message.received_at + self.pause(),
            failures: 0,
            no_queue: false,
            claim: None,
            completed: false,
            cancel: cancel.clone(),
            cancelled: None,
            leaving: false,
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

    /// The claim of a message's effect, once there is one.
    pub(crate) fn claim(&self, message_id: &str) -> Option<Claim> {
        self.held().get(message_id)?.claim.clone()
    }

    /// Why an operator does not want the effect of a message any more, where that is so.
    pub(crate) fn cancelled(&self, message_id: &str) -> Option<String> {
        self.held().get(message_id)?.cancelled.clone()
    }

    /// Ends the keeping: when this returns, no extension of the message is on its way. An extension
    /// that is may put off when it is visible by itself. One that is to be deleted stays known until
    /// that has happened ([`left`](Self::left)).
    pub(crate) async fn let_go(&self, message_id: &str, to_delete: bool) -> Option<LetGo> {
        let (mut gone, beat) = match to_delete {
            true => {
                let mut all = self.held();
                let held = all.get_mut(message_id)?;
                held.leaving = true;
                (held.let_go(), held.beat.clone())
            }
            false => {
                let mut held = self.held().remove(message_id)?;
                (held.let_go(), held.beat)
            }
        };
        let beating = beat.try_lock().is_err();
        drop(beat.lock().await);
        if beating {
            gone.until = Instant::now() + self.visibility;
        }
        Some(gone)
    }

    /// What is left to be deleted after a call that was for all of these: those it is to be called for
    /// `again`, and those that have come here again meanwhile, each by its newest handle. The others are
    /// forgotten.
    pub(crate) fn left(&self, going: Vec<Going>, again: &[bool]) -> Vec<Going> {
        let mut held = self.held();
        let left = going.into_iter().zip(again).filter_map(|(mut it, again)| {
            let newest = held.get(&it.id).filter(|held| held.leaving);
            match newest.map(|held| &held.receipt_handle).filter(|newest| **newest != it.handle) {
                Some(newest) => it.handle.clone_from(newest),
                None if *again => {}
                None => {
                    held.remove(&it.id);
                    return None;
                }
            }
            Some(it)
        });
        left.collect()
    }

    /// Forgets messages whose deletes were given up: they are delivered again.
    pub(crate) fn forget(&self, going: &[Going]) {
        let mut held = self.held();
        going.iter().for_each(|it| drop(held.remove(&it.id)));
    }

    /// Renews until the token is cancelled.
    ///
    /// Extensions run beside the clock: one that hangs must not keep us from seeing that a lease
    /// has run out.
    pub(crate) async fn run(self: Arc<Self>, stop: CancellationToken) {
        let mut tick = tokio::time::interval(self.visibility.div_f64(20.0).min(LOOK));
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut beats = JoinSet::new();
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                Some(_) = beats.join_next() => {}
                _ = tick.tick() => for batch in self.take_due(Instant::now()) {
                    beats.spawn(self.clone().extend(batch));
                },
            }
        }
    }

    /// What must be extended now, and what soon enough to share its calls.
    fn take_due(&self, now: Instant) -> Vec<Vec<Beat>> {
        let mut held = self.held();
        let expired = held.values().filter(|h| !h.leaving && h.expired(now));
        expired.for_each(|h| self.lose(h, if h.no_queue { "no_queue" } else { "expired" }));
        if !held.values().any(|h| !h.leaving && h.due <= now) {
            return Vec::new();
        }
        let soon = now + self.visibility.div_f64(10.0);
        // What has failed waits for its own time: those that failed in one call share it.
        let limit = |h: &Held| if h.failures > 0 { now } else { soon };
        let kept = held.iter_mut().filter(|(_, h)| !h.leaving && !h.cancel.is_cancelled());
        let due = kept.filter(|(_, h)| h.due <= limit(h));
        let mut due = due.filter_map(|(id, h)| h.beat(id, now, self.visibility));
        std::iter::from_fn(|| {
            let batch: Vec<_> = due.by_ref().take(BATCH).collect();
            (!batch.is_empty()).then_some(batch)
        })
        .collect()
    }

    /// Extends a batch. A call that takes a third of the lease is given up, so that there is time
    /// for another.
    async fn extend(self: Arc<Self>, batch: Vec<Beat>) {
        let (asked, limit) = (Instant::now(), self.visibility.div_f64(3.0));
        let entries = batch.iter().map(|beat| (&*beat.handle, beat.visibility));
        let renewals = batch.iter().map(|beat| timeout(limit, self.renew(beat)));
        let visible = timeout(limit, self.queue.change_visibility(entries));
        let (visible, renewed) = tokio::join!(visible, join_all(renewals));
        let (now, share) = (Instant::now(), rand::rng().random::<f64>());
        let no_queue = matches!(&visible, Ok(Err(failure)) if failure.kind() == NO_QUEUE);
        let mut held = self.held();
        for (index, (beat, renewed)) in batch.iter().zip(renewed).enumerate() {
            let Some(lease) = held.get_mut(&beat.id).filter(|lease| !lease.leaving) else {
                continue;
            };
            let refused = match &visible {
                Ok(Ok(refused)) => {
                    refused.iter().find(|r| r.index == index).map(|r| r.sender_fault)
                }
                _ => Some(false),
            };
            let renewed = renewed.ok().and_then(Result::ok);
            lease.no_queue = no_queue;
            lease.completed |= renewed == Some(Renewal::Completed);
            match (refused, renewed) {
                (_, Some(Renewal::Fenced)) => self.lose(lease, "fenced"),
                (_, Some(Renewal::Cancelled(why))) => lease.cancel_for(asked, beat.visibility, why),
                (Some(true), _) if lease.receipt_handle == beat.handle => {
                    self.lose(lease, "receipt_handle");
                }
                (None, Some(_)) => lease.extended(asked, beat.visibility, self.pause()),
                // Not refused for good, nor done: tried again until the lease has run out.
                _ => lease.failed(now, share),
            }
        }
    }

    async fn renew(&self, beat: &Beat) -> Result<Renewal, Failure> {
        let Some(claim) = &beat.claim else {
            return Ok(Renewal::Renewed);
        };
        let renewed = self.ledger.renew(claim).await?;
        if renewed != Renewal::Renewed {
            return Ok(renewed);
        }
        let cancelled = self.in_advance.take(&self.ledger, claim, &beat.id).await?;
        Ok(cancelled.map_or(renewed, Renewal::Cancelled))
    }

    fn lose(&self, lease: &Held, reason: &'static str) {
        if !lease.cancel.is_cancelled() {
            self.meter.leases_lost(reason, 1);
            tracing::warn!(reason, "a lease is lost: its job is cancelled");
            lease.cancel.cancel();
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
        let left = LONGEST.saturating_sub(now.saturating_duration_since(self.received_at));
        Some(Beat {
            id: id.to_owned(),
            handle: self.receipt_handle.clone(),
            visibility: visibility.min(left),
            claim: self.claim.clone().filter(|_| !self.completed),
            _on_its_way,
        })
    }

    fn let_go(&mut self) -> LetGo {
        let handle = self.receipt_handle.clone();
        LetGo { handle, claim: self.claim.take(), until: self.invisible_until }
    }

    fn extended(&mut self, asked: Instant, visibility: Duration, pause: Duration) {
        self.invisible_until = asked + visibility;
        self.due = asked + pause;
        self.failures = 0;
    }

    /// An extension has failed: the next one comes after this share of a ceiling, which doubles with each
    /// failure, and leaves room for two more before the lease has run out.
    fn failed(&mut self, now: Instant, share: f64) {
        self.failures = self.failures.saturating_add(1);
        let left = self.invisible_until.saturating_duration_since(now + MARGIN);
        let ceiling = RetryPolicy::CALL.ceiling(self.failures).min(left / 3);
        self.due = now + ceiling.mul_f64(share);
    }

    /// The lease was extended, and its job is to end all the same.
    fn cancel_for(&mut self, asked: Instant, visibility: Duration, why: String) {
        self.invisible_until = asked + visibility;
        self.cancelled = Some(why);
        self.cancel.cancel();
    }

    fn expired(&self, now: Instant) -> bool {
        now + MARGIN >= self.invisible_until
    }
}

#[cfg(test)]
mod tests;
