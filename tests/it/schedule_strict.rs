//! Nothing is done for who only tries, misspells or names what there is not; one name of a resource is
//! the same in every request; and what was just asked for can be undone.

use std::time::Duration;

use flotilla_tests::{FakeEc2, Moto, World, eventually};
use serde_json::{Value, json};

use crate::schedule::{HOME, Town, find};

fn daily(resources: Value) -> Value {
    json!({ "schedulingPeriod": "daily 00:00-24:00", "resources": resources })
}

async fn ask(town: &Town, method: &str, path: &str, body: Value) -> (u16, Value) {
    town.gateway.ask(method, path, body).await
}

#[tokio::test]
async fn the_settings_are_not_forgotten_as_a_context() {
    let town = Town::new().await;
    let settings = json!({"tickSeconds": 300, "neverTouch": ["i-prod"]});
    let (status, before) = ask(&town, "PUT", "/v1/scheduler", settings).await;
    assert_eq!(status, 200, "{before}");
    assert_eq!(ask(&town, "DELETE", "/v1/contexts/restricted-all", Value::Null).await.0, 400);
    let data = json!({"data": {"contextID": "restricted-all"}});
    assert_eq!(town.gateway.post("/context-unregister", data).await.0, 500);
    assert_eq!(ask(&town, "GET", "/v1/scheduler", Value::Null).await.1, before);
    town.end().await;
}

#[tokio::test]
async fn whatever_changes_something_can_be_tried_and_is_then_not_done() {
    let town = Town::new().await;
    let web = daily(json!({"ec2:instance": ["i-1"]}));
    assert_eq!(ask(&town, "PUT", "/v1/contexts/web", web).await.0, 200);
    let tag = json!({"tagValues": ["dev"], "schedulingPeriod": "daily 08:00-19:00"});
    assert_eq!(ask(&town, "PUT", "/v1/tags/env", tag).await.0, 200);
    for (method, path) in [
        ("POST", "/v1/scheduler/stop"),
        ("DELETE", "/v1/contexts/web/resources/ec2/i-1"),
        ("DELETE", "/v1/contexts/web"),
        ("DELETE", "/v1/tags/env/values/dev"),
        ("PUT", "/v1/tags/env/values/prod"),
        ("DELETE", "/v1/tags/env"),
        ("DELETE", "/v1/contexts/web/override"),
        ("POST", "/v1/contexts/web/scheduler/stop"),
    ] {
        for body in [json!({"dryrun": true}), json!({"dry_run": "true"})] {
            let (status, told) = ask(&town, method, path, body.clone()).await;
            assert_eq!(status, 400, "{method} {path} {body}: {told}");
        }
        let address = format!("{path}?dry_run=true");
        for (path, body) in [(path, json!({"dry_run": true})), (&address, Value::Null)] {
            let (status, told) = ask(&town, method, path, body).await;
            match path.contains("/override") {
                true => assert_eq!(status, 404, "there is none: {told}"),
                false => {
                    assert_eq!((status, &told["dryRun"]), (200, &json!(true)), "{path}: {told}")
                }
            }
        }
        let twice = format!("{path}?dry_run=true&dry_run=false");
        assert_eq!(ask(&town, method, &twice, Value::Null).await.0, 400, "{method} {twice}");
        let elsewhere = format!("{path}?region={HOME}");
        assert_eq!(ask(&town, method, &elsewhere, Value::Null).await.0, 400, "{elsewhere}");
    }
    for data in [json!({"data": {"dry_run": true}}), json!({"dryRun": true})] {
        assert_eq!(town.gateway.post("/scheduler-stop", data).await.0, 200);
    }
    let data = json!({"data": {"contextID": "web", "dry_run": true}});
    assert_eq!(town.gateway.post("/context-unregister", data).await.0, 200);
    let misspelt = "/scheduler-stop?dryrun=true";
    assert_eq!(ask(&town, "POST", misspelt, Value::Null).await.0, 400);
    let (_, told) = ask(&town, "GET", "/v1/scheduler", Value::Null).await;
    assert_eq!(told["running"], true, "{told}");
    let (_, told) = ask(&town, "GET", "/v1/contexts/web/resources", Value::Null).await;
    assert_eq!(told["resources"]["ec2:instance"]["id"], json!(["i-1"]), "{told}");
    let (_, told) = ask(&town, "GET", "/v1/tags/env", Value::Null).await;
    assert_eq!(told["tagValues"], json!(["dev"]), "{told}");
    assert_eq!(town.gateway.post("/scheduler-stop", Value::Null).await.0, 200);
    town.end().await;
}

#[tokio::test]
async fn a_dry_run_tells_what_would_be_written_and_refuses_what_would_be_refused() {
    let town = Town::new().await;
    let web = daily(json!({"ec2:instance": ["i-1"]}));
    let (path, dry) = ("/v1/contexts/web", "/v1/contexts/web?dry_run=true");
    let (status, told) = ask(&town, "PUT", dry, web.clone()).await;
    assert_eq!((status, &told["wouldBe"]["contextID"]), (200, &json!("web")), "{told}");
    assert_eq!(told["wouldBe"]["dryRun"], Value::Null, "the request is tried, not the context");
    assert_eq!(ask(&town, "GET", path, Value::Null).await.0, 404, "it was only tried");
    let bad = json!({"schedulingPeriod": "whenever"});
    assert_eq!(ask(&town, "PUT", dry, bad).await.0, 400);
    for missing in [dry, "/v1/contexts/web/resources/ec2/i-1?dry_run=true"] {
        assert_eq!(ask(&town, "DELETE", missing, Value::Null).await.0, 404, "{missing}");
    }
    assert_eq!(ask(&town, "PUT", path, web).await.0, 200);
    let resource = "/v1/contexts/web/resources/ec2/i-2";
    let (_, told) = ask(&town, "PUT", resource, json!({"dry_run": true})).await;
    assert_eq!(told["wouldBe"]["ec2:instance"]["id"], json!(["i-1", "i-2"]), "{told}");
    let settings = json!({"tickSeconds": 300, "dry_run": true});
    let (status, told) = ask(&town, "PUT", "/v1/scheduler", settings).await;
    assert_eq!((status, &told["wouldBe"]["tickSeconds"]), (200, &json!(300)), "{told}");
    let (_, told) = ask(&town, "GET", "/v1/scheduler", Value::Null).await;
    assert_eq!(told["tickSeconds"], Value::Null, "{told}");
    let wrong = json!({"tickSeconds": 0, "dry_run": true});
    assert_eq!(ask(&town, "PUT", "/v1/scheduler", wrong).await.0, 400);
    let (_, row) = ask(&town, "GET", "/v1/contexts/web/resources", Value::Null).await;
    assert_eq!(row["resources"]["ec2:instance"]["id"], json!(["i-1"]), "{row}");
    town.end().await;
}

#[tokio::test]
async fn what_is_only_tried_is_not_switched_by_hand_nor_by_a_batch_that_was_sent_before() {
    let ec2 = FakeEc2::start(2, 1).await;
    let town = Town::with(&[("AWS_ENDPOINT_URL_EC2", ec2.url())]).await;
    let mut web = daily(json!({"ec2": ["i-0000"]}));
    web["dryRun"] = json!(true);
    assert_eq!(ask(&town, "PUT", "/v1/contexts/web", web).await.0, 200);
    assert_eq!(ask(&town, "POST", "/v1/contexts/web/power/off", Value::Null).await.0, 204);
    town.world.schedule(json!({"action": "STOP", "context": "web"})).await;
    town.world.until_scheduled().await;
    assert_eq!(ec2.count("running"), 2);
    let (_, told) = ask(&town, "GET", "/v1/contexts/web", Value::Null).await;
    assert_eq!(told["lastByHand"], Value::Null, "nor by what follows of it later: {told}");
    // A batch of just before that was so asks again what its context says.
    let tick = jiff::Timestamp::from_second(jiff::Timestamp::now().as_second() - 1).unwrap();
    let item = json!({"id": "i-0000", "source": "context/web", "since": tick, "reason": "before"});
    let batch = json!({"batch": {
        "account": "", "region": HOME, "service": "ec2:instance", "action": "STOP", "tick": tick,
        "actor": "schedule", "bulk": "b", "occasion": "o", "items": [item],
    }});
    town.world.schedule(batch).await;
    town.world.until_scheduled().await;
    assert_eq!(ec2.count("running"), 2);
    let rows = town.world.audit(&format!("ec2:instance/{HOME}/i-0000")).await;
    let told = rows.iter().any(|row| row["reason"].contains("only tried"));
    assert!(told, "{rows:#?}");
    town.end().await;
    // A worker that is to switch nothing at all, and a batch of one that was.
    let settings = [("AWS_ENDPOINT_URL_EC2", ec2.url()), ("FLOTILLA_DRY_RUN", "true")];
    let town = Town::with(&settings).await;
    let tick = "2026-06-01T17:00:00Z";
    let item = json!({"id": "i-0001", "source": "ids", "since": tick, "reason": "before"});
    town.world
        .schedule(json!({"batch": {
            "account": "", "region": HOME, "service": "ec2:instance", "action": "STOP", "tick": tick,
            "actor": "hand", "bulk": "b", "occasion": "o", "items": [item],
        }}))
        .await;
    town.world.until_scheduled().await;
    assert_eq!(ec2.count("running"), 2);
    let rows = town.world.audit(&format!("ec2:instance/{HOME}/i-0001")).await;
    assert!(rows.iter().all(|row| row["outcome"] == "dry_run") && !rows.is_empty(), "{rows:#?}");
    town.end().await;
}

#[tokio::test]
async fn hands_that_come_together_are_all_taken_and_the_last_one_counts() {
    let ec2 = FakeEc2::start(1, 1).await;
    let town = Town::with(&[("AWS_ENDPOINT_URL_EC2", ec2.url())]).await;
    let web = daily(json!({"ec2": ["i-0000"]}));
    assert_eq!(ask(&town, "PUT", "/v1/contexts/web", web).await.0, 200);
    let hand = |power: &'static str| {
        let path = format!("/v1/contexts/web/power/{power}");
        let gateway = &town.gateway;
        async move { gateway.ask("POST", &path, Value::Null).await }
    };
    let hands = ["off", "on"].into_iter().cycle().take(8).map(hand);
    for (status, told) in futures::future::join_all(hands).await {
        assert_eq!(status, 204, "{told}");
    }
    town.world.until_scheduled().await;
    let (_, row) = ask(&town, "GET", "/v1/contexts/web", Value::Null).await;
    let state = if row["powerByHand"] == true { "running" } else { "stopped" };
    assert_eq!(ec2.count(state), 1, "{row}");
    town.end().await;
}

#[tokio::test]
async fn what_was_just_asked_for_is_undone_though_it_is_still_to_be_worked() {
    let ec2 = FakeEc2::start(1, 1).await;
    let town = Town::with(&[("AWS_ENDPOINT_URL_EC2", ec2.url())]).await;
    assert_eq!(
        ask(&town, "PUT", "/v1/contexts/web", daily(json!({"ec2": ["i-0000"]}))).await.0,
        200
    );
    for named in [false, true] {
        let head = town.gateway.head("POST", "/v1/contexts/web/power/off").await;
        let bulk = head.lines().find_map(|line| line.strip_prefix("flotilla-bulk: "));
        // A head is told in lower case.
        let bulk = bulk.unwrap().trim().to_ascii_uppercase().replace("CONTEXT/WEB", "context/web");
        let body = if named { json!({ "bulk": bulk }) } else { Value::Null };
        let (status, told) = ask(&town, "POST", "/v1/undo", body).await;
        assert_eq!((status, &told["bulk"]), (202, &json!(bulk)), "{told}");
        town.world.until_scheduled().await;
        assert_eq!(ec2.count("running"), 1, "the undo waits for what it undoes");
        let (_, known) = ask(&town, "GET", "/v1/overrides/ec2/i-0000", Value::Null).await;
        let over = &known["override"];
        let length = over["until"].as_i64().unwrap() - over["from"].as_i64().unwrap();
        assert_eq!(length, 24 * 3600, "no rule comes: {known}");
    }
    // What is off already is not switched, and its undo ends.
    assert_eq!(ask(&town, "POST", "/v1/contexts/web/power/on", Value::Null).await.0, 204);
    assert_eq!(ask(&town, "POST", "/v1/undo", Value::Null).await.0, 202);
    town.world.until_scheduled().await;
    find(&town.world.audit("scheduler").await, "skipped", "nothing_to_undo");
    assert_eq!(ec2.count("running"), 1);
    town.end().await;
}

#[tokio::test]
async fn an_undo_does_not_wait_for_an_order_that_is_refused_for_good() {
    let (world, moto) = tokio::join!(World::new(), Moto::start());
    let mut gateway = world.gateway(&[]).await;
    let web = daily(json!({"ec2": ["i-1"]}));
    assert_eq!(gateway.ask("PUT", "/v1/contexts/web", web).await.0, 200);
    assert_eq!(gateway.ask("POST", "/v1/contexts/web/power/off", Value::Null).await.0, 204);
    assert_eq!(gateway.ask("DELETE", "/v1/contexts/web", Value::Null).await.0, 204);
    assert_eq!(gateway.ask("POST", "/v1/undo", Value::Null).await.0, 202);
    let mut scheduler = world.schedule_executor(&moto).ready().await;
    world.until_scheduled().await;
    let letters = &world.outputs().schedule_dead_letter_queue_url;
    assert_eq!(world.dead_letters_on(letters, 1).await[0].why["kind"], "not_registered");
    find(&world.audit("scheduler").await, "skipped", "nothing_to_undo");
    assert!(scheduler.stop().await.success() && gateway.process.stop().await.success());
}

#[tokio::test]
async fn a_resource_has_one_name_in_every_request_and_command() {
    let town = Town::new().await;
    let key = format!("rds:instance/{HOME}/orders");
    let off = json!({"override": "off for 2 h"});
    let (status, told) = ask(&town, "PUT", &format!("/v1/overrides/{key}"), off.clone()).await;
    assert_eq!((status, &told["resource"]), (200, &json!(key)), "{told}");
    for path in [
        format!("/v1/overrides/rds/{HOME}/Orders"),
        "/v1/overrides/rds/ORDERS".to_owned(),
        format!("/v1/overrides/rds/orders?region={HOME}"),
        format!("/v1/overrides/rds/arn:aws:rds:{HOME}:123456789012:db:orders"),
    ] {
        let (status, known) = ask(&town, "GET", &path, Value::Null).await;
        assert_eq!((status, &known["resource"]), (200, &json!(key)), "{path}: {known}");
    }
    for path in [
        "/v1/overrides/ec2/%20".to_owned(),
        format!("/v1/overrides/rds/{HOME}/orders?region=eu-west-1"),
        "/v1/overrides/rds/arn:aws:rds:eu-west-1:123456789012:db:orders?region=us-east-1"
            .to_owned(),
        "/v1/overrides/rds/arn:aws:rds:eu-west-1:1:db:orders".to_owned(),
        format!("/v1/overrides/ec2/{HOME}/{HOME}/i-1"),
    ] {
        let (status, told) = ask(&town, "PUT", &path, off.clone()).await;
        assert_eq!(status, 400, "{path}: {told}");
    }
    for scope in ["", "context/", "ec2/"] {
        for method in ["GET", "DELETE"] {
            let path = format!("/v1/overrides?scope={scope}");
            let (status, told) = ask(&town, method, &path, Value::Null).await;
            let why = told["error"].as_str().unwrap_or_default();
            assert!(status == 400 && why.contains("scope"), "{method} {path}: {told}");
        }
    }
    let flotilla = async |words: &[&str]| {
        town.world.flotilla(&[&["schedule", "override"][..], words].concat()).await
    };
    let end = ["--resource", "rds/ORDERS", "--end", "--dry-run"];
    assert_eq!(flotilla(&end).await.0, 0);
    let scope = format!("/v1/overrides?scope=rds/{HOME}/ORDERS");
    assert_eq!(ask(&town, "DELETE", &format!("{scope}&dry_run=true"), Value::Null).await.0, 204);
    assert_eq!(ask(&town, "DELETE", &scope, Value::Null).await.0, 204);
    // It is gone by every name, and who only tries is told so.
    for path in [scope.as_str(), "/v1/overrides/rds/orders", "/v1/overrides/rds/orders?dry_run=1"] {
        assert_eq!(ask(&town, "DELETE", path, Value::Null).await.0, 404, "{path}");
    }
    assert_eq!(flotilla(&end).await.0, 1);
    assert_ne!(flotilla(&["--context", "web", "--zone", "UTC", "on", "for", "1 h"]).await.0, 0);
    let (_, told) = ask(&town, "GET", "/v1/audit?resource=rds/ORDERS", Value::Null).await;
    assert_eq!(told["resource"], json!(key), "{told}");
    assert_eq!(ask(&town, "GET", "/v1/audit?resource=tag/env&limit=0", Value::Null).await.0, 400);
    town.world.until_scheduled().await;
    town.end().await;
}

/// A registration starts no scheduler that was stopped, puts nothing back in that was taken out, and
/// forgets no values: of the context `web`, which has the instance `i-2` alone.
async fn leaves_what_it_does_not_name(town: &Town) {
    let (web, env) = ("/v1/contexts/web", "/v1/tags/env");
    let stop = format!("{web}/scheduler/stop");
    assert_eq!(ask(town, "POST", &stop, Value::Null).await.0, 204);
    let later = || json!({"schedulingPeriod": "daily 09:00-19:00"});
    assert_eq!(ask(town, "PUT", web, later()).await.1["isScheduled"], false);
    let one = format!("{web}/resources/ec2/i-2");
    for said in [json!({"isScheduled": false}), json!({"attrib": "hibernate"}), json!({})] {
        assert_eq!(ask(town, "PUT", &one, said).await.0, 204);
    }
    let (_, row) = ask(town, "GET", &format!("{web}/resources"), Value::Null).await;
    let kept = json!({"id": ["i-2"], "isScheduled": [false], "attrib": ["hibernate"]});
    assert_eq!(row["resources"]["ec2:instance"], kept);
    let mut tag = later();
    tag["tagValues"] = json!(["dev"]);
    assert_eq!(ask(town, "PUT", env, tag).await.0, 200);
    for path in [env, "/v1/tags/env?dry_run=true"] {
        let (_, told) = ask(town, "PUT", path, later()).await;
        let row = told.get("wouldBe").unwrap_or(&told);
        assert_eq!(row["tagValues"], json!(["dev"]), "{told}");
    }
}

#[tokio::test]
async fn what_is_told_of_a_context_may_be_sent_back_and_what_is_left_out_stays() {
    let town = Town::new().await;
    let web = json!({
        "schedulingPeriod": "daily 08:00-19:00", "stages": [["rds"], ["i-1"], ["i-2"]],
        "resources": {"ec2": ["i-1"], "ec2:instance": ["i-2"]},
    });
    assert_eq!(ask(&town, "PUT", "/v1/contexts/web", web).await.0, 200);
    let over = json!({"override": "on for 2 h"});
    assert_eq!(ask(&town, "PUT", "/v1/contexts/web/override", over).await.0, 200);
    assert_eq!(
        ask(&town, "DELETE", "/v1/contexts/web/resources/ec2/i-1", Value::Null).await.0,
        204
    );
    // A tick that comes of the override tells when it was.
    town.world.until_scheduled().await;
    let (_, mut told) = ask(&town, "GET", "/v1/contexts/web", Value::Null).await;
    assert_eq!(told["stages"], json!([["rds"], ["i-2"]]), "{told}");
    told["resources"] = Value::Null;
    assert_eq!(ask(&town, "PUT", "/v1/contexts/web", told.clone()).await.0, 200);
    let (_, row) = ask(&town, "GET", "/v1/contexts/web/resources", Value::Null).await;
    assert_eq!(row["resources"]["ec2:instance"]["id"], json!(["i-2"]), "{row}");
    // What was done last is nobody's to say.
    let mut body = told.clone();
    for name in ["lastScheduling", "lastByHand", "handAt", "leadSeconds"] {
        body[name] = json!(4_000_000_000_i64);
    }
    assert_eq!(ask(&town, "PUT", "/v1/contexts/web", body).await.0, 200);
    let (_, kept) = ask(&town, "GET", "/v1/contexts/web", Value::Null).await;
    for name in ["lastScheduling", "lastByHand", "handAt", "leadSeconds", "override"] {
        assert_eq!(kept[name], told[name], "{name}: {kept}");
    }
    told["override"]["until"] = json!(4_000_000_000_i64);
    for (field, bad, word) in [
        ("override", told["override"].clone(), "/v1/contexts/web/override"),
        ("resources", json!(r#"{"ec2":["i-9"]}"#), "resources"),
        ("stages", json!([["rds"], ["rds:instance"]]), "twice"),
        ("stages", json!([[]]), "empty"),
        ("timeZone", json!("Etc/Unknown"), "Etc/Unknown"),
    ] {
        let mut body = told.clone();
        body["override"] = Value::Null;
        body[field] = bad;
        let (status, why) = ask(&town, "PUT", "/v1/contexts/web", body).await;
        assert!(status == 400 && why["error"].as_str().unwrap().contains(word), "{field}: {why}");
    }
    leaves_what_it_does_not_name(&town).await;
    let never = json!({"schedulingRuleStart": "0 8 30 2 *", "schedulingRuleStop": "0 19 * * *"});
    let (status, why) = ask(&town, "PUT", "/v1/contexts/odd", never).await;
    assert!(status == 400 && why["error"].as_str().unwrap().contains("never comes"), "{why}");
    let prices = json!({"prices": {"ec3:instance": 1}});
    assert_eq!(ask(&town, "PUT", "/v1/scheduler", prices).await.0, 400);
    town.world.until_scheduled().await;
    town.end().await;
}

#[tokio::test]
async fn the_end_of_an_override_can_be_undone_as_what_was_done_last() {
    let ec2 = FakeEc2::start(1, 1).await;
    let town = Town::with(&[("AWS_ENDPOINT_URL_EC2", ec2.url())]).await;
    let always = daily(json!({"ec2": ["i-0000"]}));
    assert_eq!(ask(&town, "PUT", "/v1/contexts/web", always).await.0, 200);
    let now = || jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    town.world.tick(&now()).await;
    let over = "/v1/contexts/web/override";
    assert_eq!(ask(&town, "PUT", over, json!({"override": "off for 2 h"})).await.0, 200);
    town.world.until_scheduled().await;
    assert_eq!(ec2.count("stopped"), 1);
    // A tick is named by its second: the switch back is to be another.
    let set = jiff::Timestamp::now().as_second();
    eventually("the next second", Duration::from_secs(10), async || {
        (jiff::Timestamp::now().as_second() > set).then_some(())
    })
    .await;
    assert_eq!(ask(&town, "DELETE", over, Value::Null).await.0, 204);
    town.world.until_scheduled().await;
    assert_eq!(ec2.count("running"), 1);
    let rows = town.world.audit(&format!("ec2:instance/{HOME}/i-0000")).await;
    let back = rows.iter().filter(|row| row["outcome"] == "done" && row["action"] == "START");
    assert!(back.clone().count() > 0 && back.clone().all(|row| !row["reason"].contains("since")));
    let (status, told) = ask(&town, "POST", "/v1/undo", Value::Null).await;
    assert_eq!(status, 202, "{told}");
    town.world.until_scheduled().await;
    assert_eq!(ec2.count("stopped"), 1, "{told}");
    town.end().await;
}
