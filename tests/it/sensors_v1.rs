//! `/v1/devices` and `/v1/problems`: filters, pages, buckets, and what is refused.

use std::collections::BTreeSet;

use flotilla_tests::{World, reading};
use serde_json::{Value, json};

/// A time in 2023, in Unix seconds.
const THEN: i64 = 1_700_000_000;

/// Tubes of two sensors that disagree since `THEN` + number minutes: odd ones are obstructed.
fn tubes(name: &str, numbers: std::ops::Range<i64>) -> Vec<Value> {
    let tube = |number: i64| {
        let (at, low) = (THEN + number * 60, number % 2);
        let level = |is_low: bool| if is_low { 25 } else { 75 };
        let id = |sensor: i64| format!("{name}{number:02}-{sensor}");
        [reading(&id(1), level(low == 0), at), reading(&id(2), level(low == 1), at)]
    };
    numbers.flat_map(tube).collect()
}

fn ids(problems: &[Value]) -> Vec<String> {
    problems.iter().map(|it| it["problem_id"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn problems_are_found_by_every_filter_and_paged_without_loss_while_others_are_written() {
    let world = World::new().await;
    let mut worker = world.anomaly_worker().ready().await;
    let mut gateway = world.sensor_gateway().ready().await;
    world.measure(&tubes("A", 0..20)).await;
    let resolving = [reading("A03-2", 75, THEN + 3600)];
    world.measure(&resolving).await;
    world.until_compared().await;
    let count = async |query: &str| {
        let (status, page) = gateway.json(&format!("/v1/problems?{query}")).await;
        assert_eq!((status, &page["next"]), (200, &Value::Null), "{query}: {page}");
        page["problems"].as_array().unwrap().len()
    };
    for (query, wanted) in [
        ("", 20),
        ("kind=OBSTRUCTION", 10),
        ("kind=obstruction,problem", 20),
        ("status=RESOLVED", 1),
        ("status=UNRESOLVED&kind=OBSTRUCTION", 9),
        ("device=A07-1", 1),
        ("device=A07-2", 1),
        ("device=A07", 0),
        ("zone=A07-", 1),
        ("zone=A", 0),
        ("prefix=A0", 10),
        ("prefix=A0&kind=PROBLEM", 5),
        ("from=1700000060&to=1700000240", 3),
        ("from=2023-11-14T22:32:20Z", 1),
        ("opened_to=1700000000000", 0),
    ] {
        assert_eq!(count(query).await, wanted, "{query}");
    }
    // What is there from the beginning is on some page, once, though others come between.
    let (mut found, mut cursor) = (Vec::new(), String::new());
    for page in 0.. {
        let (_, mut answer) = gateway.json(&format!("/v1/problems?limit=3{cursor}")).await;
        let problems = answer["problems"].as_array().unwrap().clone();
        assert!(problems.len() <= 3);
        found.extend(ids(&problems));
        if page < 4 {
            world.measure(&tubes("B", page * 5..page * 5 + 5)).await;
            world.until_compared().await;
        }
        match answer["next"].take() {
            Value::String(next) => cursor = format!("&cursor={next}"),
            _ => break,
        }
    }
    assert_eq!(found.iter().collect::<BTreeSet<_>>().len(), found.len(), "twice: {found:?}");
    assert_eq!(found.iter().filter(|id| id.starts_with('A')).count(), 20, "{found:?}");
    let (devices, pages) = gateway.pages("/v1/devices?prefix=A&limit=7", "devices").await;
    let wanted: BTreeSet<_> =
        (0..20).flat_map(|n| [1, 2].map(|s| format!("A{n:02}-{s}"))).collect();
    let named = devices.iter().map(|it| it["id"].as_str().unwrap().to_owned());
    assert_eq!((named.collect::<BTreeSet<_>>(), devices.len()), (wanted, 40));
    assert!(pages >= 6);
    assert!(gateway.stop().await.success() && worker.stop().await.success());
}

#[tokio::test]
async fn a_problem_is_served_with_all_its_episodes_and_their_evidence() {
    let world = World::new().await;
    let mut worker = world.anomaly_worker().ready().await;
    let mut gateway = world.sensor_gateway().ready().await;
    world.measure(&[reading("01", 100, THEN)]).await;
    let levels = |n: i64| if n % 2 == 0 { 50 } else { 100 };
    world
        .measure(&(0..9).map(|n| reading("02", levels(n), THEN + 60 * n)).collect::<Vec<_>>())
        .await;
    world.until_compared().await;
    let (_, one) = gateway.json("/v1/problems/0102").await;
    let episodes = one["episodes"].as_array().unwrap();
    assert_eq!((&one["problem_id"], episodes.len()), (&json!("0102"), 5));
    let (last, before) = (&episodes[0], &episodes[1]);
    assert_eq!(last["problem_status"], "UNRESOLVED");
    assert_eq!((&last["opened"], &last["resolved"]), (&json!((THEN + 480) * 1000), &Value::Null));
    assert_eq!(before["resolved"], (THEN + 420) * 1000);
    assert_eq!(before["opening"]["following"]["filling"], "50");
    assert!(before["resolved_processed"].as_i64() >= before["opened_processed"].as_i64());
    let (paged, pages) = gateway.pages("/v1/problems/0102?limit=2", "episodes").await;
    assert_eq!((&paged, pages), (episodes, 3));
    let (status, none) = gateway.json("/v1/problems/0304").await;
    assert!(status == 404 && none["error"].as_str().unwrap().contains("0304"), "{none}");
    let (status, device) = gateway.json("/v1/devices/02").await;
    assert_eq!((status, &device["last_value"]), (200, &json!(50.0)));
    assert_eq!(
        (&device["last_update"], &device["zone"]),
        (&json!((THEN + 480) * 1000), &json!("0"))
    );
    assert_eq!(gateway.json("/v1/devices/09").await.0, 404);
    assert!(gateway.stop().await.success() && worker.stop().await.success());
}

#[tokio::test]
async fn measurements_are_paged_and_down_sampled_without_loss() {
    let world = World::new().await;
    let mut worker = world.anomaly_worker().ready().await;
    let mut gateway = world.sensor_gateway().ready().await;
    let readings: Vec<_> =
        (0..250).map(|n: u32| reading("9", n % 100, THEN + 20 * i64::from(n))).collect();
    world.measure(&readings).await;
    world.measure(&readings[..20]).await;
    world.until_compared().await;
    let path = "/v1/devices/9/measurements";
    let (all, pages) = gateway.pages(&format!("{path}?limit=60"), "measurements").await;
    assert_eq!((all.len(), pages), (250, 5));
    assert_eq!((&all[7]["at"], &all[7]["filling"]), (&json!((THEN + 140) * 1000), &json!(7.0)));
    let (mut newest_first, _) =
        gateway.pages(&format!("{path}?order=desc&limit=99"), "measurements").await;
    newest_first.reverse();
    assert_eq!(newest_first, all);
    let (from, to) = (THEN + 40, THEN + 100);
    let (_, some) = gateway.json(&format!("{path}?from={from}&to={to}")).await;
    assert_eq!(some["measurements"], json!(all[2..5]));
    let (buckets, pages) = gateway.pages(&format!("{path}?every=5m&limit=4"), "buckets").await;
    assert!(pages >= 4 && buckets.len() == 18, "{pages} pages, {buckets:?}");
    let mut rest = all.iter();
    for bucket in &buckets {
        let count = bucket["count"].as_u64().unwrap() as usize;
        let levels: Vec<_> = rest.by_ref().take(count).collect();
        let at = bucket["at"].as_i64().unwrap();
        assert!(at % 300_000 == 0);
        assert!(levels.iter().all(|it| (at..at + 300_000).contains(&it["at"].as_i64().unwrap())));
        let levels = levels.iter().map(|it| it["filling"].as_f64().unwrap());
        let sum: f64 = levels.clone().sum();
        assert_eq!(bucket["min"].as_f64(), levels.clone().min_by(f64::total_cmp));
        assert_eq!(bucket["max"].as_f64(), levels.max_by(f64::total_cmp));
        assert!((bucket["mean"].as_f64().unwrap() - sum / count as f64).abs() < 1e-9, "{bucket}");
    }
    assert!(rest.next().is_none());
    assert_eq!(gateway.json("/v1/devices/8/measurements").await.0, 404);
    assert!(gateway.stop().await.success() && worker.stop().await.success());
}

#[tokio::test]
async fn every_answer_about_a_device_goes_by_the_same_duplicates() {
    let world = World::new().await;
    let mut worker = world.anomaly_worker().ready().await;
    let mut gateway = world.sensor_gateway().ready().await;
    let said = |seq: i64, level: i64, at: i64| json!({ "id": "7", "filling": level, "at": THEN + at, "seq": seq });
    // Every third number comes again half an hour later, and says otherwise.
    let readings: Vec<_> = (0..90).map(|n| said(n, n, n * 60)).collect();
    let again: Vec<_> = (0..90).step_by(3).map(|n| said(n, 500, n * 60 + 1830)).collect();
    world.measure(&readings).await;
    world.measure(&again).await;
    world.until_compared().await;
    let wanted = |from: i64| -> Vec<(i64, f64)> {
        let of = |n: i64| ((THEN + n * 60) * 1000, n as f64);
        (0..90).filter(|n| n * 60 >= from).map(of).collect()
    };
    let path = "/v1/devices/7/measurements";
    for (query, from) in [
        ("limit=1000", 0),
        ("limit=7", 0),
        ("limit=7&from=1700002005", 2005),
        ("limit=1&from=1700005000", 5000),
        ("limit=7&order=desc", 0),
        ("limit=1&order=desc&from=1700005000", 5000),
    ] {
        let (mut found, _) = gateway.pages(&format!("{path}?{query}"), "measurements").await;
        if query.contains("desc") {
            found.reverse();
        }
        let level = |it: &Value| (it["at"].as_i64().unwrap(), it["filling"].as_f64().unwrap());
        assert_eq!(found.iter().map(level).collect::<Vec<_>>(), wanted(from), "{query}");
    }
    for (query, from) in
        [("every=10m", 0), ("every=10m&limit=2", 0), ("every=1m&from=1700002005", 2005)]
    {
        let (buckets, _) = gateway.pages(&format!("{path}?{query}"), "buckets").await;
        let count: u64 = buckets.iter().map(|it| it["count"].as_u64().unwrap()).sum();
        assert_eq!(count as usize, wanted(from).len(), "{query}: {buckets:?}");
        assert!(buckets.iter().all(|it| it["max"] != 500.0), "{query}: {buckets:?}");
    }
    let (_, device) = gateway.json("/v1/devices/7").await;
    assert_eq!(
        (&device["last_value"], &device["last_update"]),
        (&json!(89.0), &json!((THEN + 5340) * 1000))
    );
    let (_, device) = gateway.json("/device/7").await;
    assert_eq!(device["Item"]["last_value"], "89");
    assert_eq!(device["Item"]["measurements"].as_array().unwrap().len(), 90);
    assert!(gateway.stop().await.success() && worker.stop().await.success());
}

#[tokio::test]
async fn hostile_ids_and_numbers_are_refused_with_the_reason() {
    let world = World::new().await;
    let mut gateway = world.sensor_gateway().ready().await;
    let long = "9".repeat(300);
    let mut refused = Vec::new();
    for id in ["a%2Fb", "%00", "a%0Ab", "%C2%85", "%FF", "%2E%2E", &long, &"x".repeat(6000)] {
        for path in ["/device/", "/problem/", "/v1/devices/", "/v1/problems/"] {
            // Two devices called `..` have no name of their own either.
            if !(id == "%2E%2E" && path.contains("problem")) {
                refused.push(format!("{path}{id}"));
            }
        }
        refused.push(format!("/v1/devices/{id}/measurements"));
    }
    let asked = [
        "/v1/problems?limit=0",
        "/v1/problems?limit=1001",
        "/v1/problems?limit=-1",
        "/v1/problems?limit=1e3",
        "/v1/problems?limit=99999999999999999999",
        "/v1/problems?from=NaN",
        "/v1/problems?to=1e400",
        "/v1/problems?from=yesterday",
        "/v1/problems?to=-5",
        "/v1/problems?status=",
        "/v1/problems?kind=%00",
        "/v1/problems?colour=red",
        "/v1/problems?limit=1&limit=2",
        "/v1/problems?cursor=AAAA",
        "/v1/problems?cursor=%00",
        "/v1/problems?cursor=eyJwcm9ibGVtX2lkIjoiIiwib3BlbmVkIjo1fQ",
        "/v1/devices?cursor=eyJkZXZpY2UiOiIifQ",
        "/v1/devices?limit=x",
        "/v1/devices/1/measurements?every=0s",
        "/v1/devices/1/measurements?every=-5m",
        "/v1/devices/1/measurements?every=1000000000000000000000d",
        "/v1/devices/1/measurements?from=5&to=5",
        "/v1/devices/1/measurements?order=random",
        "/v1/devices/1/measurements?cursor=e30",
        "/device/scan?after=",
        "/problem/scan?after=%2F",
    ];
    refused.extend(asked.map(str::to_owned));
    for path in refused {
        let (status, answer) = gateway.json(&path).await;
        let why = answer["error"].as_str().unwrap_or_default().to_owned();
        assert!(status == 400 && !why.is_empty(), "{path:.80}: {status} {answer}");
        assert!(!path.starts_with("/device") || answer["status"] == false, "{answer}");
    }
    assert!(gateway.stop().await.success());
}
