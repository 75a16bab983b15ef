//! What a message leaves behind when it is settled.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    time::Duration,
};

use crate::{
    acks::{Ack, Acks},
    consumer::Consumer,
    failure::Disposition,
    job::Job,
    keeper::{Going, LONGEST, LetGo},
    ledger::Claim,
    queue::{Enclosed, Received},
    retry::RetryPolicy,
    tail::Tail,
};

/// How long the ledger is waited for when the process must end.
const AT_THE_END: Duration = Duration::from_secs(2);

impl<J: Job> Consumer<J> {
    /// Has the queues and the ledger say what became of a message; gives what did, since a dead
    /// letter that is not taken comes back.
    pub(crate) async fn settle(
        &self,
        message: &Received,
        what: Disposition,
        acks: &Acks,
        tail: &Tail,
    ) -> Disposition {
        let what = match what {
            Disposition::Dead { kind, reason } => {
                Box::pin(self.bury(message, kind, reason, tail)).await
            }
            what => what,
        };
        self.depth.stir();
        let id = &message.delivery.message_id;
        let to_delete = matches!(what, Disposition::Done | Disposition::Dead { .. });
        let Some(LetGo { handle, claim, until }) = self.keeper.let_go(id, to_delete).await else {
            return Disposition::Lost;
        };
        if let Some(claim) = claim {
            Box::pin(self.note_in_time(&claim, &what)).await;
        }
        let visible_after = match &what {
            Disposition::Done | Disposition::Dead { .. } => None,
            Disposition::Retry { delay, .. } => Some(*delay),
            Disposition::Released { after } => Some(*after),
            // It came here again meanwhile, and was not begun with: that delivery is ours to give back.
            Disposition::Lost if handle != message.receipt_handle => Some(Duration::ZERO),
            Disposition::Lost => return what,
        };
        let visible_after =
            visible_after.map(|delay| within_window(delay, message.received_at.elapsed()));
        let group = self.queue.order(message).map(str::to_owned);
        acks.push(Ack { going: Going { id: id.clone(), handle }, group, visible_after, until });
        what
    }

    /// Has the ledger's row say what became of the effect, and waits for it no longer than there is
    /// time: the queue must hear of the message before it comes again by itself, or the process ends.
    async fn note_in_time(&self, claim: &Claim, what: &Disposition) {
        let limit = match self.worker.hand_back.is_cancelled() {
            true => AT_THE_END,
            false => self.worker.config.visibility / 3,
        };
        if tokio::time::timeout(limit, self.note(claim, what)).await.is_err() {
            let key = &claim.key;
            tracing::warn!(
                key,
                "the ledger does not answer: its row stays claimed until the lease ends"
            );
        }
    }

    /// Has the ledger's row say what became of the effect.
    async fn note(&self, claim: &Claim, what: &Disposition) {
        let ledger = &self.worker.ledger;
        let noted = match what {
            Disposition::Done => Ok(true),
            Disposition::Released { .. } => ledger.release(claim).await,
            // Counted: what outlives every lease would otherwise be tried for ever.
            Disposition::Lost => ledger.fail(claim, "its lease was lost").await,
            Disposition::Retry { reason, .. } => ledger.fail(claim, reason).await,
            Disposition::Dead { reason, .. } => ledger.bury(claim, reason).await,
        };
        match (noted, what) {
            // The claim then ends with its lease; the message is safe either way.
            (Err(failure), _) => {
                tracing::warn!(%failure, key = claim.key, "the ledger row was not released");
            }
            (Ok(false), Disposition::Dead { .. }) => {
                let key = &claim.key;
                tracing::warn!(key, "dead-lettered, though its claim is not ours any more");
            }
            _ => {}
        }
    }

    /// Puts a message on the dead-letter queue; when that fails it comes back here instead.
    async fn bury(
        &self,
        message: &Received,
        kind: &'static str,
        reason: String,
        tail: &Tail,
    ) -> Disposition {
        let why = serde_json::json!({
            "reason": crate::failure::shortened(&reason),
            "kind": kind,
            "job": J::NAME,
            "worker": self.worker.config.worker_id,
            "image": self.image(&message.body),
            "trace_id": message.delivery.trace_id(),
            "message_id": message.delivery.message_id,
            "receive_count": message.delivery.receive_count,
            "queue": self.queue.url(),
            "log": self.keep_log(message, tail).await,
        });
        let sent = async {
            let (payloads, most) = (&self.worker.payloads, self.queue.bounds().size);
            let enclosed = Enclosed::of(message, &why, (payloads, most)).await?;
            let body = payloads.shrink(&message.body, enclosed.size(), most).await?;
            self.queue.bury(&body, message, enclosed).await
        };
        match sent.await {
            Ok(()) => {
                let id = &message.delivery.message_id;
                tracing::warn!(id, kind, reason, "dead-lettered");
                Disposition::Dead { kind, reason }
            }
            Err(failure) => {
                let delay = RetryPolicy::JOB.delay(self.failures(message));
                tracing::error!(%failure, "the dead-letter queue does not take the message");
                Disposition::Retry { delay, kind: "dead_letter", reason: failure.to_string() }
            }
        }
    }

    fn image(&self, body: &str) -> Option<String> {
        // A job's own parser may panic: it may be what the message died of.
        let image = || self.worker.job.image(serde_json::from_str(body).ok().as_ref());
        catch_unwind(AssertUnwindSafe(image)).ok().flatten()
    }

    /// Puts the last lines of the message's log where the dead letter says. Without them it is
    /// better off than not dead-lettered at all.
    async fn keep_log(&self, message: &Received, tail: &Tail) -> Option<String> {
        let (text, id) = (tail.text(), &message.delivery.message_id);
        if text.is_empty() {
            return None;
        }
        let kept =
            self.worker.payloads.keep(&format!("dead-letters/{}/{id}.log", J::NAME), text).await;
        kept.inspect_err(|failure| tracing::warn!(id, %failure, "the log is not kept")).ok()
    }
}

/// What is left of a delay where a message was in hand for so long: SQS takes none that goes past the
/// end of its twelve hours, and the message would come back by its visibility, unseen by its backoff.
fn within_window(delay: Duration, in_hand: Duration) -> Duration {
    delay.min(LONGEST.saturating_sub(in_hand))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::queue::MAX_VISIBILITY;

    proptest! {
        #[test]
        fn no_delay_goes_past_the_twelve_hours_of_its_receive(
            delay in 0u64..50_000, in_hand in 0u64..50_000,
        ) {
            let (delay, in_hand) = (Duration::from_secs(delay), Duration::from_secs(in_hand));
            let cut = within_window(delay, in_hand);
            prop_assert!(cut <= delay);
            prop_assert!(cut.is_zero() || cut + in_hand < MAX_VISIBILITY);
            prop_assert!(cut == delay || delay + in_hand > LONGEST, "cut without need");
        }
    }
}
