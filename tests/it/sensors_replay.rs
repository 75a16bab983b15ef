//! Problems recomputed from what was stored, and readings that came too late.

use flotilla_tests::{Listener, World, reading};
use serde_json::{Value, json};

/// A time in 2023, in Unix seconds.
const THEN: i64 = 1_700_000_000;

/// What the command prints, as JSON lines.
async fn said(world: &World, arguments: &[&str]) -> Vec<Value> {
    let (code, text) = world.flotilla(arguments).await;
    assert_eq!(code, 0, "flotilla {arguments:?}: {text}");
    let values = serde_json::Deserializer::from_str(&text).into_iter::<Value>();
    values.map(|it| it.unwrap_or_else(|e| panic!("{arguments:?}: {e}: {text}"))).collect()
}

async fn replayed(world: &World, more: &[&str]) -> Value {
    let (from, to) = (THEN.to_string(), (THEN + 100_000).to_string());
    let (from, to) = (from.as_str(), to.as_str());
    let plain = ["replay", "--from", from, "--to", to, "--lateness", "400", "--json"];
    said(world, &[&plain, more].concat()).await.remove(0)
}

#[tokio::test]
async fn a_replay_finds_what_was_told_and_what_came_late_is_listed_and_can_be_replayed() {
    let world = World::new().await;
    let topology = "[[edges]]\ncurrent = \"a\"\nfollowing = \"b\"\n[[devices]]\nid = \"a\"\n\
                    silence = 300\nthreshold = { above = 90 }\n[[devices]]\nid = \"dead\"\nsilence = 1\n";
    world.topology("tube", topology).await;
    let mut worker = world
        .anomaly_worker()
        .env("FLOTILLA_LATENESS_SECONDS", "400")
        .env("FLOTILLA_SWEEP_SECONDS", "0.5")
        .ready()
        .await;
    let mut gateway = world.sensor_gateway().ready().await;
    world.measure(&[reading("b", 100, THEN)]).await;
    let level = |number: i64| if number % 100 < 50 { 100 } else { 50 };
    let readings: Vec<_> = (0..700).map(|at| reading("a", level(at), THEN + at)).collect();
    world.measure(&readings).await;
    world.until_compared().await;
    let none = replayed(&world, &[]).await;
    assert_eq!((&none["differences"], &none["late_readings"]), (&json!([]), &json!(0)), "{none}");
    assert!(none["told"].as_u64() >= Some(14) && none["told"] == none["replayed"], "{none}");

    // By now nothing of the first minutes can change any more.
    let late = [reading("b", 50, THEN + 60), reading("b", 100, THEN + 70)];
    world.measure(&late).await;
    world.until_compared().await;
    let listed = said(&world, &["sensors", "late", "--json"]).await;
    let outline = |it: &Value| (it["device"].clone(), it["at"].clone());
    let wanted = [60, 70].map(|at| (json!("b"), json!((THEN + at) * 1000)));
    assert_eq!(listed.iter().map(outline).collect::<Vec<_>>(), wanted);
    let (served, pages) = gateway.pages("/v1/late?limit=1", "late").await;
    assert_eq!(served.iter().map(outline).collect::<Vec<_>>(), wanted);
    assert!(pages >= 2, "{pages} pages");
    let without = replayed(&world, &[]).await;
    assert_eq!(without["differences"], json!([]), "{without}");
    let with = replayed(&world, &["--late"]).await;
    let opened = |it: &Value| it["differences"][0]["opened"].clone();
    assert_eq!((opened(&with), &with["late_readings"]), (json!((THEN + 50) * 1000), &json!(2)));

    // What is not as the readings say is shown.
    let table = &world.outputs().problems_table_name;
    let rows = world.table(table).await;
    let row = rows.iter().find(|row| row.get("resolved").is_some()).unwrap();
    let call = world.aws.dynamo.delete_item().table_name(table);
    let call = call.key("problem_id", row["problem_id"].clone());
    call.key("opened", row["opened"].clone()).send().await.unwrap();
    let lost = replayed(&world, &[]).await;
    let difference = &lost["differences"][0];
    assert_eq!(lost["differences"].as_array().unwrap().len(), 1, "{lost}");
    assert!(difference["told"].is_null() && difference["replayed"]["resolved"].is_i64(), "{lost}");
    let refused = world.flotilla(&["replay", "--from", "5", "--to", "4"]).await;
    assert!(refused.0 == 2 && refused.1.contains("before --to"), "{refused:?}");
    assert!(gateway.stop().await.success() && worker.stop().await.success());
}

#[tokio::test]
async fn every_reading_and_every_entry_of_the_late_list_expires_after_the_retention() {
    let world = World::new().await;
    let worker = world.anomaly_worker().env("FLOTILLA_LATENESS_SECONDS", "60");
    let mut worker = worker.env("FLOTILLA_RETENTION_DAYS", "7").ready().await;
    let before = jiff::Timestamp::now().as_second();
    for (id, after) in [("01", 0), ("02", 1), ("01", 600), ("02", 5)] {
        world.measure(&[reading(id, 50, THEN + after)]).await;
        world.until_compared().await;
    }
    let week = 7 * 86_400;
    let (first, last) = (before + week, jiff::Timestamp::now().as_second() + week);
    let rows = world.table(&world.outputs().readings_table_name).await;
    let late = rows.iter().filter(|row| row["device"].as_s().is_ok_and(|it| it == "/late"));
    assert_eq!((rows.len(), late.count()), (5, 1));
    for row in &rows {
        let expires: i64 = row["expires_at"].as_n().unwrap().parse().unwrap();
        assert!((first..=last).contains(&expires), "{first} to {last}: {row:?}");
    }
    assert!(worker.stop().await.success());
}

#[tokio::test]
async fn problems_are_listed_and_acknowledged_at_the_command_line() {
    let world = World::new().await;
    let mut worker = world.anomaly_worker().ready().await;
    world.measure(&[reading("01", 100, THEN), reading("02", 50, THEN + 60)]).await;
    world.until_compared().await;
    let problems = async || said(&world, &["sensors", "problems", "--json"]).await;
    let listed = problems().await;
    assert_eq!((listed.len(), &listed[0]["problem_status"]), (1, &json!("UNRESOLVED")));
    let ack = ["sensors", "ack", "0102", "--by", "ada", "--note", "the pump"];
    let (code, text) = world.flotilla(&ack).await;
    assert!(code == 0 && text.contains("acknowledged by ada"), "{text}");
    assert_eq!(problems().await[0]["problem_status"], "ACKNOWLEDGED");
    let (_, again) = world.flotilla(&ack).await;
    assert!(again.contains("before"), "{again}");
    let (code, text) = world.flotilla(&["sensors", "ack", "0304", "--by", "ada"]).await;
    assert!(code == 2 && text.contains("no such episode"), "{text}");
    let unseen = said(&world, &["sensors", "problems", "--status", "unresolved", "--json"]).await;
    assert!(unseen.is_empty());
    assert!(worker.stop().await.success());
}

#[tokio::test]
async fn what_is_put_right_is_told_as_corrected_and_what_never_was_as_retracted() {
    let world = World::new().await;
    let mut worker = world.anomaly_worker().ready().await;
    let mut gateway = world.sensor_gateway().ready().await;
    let mut listener = Listener::at(&gateway, "/ws?event=problem").await.unwrap();
    assert!(listener.next().await["subscribed"].is_object());
    let mut events = Vec::new();
    for (id, filling, at) in [("01", 100, 0), ("02", 50, 60), ("02", 40, 30), ("01", 40, 20)] {
        world.measure(&[reading(id, filling, THEN + at)]).await;
        world.until_compared().await;
    }
    let gone = |it: &Value| {
        it["correction"] == "RETRACTED" && it["problem"]["opened"] == (THEN + 30) * 1000
    };
    while !events.iter().any(gone) {
        events.push(listener.next().await);
        assert!(events.len() < 100, "{events:?}");
    }
    let corrections: Vec<_> = events
        .iter()
        .filter(|it| !it["correction"].is_null())
        .map(|it| {
            (it["correction"].clone(), it["problem"]["opened"].as_i64().unwrap() / 1000 - THEN)
        })
        .collect();
    // What was told to open after a minute had opened after half of one; and then it had not.
    assert!(corrections.contains(&(json!("CORRECTED"), 30)), "{corrections:?}");
    assert!(corrections.contains(&(json!("RETRACTED"), 60)), "{corrections:?}");
    drop(listener);
    assert!(gateway.stop().await.success() && worker.stop().await.success());
}
