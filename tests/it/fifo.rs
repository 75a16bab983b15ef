//! A FIFO queue keeps the order of its groups, and one group's trouble is not another's.

use std::time::{Duration, Instant};

use flotilla_tests::{Queues, World, eventually};
use serde_json::{Value, json};

use crate::scripted::{Running, times};

async fn start(world: &World, queues: &Queues, more: &[(&str, &str)]) -> Running {
    let own = [("FLOTILLA_QUEUE_URL", queues.url.as_str()), ("FLOTILLA_SLOTS", "4")];
    Running::start(world, &[&own, more].concat()).await
}

async fn send(world: &World, queues: &Queues, group: &str, id: &str, more: Value) {
    let mut order = json!({ "id": id });
    order.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    queues.send(&world.aws, Some(group), &order.to_string()).await;
}

async fn until_empty(world: &World, queues: &Queues) {
    eventually("an empty queue", Duration::from_secs(60), async || {
        (world.left_on(&queues.url).await == 0).then_some(())
    })
    .await;
}

/// The effects of a group, in the order that they happened in.
fn done(worker: &Running, group: &str) -> Vec<String> {
    let done = worker.done.lock().unwrap();
    done.iter().filter(|id| id.starts_with(group)).cloned().collect()
}

#[tokio::test]
async fn a_group_keeps_its_order_through_failures_and_panics_while_others_go_on() {
    let world = World::new().await;
    let queues = world.fifo_queues().await;
    for n in 0..6 {
        let first = match n {
            0 => json!({ "first": ["transient", "panic"] }),
            3 => json!({ "first": ["panic"] }),
            _ => json!({}),
        };
        send(&world, &queues, "a", &format!("a{n}"), first).await;
        send(&world, &queues, "b", &format!("b{n}"), json!({})).await;
    }
    // A second of delay is SQS's least, and a failure's ceiling here; b has none to wait for.
    let worker = start(&world, &queues, &[("FLOTILLA_RETRY_FIRST_SECONDS", "3")]).await;
    let begun = Instant::now();
    eventually("group b", Duration::from_secs(30), async || {
        (done(&worker, "b").len() == 6).then_some(())
    })
    .await;
    println!("group b was done after {:?}", begun.elapsed());
    until_empty(&world, &queues).await;
    for group in ["a", "b"] {
        let order: Vec<_> = (0..6).map(|n| format!("{group}{n}")).collect();
        assert_eq!(done(&worker, group), order);
    }
    // Three failures, and nothing that waited behind them was an attempt.
    assert_eq!(worker.stop().await, 12 + 3);
    for row in world.ledger().await {
        let attempts = row["attempts"].as_n().unwrap().parse::<u32>().unwrap();
        let expected = match row["effect"].as_s().unwrap().as_str() {
            "scripted/a0" => 3,
            "scripted/a3" => 2,
            _ => 1,
        };
        assert_eq!(attempts, expected, "{row:?}");
    }
}

#[tokio::test]
async fn a_message_that_cannot_be_done_goes_to_the_fifo_dead_letter_queue_and_its_group_goes_on() {
    let world = World::new().await;
    let queues = world.fifo_queues().await;
    send(&world, &queues, "a", "a0", json!({})).await;
    send(&world, &queues, "a", "a1", json!({ "always": "permanent" })).await;
    queues.send(&world.aws, Some("a"), "not JSON").await;
    send(&world, &queues, "a", "a2", json!({})).await;
    let worker = start(&world, &queues, &[]).await;
    until_empty(&world, &queues).await;
    assert_eq!(done(&worker, "a"), ["a0", "a2"]);
    assert_eq!(worker.stop().await, 3);
    let letters = world.dead_letters_on(&queues.dead_url, 2).await;
    let kinds: Vec<_> = letters.iter().map(|letter| letter.why["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["ordered", "unparsable"], "in their order");
}

#[tokio::test]
async fn a_stop_in_the_middle_of_a_group_leaves_the_rest_to_the_next_worker_in_order() {
    let world = World::new().await;
    let queues = world.fifo_queues().await;
    let all = ["a0", "a1", "a2", "a3"];
    for id in all {
        send(&world, &queues, "a", id, json!({ "ms": 500 })).await;
    }
    let first = world.counter().env("FLOTILLA_QUEUE_URL", &queues.url);
    let mut first = first.env("FLOTILLA_VISIBILITY_SECONDS", "60").ready().await;
    eventually("the first effect", Duration::from_secs(20), async || times(&world, "a0").await)
        .await;
    assert!(first.stop().await.success());
    assert_eq!(world.in_flight(&queues.url).await, 0, "nothing is stranded");
    let mut left = Vec::new();
    for id in all {
        left.extend(times(&world, id).await.is_none().then_some(id));
    }
    assert!(!left.is_empty(), "all was done before the stop");
    let second = start(&world, &queues, &[]).await;
    until_empty(&world, &queues).await;
    assert_eq!(done(&second, "a"), left);
    second.stop().await;
}
