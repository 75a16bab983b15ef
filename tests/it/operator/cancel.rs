//! Jobs that an operator cancels, at work or before.

use std::{sync::atomic::Ordering, time::Duration};

use flotilla_tests::{Farm, World, eventually};
use serde_json::json;

use super::{QUICK, hand_in, until_paused};
use crate::scripted::{Running, times, until_done};

#[tokio::test]
async fn a_running_job_is_cancelled_by_its_id_and_a_redrive_runs_it() {
    let world = World::new().await;
    let body = json!({ "id": "long", "seconds": 60.0 }).to_string();
    world.send(&body).await;
    let worker = Running::start(&world, &[]).await;
    eventually("a run", Duration::from_secs(30), async || {
        (worker.runs.load(Ordering::SeqCst) == 1).then_some(())
    })
    .await;
    let (code, text) = world.flotilla(&["cancel", "scripted", "lon"]).await;
    assert_eq!((code, text.contains("scripted/long")), (1, true), "{text}");
    let cancel = ["cancel", "scripted", "long", "--reason", "not wanted"];
    let (code, text) = world.flotilla(&cancel).await;
    assert_eq!((code, text.contains("next heartbeat")), (0, true), "{text}");
    eventually("a letter", Duration::from_secs(30), async || {
        (world.left_on(&world.outputs().grading_dead_letter_queue_url).await == 1).then_some(())
    })
    .await;
    let advance = ["cancel", "scripted", "long", "--in-advance"];
    let over = eventually("a buried row", Duration::from_secs(10), async || {
        Some(world.flotilla(&advance).await).filter(|(code, _)| *code == 1)
    })
    .await;
    assert!(over.1.contains("is dead-lettered already"), "{}", over.1);
    let letter = world.dead_letters(1).await.remove(0);
    assert_eq!((letter.why["kind"].as_str(), &letter.body), (Some("cancelled"), &body));
    assert_eq!(letter.why["reason"], "cancelled by an operator: not wanted");
    assert_eq!(times(&world, "long").await, None);

    world.send(&json!({ "id": "long" }).to_string()).await;
    assert_eq!(until_done(&world, "long").await, 1);
    let (code, text) = world.flotilla(&["cancel", "scripted", "long"]).await;
    assert_eq!((code, text.contains("is done")), (1, true), "{text}");
    world.until_queue_is_empty().await;
    worker.stop().await;
}

#[tokio::test]
async fn a_running_job_is_cancelled_by_the_id_of_its_message_and_an_unknown_id_cancels_nothing() {
    let world = World::new().await;
    let url = &world.outputs().grading_queue_url;
    let body = json!({ "id": "long", "seconds": 60.0 }).to_string();
    let sent = world.aws.sqs.send_message().queue_url(url).message_body(&body).send().await;
    let id = sent.unwrap().message_id.unwrap();
    let worker = Running::start(&world, &[]).await;
    eventually("a run", Duration::from_secs(30), async || {
        (worker.runs.load(Ordering::SeqCst) == 1).then_some(())
    })
    .await;
    let (code, text) = world.flotilla(&["cancel", "scripted", "another-message"]).await;
    assert_eq!((code, text.contains("nothing is cancelled")), (1, true), "{text}");
    let (code, text) = world.flotilla(&["cancel", "scripted", &id]).await;
    assert_eq!((code, text.contains("scripted/long is cancelled")), (0, true), "{text}");
    let letter = world.dead_letters(1).await.remove(0);
    assert_eq!((letter.why["kind"].as_str(), &letter.body), (Some("cancelled"), &body));
    assert_eq!(worker.stop().await, 1);
}

#[tokio::test]
async fn what_is_cancelled_before_anybody_begins_with_it_never_runs() {
    let world = World::new().await;
    let cancel = ["cancel", "scripted", "early"];
    let (code, text) = world.flotilla(&cancel).await;
    assert_eq!((code, text.contains("nothing is cancelled")), (1, true), "{text}");
    let (code, text) = world.flotilla(&[&cancel[..], &["--in-advance"]].concat()).await;
    assert_eq!((code, text.contains("in advance")), (0, true), "{text}");
    world.send(&json!({ "id": "early" }).to_string()).await;
    let worker = Running::start(&world, &[]).await;
    assert_eq!(world.dead_letters(1).await[0].why["kind"], "cancelled");
    assert_eq!(worker.stop().await, 0);
}

#[tokio::test]
async fn a_submission_that_waits_is_cancelled_by_its_id_and_a_redrive_grades_it() {
    let world = World::new().await;
    assert_eq!(world.flotilla(&["pause", "grading"]).await.0, 0);
    let mut worker = world.grading_worker().env(QUICK.0, QUICK.1).start();
    until_paused(&worker).await;
    let submission = hand_in(&world, "unwanted", 0.0).await;
    let other = hand_in(&world, "wanted", 0.0).await;
    let cancel = ["cancel", "grading", "unwanted", "--in-advance", "--reason", "withdrawn"];
    let (code, text) = world.flotilla(&cancel).await;
    assert_eq!((code, text.contains("in advance")), (0, true), "{text}");
    assert_eq!(world.flotilla(&["resume", "grading"]).await.0, 0);
    let letter = world.dead_letters(1).await.remove(0);
    assert_eq!(letter.why["kind"], "cancelled");
    assert_eq!(letter.why["reason"], "cancelled by an operator: withdrawn");
    assert!(letter.body.contains("unwanted.json"), "{}", letter.body);
    assert_eq!(world.results(&submission).await["verdict"], "IE");
    assert_eq!(world.verdict(&other).await, "AC");
    // One cancel is for one job.
    world.send(&letter.body).await;
    eventually("the verdict after a redrive", Duration::from_secs(60), async || {
        (world.verdict(&submission).await == "AC").then_some(())
    })
    .await;
    world.until_queue_is_empty().await;
    assert!(worker.stop().await.success());
}

#[tokio::test]
async fn a_build_that_waits_is_cancelled_by_its_key() {
    let farm = Farm::with(&[QUICK]).await;
    farm.pure("unwanted", "1.0");
    assert_eq!(farm.world.flotilla(&["pause", "compile"]).await.0, 0);
    until_paused(&farm.worker).await;
    // The long poll that was on its way may still bring one.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let order = json!({ "package": "unwanted", "version": "1.0", "options": "" });
    let told = farm.order(order).await;
    let key = told["key"].as_str().unwrap();
    let (code, text) = farm.world.flotilla(&["cancel", "compile", key, "--in-advance"]).await;
    assert_eq!((code, text.contains("in advance")), (0, true), "{text}");
    assert_eq!(farm.world.flotilla(&["resume", "compile"]).await.0, 0);
    let dead = &farm.world.outputs().compile_dead_letter_queue_url;
    let letter = farm.world.dead_letters_on(dead, 1).await.remove(0);
    assert_eq!(letter.why["kind"], "cancelled", "{}", letter.why);
    assert!(letter.body.contains("unwanted"), "{}", letter.body);
    farm.end().await;
}

#[tokio::test]
async fn a_job_that_waits_is_cancelled_by_the_id_of_its_message() {
    let world = World::new().await;
    assert_eq!(world.flotilla(&["pause", "count"]).await.0, 0);
    let mut worker = world.counter().env(QUICK.0, QUICK.1).start();
    until_paused(&worker).await;
    let body = json!({ "id": "unwanted" }).to_string();
    let call = world.aws.sqs.send_message().queue_url(&world.outputs().grading_queue_url);
    let id = call.message_body(&body).send().await.unwrap().message_id.unwrap();
    let (code, text) = world.flotilla(&["cancel", "count", &id, "--in-advance"]).await;
    assert_eq!((code, text.contains("in advance")), (0, true), "{text}");
    assert_eq!(world.flotilla(&["resume", "count"]).await.0, 0);
    let letter = world.dead_letters(1).await.remove(0);
    assert_eq!((letter.why["kind"].as_str(), &letter.body), (Some("cancelled"), &body));
    assert_eq!(times(&world, "unwanted").await, None);
    world.until_queue_is_empty().await;
    assert!(worker.stop().await.success());
}
