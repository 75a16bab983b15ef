//! Jobs in batches, from the receive to the acknowledgement.

use super::*;
use crate::batch::{BatchJob, Batched};

/// Panics at a batch with a message that says so.
struct Fragile;

impl BatchJob for Fragile {
    const NAME: &'static str = "fragile";
    type Message = Nap;

    async fn run(&self, batch: &[(Nap, Delivery)]) -> Vec<Result<(), Failure>> {
        assert!(!batch.iter().any(|(nap, _)| nap.panic), "as ordered");
        batch.iter().map(|_| Ok(())).collect()
    }
}

fn fragile(fake: &FakeAws) -> Arc<Worker<Batched<Fragile>>> {
    let mut settings = Reader::from_pairs([
        ("FLOTILLA_QUEUE_URL", "http://q/main"),
        ("FLOTILLA_LEDGER_TABLE", "ledger"),
        ("FLOTILLA_PAYLOADS_BUCKET", "payloads"),
        ("FLOTILLA_SLOTS", "10"),
    ]);
    let config = WorkerConfig::read(&mut settings);
    settings.finish().unwrap();
    let (course, job) = (Course::new(&config), Arc::new(Batched::new(Fragile)));
    let queue = Queue::of(fake.sqs(), "http://q/main", "http://q/dead");
    Worker::new(job, config, &fake.sdk(), vec![queue], course)
}

#[tokio::test(start_paused = true)]
async fn one_poisonous_message_of_ten_fails_and_retries_none_of_the_other_nine() {
    let poison = |n: u32| match n {
        3 => json!({ "seconds": 0.0, "panic": true }),
        6 => json!("no nap"),
        _ => nap(0.0),
    };
    let ten: Vec<_> = (0..10).map(|n| message(&n.to_string(), &n.to_string(), poison(n))).collect();
    let fake = fake(vec![(0.0, ten)], |b| batch(b, &[]));
    let shutdown = CancellationToken::new();
    let consuming = tokio::spawn(fragile(&fake).consume(shutdown.clone()));
    sleep(Duration::from_secs(1)).await;
    shutdown.cancel();
    consuming.await.unwrap();
    let handles = |operation| -> Vec<String> {
        let mut all: Vec<_> = entries(&fake, operation).into_iter().map(|it| it.0).collect();
        all.sort();
        all
    };
    assert_eq!(handles("DeleteMessageBatch"), ["0", "1", "2", "4", "5", "6", "7", "8", "9"]);
    assert_eq!(handles("ChangeMessageVisibilityBatch"), ["3"], "the one that panics comes again");
    assert_eq!(fake.count("SendMessage"), 1, "the one that is no message is a dead letter");
}
