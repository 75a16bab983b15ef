//! The books of a run: what was sent, and where it stands.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt,
};

use aws_sdk_dynamodb::types::AttributeValue as Attr;
use aws_sdk_sqs::types::{
    ChangeMessageVisibilityBatchRequestEntry, Message, SendMessageBatchRequestEntry,
};
use futures::{StreamExt, stream};
use serde_json::Value;

use crate::{World, queues::Queues};

/// How long messages are out of sight while they are counted: longer than the counting takes.
const LOOKING_SECONDS: i32 = 300;

/// The messages of a run by the keys of their effects.
#[derive(Debug, Default)]
pub struct Books {
    sent: BTreeSet<String>,
    /// Those that nothing can come of: they belong on the dead-letter queue.
    bad: BTreeSet<String>,
    dead: BTreeSet<String>,
    /// The queues of the run, where they are not the stack's for grading.
    queues: Option<Queues>,
}

/// Where every key of a run stands, each counted once.
#[derive(Debug)]
pub struct Standing {
    sent: usize,
    effects: usize,
    dead: usize,
    queued: usize,
    /// Messages that were received and neither deleted nor handed back.
    pub in_flight: u64,
    /// Keys that are nowhere.
    pub lost: Vec<String>,
    /// Keys whose effect happened more than once, with how often.
    pub doubled: BTreeMap<String, u64>,
    /// Good keys that are on the dead-letter queue.
    pub wrongly_dead: Vec<String>,
    /// Keys of messages that can have no effect, and have one.
    pub wrongly_done: Vec<String>,
    /// Keys with an effect that are on the dead-letter queue too.
    pub dead_and_done: Vec<String>,
}

impl Standing {
    /// Fails unless all of what must hold at the end of a run does.
    ///
    /// # Panics
    /// When it does not.
    pub fn check(&self) {
        self.check_but_for_deaths();
        assert!(self.wrongly_dead.is_empty(), "dead-lettered: {self} {:?}", self.wrongly_dead);
    }

    /// The same of a run whose deaths of workers may use up a message's attempts.
    ///
    /// # Panics
    /// When something of it does not hold.
    pub fn check_but_for_deaths(&self) {
        assert!(self.lost.is_empty(), "lost: {self} {:?}", self.lost);
        assert!(self.doubled.is_empty(), "happened twice: {self} {:?}", self.doubled);
        assert_eq!(self.in_flight, 0, "stranded in flight: {self}");
        assert!(self.dead_and_done.is_empty(), "both: {self} {:?}", self.dead_and_done);
        assert!(self.wrongly_done.is_empty(), "happened: {self} {:?}", self.wrongly_done);
        assert_eq!(self.sent, self.effects + self.dead + self.queued, "not conserved: {self}");
    }

    /// How many keys still wait on the queue.
    pub fn queued(&self) -> usize {
        self.queued
    }
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { sent, effects, dead, queued, in_flight, .. } = self;
        write!(
            f,
            "{sent} sent = {effects} effects + {dead} dead-lettered + {queued} queued + \
             {in_flight} in flight"
        )
    }
}

/// The effect key of a body: unparsable ones are `not JSON: KEY`.
fn key(body: &str) -> String {
    let parsed = serde_json::from_str::<Value>(body).ok();
    let id = parsed.as_ref().and_then(|value| value["id"].as_str());
    id.or(body.strip_prefix("not JSON: ")).expect("a message of this run").to_owned()
}

impl Books {
    /// Of a run on queues beside the stack's.
    pub fn of(queues: &Queues) -> Self {
        Self { queues: Some(queues.clone()), ..Self::default() }
    }

    /// The URLs of the queue and of its dead-letter queue.
    fn urls(&self, world: &World) -> [String; 2] {
        match &self.queues {
            Some(queues) => [queues.url.clone(), queues.dead_url.clone()],
            None => {
                let outputs = world.outputs();
                let dead = &outputs.grading_dead_letter_queue_url;
                [outputs.grading_queue_url.clone(), dead.clone()]
            }
        }
    }

    /// Writes a message down that is sent otherwise.
    pub fn note(&mut self, body: &str) {
        let bad = body.starts_with("not JSON") || body.contains("permanent");
        self.sent.insert(key(body));
        self.bad.extend(bad.then(|| key(body)));
    }

    /// Sends messages to the grading queue past the proxy, and writes them down.
    ///
    /// # Panics
    /// When the endpoint does not take one.
    pub async fn send(&mut self, world: &World, bodies: &[String]) {
        bodies.iter().for_each(|body| self.note(body));
        let batches = stream::iter(bodies.chunks(10)).map(|ten| send(world, ten));
        batches.buffer_unordered(4).collect::<Vec<()>>().await;
    }

    /// Counts: the effects in their table, the dead letters (and takes them), what is queued.
    pub async fn stand(&mut self, world: &World) -> Standing {
        let [url, dead] = self.urls(world);
        let in_flight = world.in_flight(&url).await;
        self.dead.extend(drained(world, &dead).await);
        let (queued, counts) = (peeked(world, &url).await, counts(world).await);
        self.standing(&queued, counts, in_flight)
    }

    /// Where every key stands, of what was found: what is queued, and how often each effect happened.
    fn standing(
        &self,
        queued: &BTreeSet<String>,
        counts: BTreeMap<String, u64>,
        in_flight: u64,
    ) -> Standing {
        let done: BTreeSet<_> = counts.keys().cloned().collect();
        let dead: BTreeSet<_> = self.dead.difference(&done).cloned().collect();
        let ended: BTreeSet<_> = done.union(&dead).cloned().collect();
        let known: BTreeSet<_> = ended.union(queued).cloned().collect();
        let good_dead = self.dead.difference(&self.bad);
        Standing {
            sent: self.sent.len(),
            effects: done.len(),
            dead: dead.len(),
            queued: queued.difference(&ended).count(),
            in_flight,
            lost: self.sent.difference(&known).cloned().collect(),
            doubled: counts.into_iter().filter(|(_, times)| *times != 1).collect(),
            wrongly_dead: good_dead.cloned().collect(),
            dead_and_done: self.dead.intersection(&done).cloned().collect(),
            wrongly_done: done.intersection(&self.bad).cloned().collect(),
        }
    }
}

async fn send(world: &World, bodies: &[String]) {
    let entries = bodies.iter().enumerate().map(|(index, body)| {
        let entry = SendMessageBatchRequestEntry::builder().id(index.to_string());
        entry.message_body(body).build().expect("an entry")
    });
    let call = world.aws.sqs.send_message_batch().queue_url(&world.outputs().grading_queue_url);
    let answer = call.set_entries(Some(entries.collect())).send().await.expect("SendMessageBatch");
    assert!(answer.failed().is_empty(), "{:?}", answer.failed());
}

/// How often each effect happened.
async fn counts(world: &World) -> BTreeMap<String, u64> {
    let table = &world.outputs().submissions_table_name;
    let call = world.aws.dynamo.scan().table_name(table).consistent_read(true);
    let mut rows = call.into_paginator().items().send();
    let (mut counts, mut next) = (BTreeMap::new(), rows.next().await);
    while let Some(row) = next {
        let row: HashMap<String, Attr> = row.expect("Scan");
        // A row that notes an order has no count.
        if let Some(times) = row.get("times") {
            let times = times.as_n().expect("a number").parse().expect("a number");
            counts.insert(row["subid"].as_s().expect("a key").clone(), times);
        }
        next = rows.next().await;
    }
    counts
}

/// The keys on the queue, which stays as it is.
async fn peeked(world: &World, url: &str) -> BTreeSet<String> {
    let (mut keys, mut handles) = (BTreeSet::new(), Vec::new());
    loop {
        let messages = receive(world, url).await;
        if messages.is_empty() {
            break;
        }
        for message in messages {
            keys.insert(key(message.body().expect("a body")));
            handles.extend(message.receipt_handle);
        }
    }
    for ten in handles.chunks(10) {
        let entries = ten.iter().enumerate().map(|(index, handle)| {
            let entry = ChangeMessageVisibilityBatchRequestEntry::builder().id(index.to_string());
            entry.receipt_handle(handle).visibility_timeout(0).build().expect("an entry")
        });
        let call = world.aws.sqs.change_message_visibility_batch().queue_url(url);
        let answer = call.set_entries(Some(entries.collect())).send().await;
        assert!(answer.expect("ChangeMessageVisibilityBatch").failed().is_empty());
    }
    keys
}

/// The keys on a queue, which is empty then.
async fn drained(world: &World, url: &str) -> BTreeSet<String> {
    let mut keys = BTreeSet::new();
    loop {
        let messages = receive(world, url).await;
        if messages.is_empty() {
            return keys;
        }
        for message in messages {
            let handle = message.receipt_handle().expect("a handle");
            let delete = world.aws.sqs.delete_message().queue_url(url).receipt_handle(handle);
            delete.send().await.expect("DeleteMessage");
            keys.insert(key(message.body().expect("a body")));
        }
    }
}

async fn receive(world: &World, url: &str) -> Vec<Message> {
    let call = world.aws.sqs.receive_message().queue_url(url).max_number_of_messages(10);
    let call = call.visibility_timeout(LOOKING_SECONDS).wait_time_seconds(1);
    call.send().await.expect("ReceiveMessage").messages.unwrap_or_default()
}

#[cfg(test)]
mod tests;
