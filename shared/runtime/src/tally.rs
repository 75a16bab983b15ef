//! What this process puts on queues, and takes off them for good.
//!
//! SQS counts what is on a queue, roughly and late, and tells nobody in time what was sent. So
//! whoever sends says so here ([`sent`]), and what a worker is done with is counted by the runtime.
//! Both are counts of the process, from its start. [`telling`] writes down what it sent, in a row of
//! the fleet table for each queue: about once a second while it grows, and at the end. What a worker
//! took off stands in its own row (see [`presence`](crate::presence)). An autoscaler adds up the steps.
//!
//! A message is counted after SQS took it. A process that is killed between the two has sent one more
//! than it says, and one call that SQS took twice is one message too few here: whoever adds up the
//! counts must see from SQS's own, now and then, that they are wrong.

use std::{
    collections::BTreeMap,
    future::Future,
    pin::pin,
    sync::{Mutex, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use aws_sdk_dynamodb::{Client, types::AttributeValue as Attr};
use tokio::time::Instant;

use crate::{config::default_worker_id, failure::chain};

/// How often it is written down, while it grows.
const EVERY: Duration = Duration::from_secs(1);
/// How often it is while it does not, so that the row stays.
const STAYS: Duration = Duration::from_secs(3600);
/// A row that nobody writes any more is removed after this.
const ROW_LIFE: Duration = Duration::from_secs(24 * 3600);
/// How long the end of a process waits for its last row.
const LAST: Duration = Duration::from_secs(3);

static COUNTS: Counts = Counts(Mutex::new(BTreeMap::new()));

/// Notes that SQS took so many messages for the queue of this URL.
pub fn sent(queue_url: &str, messages: u64) {
    COUNTS.of(queue_url, |count| count.sent += messages);
}

/// Notes that so many messages of the queue of this URL will not come again: they are done with, or
/// dead-lettered.
pub(crate) fn gone(queue_url: &str, messages: u64) {
    COUNTS.of(queue_url, |count| count.gone += messages);
}

/// How many messages of a queue this process is done with.
pub(crate) fn gone_of(queue_url: &str) -> u64 {
    COUNTS.of(queue_url, |count| count.gone)
}

/// Under what the rows of a queue's senders stand in the fleet table, each under its own name, as
/// `group`: no Auto Scaling group has a colon in its name.
pub fn group_of(queue: &str) -> String {
    format!("sent:{queue}")
}

/// The name of a queue: the last part of its URL.
pub(crate) fn queue_name(url: &str) -> &str {
    url.rsplit('/').next().unwrap_or(url)
}

/// Tells what this process sends in this table while its `work` lasts, and once more afterwards;
/// nobody, where there is none.
pub async fn telling<T>(table: Option<&str>, dynamo: Client, work: impl Future<Output = T>) -> T {
    let Some(table) = table else { return work.await };
    let mut teller = Teller::new(dynamo, table, &COUNTS);
    let mut work = pin!(work);
    let done = loop {
        tokio::select! {
            done = &mut work => break done,
            () = tokio::time::sleep(EVERY) => {}
        }
        // Beside the work, and not in its way: the table may not answer.
        tokio::select! {
            done = &mut work => break done,
            () = teller.tell() => {}
        }
    };
    if tokio::time::timeout(LAST, teller.tell()).await.is_err() {
        tracing::warn!(table, "what was sent last was not written down in time");
    }
    done
}

/// By the queue's name.
#[derive(Debug)]
struct Counts(Mutex<BTreeMap<String, Count>>);

#[derive(Debug, Clone, Copy, Default)]
struct Count {
    sent: u64,
    gone: u64,
}

impl Counts {
    fn of<T>(&self, queue_url: &str, change: impl FnOnce(&mut Count) -> T) -> T {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let name = queue_name(queue_url);
        match all.get_mut(name) {
            Some(count) => change(count),
            None => change(all.entry(name.to_owned()).or_default()),
        }
    }

    fn sent(&self) -> Vec<(String, u64)> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let sent = all.iter().filter(|(_, count)| count.sent > 0);
        sent.map(|(name, count)| (name.clone(), count.sent)).collect()
    }
}

/// Writes the rows.
#[derive(Debug)]
struct Teller {
    client: Client,
    table: String,
    /// This process, and no other that ever was.
    sender: String,
    counts: &'static Counts,
    /// What was told of each queue, and when.
    told: BTreeMap<String, (u64, Instant)>,
}

impl Teller {
    fn new(client: Client, table: &str, counts: &'static Counts) -> Self {
        let sender = format!("{}-{}", default_worker_id(), uuid::Uuid::new_v4().simple());
        Self { client, table: table.to_owned(), sender, counts, told: BTreeMap::new() }
    }

    /// Writes down what is new. What fails is written the next time: a row holds the whole count.
    async fn tell(&mut self) {
        for (queue, sent) in self.counts.sent() {
            let told = self.told.get(&queue);
            if told.is_some_and(|(count, at)| *count == sent && at.elapsed() < STAYS) {
                continue;
            }
            let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            let number = |value: u64| Attr::N(value.to_string());
            let call = self.client.put_item().table_name(&self.table);
            let call = call.item("group", Attr::S(group_of(&queue)));
            let call = call.item("instance", Attr::S(self.sender.clone()));
            let call = call.item("sent", number(sent)).item("at", number(at.as_millis() as u64));
            let call = call.item("expires_at", number((at + ROW_LIFE).as_secs()));
            match call.send().await {
                Ok(_) => drop(self.told.insert(queue, (sent, Instant::now()))),
                Err(error) => {
                    let (error, table) = (chain(&error), &self.table);
                    tracing::warn!(error, table, queue, "what was sent was not written down");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::fake::FakeAws;

    /// What was written of a queue, row by row: sender and count.
    fn rows(fake: &FakeAws, queue: &str) -> Vec<(String, u64)> {
        let puts = fake.calls().into_iter().filter(|(name, _)| name == "PutItem");
        let items = puts.map(|(_, body)| body["Item"].clone());
        let own = items.filter(|item| item["group"]["S"] == group_of(queue));
        let word = |it: &serde_json::Value| it.as_str().unwrap().to_owned();
        own.map(|it| (word(&it["instance"]["S"]), word(&it["sent"]["N"]).parse().unwrap()))
            .collect()
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_sent_is_written_once_a_second_while_it_grows_and_at_the_end() {
        let fake = FakeAws::new(|_, _| json!({}));
        let work = async {
            for _ in 0..30 {
                sent("http://q/1/tally-a", 2);
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            tokio::time::sleep(Duration::from_secs(60)).await;
            let told = rows(&fake, "tally-a");
            assert!((3..=4).contains(&told.len()), "{told:?}");
            assert_eq!(told.last().unwrap().1, 60);
            sent("http://q/1/tally-a", 5);
        };
        telling(Some("fleet"), crate::aws::dynamo_client(&fake.sdk()), work).await;
        let told = rows(&fake, "tally-a");
        assert_eq!(told.last().unwrap().1, 65, "what was sent last is written at the end");
        assert!(told.is_sorted_by_key(|(_, count)| *count), "{told:?}");
        assert!(told.iter().all(|(sender, _)| *sender == told[0].0), "one row for the process");
    }

    #[tokio::test(start_paused = true)]
    async fn what_could_not_be_written_is_written_later_and_whole() {
        let fake = FakeAws::new(|_, _| json!({ "__status": 400, "__type": "X" }));
        let counts: &'static Counts = Box::leak(Box::new(Counts(Mutex::default())));
        let mut teller = Teller::new(crate::aws::dynamo_client(&fake.sdk()), "fleet", counts);
        counts.of("http://q/1/b", |count| count.sent += 3);
        teller.tell().await;
        counts.of("http://q/1/b", |count| count.sent += 4);
        teller.tell().await;
        let told: Vec<u64> = rows(&fake, "b").into_iter().map(|(_, sent)| sent).collect();
        assert_eq!(told, [3, 7]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_row_stays_for_as_long_as_its_process_and_those_of_two_are_two() {
        let fake = FakeAws::new(|_, _| json!({}));
        let counts: &'static Counts = Box::leak(Box::new(Counts(Mutex::default())));
        counts.of("http://q/1/c", |count| count.sent += 1);
        let client = crate::aws::dynamo_client(&fake.sdk());
        let mut teller = Teller::new(client.clone(), "fleet", counts);
        teller.tell().await;
        tokio::time::sleep(STAYS - EVERY).await;
        teller.tell().await;
        assert_eq!(rows(&fake, "c").len(), 1);
        tokio::time::sleep(EVERY).await;
        teller.tell().await;
        Teller::new(client, "fleet", counts).tell().await;
        let told = rows(&fake, "c");
        assert!(told.len() == 3 && told[0] == told[1] && told[1].0 != told[2].0, "{told:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn work_is_not_held_up_by_a_table_that_does_not_answer() {
        let fake = FakeAws::new(|_, _| json!({ "__hang": 3600 }));
        let begun = Instant::now();
        sent("http://q/1/tally-d", 1);
        let work = tokio::time::sleep(Duration::from_secs(20));
        telling(Some("fleet"), crate::aws::dynamo_client(&fake.sdk()), work).await;
        assert!(begun.elapsed() <= Duration::from_secs(24), "{:?}", begun.elapsed());
    }
}
