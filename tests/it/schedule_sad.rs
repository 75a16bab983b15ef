//! What services refuse: each kind has its reason in the audit and its metric, and what lasts is not
//! told at every tick.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{
    Json, Router,
    http::{HeaderMap, StatusCode},
    routing::post,
};
use flotilla_tests::{FakeEc2, eventually};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::schedule::{Town, find};

/// A scheduler that tries once, on a stub of EC2.
async fn town(ec2: &FakeEc2) -> Town {
    let once = ("FLOTILLA_MAX_ATTEMPTS", "1");
    Town::with(&[("AWS_ENDPOINT_URL_EC2", ec2.url()), once]).await
}

/// What the scheduler has counted of a kind.
async fn counted(town: &Town, metric: &str, kind: &str) -> f64 {
    let page = town.metrics().await;
    let kind = format!(r#"kind="{kind}""#);
    let lines = page.lines().filter(|line| line.starts_with(metric) && line.contains(&kind));
    lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum()
}

async fn until_counted(town: &Town, metric: &str, kind: &str, least: f64) {
    eventually(&format!("{metric} of {kind}"), Duration::from_secs(20), async || {
        (counted(town, metric, kind).await >= least).then_some(())
    })
    .await;
}

#[tokio::test]
async fn every_sad_path_has_a_reason_and_a_metric() {
    let ec2 = FakeEc2::start(1, 1).await;
    ec2.add("i-wait", "pending");
    let town = town(&ec2).await;
    let ids = json!({"ec2:instance": ["i-0000", "i-gone", "i-wait"]});
    town.context("web", ids).await;
    ec2.deny(true);
    town.world.tick("2026-06-01T17:00:00Z").await;
    ec2.deny(false);
    ec2.fail(100, 0);
    town.world.tick("2026-06-01T17:01:00Z").await;
    ec2.fail(0, 0);
    town.world.tick("2026-06-01T17:02:00Z").await;
    assert_eq!(ec2.instance("i-0000").0, "stopped");
    ec2.fill(&["m5.large"]);
    town.world.tick("2026-06-02T06:00:00Z").await;
    let rows = town.audit("ec2:instance", "i-0000").await;
    for (kind, word) in [
        ("denied", "UnauthorizedOperation"),
        ("throttled", "RequestLimitExceeded"),
        ("capacity", "InsufficientInstanceCapacity"),
    ] {
        assert!(find(&rows, "failed", kind)["reason"].contains(word), "{rows:#?}");
        until_counted(&town, "flotilla_schedule_refusals_total", kind, 1.0).await;
    }
    for (id, kind, word) in
        [("i-gone", "gone", "no such resource"), ("i-wait", "transitional", "it is pending")]
    {
        let rows = town.audit("ec2:instance", id).await;
        assert!(find(&rows, "skipped", kind)["reason"].contains(word), "{rows:#?}");
        until_counted(&town, "flotilla_schedule_skips_total", kind, 1.0).await;
    }
    until_counted(&town, "flotilla_schedule_repeated_calls_total", "throttled", 1.0).await;
    town.end().await;
}

#[tokio::test]
async fn a_refusal_that_lasts_is_told_when_it_begins_when_it_changes_and_once_a_day() {
    let ec2 = FakeEc2::start(1, 1).await;
    let town = town(&ec2).await;
    town.context("web", json!({"ec2:instance": ["i-0000"]})).await;
    ec2.deny(true);
    let failed = async || {
        let rows = town.audit("ec2:instance", "i-0000").await;
        assert!(rows.iter().all(|row| row["outcome"] == "failed"), "{rows:#?}");
        rows
    };
    for minute in 0..3 {
        town.world.tick(&format!("2026-06-01T17:0{minute}:00Z")).await;
    }
    let rows = failed().await;
    assert_eq!((rows.len(), rows[0]["tick"].as_str()), (1, "2026-06-01T17:02:00Z"));
    assert!(town.world.audit("bulk/tick 2026-06-01T17:01:00Z").await.is_empty());
    // It is told once, and counted each time.
    until_counted(&town, "flotilla_schedule_refusals_total", "denied", 3.0).await;
    town.world.tick("2026-06-02T00:01:00Z").await;
    assert_eq!(failed().await.len(), 2, "it is another day");
    ec2.fail(100, 0);
    town.world.tick("2026-06-02T00:02:00Z").await;
    let rows = failed().await;
    assert_eq!(rows.len(), 3, "{rows:#?}");
    find(&rows, "failed", "throttled");
    town.end().await;
}

#[tokio::test]
async fn one_of_many_that_may_not_be_switched_keeps_nobody_from_it() {
    let ec2 = FakeEc2::start(200, 1).await;
    let town = town(&ec2).await;
    let ids: Vec<String> = (0..200).map(|n| format!("i-{n:04}")).collect();
    town.context("many", json!({ "ec2:instance": ids })).await;
    ec2.forbid(&["i-0123"]);
    town.world.tick("2026-06-01T17:00:00Z").await;
    assert_eq!((ec2.count("stopped"), ec2.instance("i-0123").0), (199, "running".into()));
    find(&town.audit("ec2:instance", "i-0123").await, "failed", "denied");
    assert_eq!(town.world.audited("done", "STOP").await, 199);
    // Who may start nothing at all is not asked for each of them.
    ec2.deny(true);
    town.world.tick("2026-06-02T06:00:00Z").await;
    let calls = ec2.calls();
    assert!(calls["StartInstances (dry)"] < 40, "{calls:?}");
    find(&town.audit("ec2:instance", "i-0199").await, "failed", "denied");
    town.end().await;
}

/// A stub of ECS: `api` in each cluster, with the count of that in `main`; nobody may look into
/// `closed`, and the first look into another meets a fault.
async fn clusters() -> (String, Arc<Mutex<i64>>) {
    let count = Arc::new(Mutex::new(2));
    let (shared, fault) = (count.clone(), Arc::new(AtomicBool::new(true)));
    let answer = async move |headers: HeaderMap, body: String| {
        let asked: Value = serde_json::from_str(&body).unwrap();
        let mut count = shared.lock().unwrap();
        if asked["cluster"] == "closed" {
            let why = json!({"__type": "AccessDeniedException", "message": "not into this one"});
            return (StatusCode::BAD_REQUEST, Json(why));
        }
        if fault.swap(false, Ordering::Relaxed) {
            let why = json!({"__type": "ServerException", "message": "a fault of ours"});
            return (StatusCode::INTERNAL_SERVER_ERROR, Json(why));
        }
        if headers["x-amz-target"].to_str().unwrap().ends_with("UpdateService") {
            *count = asked["desiredCount"].as_i64().unwrap();
        }
        let service = json!({
            "serviceName": "api", "status": "ACTIVE", "desiredCount": *count, "runningCount": *count,
        });
        (StatusCode::OK, Json(json!({"services": [service.clone()], "service": service})))
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let router = Router::new().route("/", post(answer));
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    (url, count)
}

#[tokio::test]
async fn a_cluster_that_nobody_may_look_into_keeps_the_others_from_nothing() {
    let (url, count) = clusters().await;
    let town = Town::with(&[("AWS_ENDPOINT_URL_ECS", &url), ("FLOTILLA_MAX_ATTEMPTS", "1")]).await;
    town.context("web", json!({"ecs:service": ["closed/api", "main/api"]})).await;
    town.world.tick("2026-06-01T17:00:00Z").await;
    assert_eq!(*count.lock().unwrap(), 0);
    let rows = town.audit("ecs:service", "closed/api").await;
    assert!(find(&rows, "failed", "denied")["reason"].contains("not into this one"), "{rows:#?}");
    find(&town.audit("ecs:service", "main/api").await, "done", "acted");
    town.end().await;
}
