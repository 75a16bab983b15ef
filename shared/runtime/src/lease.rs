//! The lease: SQS visibility, the ledger claim and a cancel token in one object.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use aws_sdk_dynamodb::types::TransactWriteItem;
use tokio_util::sync::CancellationToken;

use crate::{
    failure::Failure,
    job::Delivery,
    ledger::{Claim, Ledger, Written},
    payload::Payloads,
    queue::{Depths, Queue, legible},
};

/// What a job holds while it works on a message.
///
/// The loop renews it in the background. When that fails, or the process must stop, the job's
/// future is dropped, and what it would still have written is refused by the ledger.
#[derive(Debug)]
pub struct Lease {
    pub(crate) delivery: Arc<Delivery>,
    pub(crate) claim: Option<Claim>,
    pub(crate) means: Arc<Means>,
    pub(crate) cancel: CancellationToken,
    pub(crate) committed: Arc<AtomicBool>,
}

/// What all leases of a queue's messages have in common.
#[derive(Debug, Clone)]
pub(crate) struct Means {
    pub(crate) ledger: Ledger,
    pub(crate) queue: Queue,
    /// The first of the worker's queues.
    pub(crate) first: Queue,
    pub(crate) payloads: Payloads,
    pub(crate) max_attempts: u32,
}

/// What became of an effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Completion {
    /// It is durable, and will never happen again.
    Committed,
    /// A condition of the effect itself was not met (it is out of date, say). Nothing was
    /// written; complete with other items, or with none.
    Refused,
}

impl Lease {
    /// The delivery that this lease is for.
    pub fn delivery(&self) -> &Delivery {
        &self.delivery
    }

    /// The fencing token: larger at every claim of the same effect, so bytes that are stored
    /// under it are never written by two workers. Zero for an idempotent effect.
    pub fn generation(&self) -> u64 {
        self.claim.as_ref().map_or(0, |claim| claim.generation)
    }

    /// The number of this attempt, from 1; deploys and drains do not count.
    pub fn attempt(&self) -> u32 {
        self.claim.as_ref().map_or(self.delivery.receive_count, |claim| claim.attempt)
    }

    /// Whether a transient failure now sends the message to the dead-letter queue.
    pub fn is_last_attempt(&self) -> bool {
        self.attempt() >= self.means.max_attempts
    }

    /// Resolves when the job must end: the lease is lost, or the process stops.
    pub async fn cancelled(&self) {
        self.cancel.cancelled().await;
    }

    /// Commits the effect together with its completion in the ledger, in one transaction (at
    /// most 99 items). After this the message is only deleted, whoever gets it.
    ///
    /// # Errors
    /// Transient with kind `lease_lost` when another worker has taken over, permanent with kind
    /// `cancelled` when an operator does not want the effect any more: nothing was written.
    pub async fn complete(&self, effect: Vec<TransactWriteItem>) -> Result<Completion, Failure> {
        let claim = self.held()?;
        let written = Box::pin(self.means.ledger.complete(claim, effect)).await?;
        let completion = answer(claim, written)?;
        self.committed.store(completion == Completion::Committed, Ordering::SeqCst);
        Ok(completion)
    }

    /// Writes items that only the holder of the lease may write, without completing the effect.
    ///
    /// # Errors
    /// As [`complete`](Self::complete).
    pub async fn record(&self, items: Vec<TransactWriteItem>) -> Result<Completion, Failure> {
        let claim = self.held()?;
        answer(claim, Box::pin(self.means.ledger.write(claim, items)).await?)
    }

    /// Puts a message on the worker's own queue (a part of this one, say), for the same tenant or
    /// group, and of the same trace. On a FIFO queue the same body is sent once, however often an
    /// attempt is repeated. A body that is larger than SQS takes travels by way of S3.
    ///
    /// # Errors
    /// Transient, when SQS or S3 does not take it.
    pub async fn send(&self, body: &str) -> Result<(), Failure> {
        self.means.queue.send(&self.sendable(body).await?, &self.delivery).await
    }

    /// The same, to be received only after a while, of 15 minutes at most.
    ///
    /// # Errors
    /// Transient, when SQS or S3 does not take it.
    pub async fn send_after(&self, body: &str, delay: Duration) -> Result<(), Failure> {
        self.means.queue.send_after(&self.sendable(body).await?, &self.delivery, delay).await
    }

    /// As [`send`](Self::send), on the first of the worker's queues, whichever this message came from:
    /// so that what takes long is not put before what is urgent.
    ///
    /// # Errors
    /// Transient, when SQS or S3 does not take it.
    pub async fn send_to_first(&self, body: &str) -> Result<(), Failure> {
        let body =
            self.means.payloads.shrink(&legible(body), 0, self.means.first.bounds().size).await?;
        self.means.first.send(&body, &self.delivery).await
    }

    /// Whether the first of the worker's queues holds nothing, visible or in hand, beside this message,
    /// as far as SQS knows: its counts are up to a minute late.
    ///
    /// # Errors
    /// Transient, when SQS does not answer.
    pub async fn is_first_idle(&self) -> Result<bool, Failure> {
        let Depths { visible, in_flight, delayed, .. } = self.means.first.depths().await?;
        let own = u64::from(self.means.first.url() == self.means.queue.url());
        Ok(visible + delayed == 0 && in_flight <= own)
    }

    async fn sendable(&self, body: &str) -> Result<String, Failure> {
        self.means.payloads.shrink(&legible(body), 0, self.means.queue.bounds().size).await
    }

    fn held(&self) -> Result<&Claim, Failure> {
        self.claim.as_ref().ok_or_else(|| {
            let id = &self.delivery.message_id;
            Failure::permanent(
                "no_claim",
                format!("message {id}: an idempotent effect has no claim to complete"),
            )
        })
    }
}

fn answer(claim: &Claim, written: Written) -> Result<Completion, Failure> {
    match written {
        Written::Committed => Ok(Completion::Committed),
        Written::Refused => Ok(Completion::Refused),
        Written::Fenced => {
            let (key, generation) = (&claim.key, claim.generation);
            let what = format!("generation {generation} of {key} is no longer ours");
            Err(Failure::retry_after("lease_lost", what, Duration::ZERO))
        }
        Written::Cancelled(why) => Err(Failure::permanent("cancelled", cancelled(&why))),
    }
}

/// What a dead letter says of a job that an operator does not want.
pub(crate) fn cancelled(why: &str) -> String {
    format!("cancelled by an operator: {why}")
}

#[cfg(test)]
pub(crate) mod tests {
    use std::time::SystemTime;

    use serde_json::Value;

    use super::*;
    use crate::fake::FakeAws;

    /// A lease without a claim.
    pub(crate) fn idempotent() -> Lease {
        lease(&FakeAws::new(|_, _| serde_json::json!({})))
    }

    fn means(fake: &FakeAws) -> Means {
        Means {
            ledger: Ledger::new(fake.dynamo(), "ledger", "me", Duration::from_secs(60)),
            queue: Queue::of(fake.sqs(), "http://q/main", "http://q/dead"),
            first: Queue::of(fake.sqs(), "http://q/first", "http://q/dead"),
            payloads: Payloads::new(crate::aws::s3_client(&fake.sdk()), "payloads"),
            max_attempts: 5,
        }
    }

    fn lease(fake: &FakeAws) -> Lease {
        Lease {
            delivery: Arc::new(Delivery {
                message_id: "m".to_owned(),
                sent_at: SystemTime::UNIX_EPOCH,
                receive_count: 1,
                group: None,
                traceparent: None,
            }),
            claim: None,
            means: Arc::new(means(fake)),
            cancel: CancellationToken::new(),
            committed: Arc::default(),
        }
    }

    /// The bodies that were put on the queue, and the objects that were stored.
    fn sent(fake: &FakeAws) -> (Vec<Value>, Vec<String>) {
        let calls = fake.calls();
        let sends = calls.iter().filter(|(call, _)| call == "SendMessage");
        let puts = calls.iter().filter_map(|(call, _)| call.strip_prefix("PUT /payloads/"));
        let key = |rest: &str| rest.split('?').next().unwrap().to_owned();
        (sends.map(|(_, body)| body.clone()).collect(), puts.map(key).collect())
    }

    #[tokio::test]
    async fn what_a_job_sends_is_of_its_trace_and_a_body_over_the_limit_goes_by_way_of_s3() {
        let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let fake = FakeAws::new(|_, _| serde_json::json!({}));
        let mut lease = lease(&fake);
        Arc::make_mut(&mut lease.delivery).traceparent = Some(trace.to_owned());
        let large = format!("{{\"rest\":\"{}\"}}", "x".repeat(2 << 20));
        lease.send(&large).await.unwrap();
        lease.send_after(&large, Duration::from_secs(9)).await.unwrap();
        lease.send("{\"part\":\"\u{ffff}\"}").await.unwrap();
        let (sends, stored) = sent(&fake);
        assert_eq!(stored.len(), 2);
        for send in &sends[..2] {
            let pointer: Value =
                serde_json::from_str(send["MessageBody"].as_str().unwrap()).unwrap();
            assert_eq!(pointer["flotilla_payload"]["key"], stored[0].as_str());
        }
        assert_eq!(sends[1]["DelaySeconds"], 9);
        assert_eq!(sends[2]["MessageBody"], "{\"part\":\"\\uffff\"}");
        for send in &sends {
            assert_eq!(send["MessageAttributes"]["traceparent"]["StringValue"], trace);
        }
    }

    #[tokio::test]
    async fn what_is_for_the_first_queue_goes_there_wherever_its_message_came_from() {
        let fake = FakeAws::new(|_, _| serde_json::json!({}));
        let lease = lease(&fake);
        lease.send_to_first("{\"a\":1}").await.unwrap();
        lease.send("{\"a\":2}").await.unwrap();
        let (sends, _) = sent(&fake);
        let urls: Vec<_> = sends.iter().map(|send| send["QueueUrl"].as_str().unwrap()).collect();
        assert_eq!(urls, ["http://q/first", "http://q/main"]);
    }

    #[tokio::test]
    async fn the_first_queue_is_idle_where_nothing_is_on_it_or_in_hand() {
        let idle = async |visible: u64, in_flight: u64, own: bool| {
            let fake = FakeAws::new(move |_, _| {
                serde_json::json!({ "Attributes": {
                    "ApproximateNumberOfMessages": visible.to_string(),
                    "ApproximateNumberOfMessagesNotVisible": in_flight.to_string(),
                    "ApproximateNumberOfMessagesDelayed": "0",
                }})
            });
            let mut lease = lease(&fake);
            if own {
                let means = Arc::make_mut(&mut lease.means);
                means.queue = means.first.clone();
            }
            lease.is_first_idle().await.unwrap()
        };
        assert!(idle(0, 0, false).await && idle(0, 1, true).await);
        assert!(!idle(0, 1, false).await && !idle(1, 0, false).await && !idle(0, 2, true).await);
    }
}
