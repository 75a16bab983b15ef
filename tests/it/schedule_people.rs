//! What people want beside the schedule: overrides, modes, dry runs, undo, settings, savings.

use std::time::Duration;

use flotilla_tests::eventually;
use serde_json::{Value, json};

use crate::schedule::{HOME, Town, find};

/// Off at every minute: whatever runs is stopped by the next tick.
pub(crate) fn always_off(resources: Value) -> Value {
    json!({ "schedulingRuleStart": "0 0 1 1 *", "schedulingRuleStop": "* * * * *", "resources": resources })
}

pub(crate) async fn put(town: &Town, path: &str, body: Value) -> Value {
    let (status, answer) = town.gateway.ask("PUT", path, body).await;
    assert_eq!(status, 200, "{path}: {answer}");
    answer
}

/// Now, and so many minutes: the clock of a tick.
pub(crate) fn minutes(from_now: i64) -> String {
    let at = jiff::Timestamp::now().as_second() + from_now * 60;
    jiff::Timestamp::from_second(at).unwrap().to_string()
}

#[tokio::test]
async fn an_override_of_a_context_holds_against_its_rules_and_ends_by_itself() {
    let town = Town::new().await;
    let id = town.moto.instance(HOME, "x").await;
    put(&town, "/v1/contexts/web", always_off(json!({"ec2:instance": [id]}))).await;
    town.world.tick(&minutes(0)).await;
    assert_eq!(town.instance(&id).await, "stopped");
    // It takes effect at once: the gateway has the scheduler look.
    let over = put(
        &town,
        "/v1/contexts/web/override",
        json!({"override": "on for 3 h", "reason": "a demo"}),
    )
    .await;
    assert_eq!(over["override"]["power"], "ON");
    town.world.until_scheduled().await;
    assert_eq!(town.instance(&id).await, "running");
    let rows = town.audit("ec2:instance", &id).await;
    let acted = rows.iter().find(|row| row["action"] == "START").unwrap();
    assert!(acted["reason"].contains("a demo"), "{acted:?}");
    assert_eq!((acted["actor"].as_str(), acted["who"].as_str()), ("override", "a request"));
    town.world.tick(&minutes(1)).await;
    assert_eq!(town.instance(&id).await, "running");
    put(&town, "/v1/contexts/web/override", json!({"power": "on", "for": "5 s"})).await;
    eventually("the end of the override", Duration::from_secs(60), async || {
        town.world.tick(&minutes(1)).await;
        (town.instance(&id).await == "stopped").then_some(())
    })
    .await;
    // What is no override is refused with the reason.
    for bad in [json!({"override": "perhaps"}), json!({}), json!({"power": "on"})] {
        let (status, answer) = town.gateway.ask("PUT", "/v1/contexts/web/override", bad).await;
        assert!(status == 400 && answer["error"].is_string(), "{answer}");
    }
    town.end().await;
}

#[tokio::test]
async fn an_override_of_one_resource_and_one_of_a_tag_hold_and_can_be_ended() {
    let town = Town::new().await;
    let (one, two) = (town.moto.instance(HOME, "dev").await, town.moto.instance(HOME, "dev").await);
    let tag = json!({"tagValues": ["dev"], "schedulingRuleStart": "0 0 1 1 *", "schedulingRuleStop": "* * * * *"});
    put(&town, "/v1/tags/env", tag).await;
    let path = format!("/v1/overrides/ec2/{one}");
    put(&town, &path, json!({"power": "on", "for": "2 h"})).await;
    town.world.until_scheduled().await;
    town.world.tick(&minutes(1)).await;
    assert_eq!(
        (town.instance(&one).await, town.instance(&two).await),
        ("running".into(), "stopped".into())
    );
    put(&town, "/v1/tags/env/override", json!({"override": "on for 1 h"})).await;
    town.world.until_scheduled().await;
    assert_eq!(town.instance(&two).await, "running");
    assert_eq!(town.gateway.ask("DELETE", &path, Value::Null).await.0, 204);
    assert_eq!(town.gateway.ask("DELETE", "/v1/tags/env/override", Value::Null).await.0, 204);
    town.world.until_scheduled().await;
    assert_eq!(
        (town.instance(&one).await, town.instance(&two).await),
        ("stopped".into(), "stopped".into())
    );
    town.end().await;
}

#[tokio::test]
async fn an_override_ends_on_the_clock_of_its_context_by_request_and_by_command() {
    let town = Town::new().await;
    let id = town.moto.instance(HOME, "x").await;
    let mut web = always_off(json!({"ec2:instance": [id]}));
    web["timeZone"] = json!("Asia/Kathmandu");
    put(&town, "/v1/contexts/web", web).await;
    let (path, tonight) = ("/v1/contexts/web/override", json!({"override": "on until 22:00"}));
    let (status, told) = town.gateway.ask("POST", path, tonight).await;
    assert_eq!((status, &told["timeZone"]), (200, &json!("Asia/Kathmandu")), "{told}");
    let until: jiff::Timestamp = told["override"]["until"].as_str().unwrap().parse().unwrap();
    // 5:45 ahead of UTC, all year long.
    assert!(until.to_string().ends_with("T16:15:00Z"), "{until}");
    let ahead = until.as_second() - jiff::Timestamp::now().as_second();
    assert!((0..=24 * 3600).contains(&ahead), "{ahead}");
    let off = json!({"power": "off", "until": "22:00"});
    let told = put(&town, &format!("/v1/overrides/ec2/{id}"), off).await;
    assert!(told["override"]["until"].as_str().unwrap().ends_with("T16:15:00Z"), "{told}");
    let hour = put(&town, path, json!({"power": "off", "for": 3600})).await;
    let at = |name: &str| hour["override"][name].as_str().unwrap().parse::<jiff::Timestamp>();
    assert_eq!(at("until").unwrap().as_second() - at("from").unwrap().as_second(), 3600);
    let held = async || {
        let (_, context) = town.gateway.ask("GET", "/v1/contexts/web", Value::Null).await;
        context["override"]["power"].clone()
    };
    let (code, said) = town
        .world
        .flotilla(&["schedule", "override", "--context", "web", "on", "until", "22:00"])
        .await;
    assert!(code == 0 && said.contains("on until") && said.contains("T22:00:00"), "{said}");
    assert_eq!(held().await, "ON");
    // What is only tried is told, and not done.
    let (_, told) = town
        .gateway
        .ask("POST", &format!("{path}?dry_run=true"), json!({"override": "off for 3 h"}))
        .await;
    assert_eq!((&told["dryRun"], held().await), (&json!(true), json!("ON")), "{told}");
    let dry = ["schedule", "override", "--context", "web", "off", "for", "3 h", "--dry-run"];
    let (code, said) = town.world.flotilla(&dry).await;
    assert!(code == 0 && said.contains("it would be off"), "{said}");
    for (method, path) in [("POST", "/v1/scheduler/stop"), ("DELETE", "/v1/contexts/web")] {
        let (status, told) =
            town.gateway.ask(method, &format!("{path}?dry_run=true"), Value::Null).await;
        assert_eq!((status, &told["dryRun"]), (200, &json!(true)), "{told}");
    }
    let forget = json!({"data": {"contextID": "web", "dry_run": true}});
    assert_eq!(town.gateway.post("/context-unregister", forget).await.0, 200);
    assert_eq!(held().await, "ON");
    let end = ["schedule", "override", "--context", "web", "--end"];
    assert_eq!((town.world.flotilla(&end).await.0, held().await), (0, Value::Null));
    for bad in [vec!["on", "until", "25:00"], vec!["perhaps"], vec![]] {
        let words = [&["schedule", "override", "--context", "web"][..], &bad].concat();
        assert_ne!(town.world.flotilla(&words).await.0, 0, "{bad:?}");
    }
    // Without a word a preview is of the week to come; dates are those of the zone.
    assert_eq!(town.gateway.ask("GET", "/v1/contexts/web/preview", Value::Null).await.0, 200);
    let path = "/v1/contexts/web/preview?from=2026-06-01&to=2026-06-02";
    let (_, told) = town.gateway.ask("GET", path, Value::Null).await;
    assert_eq!(told["from"], "2026-05-31T18:15:00Z", "{told}");
    town.world.until_scheduled().await;
    town.end().await;
}

#[tokio::test]
async fn what_people_started_is_left_in_the_mode_that_says_so_and_stopped_in_the_other() {
    let town = Town::new().await;
    let (one, two) = (town.moto.instance(HOME, "x").await, town.moto.instance(HOME, "x").await);
    let mut kept = always_off(json!({"ec2:instance": [one]}));
    kept["mode"] = json!("keep-started");
    put(&town, "/v1/contexts/kept", kept).await;
    put(&town, "/v1/contexts/enforced", always_off(json!({"ec2:instance": [two]}))).await;
    town.world.tick("2026-06-01T12:00:00Z").await;
    assert_eq!(
        (town.instance(&one).await, town.instance(&two).await),
        ("stopped".into(), "stopped".into())
    );
    town.moto.start_instance(HOME, &one).await;
    town.moto.start_instance(HOME, &two).await;
    town.world.tick("2026-06-01T12:05:00Z").await;
    assert_eq!(
        (town.instance(&one).await, town.instance(&two).await),
        ("running".into(), "stopped".into())
    );
    let rows = town.audit("ec2:instance", &one).await;
    assert!(find(&rows, "skipped", "by_hand")["reason"].contains("keep-started"));
    town.end().await;
}

#[tokio::test]
async fn nothing_touches_what_is_on_the_never_touch_list() {
    let town = Town::new().await;
    let (one, two) = (town.moto.instance(HOME, "x").await, town.moto.instance(HOME, "x").await);
    put(&town, "/v1/contexts/web", always_off(json!({"ec2:instance": [one, two]}))).await;
    put(&town, "/v1/scheduler", json!({"neverTouch": [one]})).await;
    town.world.tick("2026-06-01T12:00:00Z").await;
    assert_eq!(
        (town.instance(&one).await, town.instance(&two).await),
        ("running".into(), "stopped".into())
    );
    find(&town.audit("ec2:instance", &one).await, "skipped", "never_touch");
    // Nor by hand.
    town.world.schedule(json!({"action": "STOP", "service": "ec2", "ids": [one]})).await;
    town.world.until_scheduled().await;
    assert_eq!(town.instance(&one).await, "running");
    // Nor by a batch that was sent before it came onto the list.
    let tick = "2026-06-01T12:00:00Z";
    let item = json!({"id": one, "source": "context/web", "since": tick, "reason": "before"});
    town.world
        .schedule(json!({"batch": {
            "account": "", "region": HOME, "service": "ec2:instance", "action": "STOP", "tick": tick,
            "actor": "schedule", "bulk": "b", "occasion": "o", "items": [item],
        }}))
        .await;
    town.world.until_scheduled().await;
    assert_eq!(town.instance(&one).await, "running");
    let (_, settings) = town.gateway.ask("GET", "/v1/scheduler", Value::Null).await;
    assert_eq!((&settings["neverTouch"], &settings["running"]), (&json!([one]), &json!(true)));
    for bad in [
        json!({"neverTouch": "x"}),
        json!({"tickSeconds": 0}),
        json!({"prices": {"x": -1}}),
        json!({"x": 1}),
        json!({}),
    ] {
        assert_eq!(town.gateway.ask("PUT", "/v1/scheduler", bad).await.0, 400);
    }
    town.end().await;
}

#[tokio::test]
async fn a_dry_run_switches_nothing_and_says_what_it_would() {
    let town = Town::new().await;
    let id = town.moto.instance(HOME, "x").await;
    put(&town, "/v1/contexts/web", always_off(json!({"ec2:instance": [id]}))).await;
    let (status, _) =
        town.gateway.ask("POST", "/v1/scheduler/tick?dry_run=true", Value::Null).await;
    assert_eq!(status, 202);
    let (status, told) =
        town.gateway.ask("POST", "/v1/contexts/web/power/off?dry_run=true", Value::Null).await;
    assert_eq!((status, &told["dryRun"]), (200, &json!(true)), "{told}");
    assert!(told["wouldBe"]["bulk"].as_str().unwrap().starts_with("STOP context/web"), "{told}");
    town.world
        .schedule(json!({"action": "STOP", "service": "ec2", "ids": [id], "dry_run": true}))
        .await;
    town.world.until_scheduled().await;
    assert_eq!(town.instance(&id).await, "running");
    let rows = town.audit("ec2:instance", &id).await;
    assert!(rows.iter().all(|row| row["outcome"] == "dry_run"), "{rows:#?}");
    let (_, context) = town.gateway.ask("GET", "/v1/contexts/web", Value::Null).await;
    assert_eq!(context["lastByHand"], Value::Null, "a dry run is no hand");
    // A context that is only tried.
    let mut tried = always_off(json!({"ec2:instance": [id]}));
    tried["dryRun"] = json!(true);
    put(&town, "/v1/contexts/web", tried).await;
    town.world.tick("2026-06-01T12:00:00Z").await;
    assert_eq!(town.instance(&id).await, "running");
    town.world.tick("2026-06-01T12:01:00Z").await;
    put(&town, "/v1/contexts/web", always_off(json!({"ec2:instance": [id]}))).await;
    town.world.tick("2026-06-01T12:01:00Z").await;
    assert_eq!(town.instance(&id).await, "stopped", "a dry run takes no transition away");
    town.end().await;
}

#[tokio::test]
async fn the_last_bulk_action_is_undone_until_the_next_rule() {
    let town = Town::new().await;
    let (one, two) = (town.moto.instance(HOME, "x").await, town.moto.instance(HOME, "x").await);
    town.moto.stop_instance(HOME, &two).await;
    town.context("web", json!({"ec2:instance": [one, two]})).await;
    let web = json!({ "contextID": "web" });
    town.gateway.post("/context-power-off", web).await;
    town.world.until_scheduled().await;
    assert_eq!(town.instance(&one).await, "stopped");
    let unknown = json!({"bulk": "tick of nobody"});
    assert_eq!(town.gateway.ask("POST", "/v1/undo", unknown).await.0, 404);
    // One that is only tried switches nothing, nor keeps the schedule from anything.
    let (status, told) = town.gateway.ask("POST", "/v1/undo?dry_run=true", Value::Null).await;
    assert_eq!((status, &told["dryRun"]), (202, &json!(true)), "{told}");
    assert!(told["wouldBe"]["bulk"].is_string(), "{told}");
    town.world.until_scheduled().await;
    assert_eq!(town.instance(&one).await, "stopped");
    let (_, all) = town.gateway.ask("GET", "/v1/overrides", Value::Null).await;
    assert_eq!(all["overrides"], json!([]), "{all}");
    assert_eq!(town.gateway.ask("POST", "/v1/undo", Value::Null).await.0, 202);
    town.world.until_scheduled().await;
    // Only what the action changed comes back.
    assert_eq!(
        (town.instance(&one).await, town.instance(&two).await),
        ("running".into(), "stopped".into())
    );
    // A tick right after does not take it back.
    town.world.tick(&minutes(0)).await;
    assert_eq!(town.instance(&one).await, "running");
    let (_, known) =
        town.gateway.ask("GET", &format!("/v1/overrides/ec2/{one}"), Value::Null).await;
    assert_eq!(known["override"]["power"], "ON", "{known}");
    town.end().await;
}

#[tokio::test]
async fn the_period_of_the_tick_can_be_changed_while_it_runs() {
    let town = Town::new().await;
    let id = town.moto.instance(HOME, "x").await;
    put(&town, "/v1/contexts/web", always_off(json!({"ec2:instance": [id]}))).await;
    let settings = put(&town, "/v1/scheduler", json!({"tickSeconds": 600})).await;
    assert_eq!(settings["tickSeconds"], 600);
    town.world.tick("2026-06-01T12:00:30Z").await;
    assert_eq!(town.instance(&id).await, "stopped");
    town.moto.start_instance(HOME, &id).await;
    town.world.tick("2026-06-01T12:09:00Z").await;
    assert_eq!(town.instance(&id).await, "running", "a tick that is not due was worked");
    put(&town, "/v1/scheduler", json!({"tickSeconds": 60})).await;
    town.world.tick("2026-06-01T12:09:30Z").await;
    assert_eq!(town.instance(&id).await, "stopped");
    // What people ask for does not wait for the next day.
    put(&town, "/v1/scheduler", json!({"tickSeconds": 86_400})).await;
    town.world.tick(&minutes(0)).await;
    put(&town, "/v1/contexts/web/override", json!({"override": "on for 1 h"})).await;
    town.world.until_scheduled().await;
    assert_eq!(town.instance(&id).await, "running");
    town.end().await;
}

#[tokio::test]
async fn what_a_context_saves_is_added_up_by_the_same_decision() {
    let town = Town::new().await;
    town.context("web", json!({"ec2:instance": ["i-1", "i-2"], "rds:instance": ["orders"]})).await;
    put(&town, "/v1/scheduler", json!({"prices": {"ec2:instance": 0.10, "i-2": 0.50}})).await;
    // A week in June: on for 5 days of 11 hours, so off for 168 - 55 hours.
    let span = "from=2026-06-01T00:00:00%2B02:00&to=2026-06-08T00:00:00%2B02:00";
    let (status, saved) =
        town.gateway.ask("GET", &format!("/v1/contexts/web/savings?{span}"), Value::Null).await;
    assert_eq!(status, 200, "{saved}");
    assert_eq!((&saved["hoursOffEach"], &saved["hoursAvoided"]), (&json!(113.0), &json!(339.0)));
    assert_eq!(saved["money"], json!(67.8));
    assert_eq!(saved["byKind"]["rds:instance"]["unpriced"], 1);
    let (_, all) = town.gateway.ask("GET", &format!("/v1/savings?{span}"), Value::Null).await;
    assert_eq!((&all["money"], all["contexts"].as_array().map(Vec::len)), (&json!(67.8), Some(1)));
    assert_eq!(town.gateway.ask("GET", "/v1/contexts/web/savings", Value::Null).await.0, 400);
    town.end().await;
}

#[tokio::test]
async fn the_gateway_tells_why() {
    let town = Town::new().await;
    let id = town.moto.instance(HOME, "x").await;
    put(&town, "/v1/contexts/web", always_off(json!({"ec2:instance": [id]}))).await;
    town.world.tick("2026-06-01T12:00:00Z").await;
    let path = format!("/v1/audit?resource=ec2:instance/{HOME}/{id}");
    let (status, told) = town.gateway.ask("GET", &path, Value::Null).await;
    assert_eq!(status, 200);
    assert!(told["rows"][0]["reason"].as_str().unwrap().contains("off by the rule"), "{told}");
    assert_eq!(town.gateway.ask("GET", "/v1/audit", Value::Null).await.0, 400);
    town.end().await;
}
