//! What an operator can do about dead letters and running workers, and what ends an instance.

use std::{
    sync::atomic::Ordering,
    time::{Duration, SystemTime},
};

use aws_sdk_sqs::types::{MessageAttributeValue, MessageSystemAttributeName as System};
use flotilla_runtime::{queue, telemetry};
use flotilla_tests::{FakeInstance, Farm, Submission, Worker, World, eventually};
use jiff::Timestamp;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::scripted::{Running, times, until_done};

/// Orders are looked for often, so that a test need not wait.
const QUICK: (&str, &str) = ("FLOTILLA_CONTROL_SECONDS", "0.2");

async fn letters(world: &World, more: &[&str]) -> Vec<Value> {
    let arguments = [&["dlq", "list", "--of", "grading", "--json"], more].concat();
    let (code, text) = world.flotilla(&arguments).await;
    assert_eq!(code, 0, "{text}");
    result(&text)
}

/// The JSON that a command gave, before what it noted.
fn result(text: &str) -> Vec<Value> {
    let mut values = serde_json::Deserializer::from_str(text).into_iter();
    values.next().unwrap().unwrap()
}

#[tokio::test]
async fn dead_letters_are_listed_shown_with_their_log_and_redriven_by_reason() {
    telemetry::init();
    let world = World::new().await;
    for body in
        [json!({"id": "a", "first": ["permanent"]}), json!({"id": "b", "first": ["permanent"]})]
    {
        world.send(&body.to_string()).await;
    }
    world.send("no json").await;
    let worker = Running::start(&world, &[]).await;
    world.until_queue_is_empty().await;
    let all = eventually("three letters", Duration::from_secs(30), async || {
        Some(letters(&world, &[]).await).filter(|all| all.len() == 3)
    })
    .await;
    let ordered: Vec<_> = all.iter().filter(|it| it["kind"] == "ordered").collect();
    assert_eq!(ordered.len(), 2);

    let id = ordered[0]["message_id"].as_str().unwrap();
    let (code, text) = world.flotilla(&["dlq", "show", id, "--of", "grading"]).await;
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("permanent, as ordered") && text.contains("\"first\""), "{text}");
    assert!(text.contains("WARN flotilla_runtime::attempt: a job failed"), "no log in {text}");

    let redrive = ["dlq", "redrive", "--of", "grading", "--reason", "as ordered"];
    let (code, text) = world.flotilla(&[&redrive[..], &["--dry-run"]].concat()).await;
    assert_eq!((code, text.contains("2 dead letters")), (0, true), "{text}");
    assert_eq!(letters(&world, &["--kind", "unparsable"]).await.len(), 1);
    // Their first attempt is a permanent failure again: redriven, they start afresh.
    let (code, text) = world.flotilla(&redrive).await;
    assert_eq!((code, text.contains("2 dead letters were sent back")), (0, true), "{text}");
    eventually("the same three", Duration::from_secs(30), async || {
        (letters(&world, &[]).await.len() == 3).then_some(())
    })
    .await;
    assert_eq!(world.dead_letters(3).await.len(), 3);
    assert_eq!(worker.stop().await, 4);
}

#[tokio::test]
async fn letters_of_a_queue_beside_the_stack_are_reached_by_its_url_and_keep_their_order() {
    let world = World::new().await;
    let queues = world.fifo_queues().await;
    let ids: Vec<_> = (0..12).map(|n| format!("f{n:02}")).collect();
    for id in &ids {
        let body = json!({ "id": id, "first": ["permanent"] }).to_string();
        queues.send(&world.aws, Some("g"), &body).await;
    }
    let url = queues.url.as_str();
    let worker = Running::start(&world, &[("FLOTILLA_QUEUE_URL", url)]).await;
    eventually("twelve letters", Duration::from_secs(60), async || {
        (world.left_on(&queues.dead_url).await == 12 && world.left_on(url).await == 0).then_some(())
    })
    .await;
    assert_eq!(worker.stop().await, 12);
    let run = async |more: &[&str]| {
        let (code, text) = world.flotilla(&[&["dlq"], more, &["--of", url]].concat()).await;
        assert_eq!(code, 0, "{text}");
        text
    };
    let listed = result(&run(&["list", "--json"]).await);
    assert_eq!(listed.len(), 10, "as many of a group as SQS gives");
    assert!(run(&["list"]).await.contains("first ten letters of each group"));
    let first = listed[0]["message_id"].as_str().unwrap();
    let shown: Value = serde_json::from_str(&run(&["show", first, "--json"]).await).unwrap();
    assert_eq!((&shown["body"], &shown["group"]), (&listed[0]["body"], &json!("g")));
    let preview = run(&["redrive", "--id", first, "--dry-run"]).await;
    assert!(preview.contains("1 dead letter was found"), "{preview}");
    assert_eq!(world.left_on(url).await, 0, "a preview moves nothing");
    let begun = Instant::now();
    let some = run(&["redrive", "--limit", "3", "--rate", "2"]).await;
    assert!(some.contains("3 dead letters were sent back"), "{some}");
    assert!(begun.elapsed() >= Duration::from_secs(1), "two a second");
    assert_eq!((world.left_on(url).await, world.left_on(&queues.dead_url).await), (3, 9));
    assert!(run(&["redrive"]).await.contains("9 dead letters were sent back"));
    assert_eq!(taken(&world, url).await, ids, "in the order of the group");
}

/// Puts letters on the dead-letter queue, as SQS would.
async fn bury(world: &World, count: usize) -> String {
    let dead = world.outputs().grading_dead_letter_queue_url.clone();
    for n in 0..count {
        let call = world.aws.sqs.send_message().queue_url(&dead);
        call.message_body(format!("{{\"id\":\"{n}\"}}")).send().await.unwrap();
    }
    dead
}

#[tokio::test]
async fn a_redrive_says_what_a_limit_left_and_what_another_has_in_hand() {
    let world = World::new().await;
    let dead = bury(&world, 12).await;
    let url = world.outputs().grading_queue_url.clone();
    let redrive = ["dlq", "redrive", "--of", "grading"];
    let (code, text) = world.flotilla(&[&redrive[..], &["--limit", "4"]].concat()).await;
    assert_eq!((code, text.contains("the limit of 4 was reached")), (0, true), "{text}");
    assert!(text.contains("4 dead letters were sent back"), "{text}");
    assert_eq!((world.left_on(&url).await, world.in_flight(&dead).await), (4, 0), "put back");
    let call = world.aws.sqs.receive_message().queue_url(&dead).max_number_of_messages(3);
    let held = call.visibility_timeout(600).send().await.unwrap().messages.unwrap_or_default();
    let (code, text) = world.flotilla(&redrive).await;
    let says = format!("about {} more on", held.len());
    assert!(code == 0 && text.contains(&says) && !text.contains("counts none"), "{text}");
    let (code, text) = world.flotilla(&[&redrive[..], &["--id", "nobody"]].concat()).await;
    assert_eq!((code, text.contains("has the id nobody")), (1, true), "{text}");
    for message in held {
        let call = world.aws.sqs.delete_message().queue_url(&dead);
        call.receipt_handle(message.receipt_handle().unwrap()).send().await.unwrap();
    }
    world.aws.sqs.purge_queue().queue_url(&url).send().await.unwrap();
}

#[tokio::test]
async fn a_redrive_that_is_asked_to_stop_puts_back_what_it_holds_and_says_so() {
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let world = World::new().await;
        let dead = bury(&world, 20).await;
        let url = world.outputs().grading_queue_url.clone();
        let slow = ["dlq", "redrive", "--of", "grading", "--rate", "1"];
        let child = world.flotilla_started(&slow);
        eventually("the first letters", Duration::from_secs(30), async || {
            (world.left_on(&url).await > 1).then_some(())
        })
        .await;
        kill(Pid::from_raw(child.id().unwrap().cast_signed()), signal).unwrap();
        let output = child.wait_with_output().await.unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(output.status.code(), Some(130), "{text}");
        assert!(text.contains("stopped before the end"), "{text}");
        assert_eq!(world.in_flight(&dead).await, 0, "put back at once");
        assert_eq!(world.left_on(&dead).await + world.left_on(&url).await, 20);
        for url in [&url, &dead] {
            world.aws.sqs.purge_queue().queue_url(url).send().await.unwrap();
        }
    }
}

/// Puts a letter on the compile worker's dead-letter queue, as that worker would.
async fn bury_of(world: &World, queue: &str, id: &str) {
    let why = json!({ "reason": "as ordered", "kind": "ordered", "queue": queue }).to_string();
    let why = MessageAttributeValue::builder().data_type("String").string_value(why).build();
    let call = world.aws.sqs.send_message().message_attributes("flotilla", why.unwrap());
    let call = call.queue_url(&world.outputs().compile_dead_letter_queue_url);
    call.message_body(json!({ "id": id }).to_string()).send().await.unwrap();
}

#[tokio::test]
async fn of_a_shared_dead_letter_queue_each_letter_goes_back_to_its_own() {
    let world = World::new().await;
    let outputs = world.outputs();
    let (builds, looks) = (&outputs.compile_queue_url, &outputs.compile_refresh_queue_url);
    for (queue, id) in [(builds, "a"), (looks, "b"), (looks, "c")] {
        bury_of(&world, queue, id).await;
    }
    for (of, count) in [("compile", 3), ("compile-refresh", 2), (builds.as_str(), 1)] {
        let (code, text) = world.flotilla(&["dlq", "list", "--of", of, "--json"]).await;
        assert_eq!((code, result(&text).len()), (0, count), "{of}: {text}");
    }
    let (code, text) = world.flotilla(&["dlq", "redrive", "--of", "compile"]).await;
    assert!(code == 0 && text.contains("2 dead letters were sent back to"), "{text}");
    assert_eq!(taken(&world, builds).await, ["a"]);
    let mut looked = taken(&world, looks).await;
    looked.sort_unstable();
    assert_eq!(looked, ["b", "c"]);
}

#[tokio::test]
async fn dead_letters_are_deleted_only_by_who_is_sure() {
    let world = World::new().await;
    let dead = bury(&world, 3).await;
    let delete = ["dlq", "delete", "--of", "grading", "--kind", "unknown"];
    let (code, text) = world.flotilla(&delete).await;
    assert!(code == 2 && text.contains("3 dead letters were found"), "{text}");
    let (code, text) = world.flotilla(&[&delete[..], &["--dry-run"]].concat()).await;
    assert_eq!((code, world.left_on(&dead).await), (0, 3), "{text}");
    let id = letters(&world, &[]).await[0]["id"].as_str().unwrap().to_owned();
    let (code, text) = world.flotilla(&[&delete[..], &["--id", &id]].concat()).await;
    assert!(code == 0 && text.contains("1 dead letter was deleted"), "{text}");
    let (code, text) = world.flotilla(&[&delete[..], &["--yes"]].concat()).await;
    assert!(code == 0 && text.contains("2 dead letters were deleted"), "{text}");
    assert_eq!(world.left_on(&dead).await, 0);
}

/// Takes all messages off a queue, and gives their ids.
async fn taken(world: &World, url: &str) -> Vec<String> {
    let mut ids = Vec::new();
    while world.left_on(url).await > 0 {
        let call = world.aws.sqs.receive_message().queue_url(url).max_number_of_messages(10);
        for message in call.send().await.unwrap().messages.unwrap_or_default() {
            let body: Value = serde_json::from_str(message.body().unwrap()).unwrap();
            ids.push(body["id"].as_str().unwrap().to_owned());
            let call = world.aws.sqs.delete_message().queue_url(url);
            call.receipt_handle(message.receipt_handle().unwrap()).send().await.unwrap();
        }
    }
    ids
}

#[tokio::test]
async fn a_letter_whose_queue_is_gone_is_left_and_the_others_go_back() {
    let world = World::new().await;
    let dead = bury(&world, 2).await;
    let url = world.outputs().grading_queue_url.clone();
    let gone = format!("{url}-gone");
    let why = json!({ "reason": "r", "kind": "k", "queue": gone }).to_string();
    let why = MessageAttributeValue::builder().data_type("String").string_value(why);
    let call = world.aws.sqs.send_message().queue_url(&dead).message_body("{\"id\":\"of-gone\"}");
    call.message_attributes("flotilla", why.build().unwrap()).send().await.unwrap();
    let (code, text) = world.flotilla(&["dlq", "redrive", "--of", "grading"]).await;
    assert!(code == 1 && text.contains("2 dead letters were sent back"), "{code}: {text}");
    assert!(text.contains("1 dead letter was left") && text.contains(&gone), "{text}");
    let mut ids = taken(&world, &url).await;
    ids.sort_unstable();
    assert_eq!(ids, ["0", "1"]);
    assert_eq!(world.dead_letters(1).await[0].body, "{\"id\":\"of-gone\"}");
}

#[tokio::test]
async fn what_a_letter_has_in_s3_is_shown_and_goes_back_with_it() {
    const X_RAY: &str = "Root=1-5759e988-bd862e3fe1be46a994272793";
    let world = World::new().await;
    let (sqs, url) = (&world.aws.sqs, &world.outputs().grading_queue_url);
    let text = |length: usize| {
        let built = MessageAttributeValue::builder().data_type("String");
        built.string_value("y".repeat(length)).build().unwrap()
    };
    let body = json!({ "id": "a", "always": "permanent", "rest": "x".repeat(900_000) }).to_string();
    let small = json!({ "id": "b", "always": "permanent" }).to_string();
    // The attribute of the second is too large to stand beside a reason, however short that is.
    for (body, length) in [(&body, 140_000), (&small, 1_048_000)] {
        let call = sqs.send_message().queue_url(url).message_body(body);
        let call = call.set_message_system_attributes(queue::traced(Some(X_RAY)));
        call.message_attributes("large", text(length)).send().await.unwrap();
    }
    let worker = Running::start(&world, &[]).await;
    let found = eventually("two letters", Duration::from_secs(30), async || {
        Some(letters(&world, &[]).await).filter(|found| found.len() == 2)
    })
    .await;
    assert_eq!(worker.stop().await, 2);
    let pointer = |it: &&Value| it["body"].as_str().unwrap().contains("flotilla_payload");
    let id = found.iter().find(pointer).unwrap()["id"].as_str().unwrap();
    let (code, shown) = world.flotilla(&["dlq", "show", id, "--of", "grading"]).await;
    assert!(code == 0 && shown.contains(&body), "{code}: {} bytes", shown.len());
    let (code, told) = world.flotilla(&["dlq", "redrive", "--of", "grading"]).await;
    assert!(code == 0 && told.contains("2 dead letters were sent back"), "{told}");
    let mut lengths = Vec::new();
    while lengths.len() < 2 {
        let call = sqs.receive_message().queue_url(url).message_attribute_names("All");
        let call = call.message_system_attribute_names(System::AwsTraceHeader);
        let answer = call.wait_time_seconds(2).send().await.unwrap();
        for message in answer.messages.unwrap_or_default() {
            assert_eq!(message.attributes.unwrap()[&System::AwsTraceHeader], X_RAY);
            let attributes = message.message_attributes.unwrap();
            assert_eq!(attributes.len(), 1, "{:?}", attributes.keys());
            lengths.push(attributes["large"].string_value().unwrap().len());
            let call = sqs.delete_message().queue_url(url);
            call.receipt_handle(message.receipt_handle.unwrap()).send().await.unwrap();
        }
    }
    lengths.sort_unstable();
    assert_eq!(lengths, [140_000, 1_048_000]);
}

#[tokio::test]
async fn dead_letters_of_what_there_is_not_are_refused_with_what_there_is() {
    let world = World::new().await;
    let nowhere = format!("{}-nowhere", world.outputs().grading_queue_url);
    let dead = world.outputs().grading_dead_letter_queue_url.clone();
    for (of, code, says) in [
        ("nonsense", 2, "there are grading, compile"),
        (nowhere.as_str(), 1, "-nowhere"),
        (dead.as_str(), 1, "has no dead-letter queue"),
    ] {
        for action in [&["list"][..], &["redrive"], &["show", "an-id"]] {
            let told = world.flotilla(&[&["dlq"], action, &["--of", of]].concat()).await;
            assert!(told.0 == code && told.1.contains(says), "{of}: {told:?}");
        }
    }
    let (code, text) = world.flotilla(&["dlq", "show", "an-id", "--of", "grading"]).await;
    assert!(code == 1 && text.contains("no dead letter of grading has the id an-id"), "{text}");
}

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

/// Waits until a worker obeys an order to pause.
async fn until_paused(worker: &Worker) {
    eventually("a paused worker", Duration::from_secs(30), async || {
        worker.page("/readyz").await.filter(|(_, why)| why.contains("paused by the operator"))
    })
    .await;
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
    eventually("a paused worker", Duration::from_secs(30), async || {
        second.page("/readyz").await.filter(|(_, why)| why.contains("paused by the operator"))
    })
    .await;
    let submission = hand_in(&world, "one", 0.0).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let url = &world.outputs().grading_queue_url;
    assert_eq!((world.left_on(url).await, world.in_flight(url).await), (1, 0), "not resumed");
    assert_eq!(world.flotilla(&["resume", "grading"]).await.0, 0);
    assert_eq!(world.verdict(&submission).await, "AC");
    assert!(second.stop().await.success());
}

/// Hands in a program that sleeps.
async fn hand_in(world: &World, id: &str, seconds: f64) -> Submission {
    world.problem("ada/labs/sleep", "1\n", "1\n").await;
    world.limits("ada/labs/sleep", json!({ "wall_ms": 60_000 })).await;
    let program = format!("import time\ntime.sleep({seconds})\nprint(1)\n");
    world.submit("ada/labs/sleep", id, &program).await
}

#[tokio::test]
async fn an_instance_is_protected_while_busy_and_drains_when_its_group_ends_it() {
    let (world, instance) = tokio::join!(World::new(), FakeInstance::start("i-0123"));
    let mut worker = instance.under(world.grading_worker()).ready().await;
    let count = |call: &str| instance.calls().iter().filter(|it| *it == call).count();
    instance.until("SetInstanceProtection false").await;
    assert_eq!(instance.calls().len(), 1, "an idle instance is left alone: {:?}", instance.calls());
    let first = hand_in(&world, "one", 0.5).await;
    instance.until("SetInstanceProtection true").await;
    assert_eq!(world.verdict(&first).await, "AC");
    eventually("no protection", Duration::from_secs(30), async || {
        (count("SetInstanceProtection false") == 2).then_some(())
    })
    .await;

    let second = hand_in(&world, "two", 3.0).await;
    eventually("protection again", Duration::from_secs(30), async || {
        (count("SetInstanceProtection true") == 2).then_some(())
    })
    .await;
    instance.says("autoscaling/target-lifecycle-state", "Terminated");
    assert!(worker.end().await.success());
    assert_eq!(world.verdict(&second).await, "AC");
    assert_eq!(instance.calls().last().unwrap(), "CompleteLifecycleAction CONTINUE");
    assert!(count("RecordLifecycleActionHeartbeat") > 0, "{:?}", instance.calls());
}

#[tokio::test]
async fn an_instance_that_ends_while_its_worker_starts_is_waited_for_no_longer_than_that() {
    let (world, instance) = tokio::join!(World::new(), FakeInstance::start("i-0123"));
    // SQS does not answer: the worker would try to open its queue for ever.
    let nowhere = ("AWS_ENDPOINT_URL_SQS", "http://127.0.0.1:9");
    let mut worker = instance.under(world.grading_worker()).env(nowhere.0, nowhere.1).start();
    instance.until("SetInstanceProtection false").await;
    instance.says("autoscaling/target-lifecycle-state", "Terminated");
    assert!(worker.end().await.success());
    assert_eq!(instance.calls().last().unwrap(), "CompleteLifecycleAction CONTINUE");
}

#[tokio::test]
async fn a_spot_notice_cuts_the_grace_to_what_the_instance_has_left() {
    let (world, instance) = tokio::join!(World::new(), FakeInstance::start("i-0123"));
    let worker = instance.under(world.grading_worker()).env("FLOTILLA_GRACE_SECONDS", "600");
    let mut worker = worker.ready().await;
    let _long = hand_in(&world, "long", 50.0).await;
    instance.until("SetInstanceProtection true").await;
    let end = Timestamp::try_from(SystemTime::now() + Duration::from_secs(15)).unwrap();
    let notice = json!({ "action": "terminate", "time": end.to_string() });
    let start = Instant::now();
    instance.says("spot/instance-action", &notice.to_string());
    assert!(worker.end().await.success());
    assert!(start.elapsed() < Duration::from_secs(30), "{:?}", start.elapsed());
    // Handed back, for another instance.
    world.until_messages(1).await;
    let purge = world.aws.sqs.purge_queue().queue_url(&world.outputs().grading_queue_url);
    purge.send().await.unwrap();
}
