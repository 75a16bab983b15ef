//! Contexts and tags are switched by their schedules, on ticks whose clock the test sets.

use flotilla_tests::{AuditRow, FakeAppStream, Gateway, Moto, Worker, World};
use serde_json::{Value, json};

pub(crate) const HOME: &str = "us-east-1";

/// A world with a scheduler and a gateway.
pub(crate) struct Town {
    pub(crate) world: World,
    pub(crate) moto: Moto,
    scheduler: Worker,
    pub(crate) gateway: Gateway,
}

impl Town {
    pub(crate) async fn new() -> Self {
        Self::with(&[]).await
    }

    pub(crate) async fn with(settings: &[(&str, &str)]) -> Self {
        let (world, moto) = tokio::join!(World::new(), Moto::start());
        Self::of(world, moto, settings).await
    }

    pub(crate) async fn of(world: World, moto: Moto, settings: &[(&str, &str)]) -> Self {
        let builder = world.schedule_executor(&moto);
        let builder = settings.iter().fold(builder, |it, (name, value)| it.env(name, value));
        let (scheduler, gateway) = tokio::join!(builder.ready(), world.gateway(&[]));
        Self { world, moto, scheduler, gateway }
    }

    pub(crate) async fn end(mut self) {
        let (scheduler, gateway) = tokio::join!(self.scheduler.stop(), self.gateway.process.stop());
        assert!(scheduler.success() && gateway.success(), "{scheduler}, {gateway}");
    }

    /// Kills the scheduler and starts another, which lies to nobody.
    pub(crate) async fn replace(&mut self, settings: &[(&str, &str)]) {
        self.scheduler.kill().await;
        let builder = self.world.schedule_executor(&self.moto);
        let builder = settings.iter().fold(builder, |it, (name, value)| it.env(name, value));
        self.scheduler = builder.ready().await;
    }

    /// A context that is on from 8 to 19 in Berlin.
    pub(crate) async fn context(&self, id: &str, resources: Value) {
        let data = json!({
            "contextID": id, "contextDesc": "a test", "schedulingRuleStart": "0 8 * * 1-5",
            "schedulingRuleStop": "cron(0 19 ? * MON-FRI *)", "timeZone": "Europe/Berlin",
            "powerState": false, "isScheduled": true, "resources": resources.to_string(),
        });
        let answer = self.gateway.post("/context-register", json!({ "data": data })).await;
        assert_eq!(answer, (200, json!("Success")));
    }

    pub(crate) async fn instance(&self, id: &str) -> String {
        self.moto.instance_state(HOME, id).await
    }

    /// Where the scheduler's metrics are.
    pub(crate) fn addr(&self) -> &str {
        self.scheduler.addr()
    }

    /// The scheduler's page of metrics.
    pub(crate) async fn metrics(&self) -> String {
        self.scheduler.page("/metrics").await.map(|it| it.1).unwrap_or_default()
    }

    pub(crate) async fn audit(&self, kind: &str, id: &str) -> Vec<AuditRow> {
        self.world.audit(&format!("{kind}/{HOME}/{id}")).await
    }
}

pub(crate) fn find<'a>(rows: &'a [AuditRow], outcome: &str, kind: &str) -> &'a AuditRow {
    let found = rows.iter().find(|row| row["outcome"] == outcome && row["kind"] == kind);
    found.unwrap_or_else(|| panic!("no {outcome} {kind} in {rows:#?}"))
}

#[tokio::test]
async fn a_context_starts_and_stops_by_schedule_and_a_tick_without_a_difference_says_why() {
    let town = Town::new().await;
    let (one, two) = (town.moto.instance(HOME, "x").await, town.moto.instance(HOME, "x").await);
    town.moto.database(HOME, "orders").await;
    let arn = "arn:aws:rds:us-east-1:123456789012:db:orders";
    let resources = json!({"ec2:instance": {"id": [one, two]}, "rds:instance": [arn]});
    town.context("web", resources).await;

    // Monday, 2026-06-01: Berlin is two hours ahead.
    town.world.tick("2026-06-01T17:00:00Z").await;
    assert_eq!(town.instance(&one).await, "stopped");
    assert_eq!(town.instance(&two).await, "stopped");
    assert_eq!(town.moto.database_state(HOME, "orders").await.0, "stopped");
    let rows = town.audit("ec2:instance", &one).await;
    let stopped = find(&rows, "done", "acted");
    assert_eq!((stopped["action"].as_str(), stopped["before"].as_str()), ("STOP", "running"));
    assert_eq!(
        (stopped["actor"].as_str(), stopped["source"].as_str()),
        ("schedule", "context/web")
    );
    assert!(stopped["reason"].contains("19:00:00 Europe/Berlin"), "{stopped:?}");
    find(&town.audit("rds:instance", "orders").await, "done", "acted");

    town.world.tick("2026-06-01T17:00:00Z").await;
    let rows = town.audit("ec2:instance", &one).await;
    assert!(find(&rows, "skipped", "already")["reason"].contains("stopped already"));
    assert_eq!(rows.len(), 2);

    town.world.tick("2026-06-02T05:59:59Z").await;
    assert_eq!(town.instance(&one).await, "stopped");
    town.world.tick("2026-06-02T06:00:00Z").await;
    assert_eq!(town.instance(&one).await, "running");
    assert_eq!(town.moto.database_state(HOME, "orders").await.0, "available");
    let get = json!({"data": {"type": "context", "contextID": "web"}});
    let (_, context) = town.gateway.post("/context-get", get).await;
    assert_eq!(
        (&context["powerState"], &context["lastScheduling"]),
        (&json!(true), &json!(1_780_380_000))
    );
    // Who changes its rules and says nothing of its state does not make it another.
    let rules = json!({"schedulingRuleStart": "0 9 * * 1-5", "schedulingRuleStop": "0 19 * * 1-5"});
    let (_, told) = town.gateway.ask("PUT", "/v1/contexts/web", rules).await;
    assert_eq!(told["powerState"], true, "{told}");
    town.end().await;
}

#[tokio::test]
async fn what_drifts_is_mended_at_the_next_tick_and_missed_ticks_are_caught_up() {
    let town = Town::new().await;
    let id = town.moto.instance(HOME, "x").await;
    town.context("web", json!({"ec2:instance": [id]})).await;
    town.world.tick("2026-06-01T06:00:00Z").await;
    town.moto.stop_instance(HOME, &id).await;
    town.world.tick("2026-06-01T06:05:00Z").await;
    assert_eq!(town.instance(&id).await, "running");
    let rows = town.audit("ec2:instance", &id).await;
    assert!(find(&rows, "done", "acted")["reason"].contains("found stopped"), "{rows:#?}");
    // The stop at 17:00 UTC was missed by hours, and the weekend's ticks too.
    town.world.tick("2026-06-06T03:00:00Z").await;
    assert_eq!(town.instance(&id).await, "stopped");
    town.end().await;
}

#[tokio::test]
async fn one_bad_id_does_not_spoil_its_batch() {
    let town = Town::new().await;
    let (one, two) = (town.moto.instance(HOME, "x").await, town.moto.instance(HOME, "x").await);
    let gone = "i-0123456789abcdef0";
    let ids = json!([one, gone, "no-id-at-all", two, "arn:aws:s3:::bucket"]);
    town.context("web", json!({"ec2:instance": ids})).await;
    town.world.tick("2026-06-01T17:00:00Z").await;
    assert_eq!(
        (town.instance(&one).await, town.instance(&two).await),
        ("stopped".into(), "stopped".into())
    );
    for id in [gone, "no-id-at-all"] {
        find(&town.audit("ec2:instance", id).await, "skipped", "gone");
    }
    let rows = town.world.audit("ec2:instance/arn:aws:s3:::bucket").await;
    find(&rows, "skipped", "no_such_name");
    town.end().await;
}

#[tokio::test]
async fn a_tag_is_switched_in_every_region_and_what_a_context_has_goes_by_the_context() {
    let town = Town::with(&[("FLOTILLA_REGIONS", "us-east-1,eu-west-1")]).await;
    let near = town.moto.instance(HOME, "dev").await;
    let far = town.moto.instance("eu-west-1", "test").await;
    let other = town.moto.instance(HOME, "prod").await;
    let taken = town.moto.instance(HOME, "dev").await;
    town.context("web", json!({"ec2:instance": [taken]})).await;
    let tag = json!({
        "tagKey": "env", "tagValues": ["dev", "test"], "tagDesc": "not prod",
        "schedulingPeriod": "mon-fri 22:00-06:00",
    });
    assert_eq!(town.gateway.post("/tag-register", json!({ "data": tag })).await.0, 200);
    town.world.tick("2026-06-01T12:00:00Z").await;
    assert_eq!(town.instance(&near).await, "stopped");
    assert_eq!(town.moto.instance_state("eu-west-1", &far).await, "stopped");
    assert_eq!(
        (town.instance(&other).await, town.instance(&taken).await),
        ("running".into(), "running".into())
    );
    find(&town.audit("ec2:instance", &near).await, "done", "acted");
    let why = town.audit("ec2:instance", &taken).await;
    assert!(find(&why, "skipped", "goes_by_another")["reason"].contains("context/web"));
    town.end().await;
}

#[tokio::test]
async fn fleets_start_and_stop_and_one_that_is_gone_is_said_to_be() {
    let fleets = FakeAppStream::start(&["desk", "lab"]).await;
    let town = Town::with(&[("AWS_ENDPOINT_URL_APPSTREAM", fleets.url())]).await;
    let resources = json!({"appstream:fleet": {"id": ["desk", "nowhere", "lab"], "isScheduled": [true, true, false]}});
    town.context("labs", resources).await;
    town.world.tick("2026-06-01T06:00:00Z").await;
    assert_eq!((fleets.state("desk"), fleets.state("lab")), ("RUNNING".into(), "STOPPED".into()));
    find(&town.audit("appstream:fleet", "desk").await, "done", "acted");
    find(&town.audit("appstream:fleet", "nowhere").await, "skipped", "gone");
    find(&town.audit("appstream:fleet", "lab").await, "skipped", "taken_out");
    town.world.tick("2026-06-01T17:30:00Z").await;
    assert_eq!(fleets.state("desk"), "STOPPED");
    // Of two that are known the second one is on the next page, and not gone.
    assert_eq!(town.gateway.ask("DELETE", "/v1/contexts/labs", Value::Null).await.0, 204);
    town.context("rooms", json!({"appstream:fleet": ["desk", "lab"]})).await;
    town.world.tick("2026-06-02T06:00:00Z").await;
    assert_eq!((fleets.state("desk"), fleets.state("lab")), ("RUNNING".into(), "RUNNING".into()));
    town.end().await;
}

#[tokio::test]
async fn a_hand_switches_until_the_next_rule_and_a_stopped_scheduler_leaves_all_alone() {
    let town = Town::new().await;
    let id = town.moto.instance(HOME, "x").await;
    town.context("web", json!({"ec2:instance": [id]})).await;
    let web = json!({ "contextID": "web" });
    for request in ["/context-power-off", "/context-power-on", "/context-power-off"] {
        assert_eq!(town.gateway.post(request, web.clone()).await, (200, json!("Success")));
        town.world.until_scheduled().await;
        let expected = if request.ends_with("on") { "running" } else { "stopped" };
        assert_eq!(town.instance(&id).await, expected);
    }
    find(&town.audit("ec2:instance", &id).await, "done", "acted");
    town.gateway.post("/context-scheduler-stop", web.clone()).await;
    town.world.tick("2026-06-01T06:00:00Z").await;
    assert_eq!(town.instance(&id).await, "stopped");
    find(&town.world.audit("context/web").await, "skipped", "not_wanted");
    town.gateway.post("/context-scheduler-start", web).await;
    town.gateway.post("/scheduler-stop", Value::Null).await;
    town.world.tick("2026-06-01T06:00:00Z").await;
    assert_eq!(town.instance(&id).await, "stopped");
    find(&town.world.audit("scheduler").await, "skipped", "scheduler_stopped");
    // Nor is a batch worked that was sent before it was stopped.
    let tick = "2026-06-01T06:00:00Z";
    let item = json!({"id": id, "source": "context/web", "since": tick, "reason": "before"});
    town.world
        .schedule(json!({"batch": {
            "account": "", "region": HOME, "service": "ec2:instance", "action": "START", "tick": tick,
            "actor": "schedule", "bulk": "b", "occasion": "o", "items": [item],
        }}))
        .await;
    town.world.until_scheduled().await;
    assert_eq!(town.instance(&id).await, "stopped");
    town.gateway.post("/scheduler-start", Value::Null).await;
    town.world.tick("2026-06-01T06:00:00Z").await;
    assert_eq!(town.instance(&id).await, "running");
    town.end().await;
}

#[tokio::test]
async fn orders_reach_resources_that_no_table_names() {
    let town = Town::new().await;
    let id = town.moto.instance("eu-west-1", "x").await;
    town.moto.database(HOME, "orders").await;
    let order = json!({"action": "STOP", "service": "ec2", "ids": [id], "region": "eu-west-1"});
    town.world.schedule(order).await;
    town.world.until_scheduled().await;
    let order =
        json!({"action": "MODCLASS", "service": "rds", "ids": ["orders"], "attrib": "db.t3.large"});
    town.world.schedule(order).await;
    town.world.until_scheduled().await;
    assert_eq!(town.moto.instance_state("eu-west-1", &id).await, "stopped");
    assert_eq!(town.moto.database_state(HOME, "orders").await.1, "db.t3.large");
    let rows = town.audit("rds:instance", "orders").await;
    let row = find(&rows, "done", "acted");
    assert_eq!((row["actor"].as_str(), row["after"].as_str()), ("hand", "db.t3.large"));
    assert_eq!(row["before"], "db.t3.micro");
    // What was done last is undone, and not the stop before it.
    assert_eq!(town.gateway.ask("POST", "/v1/undo", Value::Null).await.0, 202);
    town.world.until_scheduled().await;
    assert_eq!(town.moto.database_state(HOME, "orders").await.1, "db.t3.micro");
    assert_eq!(town.moto.instance_state("eu-west-1", &id).await, "stopped");
    town.end().await;
}

#[tokio::test]
async fn a_cluster_is_given_another_class_by_its_instances() {
    let town = Town::new().await;
    town.moto.cluster(HOME, "sales").await;
    let query = "Action=CreateDBInstance&Version=2014-10-31&DBInstanceIdentifier=sales-1\
         &DBClusterIdentifier=sales&DBInstanceClass=db.r5.large&Engine=aurora-postgresql";
    town.moto.call("rds", HOME, query).await;
    let order = json!({"action": "MODCLASS", "service": "rds:cluster", "ids": ["sales"],
        "attrib": "db.r5.xlarge"});
    town.world.schedule(order).await;
    town.world.until_scheduled().await;
    assert_eq!(town.moto.database_state(HOME, "sales-1").await.1, "db.r5.xlarge");
    let rows = town.audit("rds:cluster", "sales").await;
    assert!(find(&rows, "done", "acted")["reason"].contains("sales-1"), "{rows:#?}");
    // It is what was done last, and what its instances had is not known.
    assert_eq!(town.gateway.ask("POST", "/v1/undo", Value::Null).await.0, 202);
    town.world.until_scheduled().await;
    let rows = town.audit("rds:cluster", "sales").await;
    assert!(find(&rows, "skipped", "nothing_to_undo")["reason"].contains("not known"), "{rows:#?}");
    town.end().await;
}
