//! Everything that makes switching hard: refusals, sizes, stages, accounts, and a great many.

use std::{process::Stdio, time::Duration};

use flotilla_tests::{
    FakeAppStream, FakeEc2, Fault, FaultProxy, Moto, Rule, Seed, World, binary, eventually,
};
use serde_json::{Value, json};

use crate::schedule::{HOME, Town, find};

#[tokio::test]
async fn a_thousand_resources_reach_their_state_though_a_third_of_the_calls_fail() {
    let ec2 = FakeEc2::start(1000, 7).await;
    let town = Town::with(&[
        ("AWS_ENDPOINT_URL_EC2", ec2.url()),
        ("FLOTILLA_RETRY_FIRST_SECONDS", "0.2"),
        ("FLOTILLA_SLOTS", "8"),
    ])
    .await;
    let ids: Vec<String> = (0..1000).map(|n| format!("i-{n:04}")).collect();
    town.context("many", json!({ "ec2:instance": ids })).await;
    town.world.tick("2026-06-01T17:00:00Z").await;
    assert_eq!(ec2.count("stopped"), 1000);
    let calls = ec2.calls();
    assert!(calls.values().sum::<u64>() <= 25, "for a thousand instances: {calls:?}");
    assert_eq!(town.world.audited("done", "STOP").await, 1000, "the audit explains each");
    ec2.fail(17, 17);
    town.world.tick("2026-06-02T06:00:00Z").await;
    // What a batch gives up after its last attempt, the next tick tries again.
    for minute in 1..4 {
        if ec2.count("running") < 1000 {
            town.world.tick(&format!("2026-06-02T06:0{minute}:00Z")).await;
        }
    }
    assert_eq!(ec2.count("running"), 1000, "{:?}", ec2.calls());
    for id in ids.iter().step_by(97) {
        let rows = town.audit("ec2:instance", id).await;
        let row = rows.iter().find(|row| row["action"] == "START" && row["outcome"] == "done");
        assert!(row.unwrap()["reason"].contains("08:00:00 Europe/Berlin"), "{row:?}");
    }
    assert_eq!(town.world.audited("done", "START").await, 1000, "the audit explains each");
    town.end().await;
}

#[tokio::test]
async fn what_is_not_permitted_is_said_and_done_once_it_is() {
    let ec2 = FakeEc2::start(2, 1).await;
    let town = Town::with(&[("AWS_ENDPOINT_URL_EC2", ec2.url())]).await;
    town.context("web", json!({"ec2:instance": ["i-0000", "i-0001"]})).await;
    ec2.deny(true);
    town.world.tick("2026-06-01T17:00:00Z").await;
    let rows = town.audit("ec2:instance", "i-0000").await;
    assert!(find(&rows, "failed", "denied")["reason"].contains("UnauthorizedOperation"));
    // The dry run was refused, so nothing more was asked.
    assert_eq!(ec2.calls().get("StopInstances"), None, "{:?}", ec2.calls());
    ec2.deny(false);
    town.world.tick("2026-06-01T17:01:00Z").await;
    assert_eq!(ec2.count("stopped"), 2);
    town.end().await;
}

#[tokio::test]
async fn without_capacity_another_type_is_taken_where_that_is_allowed() {
    let ec2 = FakeEc2::start(2, 1).await;
    let town = Town::with(&[("AWS_ENDPOINT_URL_EC2", ec2.url())]).await;
    // A type that does not exist keeps nobody from the next one.
    let attrib = json!(["types=nope.large,m5a.large,m6i.large", "types=nope.large,m5a.large"]);
    let resources = json!({"ec2:instance": {"id": ["i-0000", "i-0001"], "attrib": attrib}});
    town.context("web", resources).await;
    town.world.tick("2026-06-01T17:00:00Z").await;
    ec2.fill(&["m5.large", "m5a.large"]);
    town.world.tick("2026-06-02T06:00:00Z").await;
    assert_eq!(ec2.instance("i-0000"), ("running".into(), "m6i.large".into()));
    assert_eq!(ec2.instance("i-0001"), ("stopped".into(), "m5.large".into()));
    let rows = town.audit("ec2:instance", "i-0000").await;
    let row = rows.iter().find(|row| row["action"] == "START").unwrap();
    assert!(row["reason"].contains("as m6i.large"), "{row:?}");
    let rows = town.audit("ec2:instance", "i-0001").await;
    assert!(find(&rows, "failed", "capacity")["reason"].contains("nope.large"), "{rows:?}");
    town.end().await;
}

#[tokio::test]
async fn what_can_hibernate_does_and_what_cannot_is_stopped_and_others_wait_for_their_state() {
    let ec2 = FakeEc2::start(1, 1).await;
    ec2.add("i-1h", "running");
    ec2.add("i-pending", "pending");
    let town = Town::with(&[("AWS_ENDPOINT_URL_EC2", ec2.url())]).await;
    let attrib = json!(["hibernate", "hibernate", ""]);
    let resources =
        json!({"ec2:instance": {"id": ["i-1h", "i-0000", "i-pending"], "attrib": attrib}});
    town.context("web", resources).await;
    town.world.tick("2026-06-01T17:00:00Z").await;
    assert_eq!((ec2.hibernated("i-1h"), ec2.hibernated("i-0000")), (true, false));
    assert_eq!(ec2.count("stopped"), 2);
    find(&town.audit("ec2:instance", "i-pending").await, "skipped", "transitional");
    town.end().await;
}

#[tokio::test]
async fn sizes_of_groups_and_services_are_saved_and_restored_and_clusters_are_switched() {
    let town = Town::new().await;
    town.moto.group(HOME, "fleet", (1, 5, 3)).await;
    town.moto.cluster(HOME, "sales").await;
    let task =
        json!({"family": "t", "containerDefinitions": [{"name": "c", "image": "i", "memory": 64}]});
    town.moto.ecs("CreateCluster", json!({"clusterName": "main"})).await;
    town.moto.ecs("RegisterTaskDefinition", task).await;
    let service =
        json!({"cluster": "main", "serviceName": "api", "taskDefinition": "t", "desiredCount": 2});
    town.moto.ecs("CreateService", service).await;
    let arn = "arn:aws:ecs:us-east-1:123456789012:service/main/api";
    let resources =
        json!({"autoscaling:group": ["fleet"], "rds:cluster": ["sales"], "ecs:service": [arn]});
    town.context("all", resources).await;
    let count = async || {
        let asked = json!({"cluster": "main", "services": ["api"]});
        town.moto.ecs("DescribeServices", asked).await["services"][0]["desiredCount"].clone()
    };
    let size =
        |min: &str, max: &str, desired: &str| (min.to_owned(), max.to_owned(), desired.to_owned());
    town.world.tick("2026-06-01T17:00:00Z").await;
    assert_eq!(town.moto.group_size(HOME, "fleet").await, size("0", "5", "0"));
    assert_eq!(town.moto.cluster_state(HOME, "sales").await, "stopped");
    assert_eq!(count().await, 0);
    town.world.tick("2026-06-02T06:00:00Z").await;
    assert_eq!(town.moto.group_size(HOME, "fleet").await, size("1", "5", "3"));
    assert_eq!(town.moto.cluster_state(HOME, "sales").await, "available");
    assert_eq!(count().await, 2);
    find(&town.audit("autoscaling:group", "fleet").await, "done", "acted");
    // The members of a group are not switched one by one.
    let ids = town
        .moto
        .call("autoscaling", HOME, "Action=DescribeAutoScalingInstances&Version=2011-01-01")
        .await;
    let id = ids.split("<InstanceId>").nth(1).unwrap().split('<').next().unwrap().to_owned();
    town.world.schedule(json!({"action": "STOP", "service": "ec2", "ids": [id]})).await;
    town.world.until_scheduled().await;
    find(&town.audit("ec2:instance", &id).await, "skipped", "owned");
    town.end().await;
}

#[tokio::test]
async fn a_stage_waits_until_the_one_before_is_ready_and_stops_go_the_other_way() {
    let fleets = FakeAppStream::start(&["desk"]).await;
    let town = Town::with(&[
        ("AWS_ENDPOINT_URL_APPSTREAM", fleets.url()),
        ("FLOTILLA_STAGE_WAIT_SECONDS", "0"),
    ])
    .await;
    let id = town.moto.instance(HOME, "x").await;
    town.moto.stop_instance(HOME, &id).await;
    let context = json!({
        "schedulingPeriod": "daily 08:00-19:00", "stages": [["appstream:fleet"], ["ec2:instance"]],
        "resources": {"appstream:fleet": ["desk"], "ec2:instance": [id]},
    });
    assert_eq!(town.gateway.ask("PUT", "/v1/contexts/web", context).await.0, 200);
    fleets.put("desk", "STARTING");
    town.world.tick("2026-06-01T08:00:00Z").await;
    assert_eq!(town.instance(&id).await, "stopped");
    let rows = town.audit("ec2:instance", &id).await;
    assert!(find(&rows, "skipped", "waiting")["reason"].contains("desk, which is starting"));
    fleets.put("desk", "RUNNING");
    town.world.tick("2026-06-01T08:01:00Z").await;
    assert_eq!(town.instance(&id).await, "running");
    // The instance first, and the fleet only after it.
    town.world.tick("2026-06-01T19:00:00Z").await;
    town.world.tick("2026-06-01T19:01:00Z").await;
    assert_eq!(
        (town.instance(&id).await, fleets.state("desk")),
        ("stopped".into(), "STOPPED".into())
    );
    let stopped = |rows: &[flotilla_tests::AuditRow]| {
        rows.iter().find(|row| row["outcome"] == "done" && row["action"] == "STOP").unwrap()["tick"]
            .clone()
    };
    let instance = stopped(&town.audit("ec2:instance", &id).await);
    assert!(instance <= stopped(&town.audit("appstream:fleet", "desk").await));
    // One that never gets ready holds the others up for so long, and no longer.
    fleets.put("desk", "STARTING");
    town.world.tick("2026-06-02T08:00:00Z").await;
    assert_eq!(town.instance(&id).await, "stopped");
    town.world.tick("2026-06-02T08:15:00Z").await;
    assert_eq!(town.instance(&id).await, "running");
    town.end().await;
}

#[tokio::test]
async fn a_context_is_ready_by_its_time_once_it_is_known_how_long_that_takes() {
    let fleets = FakeAppStream::start(&["desk"]).await;
    let town = Town::with(&[("AWS_ENDPOINT_URL_APPSTREAM", fleets.url())]).await;
    let context = json!({
        "schedulingPeriod": "daily 08:00-19:00", "readyBy": true,
        "resources": {"appstream:fleet": ["desk"]},
    });
    assert_eq!(town.gateway.ask("PUT", "/v1/contexts/web", context).await.0, 200);
    town.world.tick("2026-06-01T08:00:00Z").await;
    fleets.put("desk", "STARTING");
    town.world.tick("2026-06-01T08:05:00Z").await;
    fleets.put("desk", "RUNNING");
    town.world.tick("2026-06-01T08:10:00Z").await;
    town.world.tick("2026-06-01T19:00:00Z").await;
    assert_eq!(fleets.state("desk"), "STOPPED");
    town.world.tick("2026-06-02T07:49:00Z").await;
    assert_eq!(fleets.state("desk"), "STOPPED");
    town.world.tick("2026-06-02T07:50:00Z").await;
    assert_eq!(fleets.state("desk"), "RUNNING", "it takes ten minutes, as seen the day before");
    let path = "/v1/contexts/web/preview?from=2026-06-03T00:00:00Z&to=2026-06-04T00:00:00Z";
    let (_, preview) = town.gateway.ask("GET", path, Value::Null).await;
    assert_eq!(preview["transitions"][0]["at"], "2026-06-03T07:50:00Z", "{preview}");
    town.end().await;
}

#[tokio::test]
async fn resources_of_another_account_are_reached_by_its_role_and_never_without() {
    let town =
        Town::with(&[("FLOTILLA_ROLE", "flotilla"), ("FLOTILLA_TAG_ACCOUNTS", "210987654321")])
            .await;
    let key = town.moto.key_of("210987654321").await;
    let named = town.moto.instance_as(&key, HOME, "x").await;
    let tagged = town.moto.instance_as(&key, "eu-west-1", "far").await;
    let arn = format!("arn:aws:ec2:{HOME}:210987654321:instance/{named}");
    town.context("web", json!({"ec2:instance": [arn]})).await;
    let tag = json!({"tagValues": ["far"], "schedulingPeriod": "daily 08:00-09:00"});
    assert_eq!(town.gateway.ask("PUT", "/v1/tags/env", tag).await.0, 200);
    town.world.tick("2026-06-01T17:00:00Z").await;
    assert_eq!(town.moto.instance_state_as(&key, HOME, &named).await, "stopped");
    // The tag's account is looked up in the worker's region alone.
    assert_eq!(town.moto.instance_state_as(&key, "eu-west-1", &tagged).await, "running");
    town.end().await;
    let town = Town::new().await;
    let order = json!({"action": "STOP", "service": "rds", "ids": ["arn:aws:rds:us-east-1:210987654321:db:orders"]});
    town.world.schedule(order).await;
    town.world.until_scheduled().await;
    let rows = town.world.audit(&format!("rds:instance/210987654321/{HOME}/orders")).await;
    assert!(find(&rows, "failed", "foreign_account")["reason"].contains("FLOTILLA_ROLE"));
    town.end().await;
}

#[tokio::test]
async fn the_members_of_a_tag_are_found_on_every_page() {
    let town = Town::new().await;
    let query = "Action=RunInstances&Version=2016-11-15&ImageId=ami-12345678&MinCount=130&MaxCount=130\
         &TagSpecification.1.ResourceType=instance&TagSpecification.1.Tag.1.Key=env\
         &TagSpecification.1.Tag.1.Value=many";
    town.moto.call("ec2", HOME, query).await;
    town.moto.group(HOME, "fleet", (0, 2, 1)).await;
    let tag = json!({"tagValues": ["many", "group"], "schedulingPeriod": "daily 08:00-09:00"});
    assert_eq!(town.gateway.ask("PUT", "/v1/tags/env", tag).await.0, 200);
    town.world.tick("2026-06-01T17:00:00Z").await;
    let query = "Action=DescribeInstances&Version=2016-11-15&Filter.1.Name=instance-state-name&Filter.1.Value.1=stopped";
    let stopped = town.moto.call("ec2", HOME, query).await;
    assert_eq!(stopped.matches("<instanceId>").count(), 130);
    assert_eq!(town.moto.group_size(HOME, "fleet").await.2, "0");
    town.end().await;
}

#[tokio::test]
async fn a_tag_whose_lookup_is_throttled_is_read_page_by_page_to_its_end() {
    let (world, moto) = tokio::join!(World::new(), Moto::start());
    let proxy = FaultProxy::new(&moto.url(), Seed(0));
    let door = proxy.entrance(0).await;
    let settings = [("AWS_ENDPOINT_URL_RESOURCE_GROUPS_TAGGING_API", door.as_str())];
    let town = Town::of(world, moto, &settings).await;
    let query = "Action=RunInstances&Version=2016-11-15&ImageId=ami-12345678&MinCount=130&MaxCount=130\
         &TagSpecification.1.ResourceType=instance&TagSpecification.1.Tag.1.Key=env\
         &TagSpecification.1.Tag.1.Value=many";
    town.moto.call("ec2", HOME, query).await;
    let own = town.moto.instance(HOME, "x").await;
    town.context("web", json!({"ec2:instance": [own]})).await;
    let tag = json!({"tagValues": ["many"], "schedulingPeriod": "daily 06:00-07:00"});
    assert_eq!(town.gateway.ask("PUT", "/v1/tags/env", tag).await.0, 200);
    let tagged = async |state: &str| {
        let query = format!(
            "Action=DescribeInstances&Version=2016-11-15&Filter.1.Name=instance-state-name\
             &Filter.1.Value.1={state}&Filter.2.Name=tag:env&Filter.2.Value.1=many"
        );
        town.moto.call("ec2", HOME, &query).await.matches("<instanceId>").count()
    };
    let throttle = |one_in| Rule { fault: Fault::Throttled, calls: &["GetResources"], one_in };
    // Whoever begins anew at each refusal never sees the last page.
    proxy.obey(&[throttle(2)]);
    town.world.tick("2026-06-01T17:00:00Z").await;
    assert_eq!(tagged("stopped").await, 130, "{:?}", proxy.injected());
    // What cannot be looked up at all is said, keeps nobody back, and is looked up again.
    proxy.obey(&[throttle(1)]);
    town.world.tick("2026-06-02T06:00:00Z").await;
    assert_eq!((tagged("stopped").await, town.instance(&own).await), (130, "running".into()));
    let rows = town.world.audit("tag/env").await;
    assert!(find(&rows, "skipped", "throttled")["reason"].contains("us-east-1"), "{rows:?}");
    proxy.obey(&[]);
    town.world.tick("2026-06-02T06:01:00Z").await;
    assert_eq!(tagged("running").await, 130);
    town.end().await;
}

#[tokio::test]
async fn an_undone_start_stops_in_the_reverse_order_of_the_stages() {
    let (fleets, ec2) = (FakeAppStream::start(&["desk"]).await, FakeEc2::start(0, 1).await);
    ec2.add("i-app", "stopped");
    let town = Town::with(&[
        ("AWS_ENDPOINT_URL_APPSTREAM", fleets.url()),
        ("AWS_ENDPOINT_URL_EC2", ec2.url()),
        ("FLOTILLA_STAGE_WAIT_SECONDS", "0"),
    ])
    .await;
    let context = json!({
        "schedulingPeriod": "daily 08:00-19:00", "isScheduled": false,
        "stages": [["appstream:fleet"], ["ec2:instance"]],
        "resources": {"appstream:fleet": ["desk"], "ec2:instance": ["i-app"]},
    });
    assert_eq!(town.gateway.ask("PUT", "/v1/contexts/web", context).await.0, 200);
    assert_eq!(town.gateway.ask("POST", "/v1/contexts/web/power/on", Value::Null).await.0, 204);
    town.world.until_scheduled().await;
    assert_eq!((fleets.state("desk"), ec2.count("running")), ("RUNNING".into(), 1));
    // What was started last takes its time to stop.
    ec2.add("i-app", "stopping");
    assert_eq!(town.gateway.ask("POST", "/v1/undo", Value::Null).await.0, 202);
    let rows = eventually("the first stage to wait", Duration::from_secs(20), async || {
        let rows = town.audit("appstream:fleet", "desk").await;
        rows.iter().any(|row| row["kind"] == "waiting").then_some(rows)
    })
    .await;
    assert!(find(&rows, "skipped", "waiting")["reason"].contains("i-app, which is stopping"));
    assert_eq!(fleets.state("desk"), "RUNNING");
    ec2.add("i-app", "stopped");
    town.world.until_scheduled().await;
    assert_eq!(fleets.state("desk"), "STOPPED");
    town.end().await;
}

#[tokio::test]
async fn the_resource_command_switches_with_no_table() {
    let ec2 = FakeEc2::start(2, 1).await;
    let run = async |args: &[&str]| {
        let mut command = tokio::process::Command::new(binary("flotilla"));
        command.arg("resource").args(args).stdin(Stdio::null());
        command.env("AWS_ENDPOINT_URL_EC2", ec2.url()).env_remove("FLOTILLA_ROLE");
        let output = command.output().await.expect("flotilla runs");
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let (code, out) =
        run(&["stop", "--service", "ec2", "--ids", "i-0000,i-0001", "--dry-run"]).await;
    assert_eq!((code, ec2.count("running")), (Some(0), 2), "{out}");
    assert!(out.contains("dry_run") && !out.contains("cannot be tried"), "{out}");
    let (code, out) = run(&["stop", "--service", "ec2", "--ids", "i-0000", "--json"]).await;
    assert_eq!((code, ec2.count("stopped")), (Some(0), 1), "{out}");
    let row: Value = serde_json::from_str(out.trim()).unwrap();
    assert_eq!(row["outcome"], "done");
    let (code, out) = run(&["stop", "--service", "ec2", "--ids", "i-0000,i-gone"]).await;
    assert!(
        code == Some(1) && out.contains("skipped") && out.contains("no such resource"),
        "{out}"
    );
    let (code, out) = run(&["show", "--service", "ec2", "--ids", "i-0001"]).await;
    assert!(code == Some(0) && out.contains("running"), "{out}");
    // An ARN of another account is nobody's to switch without a role, whatever its id is here.
    let arn = "arn:aws:ec2:us-east-1:210987654321:instance/i-0001";
    let (code, out) = run(&["stop", "--service", "ec2", "--ids", arn]).await;
    assert!(code == Some(1) && out.contains("FLOTILLA_ROLE"), "{out}");
    assert_eq!(ec2.count("running"), 1);
    let own = ["stop", "--service", "ec2", "--account", "210987654321", "--ids", arn];
    assert_eq!((run(&own).await.0, ec2.count("running")), (Some(0), 0));
    assert_eq!(run(&["stop", "--service", "moon", "--ids", "x"]).await.0, Some(2));
}

#[tokio::test]
async fn a_dry_run_switches_nothing_where_the_endpoint_does_not_know_dry_runs() {
    let ec2 = FakeEc2::start(1, 1).await;
    ec2.ignore_dry_runs();
    let mut command = tokio::process::Command::new(binary("flotilla"));
    command.args(["resource", "stop", "--service", "ec2", "--ids", "i-0000", "--dry-run"]);
    command.env("AWS_ENDPOINT_URL_EC2", ec2.url()).env_remove("FLOTILLA_ROLE");
    let output = command.stdin(Stdio::null()).output().await.expect("flotilla runs");
    let out = String::from_utf8_lossy(&output.stdout);
    assert_eq!((output.status.code(), ec2.count("running")), (Some(0), 1), "{out}");
    assert!(out.contains("dry_run") && out.contains("cannot be tried"), "{out}");
}

#[tokio::test]
async fn a_refusal_has_a_metric() {
    let ec2 = FakeEc2::start(1, 1).await;
    let town = Town::with(&[("AWS_ENDPOINT_URL_EC2", ec2.url())]).await;
    ec2.deny(true);
    town.context("web", json!({"ec2:instance": ["i-0000", "i-gone"]})).await;
    town.world.tick("2026-06-01T17:00:00Z").await;
    eventually("the metrics", Duration::from_secs(20), async || {
        let page = town.metrics().await;
        let has =
            |words: &[&str]| page.lines().any(|line| words.iter().all(|word| line.contains(word)));
        (has(&["flotilla_schedule_actions_total", r#"kind="denied""#])
            && has(&["flotilla_schedule_skips_total", r#"kind="gone""#]))
        .then_some(())
    })
    .await;
    town.end().await;
}

#[tokio::test]
async fn a_tick_that_is_ahead_of_the_clock_switches_nothing_and_is_kept() {
    let ec2 = FakeEc2::start(1, 1).await;
    let town = Town::with(&[("AWS_ENDPOINT_URL_EC2", ec2.url())]).await;
    town.context("web", json!({"ec2:instance": ["i-0000"]})).await;
    town.world.tick("2199-01-01T20:00:00Z").await;
    let letters = &town.world.outputs().schedule_dead_letter_queue_url;
    assert_eq!(town.world.dead_letters_on(letters, 1).await[0].why["kind"], "future");
    assert_eq!(ec2.count("running"), 1);
    assert!(town.audit("ec2:instance", "i-0000").await.is_empty());
    town.end().await;
}
