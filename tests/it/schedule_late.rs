//! Ticks that come late, and stages whose rule is long ago: what is done is of the present.

use std::time::Duration;

use flotilla_tests::{FakeAppStream, FakeEc2, eventually};
use serde_json::json;

use crate::{
    schedule::{HOME, Town, find},
    schedule_people::{always_off, put},
};

/// So many seconds from now.
fn seconds(from_now: i64) -> String {
    let at = jiff::Timestamp::now().as_second() + from_now;
    jiff::Timestamp::from_second(at).unwrap().to_string()
}

#[tokio::test]
async fn a_tick_that_its_clock_sent_late_takes_no_override_back() {
    let ec2 = FakeEc2::start(2, 1).await;
    let town = Town::with(&[("AWS_ENDPOINT_URL_EC2", ec2.url())]).await;
    for (path, id) in [("/v1/contexts/web", "i-0000"), ("/v1/contexts/one", "i-0001")] {
        put(&town, path, always_off(json!({"ec2:instance": [id]}))).await;
    }
    town.world.tick(&seconds(-50)).await;
    assert_eq!(ec2.count("stopped"), 2);
    let on = json!({"override": "on for 3 h"});
    put(&town, "/v1/contexts/web/override", on.clone()).await;
    put(&town, "/v1/overrides/ec2/i-0001", on).await;
    town.world.until_scheduled().await;
    assert_eq!(ec2.count("running"), 2);
    let stops = ec2.calls()["StopInstances"];
    // EventBridge sends within the minute, so its clock may be behind what was asked for since.
    town.world.tick(&seconds(-40)).await;
    assert_eq!((ec2.count("running"), ec2.calls()["StopInstances"]), (2, stops));
    town.end().await;
}

#[tokio::test]
async fn stages_keep_their_order_in_a_start_that_is_long_after_its_rule() {
    let fleets = FakeAppStream::start(&["desk", "prod", "out", "off"]).await;
    let town = Town::with(&[
        ("AWS_ENDPOINT_URL_APPSTREAM", fleets.url()),
        ("FLOTILLA_STAGE_WAIT_SECONDS", "0"),
    ])
    .await;
    let id = town.moto.instance(HOME, "x").await;
    town.moto.stop_instance(HOME, &id).await;
    put(&town, "/v1/overrides/appstream/off", json!({"override": "off for 3 h"})).await;
    town.world.until_scheduled().await;
    let all = json!({
        "id": ["desk", "prod", "out", "off"], "isScheduled": [true, true, false, true],
    });
    let context = json!({
        "schedulingPeriod": "daily 08:00-19:00", "stages": [["appstream:fleet"], ["ec2:instance"]],
        "resources": {"appstream:fleet": all, "ec2:instance": [id]},
    });
    put(&town, "/v1/contexts/web", context).await;
    // What is taken out, held off or not to be touched is not waited for.
    put(&town, "/v1/scheduler", json!({"neverTouch": ["prod"]})).await;
    fleets.put("desk", "STARTING");
    // The first tick for hours: the limit counts from it, and not from the rule.
    town.world.tick("2026-06-01T12:00:00Z").await;
    assert_eq!(town.instance(&id).await, "stopped");
    let rows = town.audit("ec2:instance", &id).await;
    assert!(find(&rows, "skipped", "waiting")["reason"].contains("desk, which is starting"));
    town.world.tick("2026-06-01T12:14:00Z").await;
    assert_eq!(town.instance(&id).await, "stopped");
    fleets.put("desk", "RUNNING");
    town.world.tick("2026-06-01T12:14:30Z").await;
    assert_eq!(
        (town.instance(&id).await, fleets.state("prod")),
        ("running".into(), "STOPPED".into())
    );
    // It was ready: the next time it is waited for anew, and no longer than the limit.
    town.moto.stop_instance(HOME, &id).await;
    fleets.put("desk", "STARTING");
    town.world.tick("2026-06-01T12:20:00Z").await;
    assert_eq!(town.instance(&id).await, "stopped");
    town.world.tick("2026-06-01T12:35:00Z").await;
    assert_eq!(town.instance(&id).await, "running");
    town.end().await;
}

#[tokio::test]
async fn a_stage_goes_on_at_its_limit_though_its_rule_comes_every_minute() {
    let fleets = FakeAppStream::start(&["desk"]).await;
    let town = Town::with(&[
        ("AWS_ENDPOINT_URL_APPSTREAM", fleets.url()),
        ("FLOTILLA_STAGE_WAIT_SECONDS", "0"),
        ("FLOTILLA_STAGE_LIMIT_SECONDS", "120"),
    ])
    .await;
    let id = town.moto.instance(HOME, "x").await;
    town.moto.stop_instance(HOME, &id).await;
    let context = json!({
        "schedulingRuleStart": "* * * * *", "stages": [["appstream:fleet"], ["ec2:instance"]],
        "resources": {"appstream:fleet": ["desk"], "ec2:instance": [id]},
    });
    put(&town, "/v1/contexts/web", context).await;
    fleets.put("desk", "STARTING");
    for (minute, state) in [(0, "stopped"), (1, "stopped"), (2, "running")] {
        town.world.tick(&format!("2026-06-01T12:0{minute}:00Z")).await;
        assert_eq!(town.instance(&id).await, state, "at minute {minute}");
    }
    town.end().await;
}

#[tokio::test]
async fn a_stage_that_waited_starts_nothing_that_is_not_wanted_any_more() {
    let (fleets, ec2) = (FakeAppStream::start(&["desk"]).await, FakeEc2::start(0, 1).await);
    ec2.add("i-app", "stopped");
    fleets.put("desk", "STARTING");
    let town = Town::with(&[
        ("AWS_ENDPOINT_URL_APPSTREAM", fleets.url()),
        ("AWS_ENDPOINT_URL_EC2", ec2.url()),
        ("FLOTILLA_SLOTS", "4"),
    ])
    .await;
    let context = json!({
        "schedulingPeriod": "daily 00:00-24:00",
        "stages": [["appstream:fleet"], ["ec2:instance"]],
        "resources": {"appstream:fleet": ["desk"], "ec2:instance": ["i-app"]},
    });
    put(&town, "/v1/contexts/web", context).await;
    assert_eq!(town.gateway.ask("POST", "/v1/scheduler/tick", json!({})).await.0, 202);
    let queue = town.world.outputs().schedule_queue_url.clone();
    eventually("the second stage to wait", Duration::from_secs(30), async || {
        let first = town.audit("appstream:fleet", "desk").await;
        let (all, held) = (town.world.left_on(&queue).await, town.world.in_flight(&queue).await);
        (!first.is_empty() && (all, held) == (1, 1)).then_some(())
    })
    .await;
    let stop = "/v1/contexts/web/scheduler/stop";
    assert_eq!(town.gateway.ask("POST", stop, json!({})).await.0, 204);
    fleets.put("desk", "RUNNING");
    town.world.until_scheduled().await;
    let rows = town.audit("ec2:instance", "i-app").await;
    assert!(find(&rows, "skipped", "superseded")["reason"].contains("scheduler is stopped"));
    assert_eq!((ec2.count("stopped"), ec2.calls().get("StartInstances")), (1, None));
    town.end().await;
}
