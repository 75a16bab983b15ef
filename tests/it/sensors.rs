//! Sensors end to end: readings on the queue, problems in the table, both live.

use std::time::Duration;

use flotilla_tests::{Fault, FaultProxy, Listener, Rule, Seed, Worker, World, eventually, reading};
use serde_json::{Value, json};

/// A time in 2023, in Unix seconds.
const THEN: i64 = 1_700_000_000;

struct Sewer {
    worker: Worker,
    gateway: Worker,
    // Dropped last: the logs of the others are in its folder.
    world: World,
}

impl Sewer {
    async fn new() -> Self {
        let world = World::new().await;
        let worker = world.anomaly_worker().ready().await;
        let gateway = world.sensor_gateway().ready().await;
        Self { worker, gateway, world }
    }

    /// Has readings compared, one after the other.
    async fn say(&self, readings: &[Value]) {
        for reading in readings {
            self.world.measure(std::slice::from_ref(reading)).await;
            self.world.until_compared().await;
        }
    }

    async fn problem(&self, id: &str) -> Value {
        self.gateway.json(&format!("/problem/{id}")).await.1["Item"].take()
    }

    async fn end(mut self) {
        assert!(self.gateway.stop().await.success() && self.worker.stop().await.success());
    }
}

fn problem(id: &str, kind: &str, time: i64, status: &str) -> Value {
    json!({ "problem_id": id, "problem": kind, "problem_time": time, "problem_status": status })
}

#[tokio::test]
async fn each_of_the_nine_cells_gives_the_originals_answer_end_to_end() {
    let sewer = Sewer::new().await;
    let levels = [100, 50, 0];
    let pairs = levels.into_iter().flat_map(|current| levels.map(|following| (current, following)));
    let (mut readings, mut wanted) = (Vec::new(), Vec::new());
    for (tube, (current, following)) in pairs.enumerate() {
        let tube = tube + 1;
        readings.push(reading(&format!("{tube}01"), current, THEN));
        readings.push(reading(&format!("{tube}02"), following, THEN + 5));
        let kind = match () {
            () if following < current => "OBSTRUCTION",
            () if following > current => "PROBLEM",
            () => continue,
        };
        wanted.push(problem(&format!("{tube}01{tube}02"), kind, THEN + 5, "UNRESOLVED"));
    }
    sewer.world.measure(&readings).await;
    sewer.world.until_compared().await;
    let (status, mut scan) = sewer.gateway.json("/problem/scan").await;
    let mut found = scan["Items"].as_array().unwrap().clone();
    found.sort_by_key(|it| it["problem_id"].to_string());
    assert_eq!((status, found), (200, wanted));
    assert_eq!((scan["Count"].take(), scan["ScannedCount"].take()), (json!(6), json!(6)));
    assert_eq!(sewer.problem("201202").await["problem"], "OBSTRUCTION");
    assert_eq!(sewer.gateway.json("/problem/101102").await, (404, json!({})));
    sewer.end().await;
}

/// The original's table: what the current and the following sensor say, and what is told of it.
const TABLE: [(u32, u32, &str); 9] = [
    (100, 100, "OK"),
    (100, 50, "OBSTRUCTION"),
    (100, 0, "OBSTRUCTION"),
    (50, 100, "PROBLEM"),
    (50, 50, "OK"),
    (50, 0, "OBSTRUCTION"),
    (0, 100, "PROBLEM"),
    (0, 50, "PROBLEM"),
    (0, 0, "OK"),
];

#[tokio::test]
async fn each_cell_is_told_to_listeners_as_the_original_told_it_whether_ids_are_padded_or_not() {
    let sewer = Sewer::new().await;
    let mut listener = Listener::connect(&sewer.gateway).await.unwrap();
    for (tube, (current, following, answer)) in (1..).zip(TABLE) {
        for (first, second) in [("01", "02"), ("1", "2")] {
            let (first, second) = (format!("{tube}{first}"), format!("{tube}{second}"));
            sewer.say(&[reading(&second, following, THEN)]).await;
            assert_eq!(listener.next().await, json!({ "message": "LAST SENSOR" }), "{second}");
            sewer.say(&[reading(&first, current, THEN + 1)]).await;
            let wanted = match answer {
                "OK" => json!({ "message": "OK" }),
                kind => problem(&format!("{first}{second}"), kind, THEN + 1, "UNRESOLVED"),
            };
            assert_eq!(listener.next().await, wanted, "{current} and {following} at {first}");
        }
    }
    drop(listener);
    sewer.end().await;
}

#[tokio::test]
async fn listeners_are_told_of_an_error_while_events_cannot_be_read_and_of_all_events_after_it() {
    let url = std::env::var("AWS_ENDPOINT_URL").unwrap();
    let proxy = FaultProxy::new(&url, Seed(0));
    let world = World::new().await;
    let worker = world.anomaly_worker().ready().await;
    let door = proxy.entrance(0).await;
    let gateway = world.sensor_gateway().env("AWS_ENDPOINT_URL", door).ready().await;
    let sewer = Sewer { worker, gateway, world };
    let mut listener = Listener::connect(&sewer.gateway).await.unwrap();
    proxy.obey(&[Rule { fault: Fault::ServerError, calls: &["GetRecords"], one_in: 1 }]);
    let told = listener.next().await;
    assert!(told["error"].as_str().is_some_and(|it| it.contains("stream")), "{told}");
    sewer.say(&[reading("02", 50, THEN), reading("01", 100, THEN + 1)]).await;
    proxy.obey(&[]);
    let opened = problem("0102", "OBSTRUCTION", THEN + 1, "UNRESOLVED");
    listener.until(&opened).await;
    drop(listener);
    sewer.end().await;
}

#[tokio::test]
async fn both_edges_of_a_sensor_are_compared_and_each_episode_keeps_its_row() {
    let sewer = Sewer::new().await;
    let all = ["01", "02", "03"].map(|id| reading(id, 100, THEN));
    sewer.say(&all).await;
    sewer.say(&[reading("02", 50, THEN + 60)]).await;
    let obstruction = problem("0102", "OBSTRUCTION", THEN + 60, "UNRESOLVED");
    assert_eq!(sewer.problem("0102").await, obstruction);
    assert_eq!(sewer.problem("0203").await, problem("0203", "PROBLEM", THEN + 60, "UNRESOLVED"));
    sewer.say(&[reading("02", 100, THEN + 120)]).await;
    for id in ["0102", "0203"] {
        assert_eq!(sewer.problem(id).await["problem_status"], "RESOLVED", "{id}");
        assert_eq!(sewer.problem(id).await["problem_time"], THEN + 60, "{id}");
    }
    sewer.say(&[reading("02", 0, THEN + 180)]).await;
    assert_eq!(sewer.problem("0102").await["problem_time"], THEN + 180);
    let rows = sewer.world.problems("0").await;
    assert_eq!(rows.len(), 4, "{rows:?}");
    sewer.end().await;
}

#[tokio::test]
async fn a_device_is_served_in_the_originals_shape_with_duplicates_absorbed() {
    let sewer = Sewer::new().await;
    let uplink = json!({
        "end_device_ids": { "device_id": "kloaka-07" },
        "uplink_message": { "frm_payload": "NTA=", "f_cnt": 3, "received_at": "2023-11-14T22:13:20Z" },
    });
    let again = json!({ "id": "kloaka-07", "filling": 50, "at": THEN + 9, "seq": 3 });
    let plain = json!({ "id": "kloaka-07", "filling": 100, "at": (THEN + 60) * 1000 });
    let now = json!({ "id": "kloaka-08", "filling": "25.50" });
    sewer.say(&[uplink.clone(), again, plain.clone(), uplink, plain, now]).await;
    let wanted = json!({ "Item": {
        "id": "kloaka-07", "last_value": "100", "last_update": THEN + 60,
        "measurements": [{ "filling": "50", "dt": THEN }, { "filling": "100", "dt": THEN + 60 }],
    }});
    assert_eq!(sewer.gateway.json("/device/kloaka-07").await, (200, wanted.clone()));
    let (status, scan) = sewer.gateway.json("/device/scan").await;
    assert_eq!((status, &scan["Count"], &scan["ScannedCount"]), (200, &json!(2), &json!(2)));
    let items = scan["Items"].as_array().unwrap();
    assert!(items.contains(&wanted["Item"]), "{scan}");
    let other = items.iter().find(|it| it["id"] == "kloaka-08").unwrap();
    let sent = other["last_update"].as_i64().unwrap();
    assert!(other["last_value"] == "25.5" && sent > THEN, "{other}");
    assert_eq!(sewer.gateway.json("/device/09").await, (404, json!({})));
    sewer.end().await;
}

#[tokio::test]
async fn listeners_are_told_what_the_original_told() {
    let sewer = Sewer::new().await;
    let mut listener = Listener::connect(&sewer.gateway).await.unwrap();
    let mut other = Listener::connect(&sewer.gateway).await.unwrap();
    let (ok, last) = (json!({ "message": "OK" }), json!({ "message": "LAST SENSOR" }));
    sewer.say(&[reading("02", 100, THEN)]).await;
    assert_eq!(listener.next().await, last);
    sewer.say(&[reading("01", 100, THEN + 1)]).await;
    assert_eq!(listener.next().await, ok);
    sewer.say(&[reading("01", 50, THEN + 2)]).await;
    let opened = problem("0102", "PROBLEM", THEN + 2, "UNRESOLVED");
    assert_eq!(listener.next().await, opened);
    sewer.say(&[reading("01", 100, THEN + 3)]).await;
    let resolved = problem("0102", "PROBLEM", THEN + 2, "RESOLVED");
    let mut both = [listener.next().await, listener.next().await];
    both.sort_by_key(|it| it["message"] == "OK");
    assert_eq!(both, [resolved, ok]);
    // What the late reading shows never was is taken back.
    sewer.say(&[reading("02", 50, THEN + 2), reading("01", 25, THEN + 9)]).await;
    let retracted = problem("0102", "PROBLEM", THEN + 2, "RETRACTED");
    let after = problem("0102", "PROBLEM", THEN + 9, "UNRESOLVED");
    let opening = problem("0102", "OBSTRUCTION", THEN + 3, "UNRESOLVED");
    let events = listener.until(&after).await;
    assert!(events.contains(&retracted) && events.contains(&opening), "{events:?}");
    assert_eq!(other.until(&after).await.first(), Some(&last));
    sewer.end().await;
}

#[tokio::test]
async fn posted_readings_are_compared_and_bad_ones_refused_one_by_one() {
    let sewer = Sewer::new().await;
    let list = json!([
        { "id": "01", "filling": 100, "at": THEN },
        { "id": "0/1", "filling": 100 },
        { "id": "02", "filling": "0", "at": THEN },
        { "id": "02", "filling": "NaN" },
    ]);
    let (status, answer) = sewer.gateway.post_readings(&list.to_string()).await;
    assert_eq!((status, &answer["accepted"]), (202, &json!(2)));
    let refused = answer["refused"].as_array().unwrap();
    assert_eq!((&refused[0]["index"], &refused[1]["index"]), (&json!(1), &json!(3)));
    assert!(refused[0]["error"].as_str().unwrap().contains("slash"), "{answer}");
    sewer.world.until_compared().await;
    assert_eq!(sewer.problem("0102").await, problem("0102", "OBSTRUCTION", THEN, "UNRESOLVED"));
    let many: Vec<_> = (0..99).map(|n| reading("77", n % 3, THEN + i64::from(n))).collect();
    let many = json!({ "readings": many }).to_string();
    assert_eq!(sewer.gateway.post_readings(&many).await.1["accepted"], 99);
    assert_eq!(sewer.gateway.post_readings("[{").await.0, 400);
    assert_eq!(sewer.gateway.post_readings(r#"{"id":"01"}"#).await.0, 400);
    sewer.world.until_compared().await;
    let (_, device) = sewer.gateway.json("/device/77").await;
    assert_eq!(device["Item"]["measurements"].as_array().unwrap().len(), 99);
    sewer.end().await;
}

#[tokio::test]
async fn a_listener_that_does_not_answer_is_let_go_and_its_place_is_free_again() {
    let world = World::new().await;
    let gateway = world.sensor_gateway().env("FLOTILLA_PING_SECONDS", "0.3");
    let mut gateway = gateway.env("FLOTILLA_WS_CONNECTIONS", "1").ready().await;
    // Held, but never asked for a frame: so it answers no ping.
    let _silent = Listener::connect(&gateway).await.unwrap();
    assert_eq!(Listener::connect(&gateway).await.err(), Some(503));
    eventually("a free place", Duration::from_secs(10), async || {
        Listener::connect(&gateway).await.ok()
    })
    .await;
    assert!(gateway.stop().await.success());
}
