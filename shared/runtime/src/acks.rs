//! Acknowledgements: deletes and visibility changes, sent ten to a call.

use std::{sync::Arc, time::Duration};

use tokio::{sync::mpsc, task::JoinSet, time::Instant};

use crate::{
    failure::Failure,
    queue::{BATCH, Queue, Refused},
    retry::RetryPolicy,
};

/// How long an acknowledgement waits for others to share its call. The message's job is over by
/// then and its slot free, so this costs no throughput.
const LINGER: Duration = Duration::from_millis(50);
/// Tries of one batch before its messages are left to redelivery, which the ledger makes safe.
const TRIES: u32 = 8;

/// How a message leaves our hands.
#[derive(Debug, Clone)]
enum Ack {
    Delete(String),
    Visible(String, Duration),
}

/// The way to the acknowledging task; the task ends when all of these are dropped.
#[derive(Debug, Clone)]
pub(crate) struct Acks(mpsc::UnboundedSender<Ack>);

impl Acks {
    /// Starts the task. Awaiting its handle after the last `Acks` is dropped flushes all.
    pub(crate) fn start(queue: Queue) -> (Self, tokio::task::JoinHandle<()>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Self(sender), tokio::spawn(collect(Arc::new(queue), receiver)))
    }

    pub(crate) fn delete(&self, handle: String) {
        self.push(Ack::Delete(handle));
    }

    pub(crate) fn visible_after(&self, handle: String, delay: Duration) {
        self.push(Ack::Visible(handle, delay));
    }

    fn push(&self, ack: Ack) {
        // The task lives as long as any sender, so this fails only while the process is torn down.
        if self.0.send(ack).is_err() {
            tracing::error!("the acknowledging task is gone: the message will be delivered again");
        }
    }
}

async fn collect(queue: Arc<Queue>, mut acks: mpsc::UnboundedReceiver<Ack>) {
    let mut calls = JoinSet::new();
    while let Some(first) = acks.recv().await {
        let (mut deletes, mut visibles) = (Vec::new(), Vec::new());
        let deadline = Instant::now() + LINGER;
        let mut next = Some(first);
        while let Some(ack) = next {
            match ack {
                Ack::Delete(handle) => deletes.push(handle),
                Ack::Visible(handle, delay) => visibles.push((handle, delay)),
            }
            let full = deletes.len() >= BATCH || visibles.len() >= BATCH;
            next = if full { None } else { before(deadline, &mut acks).await };
        }
        calls.spawn(send(queue.clone(), deletes, visibles));
        while calls.try_join_next().is_some() {}
    }
    calls.join_all().await;
}

async fn before(deadline: Instant, acks: &mut mpsc::UnboundedReceiver<Ack>) -> Option<Ack> {
    tokio::time::timeout_at(deadline, acks.recv()).await.ok().flatten()
}

async fn send(queue: Arc<Queue>, deletes: Vec<String>, visibles: Vec<(String, Duration)>) {
    let queue = &queue;
    let deletes = retried("delete", deletes, |handles| async move { queue.delete(&handles).await });
    let visibles = retried("visibility change", visibles, |entries| async move {
        queue.change_visibility(&entries).await
    });
    tokio::join!(deletes, visibles);
}

/// Sends a batch until every entry is accepted or refused for good: only entries that failed
/// through no fault of the request are sent again.
async fn retried<T: Clone, F>(what: &str, mut entries: Vec<T>, call: impl Fn(Vec<T>) -> F)
where
    F: Future<Output = Result<Vec<Refused>, Failure>>,
{
    for attempt in 1..=TRIES {
        if entries.is_empty() {
            return;
        }
        match call(entries.clone()).await {
            Ok(refused) => entries = worth_retrying(what, &entries, &refused),
            Err(failure) => tracing::warn!(%failure, what, "a batch call failed"),
        }
        if !entries.is_empty() {
            tokio::time::sleep(RetryPolicy::CALL.delay(attempt)).await;
        }
    }
    if !entries.is_empty() {
        tracing::error!(what, left = entries.len(), "given up: these messages are delivered again");
    }
}

fn worth_retrying<T: Clone>(what: &str, entries: &[T], refused: &[Refused]) -> Vec<T> {
    let (ours, theirs): (Vec<_>, Vec<_>) = refused.iter().partition(|r| r.sender_fault);
    for refused in ours {
        tracing::warn!(what, code = refused.code, "refused: the receipt handle is out of date");
    }
    theirs.iter().filter_map(|r| entries.get(r.index).cloned()).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn only_entries_that_failed_through_no_fault_of_the_request_are_sent_again() {
        let calls = Mutex::new(Vec::new());
        let refuse = |index, sender_fault| Refused { index, code: "c".into(), sender_fault };
        retried("delete", vec!["a", "b", "c"], |entries| {
            let mut calls = calls.lock().unwrap();
            calls.push(entries);
            let first = calls.len() == 1;
            let refused = if first { vec![refuse(1, false), refuse(2, true)] } else { vec![] };
            std::future::ready(Ok(refused))
        })
        .await;
        assert_eq!(*calls.lock().unwrap(), [vec!["a", "b", "c"], vec!["b"]]);
    }
}
