//! How long a stop takes at the most.

use super::*;
use crate::drain::BOUND;

/// A worker that has a message in hand when everything but receives that wait hangs.
async fn stopped_while_all_hangs(grace: &'static str, wait: &'static str) -> Duration {
    let given = AtomicU32::new(0);
    let fake = FakeAws::new(move |operation, _| match operation {
        "ReceiveMessage" if given.fetch_add(1, Ordering::SeqCst) == 0 => {
            json!({ "Messages": [message("m", "h", nap(600.0)), message("n", "i", nap(3.0))] })
        }
        "BatchGetItem" => json!({}),
        _ => json!({ "__hang": 3600 }),
    });
    let more = [("FLOTILLA_GRACE_SECONDS", grace), ("FLOTILLA_WAIT_SECONDS", wait)];
    let running = start_on(&fake, "http://q/main", &more);
    sleep(Duration::from_secs(2)).await;
    running.shutdown.cancel();
    let asked = Instant::now();
    running.ended.await.unwrap();
    assert!(fake.count("ChangeMessageVisibilityBatch") > 0, "the hand-back was tried");
    asked.elapsed()
}

#[tokio::test(start_paused = true)]
async fn a_stop_ends_within_its_budget_and_a_small_bound_while_sqs_hangs() {
    for (grace, wait, budget) in [("5", "1", 5), ("5", "20", 20), ("30", "20", 30)] {
        let took = stopped_while_all_hangs(grace, wait).await;
        let most = Duration::from_secs(budget) + BOUND + Duration::from_millis(100);
        assert!(took <= most, "grace {grace}, wait {wait}: {took:?}");
    }
}

/// A worker with a grace of 5 s that is ordered to drain with a job of a minute in hand.
fn ordered() -> (FakeAws, Arc<Worker<Sleeper>>) {
    let fake = fake(vec![(0.0, vec![message("m", "h", nap(60.0))])], |b| batch(b, &[]));
    let more = [("FLOTILLA_GRACE_SECONDS", "5"), ("FLOTILLA_WAIT_SECONDS", "1")];
    let worker = worker_on(&fake, "http://q/main", &more);
    (fake, worker)
}

#[tokio::test(start_paused = true)]
async fn an_order_of_the_autoscaler_cuts_no_job_off() {
    let (fake, worker) = ordered();
    let drain = worker.drain.clone();
    let running = tokio::spawn(worker.consume(CancellationToken::new()));
    sleep(Duration::from_secs(2)).await;
    drain.begin_without_deadline("the autoscaler's order");
    running.await.unwrap();
    assert_eq!(entries(&fake, "DeleteMessageBatch"), [("h".to_owned(), None)]);
}

#[tokio::test(start_paused = true)]
async fn a_signal_bounds_a_drain_that_began_without_a_deadline() {
    let (fake, worker) = ordered();
    let (drain, shutdown) = (worker.drain.clone(), CancellationToken::new());
    let running = tokio::spawn(worker.consume(shutdown.clone()));
    sleep(Duration::from_secs(2)).await;
    drain.begin_without_deadline("the autoscaler's order");
    sleep(Duration::from_secs(10)).await;
    let asked = Instant::now();
    shutdown.cancel();
    running.await.unwrap();
    assert!(asked.elapsed() < Duration::from_secs(5) + BOUND, "{:?}", asked.elapsed());
    assert!(entries(&fake, "DeleteMessageBatch").is_empty(), "it was handed back");
}
