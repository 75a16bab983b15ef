//! The dashboard and the alerts of `deploy/mixin`, on a real Prometheus and a real fleet.

use std::{fs, process::Command, time::Duration};

use flotilla_tests::{
    FakeEc2, Farm, Prometheus, ScaledGroup, World, eventually, http_get, mixin, reading,
};
use serde_json::{Value, json};

use crate::schedule::Town;

const SUM: &str = "import sys\nprint(sum(map(int, sys.argv[1:])))\n";

/// The dashboard's rows that not every worker fills, the first of them first.
const SCALER: &str = "Autoscaler";
const SCHEDULER: &str = "Scheduler";
const SENSORS: &str = "Sensors";
const GRADING: &str = "Grading";
const COMPILE: &str = "Compile";
const GATEWAY: &str = "Gateway";

/// Title and expression of every query of the dashboard, for one kind of worker.
fn queries(worker: &str) -> Vec<(String, String)> {
    let panels = panels();
    let end = panels.iter().position(|panel| panel["title"] == SCALER).unwrap();
    queries_of(&panels[..end], worker)
}

/// Title and expression of every query of a row.
fn queries_below(row: &str) -> Vec<(String, String)> {
    let panels = panels();
    let start = panels.iter().position(|panel| panel["title"] == row).unwrap() + 1;
    let end = panels[start..].iter().position(|panel| panel["type"] == "row");
    let end = end.map_or(panels.len(), |length| start + length);
    let queries = queries_of(&panels[start..end], "");
    assert!(queries.len() > 2, "{queries:?}");
    queries
}

fn panels() -> Vec<Value> {
    let text = fs::read_to_string(mixin("fleet.json")).unwrap();
    let dashboard: Value = serde_json::from_str(&text).unwrap();
    dashboard["panels"].as_array().unwrap().clone()
}

fn queries_of(panels: &[Value], worker: &str) -> Vec<(String, String)> {
    let targets = panels.iter().flat_map(|panel| {
        let title = panel["title"].as_str().unwrap();
        let targets = panel["targets"].as_array().into_iter().flatten();
        targets.map(move |target| (title, target["expr"].as_str().unwrap()))
    });
    let filled = |expr: &str| expr.replace("$__rate_interval", "1m").replace("$worker", worker);
    targets.map(|(title, expr)| (title.to_owned(), filled(expr))).collect()
}

/// Name and expression of every alert.
fn alerts() -> Vec<(String, String)> {
    let text = fs::read_to_string(mixin("alerts.yaml")).unwrap();
    let rules: Value = serde_norway::from_str(&text).unwrap();
    let rules = rules["groups"][0]["rules"].as_array().unwrap().iter();
    let field = |rule: &Value, name: &str| rule[name].as_str().unwrap().to_owned();
    rules.map(|rule| (field(rule, "alert"), field(rule, "expr"))).collect()
}

#[test]
fn every_row_of_the_dashboard_is_one_that_these_tests_fill_and_no_panel_is_without_a_query() {
    let (rows, panels): (Vec<_>, Vec<_>) =
        panels().into_iter().partition(|panel| panel["type"] == "row");
    let titles: Vec<_> = rows.iter().map(|row| row["title"].as_str().unwrap()).collect();
    let ours = [SCALER, SCHEDULER, SENSORS, GRADING, COMPILE, GATEWAY];
    assert_eq!(titles, [&["Fleet", "$worker"], &ours[..]].concat());
    for panel in panels {
        assert!(!queries_of(std::slice::from_ref(&panel), "").is_empty(), "{}", panel["title"]);
    }
}

/// An alert's expression without the comparison at its end.
fn measured(expr: &str) -> &str {
    let (measured, limit) = expr.rsplit_once([' ']).expect("a comparison");
    assert!(limit.parse::<f64>().is_ok(), "{expr} does not end in a number");
    measured.trim_end_matches(['<', '>', ' '])
}

/// Waits until a query yields a number, or says what it yields instead.
async fn until_yields(prometheus: &Prometheus, what: &str, query: &str) {
    eventually(&format!("a sample of {what}: {query}"), Duration::from_secs(30), async || {
        let samples = prometheus.query(query).await.unwrap_or_else(|e| panic!("{query}: {e}"));
        samples.iter().any(|(_, value)| value.is_finite()).then_some(())
    })
    .await;
}

/// Waits until every query of a row yields a number.
async fn until_all_yield(prometheus: &Prometheus, row: &str) {
    for (title, query) in queries_below(row) {
        until_yields(prometheus, &title, &query).await;
    }
}

/// Whether whoever reads `/metrics` is told what each of them is.
async fn every_metric_has_help(addr: &str) {
    let (_, text) = http_get(addr, "/metrics").await.expect("the worker's metrics");
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let names = types.filter_map(|line| line.split(' ').next());
    let bare: Vec<_> = names.filter(|name| !text.contains(&format!("# HELP {name} "))).collect();
    assert!(bare.is_empty(), "no help text: {bare:?}");
}

#[tokio::test]
async fn every_query_and_every_alert_finds_the_series_of_a_real_fleet() {
    let world = World::new().await;
    world.problem("ada/labs/sums", "1 2\n3 4\n", "3\n7\n").await;
    let depth = ("FLOTILLA_DEPTH_SECONDS", "1");
    let mut first = world.grading_worker().env(depth.0, depth.1).ready().await;
    let mut second = world.grading_worker().env(depth.0, depth.1).ready().await;
    let prometheus = Prometheus::start(&[first.addr(), second.addr()]).await;
    let scraped = "min(count_over_time(flotilla_slots[1m])) >= 2";
    until_yields(&prometheus, "two scrapes of each", scraped).await;
    for subid in ["one", "two", "three"] {
        let submission = world.submit("ada/labs/sums", subid, SUM).await;
        assert_eq!(world.verdict(&submission).await, "AC");
    }
    world.send("no json").await;
    until_yields(&prometheus, "the dead letter", "flotilla_queue_messages{state=\"dead\"} == 1")
        .await;
    for (title, query) in queries("grading") {
        until_yields(&prometheus, &title, &query).await;
    }
    // There is a rate only of what goes on.
    let grading = async {
        for n in 0.. {
            let submission = world.submit("ada/labs/sums", &format!("more-{n}"), SUM).await;
            assert_eq!(world.verdict(&submission).await, "AC");
        }
    };
    tokio::select! { () = until_all_yield(&prometheus, GRADING) => {}, () = grading => {} }
    every_metric_has_help(first.addr()).await;
    for (alert, expr) in alerts() {
        prometheus.query(&expr).await.unwrap_or_else(|e| panic!("{alert}: {e}"));
        until_yields(&prometheus, &alert, measured(&expr)).await;
    }
    until_yields(&prometheus, "the alert itself", "ALERTS{alertname=\"FlotillaDeadLetters\"}")
        .await;
    assert_eq!(world.dead_letters(1).await[0].why["kind"], "unparsable");
    world.until_queue_is_empty().await;
    assert!(first.stop().await.success() && second.stop().await.success());
}

#[tokio::test]
async fn every_query_of_the_autoscalers_row_finds_the_series_of_a_real_one() {
    let world = World::new().await;
    let group = ScaledGroup::create(&[("ScaledBy", "autoscaler")]).await;
    let mut scaler = world.autoscale(&group);
    scaler.process.until_ready().await;
    let prometheus = Prometheus::start(&[scaler.process.addr()]).await;
    until_all_yield(&prometheus, SCALER).await;
    assert!(scaler.process.stop().await.success());
}

#[tokio::test]
async fn every_query_of_the_schedulers_row_finds_the_series_of_a_real_one_and_each_sad_path() {
    let ec2 = FakeEc2::start(2, 1).await;
    let town = Town::with(&[("AWS_ENDPOINT_URL_EC2", ec2.url())]).await;
    let prometheus = Prometheus::start(&[town.addr()]).await;
    ec2.add("i-pending", "pending");
    let ids = json!({"ec2:instance": ["i-0000", "i-0001", "i-pending", "i-gone"]});
    town.context("web", ids).await;
    town.world.tick("2026-06-01T17:00:00Z").await;
    ec2.fill(&["m5.large"]);
    town.world.tick("2026-06-02T06:00:00Z").await;
    ec2.fill(&[]);
    ec2.deny(true);
    town.world.tick("2026-06-02T06:01:00Z").await;
    until_all_yield(&prometheus, SCHEDULER).await;
    every_metric_has_help(town.addr()).await;
    let counted = [
        "flotilla_schedule_refusals_total{kind=\"capacity\"} > 0",
        "flotilla_schedule_refusals_total{kind=\"denied\"} > 0",
        "flotilla_schedule_refusals_total{kind=\"throttled\"} >= 0",
        "flotilla_schedule_skips_total{kind=\"gone\"} > 0",
        "flotilla_schedule_skips_total{kind=\"transitional\"} > 0",
    ];
    for query in counted {
        until_yields(&prometheus, "a sad path", query).await;
    }
    town.end().await;
}

#[tokio::test]
async fn every_query_of_the_sensors_row_finds_the_series_of_a_real_worker() {
    let world = World::new().await;
    let mut worker = world.anomaly_worker().ready().await;
    let prometheus = Prometheus::start(&[worker.addr()]).await;
    world.measure(&[reading("02", 0, 1_700_000_000)]).await;
    // There is a rate only of what goes on.
    let readings = async {
        for second in 0.. {
            world.measure(&[reading("01", 100, 1_700_000_000 + second)]).await;
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    tokio::select! { () = until_all_yield(&prometheus, SENSORS) => {}, () = readings => {} }
    every_metric_has_help(worker.addr()).await;
    world.until_compared().await;
    assert!(worker.stop().await.success());
}

#[tokio::test]
async fn every_query_of_the_compile_row_finds_the_series_of_a_real_worker() {
    let farm = Farm::new().await;
    let prometheus = Prometheus::start(&[farm.worker.addr()]).await;
    let building = async {
        for n in 0.. {
            // What ends soonest.
            let name = format!("bad{n}");
            farm.broken(&name, "raise SystemExit('error: no such thing')\n");
            farm.built(&name, "").await;
        }
    };
    tokio::select! { () = until_all_yield(&prometheus, COMPILE) => {}, () = building => {} }
    every_metric_has_help(farm.worker.addr()).await;
    farm.end().await;
}

#[tokio::test]
async fn every_query_of_the_gateways_row_finds_the_series_of_a_real_one() {
    let world = World::new().await;
    let mut gateway = world.gateway(&[]).await;
    let prometheus = Prometheus::start(&[gateway.addr()]).await;
    let asking = async {
        loop {
            let (status, contexts) = gateway.ask("GET", "/v1/contexts", Value::Null).await;
            assert_eq!(status, 200, "{contexts}");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    tokio::select! { () = until_all_yield(&prometheus, GATEWAY) => {}, () = asking => {} }
    let route = "http_server_request_duration_seconds_count{http_route=\"/v1/contexts\"} > 0";
    until_yields(&prometheus, "the requests of a route", route).await;
    assert!(gateway.process.stop().await.success());
}

#[test]
fn the_alerts_fire_and_rest_when_they_should() {
    for arguments in [["check", "rules", "alerts.yaml"], ["test", "rules", "alerts_test.yaml"]] {
        let promtool = Command::new("promtool").args(arguments).current_dir(mixin("")).output();
        let output = promtool.expect("promtool; deploy/dev/setup-tests installs it");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let said = said + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
    }
}

#[test]
fn every_alert_has_its_runbook_and_its_test() {
    let rules = fs::read_to_string(mixin("alerts.yaml")).unwrap();
    let tests = fs::read_to_string(mixin("alerts_test.yaml")).unwrap();
    assert_eq!(alerts().len(), 6);
    for (alert, _) in alerts() {
        assert!(tests.contains(&format!("alertname: {alert}\n")), "{alert} has no test");
    }
    for runbook in rules.lines().filter_map(|line| line.trim().strip_prefix("runbook: ")) {
        assert!(mixin("../..").join(runbook).exists(), "{runbook} is missing");
    }
    assert_eq!(rules.matches("runbook: ").count(), 6);
}

#[test]
fn every_panel_of_a_worker_shows_that_worker_alone() {
    for (title, query) in queries("grading") {
        // The one label that looks like a metric.
        let query = query.replace("messaging_destination_name", "queue");
        let selectors = query.matches("flotilla_").count() + query.matches("messaging_").count();
        let fleet = ["Workers", "Stalled", "Dead letters", "Behind"].contains(&title.as_str());
        let wanted = if fleet { 0 } else { selectors };
        assert_eq!(query.matches("{worker=\"grading\"").count(), wanted, "{title}: {query}");
    }
}
