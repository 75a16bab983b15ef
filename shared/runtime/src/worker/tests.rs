mod ahead;
mod batches;
mod claims;
mod fifo;
mod leaving;
mod pauses;
mod queues;
mod series;
mod shelf;
mod stops;
mod tenants;

use std::{
    collections::VecDeque,
    sync::{
        Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use serde_json::{Value, json};
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep},
};

use super::*;
use crate::{
    config::Reader,
    failure::Failure,
    fake::{FakeAws, batch},
    job::{Delivery, Effect},
    lease::Lease,
};

/// Runs for as many seconds as its message says, and panics in `prepare` where that says so.
struct Sleeper(Arc<AtomicU32>);

#[derive(serde::Deserialize)]
struct Nap {
    seconds: f64,
    #[serde(default)]
    panic: bool,
    #[serde(default)]
    fail: bool,
}

impl Job for Sleeper {
    const NAME: &'static str = "sleeper";
    type Message = Nap;
    type Work = Nap;

    async fn prepare(&self, nap: Nap, _: &Delivery) -> Result<(Effect, Nap), Failure> {
        assert!(!nap.panic, "as ordered");
        Ok((Effect::Idempotent, nap))
    }

    async fn run(&self, nap: Nap, _: &Lease) -> Result<(), Failure> {
        self.0.fetch_add(1, Ordering::SeqCst);
        sleep(Duration::from_secs_f64(nap.seconds)).await;
        if nap.fail { Err(Failure::transient("ordered", "as ordered")) } else { Ok(()) }
    }
}

/// What a receive brings: after how many seconds, which messages.
type Receive = (f64, Vec<Value>);

fn message(id: &str, handle: &str, body: Value) -> Value {
    received(id, handle, body, 1)
}

fn received(id: &str, handle: &str, body: Value, count: u32) -> Value {
    json!({
        "MessageId": id,
        "ReceiptHandle": handle,
        "Body": body.to_string(),
        "Attributes": { "ApproximateReceiveCount": count.to_string() },
    })
}

/// A queue that answers receives as told, and then with empty long polls.
fn fake(receives: Vec<Receive>, acks: impl Fn(&Value) -> Value + Send + Sync + 'static) -> FakeAws {
    let receives = Mutex::new(VecDeque::from(receives));
    FakeAws::new(move |operation, body| match operation {
        "ReceiveMessage" => {
            let next = receives.lock().unwrap().pop_front();
            let (seconds, messages) = next.unwrap_or((20.0, Vec::new()));
            json!({ "__hang": seconds, "Messages": messages })
        }
        "DeleteMessageBatch" => acks(body),
        "ChangeMessageVisibilityBatch" => batch(body, &[]),
        _ => json!({}),
    })
}

struct Running {
    shutdown: CancellationToken,
    ended: JoinHandle<()>,
    health: Arc<Health>,
    runs: Arc<AtomicU32>,
}

fn start(fake: &FakeAws, grace: &'static str) -> Running {
    start_on(fake, "http://q/main", &[("FLOTILLA_GRACE_SECONDS", grace)])
}

fn start_on(fake: &FakeAws, url: &'static str, more: &[(&'static str, &'static str)]) -> Running {
    let (shutdown, worker) = (CancellationToken::new(), worker_on(fake, url, more));
    let (health, runs) = (worker.health.clone(), worker.job.0.clone());
    let ended = tokio::spawn(worker.consume(shutdown.clone()));
    Running { shutdown, ended, health, runs }
}

fn worker_on(
    fake: &FakeAws,
    url: &'static str,
    more: &[(&'static str, &'static str)],
) -> Arc<Worker<Sleeper>> {
    let known = [
        ("FLOTILLA_QUEUE_URL", url),
        ("FLOTILLA_LEDGER_TABLE", "ledger"),
        ("FLOTILLA_PAYLOADS_BUCKET", "payloads"),
        ("FLOTILLA_SLOTS", "4"),
    ];
    let mut settings = Reader::from_pairs(known.into_iter().chain(more.iter().copied()));
    let config = WorkerConfig::read(&mut settings);
    settings.finish().unwrap();
    let (course, job) = (Course::new(&config), Arc::new(Sleeper(Arc::default())));
    let queue = Queue::of(fake.sqs(), url, "http://q/dead");
    Worker::new(job, config, &fake.sdk(), vec![queue], course)
}

/// The entries of all calls of an operation: handle and, where it is one, the visibility.
fn entries(fake: &FakeAws, operation: &str) -> Vec<(String, Option<u64>)> {
    let calls = fake.calls().into_iter().filter(|(name, _)| name == operation);
    let entries = calls.flat_map(|(_, body)| body["Entries"].as_array().cloned().unwrap());
    let read = |e: Value| {
        (e["ReceiptHandle"].as_str().unwrap().to_owned(), e["VisibilityTimeout"].as_u64())
    };
    entries.map(read).collect()
}

fn nap(seconds: f64) -> Value {
    json!({ "seconds": seconds })
}

/// It is moved and allocated for every message: what seldom happens must not be part of it.
#[tokio::test]
async fn what_works_on_a_message_is_small() {
    let fake = fake(vec![(0.0, vec![message("m", "h", nap(0.0))])], |b| batch(b, &[]));
    let worker = worker_on(&fake, "http://q/main", &[]);
    let wait = Duration::ZERO;
    let received = worker.queues[0].receive(1, wait, wait, None).await.unwrap().remove(0);
    let size = Consumer::new(worker, 0).size_of_work(received);
    assert!(size <= 3072, "{size} bytes");
}

#[tokio::test(start_paused = true)]
async fn the_grace_is_counted_from_the_signal_not_from_the_end_of_the_long_poll() {
    let fake = fake(vec![(0.0, vec![message("m", "h", nap(600.0))])], |b| batch(b, &[]));
    let running = start(&fake, "5");
    sleep(Duration::from_secs(1)).await;
    running.shutdown.cancel();
    sleep(Duration::from_secs(6)).await;
    assert!(!running.ended.is_finished(), "the long poll is awaited");
    assert_eq!(entries(&fake, "ChangeMessageVisibilityBatch"), [("h".to_owned(), Some(0))]);
    running.ended.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_a_receive_brings_after_the_stop_is_handed_back_at_once() {
    let fake = fake(vec![(10.0, vec![message("m", "h", nap(1.0))])], |b| batch(b, &[]));
    let running = start(&fake, "60");
    sleep(Duration::from_secs(1)).await;
    running.shutdown.cancel();
    running.ended.await.unwrap();
    assert_eq!(running.runs.load(Ordering::SeqCst), 0);
    assert_eq!(entries(&fake, "ChangeMessageVisibilityBatch"), [("h".to_owned(), Some(0))]);
}

#[tokio::test(start_paused = true)]
async fn a_duplicate_that_comes_with_the_stop_is_not_handed_back_under_its_job() {
    let first = message("m", "h", nap(30.0));
    let again = message("m", "newer", nap(30.0));
    let fake = fake(vec![(0.0, vec![first]), (10.0, vec![again])], |b| batch(b, &[]));
    let running = start(&fake, "60");
    sleep(Duration::from_secs(1)).await;
    running.shutdown.cancel();
    running.ended.await.unwrap();
    assert_eq!(running.runs.load(Ordering::SeqCst), 1);
    assert_eq!(entries(&fake, "DeleteMessageBatch"), [("newer".to_owned(), None)]);
    let changed = entries(&fake, "ChangeMessageVisibilityBatch");
    assert!(changed.iter().all(|(_, visibility)| *visibility != Some(0)), "{changed:?}");
}

#[tokio::test(start_paused = true)]
async fn an_acknowledgement_that_fails_at_the_stop_is_sent_until_it_is_taken() {
    let failures = AtomicU32::new(0);
    let fake = fake(vec![(0.0, vec![message("m", "h", nap(1.0))])], move |body| {
        match failures.fetch_add(1, Ordering::SeqCst) {
            0 => json!({ "__hang": 600 }),
            1..4 => json!({ "__status": 500 }),
            4 => batch(body, &[(0, false)]),
            _ => batch(body, &[]),
        }
    });
    let running = start(&fake, "60");
    sleep(Duration::from_millis(500)).await;
    running.shutdown.cancel();
    running.ended.await.unwrap();
    assert!(fake.count("DeleteMessageBatch") >= 6, "{}", fake.count("DeleteMessageBatch"));
    assert_eq!(running.runs.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn a_message_that_comes_again_while_its_delete_is_repeated_only_brings_a_newer_handle() {
    let (first, again) = (message("m", "h", nap(0.0)), received("m", "newer", nap(0.0), 2));
    let fake = fake(vec![(0.0, vec![first]), (3.0, vec![again])], |body| {
        match body["Entries"][0]["ReceiptHandle"].as_str() {
            Some("newer") => batch(body, &[]),
            _ => json!({ "__status": 500 }),
        }
    });
    let running = start(&fake, "60");
    while !entries(&fake, "DeleteMessageBatch").contains(&("newer".to_owned(), None)) {
        sleep(Duration::from_millis(100)).await;
    }
    running.shutdown.cancel();
    running.ended.await.unwrap();
    assert_eq!(running.runs.load(Ordering::SeqCst), 1);
    assert_eq!(entries(&fake, "DeleteMessageBatch").last().unwrap().0, "newer");
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_prepare_is_one_failed_attempt() {
    let bad = json!({ "seconds": 0.0, "panic": true });
    let fake = fake(vec![(0.0, vec![message("m", "h", bad)])], |b| batch(b, &[]));
    let running = start(&fake, "60");
    sleep(Duration::from_secs(1)).await;
    running.shutdown.cancel();
    running.ended.await.unwrap();
    let changed = entries(&fake, "ChangeMessageVisibilityBatch");
    assert!(matches!(changed[..], [(_, Some(0..=2))]), "{changed:?}");
    assert_eq!(fake.count("SendMessage"), 0);
}

#[tokio::test(start_paused = true)]
async fn what_no_claim_counts_is_dead_lettered_with_its_reason_in_the_end() {
    for bad in [json!({ "seconds": 0, "fail": true }), json!({ "seconds": 0, "panic": true })] {
        let few = received("m", "few", bad.clone(), 899);
        let fake = fake(vec![(0.0, vec![few, received("n", "many", bad, 900)])], |b| batch(b, &[]));
        let running = start(&fake, "60");
        sleep(Duration::from_secs(1)).await;
        running.shutdown.cancel();
        running.ended.await.unwrap();
        assert_eq!(fake.count("SendMessage"), 1);
        assert_eq!(entries(&fake, "DeleteMessageBatch"), [("many".to_owned(), None)]);
    }
}

#[tokio::test(start_paused = true)]
async fn what_no_claim_counts_is_put_off_by_the_failures_that_were_seen_and_not_by_its_receives() {
    let bad = json!({ "seconds": 0.0, "fail": true });
    let receives = (300..303).map(|count| (1.0, vec![received("m", "h", bad.clone(), count)]));
    let fake = fake(receives.collect(), |b| batch(b, &[]));
    let running = start(&fake, "60");
    sleep(Duration::from_secs(5)).await;
    running.shutdown.cancel();
    running.ended.await.unwrap();
    let changed = entries(&fake, "ChangeMessageVisibilityBatch");
    let delays: Vec<_> = changed.iter().filter_map(|(_, delay)| *delay).collect();
    assert_eq!(delays.len(), 3, "{changed:?}");
    assert!(delays.iter().zip([2, 4, 8]).all(|(delay, ceiling)| *delay <= ceiling), "{delays:?}");
}

#[tokio::test(start_paused = true)]
async fn a_hung_receive_is_given_up_reported_and_tried_again() {
    let hung = vec![(1e6, vec![]), (1e6, vec![]), (2.0, vec![message("m", "h", nap(0.0))])];
    let fake = fake(hung, |b| batch(b, &[]));
    let (running, began) = (start(&fake, "60"), Instant::now());
    let ill = async {
        while running.health.trouble().is_none() {
            sleep(Duration::from_millis(100)).await;
        }
        began.elapsed().as_secs()
    };
    assert!((59..=62).contains(&ill.await), "two receives of 20 s and 10 s more have failed");
    assert!(running.health.unready().is_some());
    while running.health.unready().is_some() {
        sleep(Duration::from_millis(100)).await;
    }
    running.shutdown.cancel();
    running.ended.await.unwrap();
    assert_eq!(running.runs.load(Ordering::SeqCst), 1);
}
