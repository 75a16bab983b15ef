//! Sensors under disorder, floods and hostile readings.

use std::collections::HashMap;

use aws_sdk_dynamodb::types::AttributeValue as Attr;
use flotilla_tests::{PROCESSED, TOLD, World, reading};
use serde_json::{Value, json};

/// A time in 2023, in Unix seconds.
const THEN: i64 = 1_700_000_000;

/// Readings of the one device that says a lot.
const READINGS: i64 = 20_000;

/// What DynamoDB counts of a row: names and values.
fn bytes(row: &HashMap<String, Attr>) -> usize {
    let value = |value: &Attr| match value {
        Attr::S(text) | Attr::N(text) => text.len(),
        other => format!("{other:?}").len(),
    };
    row.iter().map(|(name, it)| name.len() + value(it)).sum()
}

/// Random numbers that are the same every time (an MMIX linear congruential generator).
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }

    fn shuffled(&mut self, mut readings: Vec<Value>) -> Vec<Value> {
        for last in (1..readings.len()).rev() {
            readings.swap(last, self.below(last as u64 + 1) as usize);
        }
        readings
    }
}

/// A quarter of an hour of three sensors of a tube.
fn stream(tube: &str) -> Vec<Value> {
    let mut dice = Dice(7);
    let one = |number: i64| {
        let id = format!("{tube}{}", dice.below(3) + 1);
        let mut it = reading(&id, [0, 50, 100][dice.below(3) as usize], THEN + number * 10);
        if dice.below(2) == 0 {
            it["seq"] = json!(number);
        }
        it
    };
    (0..90).map(one).collect()
}

/// The tubes that say the same, the first in order and once.
const TUBES: [&str; 4] = ["a-", "b-", "c-", "d-"];

/// Has two workers compare the tubes, one of which is killed meanwhile; the other one's rows are the
/// same for each tube. How many these are.
async fn compared_by_two(world: &World) -> usize {
    let mut first = world.anomaly_worker().ready().await;
    let mut second = world.anomaly_worker().ready().await;
    let mut dice = Dice(11);
    let mut all = vec![stream(TUBES[0])];
    for tube in &TUBES[1..] {
        let twice = [stream(tube), stream(tube)].concat();
        all.push(dice.shuffled(twice));
    }
    let mixed = dice.shuffled(all[1..].concat());
    world.measure(&all[0]).await;
    world.measure(&mixed).await;
    first.kill().await;
    world.until_compared().await;
    // By then nothing of that quarter of an hour can change any more.
    for after in [9000, 20_000] {
        let all = TUBES.iter().flat_map(|tube| (1..4).map(move |it| format!("{tube}{it}")));
        let all: Vec<_> = all.map(|id| reading(&id, 100, THEN + after)).collect();
        world.measure(&all).await;
        world.until_compared().await;
    }
    let expected = world.problems(TUBES[0]).await;
    for tube in &TUBES[1..] {
        assert_eq!(world.problems(tube).await, expected, "tube {tube}");
    }
    let readings = world.table(&world.outputs().readings_table_name).await;
    assert_eq!(readings.len(), 4 * (90 + 2 * 3));
    assert!(second.stop().await.success());
    expected.len()
}

#[tokio::test]
async fn any_order_and_duplication_ends_in_the_same_ledger_with_two_workers_and_one_killed() {
    let world = World::new().await;
    let problems = compared_by_two(&world).await;
    assert!(problems > 20, "{problems} problems say little");
}

#[tokio::test]
async fn whole_rows_are_a_function_of_the_set_of_readings_but_for_the_times_of_processing() {
    let world = World::new().await;
    let mut topology = String::new();
    for tube in TUBES {
        topology += &format!(
            "[[chains]]\nsensors = [\"{tube}1\", \"{tube}2\", \"{tube}3\"]\ndelay = \"5s\"\n\
             flap = \"40s\"\ndebounce_count = 2\n[[devices]]\nid = \"{tube}2\"\n\
             threshold = {{ above = 90, hysteresis = 20 }}\nstuck = {{ for = \"1m\", within = 0.0 }}\n\
             outlier = {{ deviations = 2, warm_up = 5 }}\n"
        );
    }
    world.topology("town", &topology).await;
    let problems = compared_by_two(&world).await;
    let rows = world.table(&world.outputs().problems_table_name).await;
    let names = rows.iter().flat_map(|row| row.keys().map(String::as_str));
    let unknown: Vec<_> =
        names.filter(|name| !TOLD.contains(name) && !PROCESSED.contains(name)).collect();
    assert!(unknown.is_empty(), "{unknown:?} in rows of problems");
    let kinds: std::collections::BTreeSet<_> =
        rows.iter().map(|row| format!("{:?}", row["problem"])).collect();
    let last = rows.iter().filter(|row| row["certainty"].as_s().is_ok_and(|it| it == "FINAL"));
    assert!(last.count() > 10);
    let linked = rows.iter().filter(|row| row.contains_key("cause_id")).count();
    assert!(problems > 10 && kinds.len() > 2 && linked > 0, "{problems}, {kinds:?}, {linked}");
}

#[tokio::test]
async fn twenty_thousand_readings_of_one_device_are_small_writes_and_paged_reads() {
    let world = World::new().await;
    let mut worker = world.anomaly_worker().ready().await;
    let mut gateway = world.sensor_gateway().ready().await;
    world.measure(&[reading("102", 100, THEN)]).await;
    let levels = |number: i64| if number % 100 < 50 { 100 } else { 50 };
    let readings: Vec<_> =
        (0..READINGS).map(|number| reading("101", levels(number), THEN + number)).collect();
    world.measure(&readings).await;
    world.until_compared().await;
    assert_eq!(world.problems("101").await.len() as i64, READINGS / 100);
    let stored = world.table(&world.outputs().readings_table_name).await;
    assert_eq!(stored.len() as i64, READINGS + 1);
    let edges = world.table(&world.outputs().edges_table_name).await;
    let largest = [&stored, &edges].map(|rows| rows.iter().map(bytes).max().unwrap());
    let mean = stored.iter().map(bytes).sum::<usize>() / stored.len();
    println!("bytes per write of {READINGS} readings: {mean}, at most {largest:?} (reading, edge)");
    assert!(largest[0] < 200 && largest[1] < 4000, "{largest:?}");
    let (_, metrics) = worker.page("/metrics").await.unwrap();
    let failed = metrics.lines().filter(|it| it.starts_with("flotilla_dispositions_total"));
    let failed = failed.filter(|it| !it.contains("disposition=\"done\""));
    // On a machine that is so busy that the worker is late to say that it is there, it writes nothing
    // and takes the messages again.
    let failed = failed.filter(|it| !it.contains("released") && !it.contains("kind=\"crew\""));
    let failed: Vec<_> = failed.filter(|it| !it.ends_with(" 0")).collect();
    assert!(failed.is_empty(), "a write failed: {failed:?}");
    let (status, device) = gateway.json("/device/101").await;
    let measurements = device["Item"]["measurements"].as_array().unwrap();
    assert_eq!((status, measurements.len()), (200, 100));
    assert_eq!(measurements[99]["dt"], THEN + READINGS - 1);
    let path = "/v1/devices/101/measurements?limit=1000";
    let (all, pages) = gateway.pages(path, "measurements").await;
    assert!(all.len() as i64 == READINGS && pages as i64 >= READINGS / 1000, "{pages} pages");
    assert!(gateway.stop().await.success() && worker.stop().await.success());
}

#[tokio::test]
async fn hostile_readings_are_dead_lettered_with_the_reason_and_nothing_else_is_touched() {
    let world = World::new().await;
    let mut worker = world.anomaly_worker().ready().await;
    let hostile = [
        (r#"{"id":"01","filling":NaN}"#.to_owned(), "expected"),
        (r#"{"id":"01","filling":"NaN"}"#.to_owned(), "not finite"),
        (r#"{"id":"01","filling":"-inf"}"#.to_owned(), "not finite"),
        (r#"{"id":"01","filling":1e400}"#.to_owned(), "out of range"),
        (r#"{"id":"01","filling":"1e400"}"#.to_owned(), "not finite"),
        (r#"{"id":"01","filling":1,"at":253402300799}"#.to_owned(), "s from now"),
        (r#"{"id":"01","filling":1,"at":253402300799000}"#.to_owned(), "s from now"),
        (r#"{"id":"01","filling":1,"at":"9999-12-31T23:59:59Z"}"#.to_owned(), "no time"),
        (r#"{"id":"01","filling":1,"at":-1}"#.to_owned(), "out of range"),
        (r#"{"id":"01","filling":1,"at":"1700000000"}"#.to_owned(), "RFC 3339"),
        (r#"{"id":"01","filling":1,"seq":-1}"#.to_owned(), "whole number"),
        (r#"{"id":"01","filling":1,"seq":"7"}"#.to_owned(), "whole number"),
        (r#"{"id":"01","filling":1,"id":"02"}"#.to_owned(), "id is there twice"),
        (r#"{"id":"01","filling":1,"filling":2}"#.to_owned(), "filling is there twice"),
        (r#"{"id":"0/1","filling":1}"#.to_owned(), "slash"),
        (r#"{"id":"0\u00001","filling":1}"#.to_owned(), "control"),
        (format!(r#"{{"id":"{}","filling":1}}"#, "9".repeat(129)), "128 bytes"),
        (format!(r#"{{"id":"{}","filling":1}}"#, "9".repeat(250_000)), "128 bytes"),
        (format!(r#"{{"id":"01","filling":{}}}"#, "[".repeat(100_000)), "recursion"),
        (format!("{{{}}}", "x".repeat(250_000)), "key must be a string"),
        ("null".to_owned(), "neither"),
        (
            r#"{"uplink_message":{"frm_payload":"/w=="},"end_device_ids":{"device_id":"01"}}"#
                .to_owned(),
            "not text",
        ),
        (
            r#"{"uplink_message":{"frm_payload":"=50="},"end_device_ids":{"device_id":"01"}}"#
                .to_owned(),
            "not base64",
        ),
        (
            r#"{"uplink_message":{"frm_payload":""},"end_device_ids":{"device_id":"01"}}"#
                .to_owned(),
            "not a number",
        ),
    ];
    for (body, _) in &hostile {
        world.measure(&[json!(body)]).await;
    }
    let url = world.outputs().anomaly_dead_letter_queue_url.clone();
    let letters = world.dead_letters_on(&url, hostile.len()).await;
    for (body, reason) in &hostile {
        let letter = letters.iter().find(|letter| &letter.body == body);
        let why = letter.unwrap_or_else(|| panic!("{:.90} is not there", body)).why.clone();
        let said = why["reason"].as_str().unwrap();
        assert!(said.contains(reason), "{body:.90}: {said}");
    }
    let outputs = world.outputs();
    let tables =
        [&outputs.devices_table_name, &outputs.readings_table_name, &outputs.problems_table_name];
    for table in tables {
        assert!(world.table(table).await.is_empty(), "{table} was touched");
    }
    world.measure(&[reading("01", 1, THEN)]).await;
    world.until_compared().await;
    assert_eq!(world.table(&world.outputs().readings_table_name).await.len(), 1);
    assert!(worker.stop().await.success());
}

#[tokio::test]
async fn an_edge_that_alternates_under_the_default_lateness_is_written_in_small_rows() {
    let world = World::new().await;
    let mut worker = world.anomaly_worker().ready().await;
    world.measure(&[reading("102", 100, THEN)]).await;
    let level = |number: i64| if number % 2 == 0 { 100 } else { 50 };
    let readings: Vec<_> =
        (0..1500).map(|number| reading("101", level(number), THEN + number)).collect();
    world.measure(&readings).await;
    world.until_compared().await;
    assert_eq!(world.problems("101").await.len(), 750);
    let edges = world.table(&world.outputs().edges_table_name).await;
    let largest = edges.iter().map(bytes).max().unwrap();
    assert!(largest < 25_000, "{largest}");
    assert!(worker.stop().await.success());
}
