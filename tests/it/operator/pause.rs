//! Workers that an operator pauses, and those that are ordered to drain.

use std::{sync::atomic::Ordering, time::Duration};

use flotilla_tests::{World, eventually};
use serde_json::json;

use super::{QUICK, hand_in, until_paused};
use crate::scripted::{Running, times, until_done};

#[tokio::test]
async fn a_paused_worker_finishes_what_it_has_and_receives_nothing_until_it_is_resumed() {
    let world = World::new().await;
    let worker = Running::start(&world, &[QUICK, ("FLOTILLA_WORKER_ID", "one")]).await;
    world.send(&json!({ "id": "before", "seconds": 2.0 }).to_string()).await;
    eventually("a run", Duration::from_secs(30), async || {
        (worker.runs.load(Ordering::SeqCst) == 1).then_some(())
    })
    .await;
    assert_eq!(world.flotilla(&["pause", "scripted"]).await.0, 0);
    assert_eq!(until_done(&world, "before").await, 1);
    // The long poll that was on its way may still bring one.
    tokio::time::sleep(Duration::from_secs(2)).await;
    world.send(&json!({ "id": "after" }).to_string()).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(times(&world, "after").await, None);
    assert_eq!(world.flotilla(&["resume", "scripted"]).await.0, 0);
    assert_eq!(until_done(&world, "after").await, 1);
    world.until_queue_is_empty().await;
    worker.stop().await;
}

#[tokio::test]
async fn a_worker_that_is_ordered_to_drain_finishes_what_it_has_and_ends() {
    let world = World::new().await;
    let first = Running::start(&world, &[QUICK, ("FLOTILLA_WORKER_ID", "one")]).await;
    world.send(&json!({ "id": "a", "seconds": 2.0 }).to_string()).await;
    eventually("a run", Duration::from_secs(30), async || {
        (first.runs.load(Ordering::SeqCst) == 1).then_some(())
    })
    .await;
    assert_eq!(world.flotilla(&["drain", "one"]).await.0, 0);
    first.ended.await.unwrap().unwrap();
    assert_eq!(times(&world, "a").await, Some(1), "it finished what it had");
    world.until_queue_is_empty().await;
}

#[tokio::test]
async fn an_order_to_drain_is_for_those_that_run_when_it_is_given() {
    let world = World::new().await;
    assert_eq!(world.flotilla(&["drain", "one"]).await.0, 0);
    let worker = Running::start(&world, &[QUICK, ("FLOTILLA_WORKER_ID", "one")]).await;
    world.send(&json!({ "id": "b", "seconds": 1.0 }).to_string()).await;
    assert_eq!(until_done(&world, "b").await, 1);
    world.until_queue_is_empty().await;
    worker.stop().await;
}

#[tokio::test]
async fn a_worker_that_is_paused_drained_and_started_again_stays_paused_until_it_is_resumed() {
    let world = World::new().await;
    let mut first = world.grading_worker().env(QUICK.0, QUICK.1).ready().await;
    assert_eq!(world.flotilla(&["pause", "grading"]).await.0, 0);
    assert_eq!(world.flotilla(&["drain", "grading"]).await.0, 0);
    assert!(first.end().await.success());
    let mut second = world.grading_worker().env(QUICK.0, QUICK.1).start();
    until_paused(&second).await;
    let submission = hand_in(&world, "one", 0.0).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let url = &world.outputs().grading_queue_url;
    assert_eq!((world.left_on(url).await, world.in_flight(url).await), (1, 0), "not resumed");
    assert_eq!(world.flotilla(&["resume", "grading"]).await.0, 0);
    assert_eq!(world.verdict(&submission).await, "AC");
    assert!(second.stop().await.success());
}
