//! What an operator can do about dead letters.

use std::time::Duration;

use aws_sdk_sqs::types::{MessageAttributeValue, MessageSystemAttributeName as System};
use flotilla_runtime::{queue, telemetry};
use flotilla_tests::{World, eventually};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::scripted::Running;

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
