//! Live: subscriptions, and what was missed.

use std::time::Duration;

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use flotilla_tests::{Listener, Worker, World, eventually, reading};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
};

/// A time in 2023, in Unix seconds.
const THEN: i64 = 1_700_000_000;

struct Live {
    worker: Worker,
    gateway: Worker,
    // Dropped last: the logs of the others are in its folder.
    world: World,
}

impl Live {
    async fn new() -> Self {
        let world = World::new().await;
        let worker = world.anomaly_worker().ready().await;
        let gateway = world.sensor_gateway().ready().await;
        Self { worker, gateway, world }
    }

    async fn say(&self, readings: &[Value]) {
        for reading in readings {
            self.world.measure(std::slice::from_ref(reading)).await;
            self.world.until_compared().await;
        }
    }

    async fn end(mut self) {
        assert!(self.gateway.stop().await.success() && self.worker.stop().await.success());
    }
}

/// What an event is about, without its position.
fn gist(event: &Value) -> String {
    match event["event"].as_str() {
        Some("problem") => {
            let it = &event["problem"];
            let [id, kind, status] =
                ["problem_id", "problem", "problem_status"].map(|name| it[name].as_str().unwrap());
            format!("{id} {kind} {status}")
        }
        Some("reading") => {
            format!("{} {}", event["device"].as_str().unwrap(), event["said"].as_str().unwrap())
        }
        _ => event.to_string(),
    }
}

#[tokio::test]
async fn a_subscription_by_device_zone_or_kind_tells_that_alone_and_the_original_goes_on() {
    let live = Live::new().await;
    let mut listeners = Vec::new();
    for wanted in [
        json!({ "devices": ["201"] }),
        json!({ "zone": "1" }),
        json!({ "kinds": ["OBSTRUCTION"] }),
        json!({ "kinds": ["ok"], "prefixes": ["2"] }),
        json!({ "events": ["problem"], "statuses": ["RESOLVED"] }),
    ] {
        let mut listener = Listener::connect(&live.gateway).await.unwrap();
        let confirmed = listener.ask(&json!({ "subscribe": wanted })).await;
        assert!(confirmed["position"].is_string(), "{confirmed}");
        listeners.push(listener);
    }
    let mut original = Listener::connect(&live.gateway).await.unwrap();
    live.say(&[
        reading("102", 50, THEN),
        reading("101", 100, THEN + 1),
        reading("202", 100, THEN),
        reading("201", 50, THEN + 1),
        reading("101", 50, THEN + 9),
        reading("201", 100, THEN + 9),
    ])
    .await;
    let wanted: [&[&str]; 5] = [
        &["201202 PROBLEM UNRESOLVED", "201202 PROBLEM RESOLVED", "201 OK"],
        &[
            "102 LAST SENSOR",
            "101102 OBSTRUCTION UNRESOLVED",
            "101102 OBSTRUCTION RESOLVED",
            "101 OK",
        ],
        &["101102 OBSTRUCTION UNRESOLVED", "101102 OBSTRUCTION RESOLVED"],
        &["201 OK"],
        &["101102 OBSTRUCTION RESOLVED", "201202 PROBLEM RESOLVED"],
    ];
    for (listener, wanted) in listeners.iter_mut().zip(wanted) {
        let mut told = Vec::new();
        for _ in wanted {
            told.push(gist(&listener.next().await));
        }
        told.sort();
        let mut wanted = wanted.to_vec();
        wanted.sort_unstable();
        assert_eq!(told, wanted);
    }
    // Problems, OK and LAST SENSOR, in the original's shape: eight.
    for _ in 0..8 {
        let told = original.next().await;
        let is_message = told.as_object().unwrap().len() == 1 && told["message"].is_string();
        assert!(is_message || told.as_object().unwrap().len() == 4, "{told}");
    }
    // Nonsense is answered, and changes nothing.
    let first = &mut listeners[0];
    for (said, why) in [
        (json!("hello"), "understood"),
        (json!({ "subscribe": { "colour": 1 } }), "colour"),
        (json!({ "subscribe": { "devices": ["a/b"] } }), "slash"),
        (json!({ "subscribe": {}, "from": "x" }), "position"),
    ] {
        let answer = first.ask(&said).await;
        assert!(answer["error"].as_str().unwrap().contains(why), "{answer}");
    }
    live.say(&[reading("201", 25, THEN + 20)]).await;
    assert_eq!(gist(&first.next().await), "201202 PROBLEM UNRESOLVED");
    assert_eq!(first.ask(&json!({ "unsubscribe": true })).await, json!({ "unsubscribed": true }));
    assert_eq!(Listener::at(&live.gateway, "/ws?from=nonsense").await.err(), Some(400));
    drop((listeners, original));
    live.end().await;
}

#[tokio::test]
async fn who_lost_the_line_is_told_what_was_missed_once_by_another_gateway_too() {
    let mut live = Live::new().await;
    live.say(&[reading("02", 100, THEN)]).await;
    let mut listener = Listener::at(&live.gateway, "/ws?event=problem").await.unwrap();
    let first = listener.next().await;
    assert!(first["subscribed"].is_object(), "{first}");
    live.say(&[reading("01", 50, THEN + 1)]).await;
    let opened = listener.next().await;
    assert_eq!(gist(&opened), "0102 PROBLEM UNRESOLVED");
    let positions = [&first, &opened].map(|it| it["position"].as_str().unwrap().to_owned());
    drop(listener);
    let missed =
        [reading("01", 100, THEN + 2), reading("01", 0, THEN + 3), reading("02", 0, THEN + 4)];
    live.say(&missed).await;
    // Another gateway knows the positions of the first.
    assert!(live.gateway.stop().await.success());
    live.gateway = live.world.sensor_gateway().ready().await;
    let after_opening =
        ["0102 PROBLEM RESOLVED", "0102 PROBLEM UNRESOLVED", "0102 PROBLEM RESOLVED"];
    let all = [&["0102 PROBLEM UNRESOLVED"][..], &after_opening].concat();
    for (position, wanted) in positions.iter().zip([&all[..], &after_opening]) {
        let path = format!("/ws?event=problem&from={position}");
        let mut listener = Listener::at(&live.gateway, &path).await.unwrap();
        let confirmed = listener.next().await;
        assert_eq!(confirmed["position"], json!(position));
        for wanted in wanted {
            let told = listener.next().await;
            assert_eq!(&gist(&told), wanted);
        }
        // What follows is live: nothing was told twice.
        let kind = if wanted.len() == 4 { "OBSTRUCTION" } else { "PROBLEM" };
        let level = if wanted.len() == 4 { 30 } else { 10 };
        let at = THEN + 100 + i64::from(level);
        live.say(&[reading("02", 20, THEN + 100), reading("01", level, at)]).await;
        let mut told = String::new();
        while told != format!("0102 {kind} UNRESOLVED") {
            let event = listener.next().await;
            assert!(
                event["problem"]["opened"].as_i64() >= Some((THEN + 100) * 1000),
                "again: {event}"
            );
            told = gist(&event);
        }
    }
    live.end().await;
}

/// The position with another text at a place of its JSON.
fn altered(position: &str, alter: impl FnOnce(&mut Value)) -> String {
    let mut inner: Value =
        serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(position).unwrap()).unwrap();
    alter(&mut inner);
    BASE64_URL_SAFE_NO_PAD.encode(inner.to_string())
}

#[tokio::test]
async fn a_position_that_is_too_old_is_told_so_and_live_events_go_on() {
    let live = Live::new().await;
    live.say(&[reading("02", 100, THEN)]).await;
    let mut listener = Listener::at(&live.gateway, "/ws?event=problem").await.unwrap();
    let position = listener.next().await["position"].as_str().unwrap().to_owned();
    let other_table = altered(&position, |it| it["p"][0]["s"] = json!("2001-01-01T00:00:00.000"));
    let gone = altered(&position, |it| {
        it["p"][1]["m"] = json!({ "shardId-gone": "begin" });
    });
    for (number, old) in [other_table, gone].into_iter().enumerate() {
        let confirmed = listener.ask(&json!({ "subscribe": {}, "from": old })).await;
        assert!(confirmed["subscribed"].is_object(), "{confirmed}");
        let why = listener.next().await;
        assert!(why["error"].as_str().unwrap().contains("too old"), "{why}");
        live.say(&[reading("02", 100, THEN + 9 + number as i64)]).await;
        assert_eq!(gist(&listener.next().await), "02 LAST SENSOR");
    }
    drop(listener);
    live.end().await;
}

#[tokio::test]
async fn server_sent_events_tell_the_same_and_go_on_from_the_last_id() {
    let live = Live::new().await;
    let connect = async |path: &str, last: &str| {
        let mut stream = TcpStream::connect(live.gateway.addr()).await.unwrap();
        let last =
            if last.is_empty() { String::new() } else { format!("Last-Event-ID: {last}\r\n") };
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\n{last}\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        BufReader::new(stream).lines()
    };
    let mut lines = connect("/v1/events?device=02", "").await;
    let next = async |lines: &mut tokio::io::Lines<BufReader<TcpStream>>, begin: &str| {
        let found = async {
            loop {
                let line = lines.next_line().await.unwrap().expect("an open line");
                if let Some(rest) = line.strip_prefix(begin) {
                    return rest.trim().to_owned();
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(20), found).await.expect("a line")
    };
    assert!(next(&mut lines, "data:").await.contains("subscribed"));
    let id = next(&mut lines, "id:").await;
    live.say(&[reading("01", 1, THEN), reading("02", 1, THEN)]).await;
    let told: Value = serde_json::from_str(&next(&mut lines, "data:").await).unwrap();
    assert_eq!(gist(&told), "02 LAST SENSOR");
    drop(lines);
    live.say(&[reading("02", 0, THEN + 1)]).await;
    let mut lines = connect("/v1/events?device=02", &id).await;
    let mut told = Vec::new();
    for _ in 0..4 {
        told.push(gist(&serde_json::from_str(&next(&mut lines, "data:").await).unwrap()));
    }
    assert!(told[0].contains("subscribed"), "{told:?}");
    told[1..].sort();
    assert_eq!(told[1..], ["0102 OBSTRUCTION UNRESOLVED", "02 LAST SENSOR", "02 LAST SENSOR"]);
    drop(lines);
    live.end().await;
}

#[tokio::test]
async fn topologies_are_uploaded_listed_and_removed_and_give_zones() {
    let live = Live::new().await;
    let toml = "[[edges]]\ncurrent = 'pump'\nfollowing = 'tank'\n\n\
                [[devices]]\nid = 'tank'\nzone = 'north'\n";
    let put = async |name: &str, kind: &str, body: &str| {
        live.gateway.send("PUT", &format!("/v1/topologies/{name}"), kind, body).await
    };
    let (status, stored) = put("town", "application/toml", toml).await;
    assert_eq!((status, &stored["name"]), (200, &json!("town")), "{stored}");
    assert_eq!(live.gateway.page("/v1/topologies/town").await, Some((200, toml.to_owned())));
    let (_, list) = live.gateway.json("/v1/topologies").await;
    assert_eq!(
        (&list["topologies"][0]["name"], &list["topologies"][0]["format"]),
        (&json!("town"), &json!("toml"))
    );
    for (kind, body, why) in [
        ("application/toml", "[[edges]]\ncurrent = 'a'\nfollowing = ", "line 3"),
        ("application/toml", "[[edges]]\ncurrent = 'a'\nfollowing = 'a'\n", "itself"),
        ("application/toml", "[[edges]]\ncurrent = 'a'\nfolowing = 'b'\n", "folowing"),
        (
            "application/json",
            r#"{"edges":[{"current":"a","following":"bc"},{"current":"ab","following":"c"}]}"#,
            "abc",
        ),
        ("application/json", r#"{"edges":[{"current":"pumpt","following":"ank"}]}"#, "pumptank"),
        ("application/json", r#"{"edges":[{"current":"a/b","following":"c"}]}"#, "slash"),
        ("application/json", "{", "line 1"),
    ] {
        let (status, answer) = put("other", kind, body).await;
        let faults = answer["faults"].to_string();
        assert!(status == 400 && faults.contains(why), "{body}: {status} {answer}");
    }
    assert_eq!(put("other", "image/png", "x").await.0, 415);
    assert_eq!(put("a%2Fb", "application/json", "{}").await.0, 400);
    assert_eq!(put("other", "text/toml", &"#".repeat(3 << 20)).await.0, 413);
    let zone = async || live.gateway.json("/v1/devices/tank").await.1["zone"].take();
    live.say(&[reading("tank", 50, THEN)]).await;
    assert_eq!(zone().await, "north");
    let (_, found) = live.gateway.json("/v1/devices?zone=north").await;
    assert_eq!(found["devices"][0]["id"], "tank");
    // Of two that come at one time one takes the other's place, whole.
    let json = r#"{"edges":[{"current":"pump","following":"tank"}]}"#;
    for _ in 0..8 {
        let (one, other) = futures::join!(
            put("town", "application/toml", toml),
            put("town", "application/json", json)
        );
        assert_eq!((one.0, other.0), (200, 200), "{} {}", one.1, other.1);
        let (_, list) = live.gateway.json("/v1/topologies").await;
        let is_json = list["topologies"][0]["format"] == "json";
        let whole = if is_json { json } else { toml };
        let page = live.gateway.page("/v1/topologies/town").await;
        assert_eq!(page, Some((200, whole.to_owned())));
    }
    // Nor does one of many wait in vain.
    let many = (0..12).map(async |number| {
        let edge = format!("[[edges]]\ncurrent = 'x{number}-'\nfollowing = 'y{number}-'\n");
        put(&format!("n{number}"), "application/toml", &edge).await
    });
    for (status, answer) in futures::future::join_all(many).await {
        assert_eq!(status, 200, "{answer}");
    }
    assert_eq!(put("town", "application/toml", toml).await.0, 200);
    let (status, _) = live.gateway.send("DELETE", "/v1/topologies/town", "", "").await;
    assert_eq!(status, 204);
    assert_eq!(live.gateway.send("DELETE", "/v1/topologies/town", "", "").await.0, 404);
    eventually("no zone", Duration::from_secs(20), async || zone().await.is_null().then_some(()))
        .await;
    live.end().await;
}
