//! One attempt at a message: from its body to what becomes of it.

use std::{
    panic::AssertUnwindSafe,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures::FutureExt;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{
    claiming::Claiming,
    consumer::Consumer,
    failure::{Disposition, Failure},
    job::{Effect, Job},
    lease::{Lease, cancelled},
    ledger::{Claim, Claimed, Ended},
    queue::Received,
    retry::RetryPolicy,
    worker::Worker,
};

/// The longest key of a row, in bytes (DynamoDB quota).
const LONGEST_KEY: usize = 2048;
/// How long the answer to a claim is waited for whose job is to end before it began.
const LATE: Duration = Duration::from_secs(5);

/// Whether the job is to run.
enum Entry {
    /// Yes: under this claim, or without one for an idempotent effect.
    Open(Option<Claim>),
    /// No: the effect has happened.
    AlreadyDone,
}

impl<J: Job> Consumer<J> {
    /// Runs the job on a message, unless its lease ends first. A panic is a transient failure.
    pub(crate) async fn decide(
        &self,
        message: &Received,
        cancel: &CancellationToken,
    ) -> Disposition {
        // What seldom happens is boxed: every message's future would have room for it.
        if cancel.is_cancelled() {
            return Box::pin(self.cut_off(message)).await;
        }
        let (claiming, committed) = (Claiming::default(), Arc::default());
        let attempt = async {
            let attempt = self.attempt(message, cancel, &claiming, &committed);
            let attempt = AssertUnwindSafe(attempt).catch_unwind();
            let outcome = attempt.await.unwrap_or_else(|panic| self.panicked(message, &*panic));
            match self.after_commit(message, outcome, &committed) {
                Disposition::Dead { kind, reason } => {
                    Box::pin(self.doomed(message, cancel, kind, reason)).await
                }
                outcome => outcome,
            }
        };
        tokio::select! {
            biased;
            outcome = attempt => outcome,
            () = cancel.cancelled() => Box::pin(self.cut_short(message, &claiming)).await,
        }
    }

    /// What has happened is never given up: whatever went wrong after the commit, the message comes
    /// again, and then the rest of its job is made good ([`Job::repair`]).
    fn after_commit(
        &self,
        message: &Received,
        outcome: Disposition,
        committed: &AtomicBool,
    ) -> Disposition {
        match outcome {
            Disposition::Dead { kind, reason } if committed.load(Ordering::SeqCst) => {
                let delay = self.retry_policy().delay(self.failures(message));
                Disposition::Retry { delay, kind, reason }
            }
            outcome => outcome,
        }
    }

    /// Gives a message up, unless its effect has happened: the answer to a commit that stands may be lost.
    async fn doomed(
        &self,
        message: &Received,
        cancel: &CancellationToken,
        kind: &'static str,
        reason: String,
    ) -> Disposition {
        let again = |kind, reason| {
            let delay = self.retry_policy().delay(self.failures(message));
            Disposition::Retry { delay, kind, reason }
        };
        if let Some(claim) = self.keeper.claim(&message.delivery.message_id) {
            match self.worker.ledger.ended(&claim.key).await {
                Ok(Some(Ended::Done)) => return again(kind, reason),
                Ok(_) => {}
                Err(failure) => return again(failure.kind(), format!("{reason}; then {failure}")),
            }
        }
        self.give_up(message, cancel, &reason).await;
        Disposition::Dead { kind, reason }
    }

    /// What becomes of a message whose job was ended by its lease.
    pub(crate) async fn cut_off(&self, message: &Received) -> Disposition {
        let Some(why) = self.keeper.cancelled(&message.delivery.message_id) else {
            let released = self.worker.hand_back.is_cancelled();
            let after = Duration::ZERO;
            return if released { Disposition::Released { after } } else { Disposition::Lost };
        };
        let reason = cancelled(&why);
        // It is renewed no more, and must be told within what is left of it.
        let unhurried = CancellationToken::new();
        let told = self.give_up(message, &unhurried, &reason);
        let _ = tokio::time::timeout(self.worker.config.visibility / 3, told).await;
        Disposition::Dead { kind: "cancelled", reason }
    }

    /// The same of an attempt that has begun: a claim that it was still waiting for is settled too.
    async fn cut_short(&self, message: &Received, claiming: &Claiming) -> Disposition {
        let limit = LATE.min(self.worker.config.visibility / 3);
        if let Some(claim) = claiming.late(limit).await {
            self.keeper.claimed(&message.delivery.message_id, &claim);
        }
        self.cut_off(message).await
    }

    /// Lets the job tell, under its claim, that the effect will not come. Its work is looked up
    /// again: the attempt that failed has used it up, or died with it.
    async fn give_up(&self, message: &Received, cancel: &CancellationToken, reason: &str) {
        let Some(claim) = self.keeper.claim(&message.delivery.message_id) else { return };
        let told = async {
            let (_, work) = self.prepare(message).await?;
            let lease = self.lease(message, Some(claim), cancel);
            self.worker.job.give_up(work, &lease, reason).await
        };
        let told = AssertUnwindSafe(told).catch_unwind().await;
        let id = &message.delivery.message_id;
        match told {
            Ok(Ok(())) => {}
            Ok(Err(failure)) => tracing::warn!(id, %failure, "giving up could not be told"),
            Err(_) => tracing::error!(id, "the job panicked while it was told to give up"),
        }
    }

    async fn attempt(
        &self,
        message: &Received,
        cancel: &CancellationToken,
        claiming: &Claiming,
        committed: &Arc<AtomicBool>,
    ) -> Disposition {
        let prepared = self.prepare(message).await;
        let (effect, work) = match prepared {
            Ok(prepared) => prepared,
            Err(failure) => return self.failed(message, None, failure),
        };
        let claim = match self.claim(message, &effect, claiming).await {
            Ok(Entry::Open(claim)) => claim,
            Ok(Entry::AlreadyDone) => return Box::pin(self.already_done(message, work)).await,
            Err(disposition) => return disposition,
        };
        let lease = Lease { committed: committed.clone(), ..self.lease(message, claim, cancel) };
        self.meter.attempted(lease.attempt());
        let result = self.worker.job.run(work, &lease).await;
        self.outcome(message, &lease, result)
    }

    async fn prepare(&self, message: &Received) -> Result<(Effect, J::Work), Failure> {
        let body = self.worker.payloads.expand(&message.body).await?;
        let parsed = serde_json::from_str(&body).map_err(|e| {
            let id = &message.delivery.message_id;
            let what = format!("no message for {}: {e} (message {id})", J::NAME);
            Failure::permanent("unparsable", what)
        })?;
        self.worker.job.prepare(parsed, &message.delivery).await
    }

    /// Claims the effect, where it is one that happens once.
    async fn claim(
        &self,
        message: &Received,
        effect: &Effect,
        claiming: &Claiming,
    ) -> Result<Entry, Disposition> {
        let Effect::Once(key) = effect else {
            return Ok(Entry::Open(None));
        };
        let key = format!("{}/{key}", J::NAME);
        if key.len() > LONGEST_KEY {
            // Every claim of it would be refused.
            let length = key.len();
            let what = format!("its effect's key has {length} bytes, at most {LONGEST_KEY} can be");
            return Err(self.failed(message, None, Failure::permanent("effect_key", what)));
        }
        let id = &message.delivery.message_id;
        let asked = Instant::now();
        let claimed = claiming.claim(&self.worker.ledger, &key, id).await;
        self.worker.health.claimed(asked, claimed.as_ref().err());
        match claimed.map_err(|f| self.failed(message, None, f))? {
            Claimed::Done => Ok(Entry::AlreadyDone),
            Claimed::Won(claim) => {
                self.keeper.claimed(&message.delivery.message_id, &claim);
                if let Some(why) = Box::pin(self.unwanted(message, &claim)).await? {
                    return Err(Disposition::Dead { kind: "cancelled", reason: cancelled(&why) });
                }
                if claim.attempt > self.worker.config.max_attempts {
                    return Err(exhausted(&claim, self.worker.config.max_attempts));
                }
                Ok(Entry::Open(Some(claim)))
            }
            Claimed::Held(left) => Err(self.held_elsewhere(message, &key, left)),
        }
    }

    /// Why an operator does not want the effect of a claim, where that is so.
    async fn unwanted(
        &self,
        message: &Received,
        claim: &Claim,
    ) -> Result<Option<String>, Disposition> {
        if claim.cancelled.is_some() {
            return Ok(claim.cancelled.clone());
        }
        let Worker { in_advance, ledger, .. } = &*self.worker;
        let taken = in_advance.take(ledger, claim, &message.delivery.message_id).await;
        taken.map_err(|failure| self.failed(message, None, failure))
    }

    /// The message comes again when the other's lease is over, and later the oftener it has come: a
    /// job of twelve hours would use up the receives of a message that is there twice.
    fn held_elsewhere(&self, message: &Received, key: &str, left: Duration) -> Disposition {
        self.meter.duplicates("claimed", 1);
        let (kind, count) = ("held", message.delivery.receive_count);
        let reason = format!("{key} is claimed by another worker for {left:.1?} more");
        if count >= self.queue.bounds().last_receives() {
            return Disposition::Dead { kind, reason: format!("received {count} times: {reason}") };
        }
        let delay = left.mul_f64(1.0 + f64::from(count) / 16.0) + RetryPolicy::CALL.delay(3);
        Disposition::Retry { delay, kind, reason }
    }

    async fn already_done(&self, message: &Received, work: J::Work) -> Disposition {
        self.meter.duplicates("done", 1);
        match self.worker.job.repair(work).await {
            Ok(()) => Disposition::Done,
            Err(failure) => self.failed(message, None, failure),
        }
    }

    fn lease(&self, message: &Received, claim: Option<Claim>, cancel: &CancellationToken) -> Lease {
        Lease {
            delivery: message.delivery.clone(),
            claim,
            means: self.means.clone(),
            cancel: cancel.clone(),
            committed: Arc::new(AtomicBool::new(false)),
        }
    }

    fn outcome(
        &self,
        message: &Received,
        lease: &Lease,
        result: Result<(), Failure>,
    ) -> Disposition {
        let committed = lease.claim.is_none() || lease.committed.load(Ordering::SeqCst);
        match result {
            Ok(()) if committed => Disposition::Done,
            Ok(()) => {
                let what = "the job ended without completing its effect (a bug in the job)";
                self.failed(message, Some(lease), Failure::transient("uncommitted", what))
            }
            Err(failure) => self.failed(message, Some(lease), failure),
        }
    }

    fn failed(&self, message: &Received, lease: Option<&Lease>, failure: Failure) -> Disposition {
        let (kind, reason) = (failure.kind(), failure.to_string());
        let id = &message.delivery.message_id;
        tracing::warn!(id, job = J::NAME, kind, reason, "a job failed");
        let last = lease.is_some_and(|l| l.claim.is_some() && l.is_last_attempt());
        let count = message.delivery.receive_count;
        // Where no claim counts attempts (the failure came before it, or the effect needs none), there
        // are only receives, and every hand-back is one: of a deploy, behind a failure of the group,
        // since a tenant has enough. So they say next to nothing until they are used up.
        let nearly_moved = count >= self.queue.bounds().last_receives();
        let uncounted = lease.is_none_or(|l| l.claim.is_none()) && nearly_moved;
        match failure {
            Failure::Permanent(_) => Disposition::Dead { kind, reason },
            Failure::Transient { .. } if kind == "lease_lost" => Disposition::Lost,
            Failure::Transient { .. } if last => {
                let tries = self.worker.config.max_attempts;
                Disposition::Dead { kind, reason: format!("attempt {tries} of {tries}: {reason}") }
            }
            Failure::Transient { .. } if uncounted => {
                Disposition::Dead { kind, reason: format!("received {count} times: {reason}") }
            }
            Failure::Transient { retry_after, .. } => {
                let policy = self.retry_policy();
                let delay = retry_after.unwrap_or_else(|| policy.delay(self.failures(message)));
                Disposition::Retry { delay, kind, reason }
            }
        }
    }

    pub(crate) fn panicked(
        &self,
        message: &Received,
        panic: &(dyn std::any::Any + Send),
    ) -> Disposition {
        let reason = format!("the job panicked: {}", said(panic));
        let id = &message.delivery.message_id;
        // A panic may strike before the claim, where no ledger counts: then receives do.
        let (count, most) = match self.keeper.claim(id) {
            Some(claim) => (claim.attempt, self.worker.config.max_attempts),
            None => (message.delivery.receive_count, self.queue.bounds().last_receives()),
        };
        tracing::error!(id, reason, count, "a job panicked");
        if count >= most {
            return Disposition::Dead { kind: "panic", reason };
        }
        let delay = self.retry_policy().delay(self.failures(message));
        Disposition::Retry { delay, kind: "panic", reason }
    }

    /// How many attempts at a message have failed, this one included: as its claim counts them, or as they
    /// were seen here. Its receives say nothing of that: a hand-back is one, too.
    pub(crate) fn failures(&self, message: &Received) -> u32 {
        let id = &message.delivery.message_id;
        let claimed = self.keeper.claim(id).map(|claim| claim.attempt);
        claimed.unwrap_or_else(|| self.worker.failures.count(id))
    }

    fn retry_policy(&self) -> RetryPolicy {
        RetryPolicy::new(self.worker.config.retry_first, Duration::from_secs(900))
    }
}

/// What a panic was told with.
pub(crate) fn said(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default()
}

fn exhausted(claim: &Claim, max: u32) -> Disposition {
    let last = claim.last_failure.as_deref().unwrap_or("the worker died while it was at it");
    let (kind, key) = ("attempts_exhausted", &claim.key);
    Disposition::Dead { kind, reason: format!("tried {max} times; at last: {last} ({key})") }
}
