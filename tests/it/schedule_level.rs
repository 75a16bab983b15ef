//! Whatever goes wrong on the way, and in whatever order messages come: in the end all is as it
//! should be, and the audit says who did it.

use std::time::Duration;

use flotilla_tests::{FakeAppStream, FakeEc2, Fault, FaultProxy, Rule, Seed, eventually};
use serde_json::{Value, json};

use crate::schedule::{HOME, Town, find};

#[tokio::test]
async fn ticks_in_any_order_bring_nothing_back() {
    let ec2 = FakeEc2::start(1, 1).await;
    let town = Town::with(&[("AWS_ENDPOINT_URL_EC2", ec2.url())]).await;
    town.context("web", json!({"ec2:instance": ["i-0000"]})).await;
    town.world.tick("2026-06-01T17:00:00Z").await;
    assert_eq!(ec2.count("stopped"), 1);
    // A tick of that morning, as a redrive of a dead letter brings it: its age is none.
    town.world.tick("2026-06-01T06:00:00Z").await;
    assert_eq!((ec2.count("stopped"), ec2.calls().get("StartInstances")), (1, None));
    find(&town.world.audit("scheduler").await, "skipped", "old_tick");
    // Registered anew within the transition that was acted on: its row knows nothing of that.
    assert_eq!(town.gateway.ask("DELETE", "/v1/contexts/web", Value::Null).await.0, 204);
    town.context("web", json!({"ec2:instance": ["i-0000"]})).await;
    ec2.add("i-0000", "running");
    for minute in 1..3 {
        town.world.tick(&format!("2026-06-01T17:0{minute}:00Z")).await;
    }
    assert_eq!(ec2.count("stopped"), 1);
    town.world.tick("2026-06-02T06:00:00Z").await;
    assert_eq!(ec2.count("running"), 1);
    town.end().await;
}

#[tokio::test]
async fn what_could_not_be_looked_at_is_done_as_soon_as_it_can() {
    let ec2 = FakeEc2::start(2, 1).await;
    let town = Town::with(&[("AWS_ENDPOINT_URL_EC2", ec2.url())]).await;
    town.context("web", json!({"ec2:instance": ["i-0000", "i-0001"]})).await;
    ec2.blind(true);
    town.world.tick("2026-06-01T17:00:00Z").await;
    let rows = town.audit("ec2:instance", "i-0000").await;
    assert!(find(&rows, "failed", "denied")["reason"].contains("UnauthorizedOperation"));
    ec2.blind(false);
    town.world.tick("2026-06-01T17:01:00Z").await;
    assert_eq!(ec2.count("stopped"), 2);
    town.end().await;
}

#[tokio::test]
async fn orders_that_come_late_do_not_undo_what_came_after_them() {
    let ec2 = FakeEc2::start(1, 1).await;
    let town = Town::with(&[("AWS_ENDPOINT_URL_EC2", ec2.url())]).await;
    town.context("web", json!({"ec2:instance": ["i-0000"]})).await;
    let at = |before: i64| {
        let ms = jiff::Timestamp::now().as_millisecond() - before;
        jiff::Timestamp::from_millisecond(ms).unwrap()
    };
    let (on, off) = (at(2_000), at(1_000));
    let order = |action: &str, at| json!({"action": action, "context": "web", "at": at});
    town.world.schedule(order("STOP", off)).await;
    town.world.until_scheduled().await;
    town.world.schedule(order("START", on)).await;
    town.world.until_scheduled().await;
    assert_eq!(ec2.count("stopped"), 1, "off was asked for last");
    find(&town.world.audit("context/web").await, "skipped", "superseded");
    // An override that was set after an order was given outlives it.
    let over = json!({"override": "on for 2 h"});
    assert_eq!(town.gateway.ask("PUT", "/v1/contexts/web/override", over).await.0, 200);
    town.world.until_scheduled().await;
    assert_eq!(ec2.count("running"), 1);
    town.world.schedule(order("STOP", at(5_000))).await;
    town.world.until_scheduled().await;
    assert_eq!(ec2.count("running"), 1);
    // A hand after an undo counts again: what was undone was until then.
    for (path, state) in [
        ("contexts/web/power/off", "stopped"),
        ("undo", "running"),
        ("contexts/web/power/off", "stopped"),
    ] {
        let (status, _) = town.gateway.ask("POST", &format!("/v1/{path}"), Value::Null).await;
        assert!(matches!(status, 202 | 204));
        town.world.until_scheduled().await;
        assert_eq!(ec2.count(state), 1, "{path}");
        // Overrides and hands are told apart by their seconds.
        tokio::time::sleep(Duration::from_millis(1_100)).await;
    }
    let (status, _) = town.gateway.ask("POST", "/v1/scheduler/tick", Value::Null).await;
    assert_eq!(status, 202);
    town.world.until_scheduled().await;
    assert_eq!(ec2.count("stopped"), 1, "the next tick starts nothing again");
    town.end().await;
}

#[tokio::test]
async fn an_undo_and_a_tick_that_meet_act_once_for_one_transition() {
    let ec2 = FakeEc2::start(0, 1).await;
    ec2.add("i-0000", "stopped");
    let town = Town::with(&[("AWS_ENDPOINT_URL_EC2", ec2.url()), ("FLOTILLA_SLOTS", "4")]).await;
    town.context("web", json!({"ec2:instance": ["i-0000"]})).await;
    let (status, _) = town.gateway.ask("POST", "/v1/contexts/web/power/on", Value::Null).await;
    assert_eq!(status, 204);
    town.world.until_scheduled().await;
    assert_eq!(ec2.count("running"), 1);
    // The undo has looked, and asks whether it may stop it: a tick sees it run, and that it is not to.
    ec2.hold_asking();
    assert_eq!(town.gateway.ask("POST", "/v1/undo", Value::Null).await.0, 202);
    let wait = Duration::from_secs(20);
    let asked = async || ec2.calls().contains_key("StopInstances (dry)").then_some(());
    eventually("the undo to ask", wait, asked).await;
    assert_eq!(town.gateway.ask("POST", "/v1/scheduler/tick", Value::Null).await.0, 202);
    let left = eventually("the tick to leave it to the undo", wait, async || {
        let rows = town.audit("ec2:instance", "i-0000").await;
        rows.into_iter().find(|row| row["kind"] == "under_way")
    })
    .await;
    assert!(left["reason"].contains("by undo "), "{left:?}");
    ec2.answer();
    town.world.until_scheduled().await;
    assert_eq!((ec2.count("stopped"), ec2.calls()["StopInstances"]), (1, 1));
    let rows = town.audit("ec2:instance", "i-0000").await;
    let stops = rows.iter().filter(|row| row["action"] == "STOP" && row["outcome"] == "done");
    assert_eq!(stops.count(), 1, "{rows:#?}");
    // What is over bars nobody: a hand starts it again.
    let (status, _) = town.gateway.ask("POST", "/v1/contexts/web/power/on", Value::Null).await;
    assert_eq!(status, 204);
    town.world.until_scheduled().await;
    assert_eq!(ec2.count("running"), 1);
    town.end().await;
}

#[tokio::test]
async fn a_hand_that_meets_the_contrary_under_way_is_obeyed_once_that_is_over() {
    let ec2 = FakeEc2::start(1, 1).await;
    let settings = [
        ("AWS_ENDPOINT_URL_EC2", ec2.url()),
        ("FLOTILLA_SLOTS", "4"),
        ("FLOTILLA_RETRY_FIRST_SECONDS", "0.2"),
    ];
    let town = Town::with(&settings).await;
    town.context("web", json!({"ec2:instance": ["i-0000"]})).await;
    ec2.hold();
    town.world.schedule(json!({"time": "2026-06-01T17:00:00Z"})).await;
    let wait = Duration::from_secs(20);
    eventually("the act", wait, async || (ec2.count("stopped") == 1).then_some(())).await;
    // It is stopped, and who stopped it has not heard so: to start it is the contrary of what is under way.
    let (status, _) = town.gateway.ask("POST", "/v1/contexts/web/power/on", Value::Null).await;
    assert_eq!(status, 204);
    eventually("the order to wait", wait, async || {
        let rows = town.audit("ec2:instance", "i-0000").await;
        rows.iter().any(|row| row["kind"] == "under_way" && row["action"] == "START").then_some(())
    })
    .await;
    ec2.answer();
    town.world.until_scheduled().await;
    assert_eq!(ec2.count("running"), 1, "no tick had to come");
    town.end().await;
}

#[tokio::test]
async fn a_batch_whose_plan_was_superseded_is_not_acted_on_and_says_why() {
    let ec2 = FakeEc2::start(1, 1).await;
    let town = Town::with(&[("AWS_ENDPOINT_URL_EC2", ec2.url())]).await;
    town.context("web", json!({"ec2:instance": ["i-0000"]})).await;
    town.world.tick("2026-06-01T17:00:00Z").await;
    town.world.tick("2026-06-02T06:00:00Z").await;
    assert_eq!(ec2.count("running"), 1);
    let batch = |action: &str, tick: &str| {
        let item = json!({"id": "i-0000", "source": "context/web", "since": tick, "reason": "old"});
        json!({"batch": {
            "account": "", "region": HOME, "service": "ec2:instance", "action": action, "tick": tick,
            "actor": "schedule", "bulk": format!("tick {tick}"), "occasion": format!("tick {tick}"),
            "items": [item],
        }})
    };
    let left = async |word: &str| {
        let rows = town.audit("ec2:instance", "i-0000").await;
        let of = |row: &&flotilla_tests::AuditRow| row["kind"] == "superseded";
        let row = rows.iter().filter(of).find(|row| row["reason"].contains(word)).cloned();
        row.unwrap_or_else(|| panic!("no {word:?} in {rows:#?}"))
    };
    // Of a tick before the last one.
    town.world.schedule(batch("STOP", "2026-06-01T17:05:00Z")).await;
    town.world.until_scheduled().await;
    assert_eq!((ec2.count("running"), ec2.calls()["StopInstances"]), (1, 1));
    left("by now it is to be on by the rule").await;
    // Of a tick right before an override.
    let over = json!({"override": "off for 3 h"});
    assert_eq!(town.gateway.ask("PUT", "/v1/contexts/web/override", over).await.0, 200);
    town.world.until_scheduled().await;
    assert_eq!(ec2.count("stopped"), 1);
    let before = jiff::Timestamp::from_second(jiff::Timestamp::now().as_second() - 1).unwrap();
    let call = town.world.aws.sqs.send_message().delay_seconds(3);
    let call = call.queue_url(&town.world.outputs().schedule_queue_url);
    call.message_body(batch("START", &before.to_string()).to_string()).send().await.unwrap();
    town.world.until_scheduled().await;
    assert_eq!((ec2.count("stopped"), ec2.calls()["StartInstances"]), (1, 1));
    left("off by override").await;
    town.end().await;
}

#[tokio::test]
async fn an_order_to_a_staged_context_is_done_to_the_end_though_no_tick_repeats_it() {
    let fleets = FakeAppStream::start(&["desk"]).await;
    let ec2 = FakeEc2::start(1, 1).await;
    let town = Town::with(&[
        ("AWS_ENDPOINT_URL_APPSTREAM", fleets.url()),
        ("AWS_ENDPOINT_URL_EC2", ec2.url()),
        ("FLOTILLA_STAGE_WAIT_SECONDS", "0"),
    ])
    .await;
    ec2.add("i-0000", "stopped");
    let context = json!({
        "schedulingPeriod": "daily 08:00-19:00", "isScheduled": false,
        "stages": [["appstream:fleet"], ["ec2:instance"]],
        "resources": {"appstream:fleet": ["desk"], "ec2:instance": ["i-0000"]},
    });
    assert_eq!(town.gateway.ask("PUT", "/v1/contexts/web", context).await.0, 200);
    fleets.put("desk", "STARTING");
    let (status, _) = town.gateway.ask("POST", "/v1/contexts/web/power/on", Value::Null).await;
    assert_eq!(status, 204);
    eventually("the second stage to wait", Duration::from_secs(20), async || {
        let rows = town.audit("ec2:instance", "i-0000").await;
        rows.iter().any(|row| row["kind"] == "waiting").then_some(())
    })
    .await;
    assert_eq!(ec2.count("running"), 0);
    fleets.put("desk", "RUNNING");
    town.world.until_scheduled().await;
    assert_eq!(ec2.count("running"), 1);
    town.end().await;
}

#[tokio::test]
async fn databases_reach_their_state_though_a_third_of_the_calls_fail() {
    let rds = FakeEc2::start(40, 3).await;
    let town =
        Town::with(&[("AWS_ENDPOINT_URL_RDS", rds.url()), ("FLOTILLA_RETRY_FIRST_SECONDS", "0.2")])
            .await;
    let ids: Vec<String> = (0..40).map(|n| format!("i-{n:04}")).collect();
    town.context("many", json!({ "rds:instance": ids })).await;
    rds.fail(17, 17);
    for minute in 0..4 {
        if rds.count("stopped") < 40 {
            town.world.tick(&format!("2026-06-01T17:0{minute}:00Z")).await;
        }
    }
    assert_eq!(rds.count("stopped"), 40, "{:?}", rds.calls());
    assert_eq!(town.world.audited("done", "STOP").await, 40, "the audit explains each");
    town.end().await;
}

/// Kills a scheduler at its first act once `call` was done for it, and has another finish: the
/// resources are as they should be, the audit says that it was the scheduler, and it can be undone.
async fn killed_after(call: &'static str) {
    let ec2 = FakeEc2::start(2, 1).await;
    let (world, moto) = tokio::join!(flotilla_tests::World::new(), flotilla_tests::Moto::start());
    let endpoint = std::env::var("AWS_ENDPOINT_URL").unwrap();
    let proxy = FaultProxy::new(&endpoint, Seed(0));
    let door = proxy.entrance(0).await;
    let lied_to = [
        ("AWS_ENDPOINT_URL_EC2", ec2.url()),
        ("AWS_ENDPOINT_URL_DYNAMODB", door.as_str()),
        ("AWS_ENDPOINT_URL_SQS", door.as_str()),
    ];
    let mut town = Town::of(world, moto, &lied_to).await;
    town.context("web", json!({"ec2:instance": ["i-0000", "i-0001"]})).await;
    ec2.hold();
    town.world.schedule(json!({"time": "2026-06-01T17:00:00Z"})).await;
    let wait = Duration::from_secs(20);
    eventually("the act", wait, async || (ec2.count("stopped") == 2).then_some(())).await;
    if !call.is_empty() {
        let calls: &'static [&'static str] = Box::leak(Box::new([call]));
        proxy.obey(&[Rule { fault: Fault::Hung, calls, one_in: 1 }]);
        ec2.answer();
        let hung = async || proxy.injected().contains_key(&Fault::Hung).then_some(());
        eventually("the call", wait, hung).await;
        // Its answer is held, and it is done by then or soon.
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    town.replace(&[("AWS_ENDPOINT_URL_EC2", ec2.url())]).await;
    ec2.answer();
    town.world.until_scheduled().await;
    assert_eq!(ec2.calls()["StopInstances"], 1, "after {call}");
    for id in ["i-0000", "i-0001"] {
        let rows = town.audit("ec2:instance", id).await;
        assert_eq!(find(&rows, "done", "acted")["action"], "STOP", "after {call}: {rows:#?}");
        assert!(rows.iter().all(|row| row["outcome"] != "intended"), "{rows:#?}");
    }
    assert_eq!(town.gateway.ask("POST", "/v1/undo", Value::Null).await.0, 202);
    town.world.until_scheduled().await;
    assert_eq!(ec2.count("running"), 2, "what was done after {call} can be undone");
    town.end().await;
}

#[tokio::test]
async fn a_scheduler_that_is_killed_at_its_act_or_after_it_has_said_what_it_did() {
    tokio::join!(killed_after(""), killed_after("TransactWriteItems"));
}

#[tokio::test]
async fn a_scheduler_that_is_killed_at_its_audit_or_its_end_has_said_what_it_did() {
    tokio::join!(killed_after("BatchWriteItem"), killed_after("DeleteMessageBatch"));
}

#[tokio::test]
async fn a_batch_that_is_given_up_is_worked_by_the_next_tick_under_its_own_name() {
    let ec2 = FakeEc2::start(1, 1).await;
    let once = [("AWS_ENDPOINT_URL_EC2", ec2.url()), ("FLOTILLA_MAX_ATTEMPTS", "1")];
    let mut town = Town::with(&once).await;
    town.context("web", json!({"ec2:instance": ["i-0000"]})).await;
    ec2.hold_asking();
    town.world.schedule(json!({"time": "2026-06-01T17:00:00Z"})).await;
    let asked = async || ec2.calls().contains_key("StopInstances (dry)").then_some(());
    eventually("the asking", Duration::from_secs(20), asked).await;
    town.replace(&once).await;
    ec2.answer();
    town.world.until_scheduled().await;
    find(&town.audit("ec2:instance", "i-0000").await, "skipped", "given_up");
    let letters = &town.world.outputs().schedule_dead_letter_queue_url;
    town.world.dead_letters_on(letters, 1).await;
    // It looks, and finds that whoever died at it may still be at it: that is over in minutes.
    town.world.tick("2026-06-01T17:01:00Z").await;
    let rows = town.audit("ec2:instance", "i-0000").await;
    assert!(find(&rows, "skipped", "under_way")["reason"].contains("by tick 2026-06-01T17:00"));
    town.end().await;
}

#[tokio::test]
async fn a_tick_that_could_send_none_of_its_batches_is_planned_again_though_its_period_has_no_other()
 {
    let ec2 = FakeEc2::start(1, 1).await;
    let (world, moto) = tokio::join!(flotilla_tests::World::new(), flotilla_tests::Moto::start());
    let proxy = FaultProxy::new(&std::env::var("AWS_ENDPOINT_URL").unwrap(), Seed(0));
    let door = proxy.entrance(0).await;
    let settings = [
        ("AWS_ENDPOINT_URL_EC2", ec2.url()),
        ("AWS_ENDPOINT_URL_SQS", door.as_str()),
        ("FLOTILLA_RETRY_FIRST_SECONDS", "0.2"),
    ];
    let town = Town::of(world, moto, &settings).await;
    town.context("web", json!({"ec2:instance": ["i-0000"]})).await;
    let hour = json!({"tickSeconds": 3600});
    assert_eq!(town.gateway.ask("PUT", "/v1/scheduler", hour).await.0, 200);
    proxy.obey(&[Rule { fault: Fault::ServerError, calls: &["SendMessage"], one_in: 1 }]);
    town.world.schedule(json!({"time": "2026-06-01T17:00:00Z"})).await;
    // The SDK tries four times, and the fifth is of the next attempt at the tick.
    let again = async || (proxy.injected().get(&Fault::ServerError) > Some(&4)).then_some(());
    eventually("a second attempt", Duration::from_secs(60), again).await;
    proxy.obey(&[]);
    town.world.until_scheduled().await;
    assert_eq!(ec2.count("stopped"), 1);
    town.end().await;
}

#[tokio::test]
async fn what_no_table_takes_stops_nothing_and_what_cannot_be_read_is_said() {
    let ec2 = FakeEc2::start(1, 1).await;
    let town = Town::with(&[("AWS_ENDPOINT_URL_EC2", ec2.url())]).await;
    let long = "i".repeat(3_000);
    let request =
        json!({"schedulingPeriod": "daily 08:00-09:00", "resources": {"ec2:instance": [long]}});
    assert_eq!(town.gateway.ask("PUT", "/v1/contexts/long", request).await.0, 400);
    town.context("web", json!({"ec2:instance": ["i-0000"]})).await;
    // Behind the gateway's back, as an older release may have left it.
    let set = async |table: &str, id: &str, name: &str, value: Value| {
        let value = aws_sdk_dynamodb::types::AttributeValue::S(value.to_string());
        let call = town.world.aws.dynamo.put_item().table_name(table).item(name, value);
        let id = aws_sdk_dynamodb::types::AttributeValue::S(id.to_owned());
        call.item("contextID", id).send().await.unwrap();
    };
    let outputs = town.world.outputs();
    set(&outputs.resources_table_name, "web2", "ec2:instance", json!({"id": [long]})).await;
    let fine = json!({"schedulingPeriod": "daily 08:00-09:00"});
    assert_eq!(town.gateway.ask("PUT", "/v1/contexts/web2", fine).await.0, 200);
    set(&outputs.contexts_table_name, "broken", "isScheduled", json!("perhaps")).await;
    town.world.tick("2026-06-01T17:00:00Z").await;
    assert_eq!(ec2.count("stopped"), 1);
    find(&town.world.audit("context/broken").await, "skipped", "unreadable");
    let (status, answer) = town.gateway.ask("GET", "/v1/contexts/broken", Value::Null).await;
    assert!(
        status == 400 && answer["error"].as_str().unwrap().contains("cannot be read"),
        "{answer}"
    );
    let rows = town.world.audit(&format!("ec2:instance/{}", &long[..100])).await;
    find(&rows, "skipped", "no_such_name");
    town.end().await;
}
