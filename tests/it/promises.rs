//! What the runtime promises to a job, one test each, with a job that does as its message says.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_sdk_dynamodb::types::AttributeValue as Attr;
use aws_sdk_sqs::types::MessageAttributeValue;
use flotilla_tests::{Farm, Fault, FaultProxy, Rule, Seed, World, eventually};
use serde_json::json;

use crate::scripted::{Running, times, until_done};

#[tokio::test]
async fn a_message_is_deleted_only_after_its_effect_is_durable() {
    let world = World::new().await;
    world.send(&json!({ "id": "a", "first": ["forget", "transient", "panic"] }).to_string()).await;
    let worker = Running::start(&world, &[]).await;
    assert_eq!(until_done(&world, "a").await, 1);
    world.until_queue_is_empty().await;
    assert_eq!(worker.stop().await, 4);
}

#[tokio::test]
async fn an_effect_happens_once_however_often_its_message_is_sent() {
    let world = World::new().await;
    for _ in 0..12 {
        world.send(&json!({ "id": "a", "seconds": 0.3 }).to_string()).await;
    }
    let worker = Running::start(&world, &[("FLOTILLA_SLOTS", "6")]).await;
    world.until_queue_is_empty().await;
    assert_eq!(times(&world, "a").await, Some(1));
    assert_eq!(worker.stop().await, 1);
}

#[tokio::test]
async fn a_job_may_run_longer_than_its_visibility_timeout() {
    let world = World::new().await;
    world.send(&json!({ "id": "a", "seconds": 9.0 }).to_string()).await;
    let worker = Running::start(&world, &[("FLOTILLA_SLOTS", "4")]).await;
    assert_eq!(until_done(&world, "a").await, 1);
    world.until_queue_is_empty().await;
    assert_eq!(worker.stop().await, 1);
}

#[tokio::test]
async fn a_dead_worker_with_a_clock_a_day_ahead_holds_its_effect_for_a_lease_or_two() {
    let world = World::new().await;
    let ahead = SystemTime::now() + Duration::from_secs(24 * 3600);
    let ahead = ahead.duration_since(UNIX_EPOCH).unwrap().as_millis().to_string();
    let row = [
        ("effect", Attr::S("scripted/a".to_owned())),
        ("state", Attr::S("claimed".to_owned())),
        ("owner", Attr::S("dead".to_owned())),
        ("generation", Attr::N("7".to_owned())),
        ("attempts", Attr::N("1".to_owned())),
        ("lease_until", Attr::N(ahead)),
    ];
    let row = row.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    let put = world.aws.dynamo.put_item().table_name(&world.outputs().ledger_table_name);
    put.set_item(Some(row)).send().await.unwrap();
    world.send(&json!({ "id": "a" }).to_string()).await;
    let worker = Running::start(&world, &[]).await;
    assert_eq!(until_done(&world, "a").await, 1);
    world.until_queue_is_empty().await;
    assert_eq!(worker.stop().await, 1);
}

#[tokio::test]
async fn nothing_is_received_beyond_the_free_slots() {
    let world = World::new().await;
    for n in 0..6 {
        world.send(&json!({ "id": n.to_string(), "seconds": 1.0 }).to_string()).await;
    }
    let worker = Running::start(&world, &[("FLOTILLA_SLOTS", "2")]).await;
    let (url, mut most) = (&world.outputs().grading_queue_url, 0);
    eventually("all effects", Duration::from_secs(30), async || {
        most = most.max(world.in_flight(url).await);
        times(&world, "5").await
    })
    .await;
    world.until_queue_is_empty().await;
    worker.stop().await;
    // Deleted messages may still be counted while their acknowledgement waits for others; that none is
    // asked for without a slot is tested of the runtime alone, where nothing is approximate.
    assert!(most <= 4, "{most} in flight with two slots");
}

#[tokio::test]
async fn a_permanent_failure_is_dead_lettered_at_once_whole_with_its_reason() {
    let world = World::new().await;
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let text = |value: &str| {
        MessageAttributeValue::builder().data_type("String").string_value(value).build().unwrap()
    };
    let body = json!({ "id": "a", "always": "permanent" }).to_string();
    let call = world.aws.sqs.send_message().queue_url(&world.outputs().grading_queue_url);
    let call = call.message_body(&body).message_attributes("traceparent", text(trace));
    call.message_attributes("color", text("red")).send().await.unwrap();
    let worker = Running::start(&world, &[]).await;
    let letter = world.dead_letters(1).await.remove(0);
    assert_eq!(letter.body, body);
    assert_eq!(letter.why["kind"], "ordered");
    assert_eq!(letter.why["reason"], "permanent, as ordered");
    assert_eq!(letter.why["trace_id"], "0af7651916cd43dd8448eb211c80319c");
    assert_eq!(letter.attributes["color"], "red");
    world.until_queue_is_empty().await;
    assert_eq!(worker.stop().await, 1);
}

#[tokio::test]
async fn a_trace_goes_from_a_request_to_the_span_of_the_job_that_it_leads_to() {
    let farm = Farm::new().await;
    farm.broken("bad", "raise SystemExit('error: no such thing')\n");
    let id = "0af7651916cd43dd8448eb211c80319c";
    let trace = format!("00-{id}-b7ad6b7169203331-01");
    let order = json!({ "package": "bad", "version": "1.0", "options": "" }).to_string();
    let headers = [("traceparent", trace.as_str())];
    let told = farm.gateway.ask("POST", "/v1/builds", &headers, &order).await.json();
    farm.ended(told["key"].as_str().unwrap()).await;
    eventually("the job's own line, in its span", Duration::from_secs(10), async || {
        let log = farm.worker.log();
        let told = |line: &str| line.contains("built") && line.contains("outcome");
        log.lines().any(|line| told(line) && line.contains(id)).then_some(())
    })
    .await;
    farm.end().await;
}

#[tokio::test]
async fn a_body_near_the_limit_is_dead_lettered_by_pointer() {
    let world = World::new().await;
    let body = json!({ "id": "a", "always": "permanent", "rest": "x".repeat(900_000) }).to_string();
    let attribute = MessageAttributeValue::builder().data_type("String");
    let attribute = attribute.string_value("y".repeat(140_000)).build().unwrap();
    let call = world.aws.sqs.send_message().queue_url(&world.outputs().grading_queue_url);
    call.message_body(&body).message_attributes("large", attribute).send().await.unwrap();
    let worker = Running::start(&world, &[]).await;
    let letter = world.dead_letters(1).await.remove(0);
    let pointer: serde_json::Value = serde_json::from_str(&letter.body).unwrap();
    let key = pointer["flotilla_payload"]["key"].as_str().unwrap();
    let call = world.aws.s3.get_object().bucket(&world.outputs().payloads_bucket_name).key(key);
    let stored = call.send().await.unwrap().body.collect().await.unwrap().to_vec();
    assert_eq!(stored, body.as_bytes());
    // Sent back, it is read through the pointer.
    world.send(&letter.body).await;
    assert_eq!(world.dead_letters(1).await[0].why["kind"], "ordered");
    assert_eq!(worker.stop().await, 2);
}

#[tokio::test]
async fn what_fails_for_ever_is_dead_lettered_after_its_attempts_and_a_redrive_starts_afresh() {
    let world = World::new().await;
    world.send(&json!({ "id": "a", "always": "transient" }).to_string()).await;
    let settings = [("FLOTILLA_MAX_ATTEMPTS", "3")];
    let worker = Running::start(&world, &settings).await;
    let letter = world.dead_letters(1).await.remove(0);
    assert!(letter.why["reason"].as_str().unwrap().starts_with("attempt 3 of 3"), "{}", letter.why);
    world.send(&json!({ "id": "a" }).to_string()).await;
    assert_eq!(until_done(&world, "a").await, 1);
    world.until_queue_is_empty().await;
    assert_eq!(worker.stop().await, 4);
}

#[tokio::test]
async fn a_commit_whose_answer_is_lost_at_the_last_attempt_is_no_dead_letter() {
    let world = World::new().await;
    let proxy = FaultProxy::new(world.aws.url.as_deref().unwrap(), Seed(1));
    proxy.obey(&[Rule { fault: Fault::Dropped, calls: &["TransactWriteItems"], one_in: 1 }]);
    world.send(&json!({ "id": "a" }).to_string()).await;
    let worker = world.counter().env("AWS_ENDPOINT_URL", proxy.entrance(0).await);
    let mut worker = worker.env("FLOTILLA_MAX_ATTEMPTS", "1").ready().await;
    assert_eq!(until_done(&world, "a").await, 1);
    world.until_queue_is_empty().await;
    assert!(proxy.injected()[&Fault::Dropped] > 0);
    assert_eq!(times(&world, "a").await, Some(1));
    assert_eq!(world.left_on(&world.outputs().grading_dead_letter_queue_url).await, 0);
    assert!(worker.stop().await.success());
}

#[tokio::test]
async fn a_message_whose_job_always_panics_stops_nobody() {
    let world = World::new().await;
    world.send(&json!({ "id": "bad", "always": "panic" }).to_string()).await;
    world.send(&json!({ "id": "good" }).to_string()).await;
    let worker = Running::start(&world, &[("FLOTILLA_MAX_ATTEMPTS", "2")]).await;
    assert_eq!(until_done(&world, "good").await, 1);
    assert_eq!(world.dead_letters(1).await[0].why["kind"], "panic");
    world.until_queue_is_empty().await;
    assert_eq!(worker.stop().await, 3);
}

/// Has the queue's message received so many times before a worker sees it, as deploys would.
async fn hand_back(world: &World, times: usize) {
    let (sqs, url) = (&world.aws.sqs, &world.outputs().grading_queue_url);
    for _ in 0..times {
        let answer = sqs.receive_message().queue_url(url).wait_time_seconds(5).send().await;
        let message = answer.unwrap().messages.unwrap().remove(0);
        let call = sqs.change_message_visibility().queue_url(url).visibility_timeout(0);
        call.receipt_handle(message.receipt_handle.unwrap()).send().await.unwrap();
    }
}

#[tokio::test]
async fn a_message_that_was_handed_back_often_still_has_all_its_attempts() {
    let world = World::new().await;
    world.send(&json!({ "id": "a", "first": ["panic", "transient"] }).to_string()).await;
    hand_back(&world, 7).await;
    let worker = Running::start(&world, &[("FLOTILLA_MAX_ATTEMPTS", "3")]).await;
    assert_eq!(until_done(&world, "a").await, 1);
    world.until_queue_is_empty().await;
    assert_eq!(worker.stop().await, 3);
}

#[tokio::test]
async fn a_job_may_go_on_after_its_effect_for_longer_than_a_lease() {
    let world = World::new().await;
    world.send(&json!({ "id": "a", "after": 6.0 }).to_string()).await;
    let worker = Running::start(&world, &[]).await;
    assert_eq!(until_done(&world, "a").await, 1);
    world.until_queue_is_empty().await;
    assert_eq!(worker.stop().await, 1);
}

#[tokio::test]
async fn a_lease_that_runs_out_was_an_attempt() {
    let world = World::new().await;
    world.send(&json!({ "id": "a", "seconds": 30.0 }).to_string()).await;
    let worker = Running::start(&world, &[("FLOTILLA_MAX_ATTEMPTS", "1")]).await;
    let row =
        eventually("a claim", Duration::from_secs(10), async || world.ledger().await.pop()).await;
    // Its visibility is lost: the queue was purged.
    let call = world.aws.sqs.purge_queue().queue_url(&world.outputs().grading_queue_url);
    call.send().await.unwrap();
    let state = eventually("the end of the lease", Duration::from_secs(20), async || {
        let row = world.ledger().await.pop()?;
        (row["state"].as_s().unwrap() == "free").then_some(row)
    })
    .await;
    assert_eq!(state["generation"], row["generation"]);
    assert_eq!(state["attempts"].as_n().unwrap(), "1");
    assert_eq!(state["last_failure"].as_s().unwrap(), "its lease was lost");
    assert_eq!(worker.stop().await, 1);
}
