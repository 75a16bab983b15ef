//! Topologies, and what is told beside neighbours, end to end: rules of an edge's own, devices that
//! are never heard, levels that cannot be, and the cause of what fails together.

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use aws_sdk_dynamodb::types::AttributeValue as Attr;
use flotilla_tests::{World, eventually, reading};
use serde_json::json;

/// A time in 2023, in Unix seconds.
const THEN: i64 = 1_700_000_000;

const TOPOLOGY: &str = r#"
[[chains]]
sensors = ["north", "middle", "south"]
tolerance = 5
debounce_count = 2

[[devices]]
id = "middle"
range = { min = 0, max = 100 }

[[devices]]
id = "lost"
silence = "2s"
"#;

/// The row of a problem, in parts.
async fn problem(world: &World, id: &str) -> Option<HashMap<String, Attr>> {
    let rows = world.table(&world.outputs().problems_table_name).await;
    rows.into_iter().find(|row| row["problem_id"].as_s().is_ok_and(|it| it == id))
}

fn text<'r>(row: &'r HashMap<String, Attr>, name: &str) -> Option<&'r str> {
    row.get(name)?.as_s().ok().map(String::as_str)
}

#[tokio::test]
async fn a_topology_gives_edges_and_devices_their_own_rules() {
    let world = World::new().await;
    world.topology("sewer", TOPOLOGY).await;
    let mut worker = world.anomaly_worker().env("FLOTILLA_SWEEP_SECONDS", "0.5").ready().await;
    // It is in the topology, and never said anything.
    let silent = eventually("a silent device", Duration::from_secs(60), async || {
        problem(&world, "lost/SILENCE").await
    })
    .await;
    assert_eq!(
        (text(&silent, "problem"), text(&silent, "current")),
        (Some("SILENCE"), Some("lost"))
    );
    assert!(!silent.contains_key("following"));
    // Within the tolerance; then beyond it once, which is not enough; then twice.
    let say = async |id: &str, filling: u32, after: i64| {
        world.measure(&[reading(id, filling, THEN + after)]).await;
        world.until_compared().await;
    };
    for (after, south) in [(0, 50), (60, 46), (120, 40), (180, 50), (240, 40)] {
        for (id, level) in [("north", 50), ("middle", 50), ("south", south)] {
            say(id, level, after).await;
        }
    }
    assert!(problem(&world, "middlesouth").await.is_none());
    say("south", 40, 300).await;
    let row = problem(&world, "middlesouth").await.expect("an obstruction");
    assert_eq!(text(&row, "problem"), Some("OBSTRUCTION"));
    assert_eq!(row["problem_time"], Attr::N((THEN + 240).to_string()), "since it began");
    assert!(problem(&world, "northmiddle").await.is_none());
    // A level that the device cannot measure is its own fault, and the cause of what follows.
    for after in [360, 420] {
        say("middle", 200, after).await;
    }
    let fault = problem(&world, "middle/RANGE").await.expect("a fault of the device");
    assert_eq!(fault.get("cause_id"), None);
    let row = problem(&world, "northmiddle").await.expect("a problem of the edge");
    assert_eq!(text(&row, "cause_id"), Some("middle/RANGE"), "{row:?}");
    // Not of what had failed before.
    let row = problem(&world, "middlesouth").await.expect("a problem of the edge");
    assert_eq!(text(&row, "cause_id"), None, "{row:?}");
    // It is heard at last.
    world.measure(&[json!({ "id": "lost", "filling": 1 })]).await;
    eventually("the end of the silence", Duration::from_secs(60), async || {
        let row = problem(&world, "lost/SILENCE").await?;
        (text(&row, "problem_status") == Some("RESOLVED")).then_some(())
    })
    .await;
    assert!(worker.stop().await.success());
}

#[tokio::test]
async fn a_worker_lets_go_of_what_it_remembers_when_another_comes() {
    let world = World::new().await;
    let mut first = world.anomaly_worker().ready().await;
    world.measure(&[reading("01", 50, THEN), reading("02", 50, THEN)]).await;
    world.until_compared().await;
    let mut second = world.anomaly_worker().ready().await;
    // Few: beside another, a worker reads whatever it compares, a dozen calls for each reading.
    let readings: Vec<_> = (1..8)
        .flat_map(|n| [reading("01", 50, THEN + n), reading("02", u32::from(n < 4) * 50, THEN + n)])
        .collect();
    world.measure(&readings).await;
    world.until_compared().await;
    let found = world.problems("0").await;
    assert_eq!(found.len(), 1, "{found:?}");
    // And takes it up again when the other is gone.
    assert!(first.stop().await.success());
    world.measure(&[reading("02", 50, THEN + 60)]).await;
    world.until_compared().await;
    let row = problem(&world, "0102").await.expect("a problem");
    assert_eq!(text(&row, "problem_status"), Some("RESOLVED"));
    assert!(second.stop().await.success());
}

#[tokio::test]
async fn a_device_that_no_topology_names_is_silent_too_where_every_device_is_expected() {
    let world = World::new().await;
    let mut worker = world.anomaly_worker().ready().await;
    // The same reading twice in one batch is one reading.
    let twins = [reading("stray", 50, THEN), reading("stray", 50, THEN)];
    world.measure(&twins).await;
    world.until_compared().await;
    assert_eq!(world.table(&world.outputs().readings_table_name).await.len(), 1);
    assert!(worker.stop().await.success());
    world.topology("all", "derive = true\n[defaults.device]\nsilence = \"2s\"").await;
    let mut worker = world.anomaly_worker().env("FLOTILLA_SWEEP_SECONDS", "0.5").ready().await;
    let silent = eventually("a silent device", Duration::from_secs(60), async || {
        problem(&world, "stray/SILENCE").await
    })
    .await;
    assert_eq!(silent["problem_time"], Attr::N((THEN + 2).to_string()), "since its last word");
    assert!(worker.stop().await.success());
}

#[tokio::test]
async fn what_is_told_of_an_edge_becomes_final_though_both_its_sensors_stop() {
    let world = World::new().await;
    let worker = || {
        let worker = world.anomaly_worker().env("FLOTILLA_LATENESS_SECONDS", "4");
        worker.env("FLOTILLA_VISIBILITY_SECONDS", "3").env("FLOTILLA_SWEEP_SECONDS", "0.5")
    };
    let mut one = worker().ready().await;
    let tell = async |tube: &str| {
        let both = [(1, 100, 0), (2, 50, 1)];
        let both = both.map(|(n, level, at)| reading(&format!("{tube}{n}"), level, THEN + at));
        world.measure(&both).await;
        let id = format!("{tube}1{tube}2");
        eventually("a problem that is final", Duration::from_secs(60), async || {
            let row = problem(&world, &id).await?;
            (text(&row, "certainty") == Some("FINAL")).then_some(())
        })
        .await;
    };
    tell("a-").await;
    // Also by two workers, who read whatever they compare.
    let mut two = worker().ready().await;
    tell("b-").await;
    let from = THEN.to_string();
    let replay = ["replay", "--from", &from, "--to", "1700100000", "--lateness", "4", "--json"];
    let (code, found) = world.flotilla(&replay).await;
    let found: serde_json::Value = serde_json::from_str(found.trim()).unwrap();
    assert_eq!((code, &found["differences"]), (0, &json!([])), "{found}");
    assert!(one.stop().await.success() && two.stop().await.success());
}

#[tokio::test]
async fn a_topology_that_is_stored_again_expects_no_device_anew() {
    let world = World::new().await;
    let mut gateway = world.sensor_gateway().ready().await;
    let device = |id: &str| format!("[[devices]]\nid = \"{id}\"\nsilence = \"12s\"\n");
    let put = async |name: &str, body: String| {
        let path = format!("/v1/topologies/{name}");
        let (status, answer) = gateway.send("PUT", &path, "application/toml", &body).await;
        assert!(status < 300, "{answer}");
        let (_, list) = gateway.json("/v1/topologies").await;
        let all = list["topologies"].as_array().unwrap();
        all.iter().find(|it| it["name"] == name).unwrap()["at"].as_i64().unwrap()
    };
    // One that cannot be read is replaced as any other.
    world.topology("broken", "not = [").await;
    put("broken", device("mended")).await;
    let first = put("town", device("dead")).await;
    put("town", device("dead")).await;
    let second = put("town", device("dead") + &device("new")).await;
    put("village", device("other")).await;
    assert!(second > first);
    // Of what is replaced no more stays than who began to read it may need.
    let rows = world.table(&world.outputs().edges_table_name).await;
    let versions =
        rows.iter().filter_map(|row| row["edge"].as_s().ok()?.strip_prefix("topologies:town:"));
    let versions: BTreeSet<_> = versions.filter_map(|it| it.split(['-', ':']).next()).collect();
    assert_eq!(versions, BTreeSet::from(["4", "5"]));
    let mut worker = world.anomaly_worker().env("FLOTILLA_SWEEP_SECONDS", "0.5").ready().await;
    for (id, since) in [("dead", first), ("new", second)] {
        let id = format!("{id}/SILENCE");
        let row = eventually("a silent device", Duration::from_secs(60), async || {
            problem(&world, &id).await
        })
        .await;
        assert_eq!(row["opened"], Attr::N((since + 12_000).to_string()), "{id}");
    }
    let to = (first / 1000 + 3600).to_string();
    let from = THEN.to_string();
    let (code, text) = world.flotilla(&["replay", "--from", &from, "--to", &to, "--json"]).await;
    let found: serde_json::Value = serde_json::from_str(text.trim()).unwrap();
    assert_eq!((code, &found["differences"]), (0, &json!([])), "{text}");
    assert!(gateway.stop().await.success() && worker.stop().await.success());
}

#[tokio::test]
async fn what_no_topology_has_any_more_ends_and_an_edge_that_comes_while_readings_do_is_compared() {
    let world = World::new().await;
    let mut worker = world.anomaly_worker().ready().await;
    let mut gateway = world.sensor_gateway().ready().await;
    let edge = |a: &str, b: &str| format!("[[edges]]\ncurrent = \"{a}\"\nfollowing = \"{b}\"\n");
    let put = async |body: String| {
        let kind = "application/toml";
        let (status, answer) = gateway.send("PUT", "/v1/topologies/town", kind, &body).await;
        assert!(status < 300, "{answer}");
    };
    put(edge("p", "q")).await;
    // Until the worker goes by it, p and q are no neighbours.
    eventually("a problem of p and q", Duration::from_secs(30), async || {
        world.measure(&[reading("p", 100, THEN), reading("q", 50, THEN)]).await;
        world.until_compared().await;
        problem(&world, "pq").await
    })
    .await;
    put(edge("q", "r")).await;
    let mut second = THEN;
    eventually(
        "a problem of q and r, and the end of that of p and q",
        Duration::from_secs(30),
        async || {
            second += 1;
            world.measure(&[reading("q", 50, second), reading("r", 0, second)]).await;
            world.until_compared().await;
            let gone = problem(&world, "pq").await?;
            let ended = text(&gone, "problem_status") == Some("RESOLVED");
            let found = problem(&world, "qr").await?;
            (ended && text(&found, "problem") == Some("OBSTRUCTION")).then_some(())
        },
    )
    .await;
    let gone = problem(&world, "pq").await.expect("its row stays");
    assert_eq!(text(&gone, "resolution_reason"), Some("no topology has it any more"));
    assert!(gateway.stop().await.success() && worker.stop().await.success());
}
