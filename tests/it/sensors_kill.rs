//! Anomaly workers that are killed between two calls of one reading, or whose calls are slow.

use std::{collections::BTreeSet, time::Duration};

use flotilla_tests::{Fault, FaultProxy, Rule, Seed, Worker, World, eventually, reading};
use serde_json::{Value, json};

/// A time in 2023, in Unix seconds.
const THEN: i64 = 1_700_000_000;
/// Seconds that a reading may be late.
const LATENESS: &str = "60";

/// The key of a reading without a number.
fn key(filling: u32, after: i64) -> String {
    format!("{:015}.-.{filling}", (THEN + after) * 1000)
}

/// What sensors of a tube say: number, level, and when.
fn of(tube: &str, said: &[(u32, u32, i64)]) -> Vec<Value> {
    said.iter().map(|(id, level, at)| reading(&format!("{tube}{id}"), *level, THEN + at)).collect()
}

async fn worker(world: &World, more: &[(&str, &str)]) -> Worker {
    let worker = world.anomaly_worker().env("FLOTILLA_LATENESS_SECONDS", LATENESS);
    more.iter().fold(worker, |worker, (name, value)| worker.env(name, value)).ready().await
}

/// What a replay finds otherwise, and how many readings came too late.
async fn replayed(world: &World) -> (Value, Value) {
    let (from, to) = (THEN.to_string(), (THEN + 100_000).to_string());
    let replay = ["replay", "--from", &from, "--to", &to, "--lateness", LATENESS, "--json"];
    let (code, text) = world.flotilla(&replay).await;
    assert_eq!(code, 0, "{text}");
    let mut found: Value = serde_json::from_str(text.trim()).unwrap();
    (found["differences"].take(), found["late_readings"].take())
}

async fn proxied() -> (FaultProxy, String) {
    let url = std::env::var("AWS_ENDPOINT_URL").expect("AWS_ENDPOINT_URL names an endpoint");
    let proxy = FaultProxy::new(&url, Seed(0));
    let door = proxy.entrance(0).await;
    (proxy, door)
}

#[tokio::test]
async fn a_reading_whose_worker_is_killed_while_another_makes_it_late_is_late_after_redelivery() {
    let world = World::new().await;
    let (proxy, door) = proxied().await;
    let own = world.queues().await;
    let queue = ("FLOTILLA_QUEUE_URL", own.url.as_str());
    let mut killed = worker(&world, &[queue, ("AWS_ENDPOINT_URL", &door)]).await;
    let mut other = worker(&world, &[]).await;
    world.measure(&of("0", &[(1, 100, 0), (2, 100, 1), (1, 100, 50)])).await;
    world.until_compared().await;
    let mut held = proxy.hold(&[&key(50, 5)]);
    own.send(&world.aws, None, &reading("02", 50, THEN + 5).to_string()).await;
    held.came().await;
    // A word from before moves the base at once, over the one that is on its way.
    for said in [&[(1, 100, 300), (2, 100, 300)][..], &[(2, 100, 2)]] {
        world.measure(&of("0", said)).await;
        world.until_compared().await;
    }
    held.done_unheard().await;
    assert!(!killed.kill().await.success());
    let mut again = worker(&world, &[queue]).await;
    eventually("an empty queue", Duration::from_secs(60), async || {
        (world.left_on(&own.url).await == 0).then_some(())
    })
    .await;
    assert_eq!(replayed(&world).await, (json!([]), json!(2)));
    let (code, late) = world.flotilla(&["sensors", "late", "--json"]).await;
    let listed = serde_json::Deserializer::from_str(&late).into_iter::<Value>().count();
    assert_eq!((code, listed), (0, 2), "{late}");
    assert!(world.problems("0").await.is_empty());
    assert!(other.stop().await.success() && again.stop().await.success());
}

#[tokio::test]
async fn a_worker_killed_before_or_after_it_stores_or_evaluates_leaves_the_ledger_of_one_that_was_not()
 {
    let world = World::new().await;
    let (proxy, door) = proxied().await;
    let door = [("AWS_ENDPOINT_URL", door.as_str())];
    let mut alive = worker(&world, &door).await;
    let before = [(1, 100, 0), (2, 100, 1), (1, 100, 50)];
    let (opens, later) = ((2, 50, 55), [(1, 100, 300), (2, 100, 300), (2, 0, 3)]);
    // Behind the newest by all but a second of what is allowed.
    let (nearly_late, after) = ((2, 100, 241), [(2, 0, 310), (1, 100, 320)]);
    let tell = async |tube: &str, said: &[(u32, u32, i64)]| {
        for it in of(tube, said) {
            world.measure(&[it]).await;
            world.until_compared().await;
        }
    };
    let all = [&before[..], &[opens], &later, &[nearly_late], &after].concat();
    tell("a-", &all).await;
    let expected = world.problems("a-").await;
    assert_eq!(expected.len(), 2, "{expected:?}");
    // What is held of which reading: the call that stores it, or that tells what it leads to.
    let stores = |it: (u32, u32, i64)| vec![key(it.1, it.2)];
    let tells = |tube: &str| vec![format!("{tube}1{tube}2"), "opened_processed".to_owned()];
    let mut tubes = Vec::new();
    for number in 0..8 {
        let [stored, early, done] = [1, 2, 4].map(|bit| number & bit != 0);
        let tube = format!("k{number}-");
        let at = if early { opens } else { nearly_late };
        let place = all.iter().position(|it| *it == at).unwrap();
        tell(&tube, &all[..place]).await;
        let words = if stored { stores(at) } else { tells(&tube) };
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let mut held = proxy.hold(&words);
        world.measure(&of(&tube, &[at])).await;
        held.came().await;
        if done {
            held.done_unheard().await;
        }
        assert!(!alive.kill().await.success());
        alive = worker(&world, &door).await;
        world.until_compared().await;
        tell(&tube, &all[place + 1..]).await;
        tubes.push(tube);
    }
    for tube in tubes {
        assert_eq!(world.problems(&tube).await, expected, "tube {tube}");
    }
    // One of each tube came too late.
    assert_eq!(replayed(&world).await, (json!([]), json!(9)));
    assert!(alive.stop().await.success());
}

/// A device whose detectors look at everything that they can.
fn watched(id: &str) -> String {
    format!(
        "[[devices]]\nid = \"{id}\"\nrate = {{ most = 30, per = \"1m\" }}\ndrift = {{}}\noutlier = {{}}\n\
         seasonal = {{ period = \"10m\", buckets = 5 }}\n"
    )
}

/// What it says: noise, a spike, and a level that moves off.
fn level(number: i64) -> f64 {
    let noise = (number * 37 % 41) as f64 / 20.0 - 1.0;
    match number {
        620 => 90.0,
        _ => 50.0 + noise + (number - 640).max(0) as f64 * 0.1,
    }
}

#[tokio::test]
async fn detectors_that_have_learnt_are_as_they_were_after_the_only_worker_is_killed() {
    let world = World::new().await;
    world.topology("town", &(watched("a-1") + &watched("k-1"))).await;
    let mut alive = world.anomaly_worker().ready().await;
    let say = async |id: &str, numbers: std::ops::Range<i64>| {
        let said = |n: i64| json!({ "id": id, "filling": level(n), "at": THEN + n * 20 });
        // An hour is 180 of them: so few at a time that none comes too late by the queue's own disorder.
        for part in numbers.map(said).collect::<Vec<_>>().chunks(150) {
            world.measure(part).await;
            world.until_compared().await;
        }
    };
    say("a-1", 0..600).await;
    say("a-1", 600..690).await;
    say("k-1", 0..600).await;
    let rows = world.table(&world.outputs().edges_table_name).await;
    let row = rows.iter().find(|row| row["edge"].as_s().is_ok_and(|it| it == "k-1/")).unwrap();
    let state: Value = serde_json::from_str(row["state"].as_s().unwrap()).unwrap();
    assert!(state["until"].as_i64() > Some((THEN + 100 * 20) * 1000), "{state}");
    assert!(!alive.kill().await.success());
    alive = world.anomaly_worker().ready().await;
    say("k-1", 600..690).await;
    let expected = world.problems("a-").await;
    assert_eq!(world.problems("k-").await, expected);
    let kinds: BTreeSet<&str> = expected
        .iter()
        .flatten()
        .filter(|(name, _)| name == "problem")
        .map(|(_, kind)| kind.as_str())
        .collect();
    assert_eq!(kinds, BTreeSet::from(["DRIFT", "OUTLIER", "RATE", "SEASONAL"]));
    assert!(alive.stop().await.success());
}

#[tokio::test]
async fn two_workers_at_a_slow_endpoint_compare_every_reading() {
    let world = World::new().await;
    let (proxy, door) = proxied().await;
    let door = [("AWS_ENDPOINT_URL", door.as_str())];
    let (mut one, mut two) = (worker(&world, &door).await, worker(&world, &door).await);
    let calls = &["GetItem", "Query", "PutItem", "UpdateItem", "TransactWriteItems"];
    proxy.obey(&[Rule { fault: Fault::Delayed, calls, one_in: 5 }]);
    let tubes: Vec<_> = (0..8).map(|number| format!("t{number}-")).collect();
    let said = [(1, 100, 0), (2, 100, 1), (1, 100, 10), (2, 50, 11)];
    let all: Vec<Value> = tubes.iter().flat_map(|tube| of(tube, &said)).collect();
    world.measure(&all).await;
    world.until_compared().await;
    proxy.obey(&[]);
    for tube in &tubes {
        let found = world.problems(tube).await;
        assert_eq!(found.len(), 1, "{tube}: {found:?}");
    }
    assert_eq!(world.table(&world.outputs().readings_table_name).await.len(), all.len());
    for worker in [&mut one, &mut two] {
        assert!(worker.stop().await.success());
    }
}
