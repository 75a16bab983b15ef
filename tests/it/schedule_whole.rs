//! Whole courses: what is told ahead is done, kinds are found by their tags, in other accounts too, and
//! what takes long begins early.

use flotilla_tests::{FakeAppStream, FakeEc2};
use serde_json::{Value, json};

use crate::{
    schedule::{HOME, Town, find},
    schedule_people::{always_off, put},
};

#[tokio::test]
async fn a_tag_stops_and_starts_databases_and_groups() {
    let town = Town::new().await;
    town.moto.database(HOME, "orders").await;
    town.moto.cluster(HOME, "sales").await;
    // A group carries `env` = `group`.
    town.moto.group(HOME, "fleet", (1, 3, 2)).await;
    for (kind, id) in [("db", "orders"), ("cluster", "sales")] {
        let query = format!(
            "Action=AddTagsToResource&Version=2014-10-31\
             &ResourceName=arn:aws:rds:{HOME}:123456789012:{kind}:{id}\
             &Tags.Tag.1.Key=env&Tags.Tag.1.Value=data"
        );
        town.moto.call("rds", HOME, &query).await;
    }
    let tag = json!({"tagValues": ["data", "group"], "schedulingPeriod": "daily 08:00-19:00"});
    put(&town, "/v1/tags/env", tag).await;
    for (tick, state, desired) in
        [("2026-06-01T19:00:00Z", "stopped", "0"), ("2026-06-02T08:00:00Z", "available", "2")]
    {
        town.world.tick(tick).await;
        assert_eq!(town.moto.database_state(HOME, "orders").await.0, state, "{tick}");
        assert_eq!(town.moto.cluster_state(HOME, "sales").await, state, "{tick}");
        assert_eq!(town.moto.group_size(HOME, "fleet").await.2, desired, "{tick}");
    }
    let rows = town.audit("rds:cluster", "sales").await;
    assert_eq!(find(&rows, "done", "acted")["source"], "tag/env");
    town.end().await;
}

#[tokio::test]
async fn a_tag_is_looked_up_and_switched_in_the_accounts_that_are_named() {
    let settings = [("FLOTILLA_ROLE", "flotilla"), ("FLOTILLA_TAG_ACCOUNTS", "210987654321")];
    let town = Town::with(&settings).await;
    let (key, other) =
        (town.moto.key_of("210987654321").await, town.moto.key_of("310987654321").await);
    let named = town.moto.instance_as(&key, HOME, "dev").await;
    let unnamed = town.moto.instance_as(&other, HOME, "dev").await;
    let own = town.moto.instance(HOME, "dev").await;
    let tag = json!({"tagValues": ["dev"], "schedulingPeriod": "daily 08:00-09:00"});
    put(&town, "/v1/tags/env", tag).await;
    town.world.tick("2026-06-01T17:00:00Z").await;
    assert_eq!(town.moto.instance_state_as(&key, HOME, &named).await, "stopped");
    assert_eq!(town.instance(&own).await, "stopped");
    assert_eq!(town.moto.instance_state_as(&other, HOME, &unnamed).await, "running");
    let rows = town.world.audit(&format!("ec2:instance/210987654321/{HOME}/{named}")).await;
    assert_eq!(find(&rows, "done", "acted")["source"], "tag/env");
    town.end().await;
}

#[tokio::test]
async fn a_tag_is_ready_by_its_time_once_it_is_known_how_long_that_takes() {
    let town = Town::new().await;
    let id = town.moto.instance(HOME, "slow").await;
    let tag = json!({
        "tagValues": ["slow"], "schedulingPeriod": "daily 08:00-19:00", "readyBy": true,
    });
    put(&town, "/v1/tags/env", tag).await;
    // Seen to run ten minutes after it was started.
    for time in ["01T07:00", "01T08:00", "01T08:10", "01T19:00", "02T07:49"] {
        town.world.tick(&format!("2026-06-{time}:00Z")).await;
    }
    assert_eq!(town.instance(&id).await, "stopped");
    town.world.tick("2026-06-02T07:50:00Z").await;
    assert_eq!(town.instance(&id).await, "running");
    let path = "/v1/tags/env/preview?from=2026-06-03T00:00:00Z&to=2026-06-04T00:00:00Z";
    let (_, preview) = town.gateway.ask("GET", path, Value::Null).await;
    assert_eq!(preview["transitions"][0]["at"], "2026-06-03T07:50:00Z", "{preview}");
    town.end().await;
}

#[tokio::test]
async fn stages_that_take_five_and_ten_minutes_begin_fifteen_minutes_early() {
    let fleets = FakeAppStream::start(&["desk", "lab"]).await;
    let town =
        Town::with(&[("AWS_ENDPOINT_URL_APPSTREAM", fleets.url()), ("FLOTILLA_SLOTS", "4")]).await;
    let context = json!({
        "schedulingPeriod": "daily 08:00-19:00", "readyBy": true, "stages": [["desk"], ["lab"]],
        "resources": {"appstream:fleet": ["desk", "lab"]},
    });
    put(&town, "/v1/contexts/web", context).await;
    town.world.tick("2026-06-01T08:00:00Z").await;
    for (minute, ready) in [(5, "desk"), (10, "lab")] {
        if ready == "desk" {
            fleets.put("lab", "STARTING");
        }
        fleets.put(ready, "RUNNING");
        town.world.tick(&format!("2026-06-01T08:{minute:02}:00Z")).await;
    }
    town.world.tick("2026-06-01T19:00:00Z").await;
    let both = || (fleets.state("desk"), fleets.state("lab"));
    assert_eq!(both(), ("STOPPED".into(), "STOPPED".into()));
    town.world.tick("2026-06-02T07:44:00Z").await;
    assert_eq!(both(), ("STOPPED".into(), "STOPPED".into()));
    town.world.tick("2026-06-02T07:45:00Z").await;
    assert_eq!(both(), ("RUNNING".into(), "RUNNING".into()));
    let path = "/v1/contexts/web/preview?from=2026-06-03T00:00:00Z&to=2026-06-04T00:00:00Z";
    let (_, preview) = town.gateway.ask("GET", path, Value::Null).await;
    assert_eq!(preview["transitions"][0]["at"], "2026-06-03T07:45:00Z", "{preview}");
    town.end().await;
}

#[tokio::test]
async fn databases_that_rds_starts_after_seven_days_are_stopped_again_and_those_of_a_hand_are_not()
{
    let town = Town::new().await;
    for id in ["orders", "kept"] {
        town.moto.database(HOME, id).await;
    }
    town.moto.cluster(HOME, "sales").await;
    let mut web = always_off(json!({"rds:instance": ["orders", "kept"], "rds:cluster": ["sales"]}));
    web["mode"] = json!("keep-started");
    put(&town, "/v1/contexts/web", web).await;
    let start = async |what: &str, id: &str| {
        let query = format!("Action=StartDB{what}&Version=2014-10-31&DB{what}Identifier={id}");
        town.moto.call("rds", HOME, &query).await;
    };
    town.world.tick("2026-06-01T12:00:00Z").await;
    assert_eq!(town.moto.database_state(HOME, "orders").await.0, "stopped");
    assert_eq!(town.moto.cluster_state(HOME, "sales").await, "stopped");
    start("Instance", "kept").await;
    town.world.tick("2026-06-04T12:00:00Z").await;
    start("Instance", "orders").await;
    start("Cluster", "sales").await;
    town.world.tick("2026-06-08T12:05:00Z").await;
    assert_eq!(town.moto.database_state(HOME, "orders").await.0, "stopped");
    assert_eq!(town.moto.cluster_state(HOME, "sales").await, "stopped");
    assert_eq!(town.moto.database_state(HOME, "kept").await.0, "available");
    for (kind, id) in [("rds:instance", "orders"), ("rds:cluster", "sales")] {
        let rows = town.audit(kind, id).await;
        let again = |row: &&flotilla_tests::AuditRow| row["reason"].contains("7 days");
        let again = rows.iter().find(again).unwrap_or_else(|| panic!("{rows:#?}"));
        assert_eq!((again["outcome"].as_str(), again["action"].as_str()), ("done", "STOP"));
    }
    find(&town.audit("rds:instance", "kept").await, "skipped", "by_hand");
    town.end().await;
}

/// Each half hour from `from` on, so many, as ticks.
fn half_hours(from: &str, count: i64) -> Vec<String> {
    let from = from.parse::<jiff::Timestamp>().unwrap().as_second();
    let at = |n: i64| jiff::Timestamp::from_second(from + n * 1800).unwrap().to_string();
    (0..count).map(at).collect()
}

#[tokio::test]
async fn what_the_preview_tells_of_the_days_of_a_clock_change_is_what_ticks_do() {
    let ec2 = FakeEc2::start(1, 1).await;
    let town = Town::with(&[("AWS_ENDPOINT_URL_EC2", ec2.url())]).await;
    // The start is within the fold of October and the gap of March.
    let context = json!({
        "schedulingRuleStart": "30 2 * * *", "schedulingRuleStop": "0 5 * * *",
        "timeZone": "Europe/Berlin", "resources": {"ec2:instance": ["i-0000"]},
    });
    put(&town, "/v1/contexts/web", context).await;
    let mut told = Vec::new();
    for (before, from, count) in [
        ("2025-10-25T21:00:00Z", "2025-10-26T00:00:00Z", 10),
        ("2026-03-28T21:00:00Z", "2026-03-29T00:00:00Z", 8),
    ] {
        town.world.tick(before).await;
        let known = acts(&town).await.len();
        let ticks = half_hours(from, count);
        let (first, last) = (&ticks[0], &ticks[ticks.len() - 1]);
        let path = format!("/v1/contexts/web/preview?from={first}&to={last}");
        let (status, preview) = town.gateway.ask("GET", &path, Value::Null).await;
        assert_eq!(status, 200, "{preview}");
        for tick in &ticks {
            town.world.tick(tick).await;
        }
        let text = |it: &Value, name: &str| it[name].as_str().unwrap().to_owned();
        let preview = preview["transitions"].as_array().unwrap().iter();
        let preview: Vec<_> = preview.map(|it| (text(it, "at"), text(it, "action"))).collect();
        assert_eq!(acts(&town).await[known..], preview[..]);
        told.extend(preview);
    }
    let told: Vec<_> = told.iter().map(|(at, action)| (at.as_str(), action.as_str())).collect();
    assert_eq!(
        told,
        [
            ("2025-10-26T00:30:00Z", "START"),
            ("2025-10-26T04:00:00Z", "STOP"),
            ("2026-03-29T01:00:00Z", "START"),
            ("2026-03-29T03:00:00Z", "STOP"),
        ]
    );
    town.end().await;
}

/// When what was done, by the audit.
async fn acts(town: &Town) -> Vec<(String, String)> {
    let rows = town.audit("ec2:instance", "i-0000").await;
    let done = rows.into_iter().filter(|row| row["outcome"] == "done");
    done.map(|row| (row["tick"].clone(), row["action"].clone())).collect()
}

#[tokio::test]
async fn a_context_and_a_tag_are_previewed_by_command_as_by_request() {
    let town = Town::new().await;
    let daily = json!({"schedulingPeriod": "daily 08:00-19:00", "timeZone": "Europe/Berlin"});
    put(&town, "/v1/contexts/web", daily.clone()).await;
    let mut tag = daily;
    tag["tagValues"] = json!(["dev"]);
    put(&town, "/v1/tags/env", tag).await;
    let over = json!({"override": "on for 30 h", "reason": "a demo"});
    put(&town, "/v1/contexts/web/override", over).await;
    town.world.until_scheduled().await;
    let at = |hours: i64| {
        let at = jiff::Timestamp::now().as_second() + hours * 3600;
        jiff::Timestamp::from_second(at).unwrap().to_string()
    };
    let (from, to) = (at(1), at(72));
    for (path, option, name) in [("contexts/web", "--context", "web"), ("tags/env", "--tag", "env")]
    {
        let path = format!("/v1/{path}/preview?from={from}&to={to}");
        let (_, asked) = town.gateway.ask("GET", &path, Value::Null).await;
        let words = ["schedule", "preview", option, name, "--from", &from, "--to", &to, "--json"];
        let (code, said) = town.world.flotilla(&words).await;
        let said: Value = serde_json::from_str(&said).unwrap_or_else(|_| panic!("{code}: {said}"));
        let changes = asked["transitions"].as_array().unwrap();
        assert_eq!(said.as_array().unwrap().len(), changes.len(), "{said}");
        for (said, asked) in said.as_array().unwrap().iter().zip(changes) {
            assert_eq!((&said["at"], &said["reason"]), (&asked["at"], &asked["reason"]));
        }
    }
    let (code, said) = town.world.flotilla(&["schedule", "preview", "--context", "web"]).await;
    assert!(code == 0 && said.contains("it is on"), "{said}");
    let (code, said) = town.world.flotilla(&["schedule", "preview", "--tag", "none"]).await;
    assert!(code != 0 && said.contains("tag/none"), "{said}");
    town.end().await;
}
