//! Several queues of one worker, with weights.

use std::time::Duration;

use flotilla_tests::{Queues, World, eventually};
use serde_json::json;

use crate::scripted::Running;

/// The setting that names both, the first with eight times the weight of the other.
fn weighted(world: &World, high: &Queues) -> String {
    format!("{}*8,{}", high.url, world.outputs().grading_queue_url)
}

async fn until_empty(world: &World, high: &Queues) {
    eventually("empty queues", Duration::from_secs(90), async || {
        (world.left_on(&high.url).await == 0).then_some(())
    })
    .await;
    world.until_queue_is_empty().await;
}

#[tokio::test]
async fn the_queue_with_more_weight_is_ahead_and_the_other_goes_on() {
    let world = World::new().await;
    let high = world.queues().await;
    for n in 0..60 {
        let order = |queue| json!({ "id": format!("{queue}{n}"), "seconds": 0.05 }).to_string();
        high.send(&world.aws, None, &order("high")).await;
        world.send(&order("low")).await;
    }
    let queues = weighted(&world, &high);
    let settings = [("FLOTILLA_QUEUE_URL", queues.as_str()), ("FLOTILLA_SLOTS", "3")];
    let worker = Running::start(&world, &settings).await;
    until_empty(&world, &high).await;
    let done = worker.done.lock().unwrap().clone();
    assert_eq!(worker.stop().await, 120);
    let first = done.iter().take(45).filter(|id| id.starts_with("high")).count();
    println!("of the first 45 messages {first} were of the queue with eight ninths");
    assert!((32..45).contains(&first), "{first} of 45: {done:?}");
}

#[tokio::test]
async fn a_worker_of_several_queues_tells_of_each_and_buries_in_each_ones_own() {
    let world = World::new().await;
    let high = world.queues().await;
    let worker = world.counter().env("FLOTILLA_QUEUE_URL", weighted(&world, &high));
    let mut worker = worker.ready().await;
    high.send(&world.aws, None, "not JSON: high").await;
    world.send("not JSON: low").await;
    assert_eq!(world.dead_letters_on(&high.dead_url, 1).await[0].body, "not JSON: high");
    assert_eq!(world.dead_letters(1).await[0].body, "not JSON: low");
    until_empty(&world, &high).await;
    let (_, metrics) = worker.page("/metrics").await.unwrap();
    for url in [&high.url, &world.outputs().grading_queue_url] {
        let name = url.rsplit('/').next().unwrap();
        let labels = format!("messaging_destination_name=\"{name}\"}} ");
        let counts = metrics.lines().filter_map(|line| {
            let count = line.split_once(&labels)?.1.parse::<u64>().ok()?;
            line.starts_with("messaging_client_consumed_messages_total").then_some(count)
        });
        assert!(counts.sum::<u64>() >= 1, "no message of {name} in\n{metrics}");
    }
    assert!(worker.stop().await.success());
}
