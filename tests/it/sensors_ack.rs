//! That somebody has seen a problem: said once, kept whatever the engine writes, and told.

use flotilla_tests::{Listener, World, reading};
use serde_json::{Value, json};

/// A time in 2023, in Unix seconds.
const THEN: i64 = 1_700_000_000;

#[tokio::test]
async fn a_problem_is_acknowledged_once_and_stays_so_whatever_is_written_later() {
    let world = World::new().await;
    let mut worker = world.anomaly_worker().ready().await;
    let mut gateway = world.sensor_gateway().ready().await;
    let say = async |readings: &[Value]| {
        for reading in readings {
            world.measure(std::slice::from_ref(reading)).await;
            world.until_compared().await;
        }
    };
    let latest = async || gateway.json("/v1/problems/0102").await.1["episodes"][0].take();
    let acknowledge = async |by: &str| {
        let body = json!({ "by": by, "note": "the pump" }).to_string();
        gateway.send("POST", "/v1/problems/0102/acknowledge", "application/json", &body).await
    };
    assert_eq!(acknowledge("ada").await.0, 404);
    say(&[reading("01", 100, THEN), reading("02", 50, THEN + 60)]).await;
    let mut listener = Listener::connect(&gateway).await.unwrap();
    let (status, first) = acknowledge("ada").await;
    assert_eq!((status, &first["problem_status"]), (200, &json!("ACKNOWLEDGED")), "{first}");
    assert_eq!(
        (&first["acknowledgement"]["by"], &first["acknowledgement"]["note"]),
        (&json!("ada"), &json!("the pump"))
    );
    let told = listener.next().await;
    assert_eq!(told["problem_status"], "ACKNOWLEDGED", "{told}");
    // Again, and by another: nothing changes.
    assert_eq!(acknowledge("ada").await, (200, first.clone()));
    assert_eq!(acknowledge("bob").await, (200, first.clone()));
    // Other evidence for the same opening.
    say(&[reading("01", 90, THEN + 30)]).await;
    let now = latest().await;
    assert_eq!(
        (&now["problem_status"], &now["opening"]["current"]["filling"]),
        (&json!("ACKNOWLEDGED"), &json!("90"))
    );
    assert_eq!(now["opened_processed"], first["opened_processed"], "when it was told first");
    // It opened earlier than was told: the row is another, and still acknowledged.
    say(&[reading("02", 40, THEN + 45)]).await;
    let now = latest().await;
    assert_eq!(
        (&now["opened"], &now["problem_status"]),
        (&json!((THEN + 45) * 1000), &json!("ACKNOWLEDGED"))
    );
    assert_eq!(now["acknowledgement"], first["acknowledgement"]);
    // Of the evidence alone listeners are told nothing in the original's words.
    let next = listener.next_problem().await;
    let moved = next["problem_time"] == THEN + 45 || next["problem_status"] == "RETRACTED";
    assert!(moved, "{next}");
    // It ends; a late reading shows that it had not; and ends again.
    say(&[reading("02", 90, THEN + 120)]).await;
    let now = latest().await;
    assert_eq!(
        (&now["problem_status"], &now["acknowledgement"]["by"]),
        (&json!("RESOLVED"), &json!("ada"))
    );
    assert_eq!(acknowledge("ada").await.0, 200, "said again, though it has ended");
    say(&[reading("01", 95, THEN + 120)]).await;
    let now = latest().await;
    assert_eq!((&now["problem_status"], &now["resolved"]), (&json!("ACKNOWLEDGED"), &Value::Null));
    assert!(now["resolved_processed"].is_null() && now["resolution"].is_null(), "{now}");
    say(&[reading("01", 90, THEN + 180)]).await;
    assert_eq!(latest().await["problem_status"], "RESOLVED");
    // The next episode is another, and one that ended unseen cannot be acknowledged.
    say(&[reading("02", 10, THEN + 240), reading("02", 90, THEN + 300)]).await;
    let (status, why) = acknowledge("ada").await;
    assert!(status == 409 && why["problem"]["problem_status"] == "RESOLVED", "{why}");
    let body = json!({ "by": "ada", "opened": THEN + 45 }).to_string();
    let path = "/v1/problems/0102/acknowledge";
    assert_eq!(gateway.send("POST", path, "application/json", &body).await.0, 200);
    for (kind, body, wanted) in [
        ("application/json", r#"{"note":"x"}"#.to_owned(), 422),
        ("application/json", r#"{"by":" "}"#.to_owned(), 400),
        ("application/json", r#"{"by":"a\u0000"}"#.to_owned(), 400),
        ("application/json", json!({ "by": "x".repeat(201) }).to_string(), 400),
        ("application/json", json!({ "by": "ada", "opened": "soon" }).to_string(), 400),
        ("application/json", json!({ "by": "ada", "opened": 5 }).to_string(), 404),
        ("application/json", format!(r#"{{"by":"ada","note":"{}"}}"#, "x".repeat(70_000)), 413),
        ("application/json", "{".to_owned(), 400),
        ("text/plain", body.clone(), 415),
    ] {
        let (status, answer) = gateway.send("POST", path, kind, &body).await;
        assert!(status == wanted && answer["error"].is_string(), "{body:.60}: {status} {answer}");
    }
    drop(listener);
    assert!(gateway.stop().await.success() && worker.stop().await.success());
}
