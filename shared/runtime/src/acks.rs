//! Acknowledgements: deletes and visibility changes, gathered into batch calls.
//!
//! Every batch goes on its way at once, beside those before it. On a FIFO queue there is one
//! exception: what belongs to a group waits until the call before it for the same group has ended,
//! so that a group's messages leave in their order.

use std::{
    collections::{HashSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use tokio::{
    sync::mpsc,
    task::{JoinError, JoinSet},
    time::{Instant, sleep_until, timeout_at},
};

use crate::{
    failure::Failure,
    keeper::{Going, Keeper},
    queue::{BATCH, Queue, Refused},
    retry::RetryPolicy,
    tally,
};

/// How long an acknowledgement waits for others to share its call. The message's job is over by
/// then and its slot free, so this costs no throughput.
const LINGER: Duration = Duration::from_millis(50);
/// Tries of one batch before its messages are left to redelivery, which the ledger makes safe.
const TRIES: u32 = 8;

/// How a message leaves our hands.
#[derive(Debug, Clone)]
pub(crate) struct Ack {
    /// Its group, where its order counts.
    pub(crate) group: Option<String>,
    /// The message.
    pub(crate) going: Going,
    /// After how long it is visible again; `None` deletes it.
    pub(crate) visible_after: Option<Duration>,
    /// When it is visible by itself.
    pub(crate) until: Instant,
}

/// The way to the acknowledging task; the task ends when all of these are dropped.
#[derive(Debug, Clone)]
pub(crate) struct Acks {
    to: mpsc::UnboundedSender<Ack>,
    queue_url: Arc<str>,
}

impl Acks {
    /// Starts the task. Awaiting its handle after the last `Acks` is dropped flushes all.
    pub(crate) fn start(queue: Queue, keeper: Arc<Keeper>) -> (Self, tokio::task::JoinHandle<()>) {
        let (to, incoming) = mpsc::unbounded_channel();
        let queue_url = queue.url().into();
        let collector = Collector {
            queue: Arc::new(queue),
            keeper,
            incoming,
            open: true,
            waiting: VecDeque::new(),
            calls: JoinSet::new(),
            busy: HashSet::new(),
        };
        (Self { to, queue_url }, tokio::spawn(collector.run()))
    }

    pub(crate) fn push(&self, ack: Ack) {
        if ack.visible_after.is_none() {
            // Before its delete: afterwards its worker has said already that it holds it no more.
            tally::gone(&self.queue_url, 1);
        }
        // The task lives as long as any sender, so this fails only while the process is torn down.
        if self.to.send(ack).is_err() {
            tracing::error!("the acknowledging task is gone: the message will be delivered again");
        }
    }
}

struct Collector {
    queue: Arc<Queue>,
    keeper: Arc<Keeper>,
    incoming: mpsc::UnboundedReceiver<Ack>,
    open: bool,
    /// What has come and is on no call yet, in its order.
    waiting: VecDeque<Ack>,
    /// The calls on their way; each gives the groups that it was for.
    calls: JoinSet<Vec<String>>,
    /// The groups that a call is on its way for.
    busy: HashSet<String>,
}

/// A message that is to be visible after a while.
#[derive(Debug, Clone)]
struct Visible {
    handle: String,
    after: Duration,
    /// From when on it is by itself, and perhaps in another's hand.
    until: Instant,
}

/// What shares a call of each kind.
#[derive(Debug, Default)]
struct Batch {
    deletes: Vec<Going>,
    visibles: Vec<Visible>,
    groups: Vec<String>,
}

impl Batch {
    fn add(&mut self, ack: Ack) {
        match ack.visible_after {
            None => self.deletes.push(ack.going),
            Some(after) => {
                let Going { handle, .. } = ack.going;
                self.visibles.push(Visible { handle, after, until: ack.until });
            }
        }
        self.groups.extend(ack.group);
    }

    fn is_full(&self) -> bool {
        self.deletes.len() >= BATCH || self.visibles.len() >= BATCH
    }
}

impl Collector {
    async fn run(mut self) {
        while let Some(first) = self.next(None).await {
            let (mut batch, deadline) = (Batch::default(), Instant::now() + LINGER);
            batch.add(first);
            while !batch.is_full()
                && let Some(ack) = self.next(Some(deadline)).await
            {
                batch.add(ack);
            }
            self.busy.extend(batch.groups.iter().cloned());
            // In a box: it is as large as two calls, and a task is moved several times.
            self.calls.spawn(Box::pin(send(self.queue.clone(), self.keeper.clone(), batch)));
            while let Some(ended) = self.calls.try_join_next() {
                self.ended(ended);
            }
        }
    }

    /// The next that may share a call. `None` at the deadline, and, where there is none, when all
    /// has come and every call has ended.
    async fn next(&mut self, deadline: Option<Instant>) -> Option<Ack> {
        loop {
            while let Ok(ack) = self.incoming.try_recv() {
                self.waiting.push_back(ack);
            }
            if let Some(ack) = self.ready() {
                return Some(ack);
            }
            if !self.open && deadline.is_some() {
                return None;
            }
            tokio::select! {
                ack = self.incoming.recv(), if self.open => match ack {
                    Some(ack) => self.waiting.push_back(ack),
                    None => self.open = false,
                },
                Some(ended) = self.calls.join_next(), if !self.calls.is_empty() => self.ended(ended),
                () = until(deadline), if deadline.is_some() => return None,
                else => return None,
            }
        }
    }

    /// The first that no call on its way must end before.
    fn ready(&mut self) -> Option<Ack> {
        let free = |ack: &Ack| ack.group.as_ref().is_none_or(|group| !self.busy.contains(group));
        let place = self.waiting.iter().position(free)?;
        self.waiting.remove(place)
    }

    fn ended(&mut self, call: Result<Vec<String>, JoinError>) {
        for group in call.into_iter().flatten() {
            self.busy.remove(&group);
        }
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

async fn send(queue: Arc<Queue>, keeper: Arc<Keeper>, batch: Batch) -> Vec<String> {
    let queue = &queue;
    tokio::join!(delete(queue, &keeper, batch.deletes), show(queue, batch.visibles));
    batch.groups
}

/// Deletes messages, each by its newest handle: while a call is repeated, it may come again.
async fn delete(queue: &Queue, keeper: &Keeper, going: Vec<Going>) {
    let call = |going: Vec<Going>| async move {
        let answer = queue.delete(going.iter().map(|it| &*it.handle)).await;
        (going, answer)
    };
    let left = retried("delete", going, call, |going, again| keeper.left(going, again)).await;
    keeper.forget(&left);
}

/// Makes messages visible. Once they are visible by themselves there is nothing left to say of them.
async fn show(queue: &Queue, visibles: Vec<Visible>) {
    let Some(last) = visibles.iter().map(|it| it.until).max() else { return };
    let call = |entries: Vec<Visible>| async move {
        let answer = queue.change_visibility(entries.iter().map(|it| (&*it.handle, it.after)));
        let answer = answer.await;
        (entries, answer)
    };
    let change = retried("visibility change", visibles, call, again_alone);
    if timeout_at(last, change).await.is_err() {
        tracing::warn!("a visibility change was given up: the messages are visible by themselves");
    }
}

/// Those of the entries that are to be sent again.
fn again_alone<T>(entries: Vec<T>, again: &[bool]) -> Vec<T> {
    entries.into_iter().zip(again).filter_map(|(entry, again)| again.then_some(entry)).collect()
}

/// Sends a batch until every entry is accepted or refused for good: only entries that failed
/// through no fault of the request are sent again. `left` says what there is to send after a call,
/// given which entries that would be. Gives back what is given up.
async fn retried<T, F>(
    what: &str,
    mut entries: Vec<T>,
    call: impl Fn(Vec<T>) -> F,
    left: impl Fn(Vec<T>, &[bool]) -> Vec<T>,
) -> Vec<T>
where
    F: Future<Output = (Vec<T>, Result<Vec<Refused>, Failure>)>,
{
    for attempt in 1..=TRIES {
        if entries.is_empty() {
            return entries;
        }
        let (sent, answer) = call(entries).await;
        let again = match answer {
            Ok(refused) => worth_retrying(what, sent.len(), &refused),
            Err(failure) => {
                tracing::warn!(%failure, what, "a batch call failed");
                vec![true; sent.len()]
            }
        };
        entries = left(sent, &again);
        if !entries.is_empty() {
            tokio::time::sleep(RetryPolicy::CALL.delay(attempt)).await;
        }
    }
    if !entries.is_empty() {
        tracing::error!(what, left = entries.len(), "given up: these messages are delivered again");
    }
    entries
}

/// Which of so many entries are to be sent again.
fn worth_retrying(what: &str, entries: usize, refused: &[Refused]) -> Vec<bool> {
    let mut again = vec![false; entries];
    for Refused { index, code, sender_fault } in refused {
        if *sender_fault {
            tracing::warn!(what, code, "refused: the receipt handle is out of date");
        } else if let Some(again) = again.get_mut(*index) {
            *again = true;
        }
    }
    again
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::{advance::InAdvance, fake::FakeAws, ledger::Ledger, metrics::Meter};

    #[tokio::test(start_paused = true)]
    async fn a_hand_back_is_not_repeated_once_its_message_is_visible_by_itself() {
        let fake = FakeAws::new(|_, _| serde_json::json!({ "__hang": 3600 }));
        let queue = Queue::of(fake.sqs(), "http://q/main", "http://q/dead");
        let visibility = Duration::from_secs(60);
        let ledger = Ledger::new(fake.dynamo(), "ledger", "me", visibility);
        let ledger = (ledger, Arc::new(InAdvance::new("w")));
        let keeper = Keeper::new(queue.clone(), ledger, visibility, Meter::new("http://q/main"));
        let (begun, (acks, flushed)) = (Instant::now(), Acks::start(queue, keeper));
        let left = Duration::from_secs(15);
        acks.push(Ack {
            group: None,
            going: Going { id: "m".to_owned(), handle: "h".to_owned() },
            visible_after: Some(Duration::ZERO),
            until: begun + left,
        });
        drop(acks);
        flushed.await.unwrap();
        assert!(begun.elapsed() <= left + LINGER, "{:?}", begun.elapsed());
        assert!(fake.count("ChangeMessageVisibilityBatch") > 0);
    }

    #[tokio::test(start_paused = true)]
    async fn only_entries_that_failed_through_no_fault_of_the_request_are_sent_again() {
        let calls = Mutex::new(Vec::new());
        let refuse = |index, sender_fault| Refused { index, code: "c".into(), sender_fault };
        let call = |entries: Vec<&'static str>| {
            let mut calls = calls.lock().unwrap();
            calls.push(entries.clone());
            let first = calls.len() == 1;
            let refused = if first { vec![refuse(1, false), refuse(2, true)] } else { vec![] };
            std::future::ready((entries, Ok(refused)))
        };
        let left = retried("delete", vec!["a", "b", "c"], call, again_alone).await;
        assert!(left.is_empty());
        assert_eq!(*calls.lock().unwrap(), [vec!["a", "b", "c"], vec!["b"]]);
    }
}
