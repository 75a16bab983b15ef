//! `POST /v1/readings`: each reading for itself, and none lost on the way to the queue.

use std::{collections::HashSet, sync::Mutex, time::Duration};

use flotilla_tests::{Recorder, World};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

const JSON: &str = "application/json";
const LINES: &str = "application/x-ndjson";

fn refused(answer: &Value) -> Vec<(u64, String)> {
    let all = answer["refused"].as_array().unwrap().iter();
    all.map(|it| (it["index"].as_u64().unwrap(), it["error"].as_str().unwrap().to_owned()))
        .collect()
}

#[tokio::test]
async fn every_line_is_looked_at_for_itself_as_the_worker_would() {
    let world = World::new().await;
    let mut worker = world.anomaly_worker().ready().await;
    let mut gateway = world.sensor_gateway().ready().await;
    let lines = [
        r#"{"id":"01","filling":100,"at":1700000000}"#,
        r#"{"id":"02","filling":1e400}"#,
        "",
        r#"{"id":"03","filling":NaN}"#,
        "not JSON",
        r#"{"id":"0/4","filling":1}"#,
        r#"{"id":"05","filling":1,"at":"9998-01-01T00:00:00Z"}"#,
        r#"{"id":"06","filling":1,"at":7258118400}"#,
        r#"{"id":"kanál ￿ 1","filling":"5"}"#,
        r#"{"end_device_ids":{"device_id":"a01"},"uplink_message":{"frm_payload":"NTA="}}"#,
    ];
    let (status, answer) = gateway.send("POST", "/v1/readings", LINES, &lines.join("\r\n")).await;
    assert_eq!((status, &answer["accepted"]), (202, &json!(3)), "{answer}");
    let whys = ["out of range", "expected", "expected", "slash", "", "s from now"];
    let refused_ = refused(&answer);
    assert_eq!(refused_.iter().map(|it| it.0).collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6], "{answer}");
    assert!(refused_.iter().zip(whys).all(|((_, said), why)| said.contains(why)), "{answer}");
    world.until_compared().await;
    let devices = world.table(&world.outputs().devices_table_name).await;
    let ids: HashSet<_> = devices.iter().map(|row| row["id"].as_s().unwrap().as_str()).collect();
    assert_eq!(ids, HashSet::from(["01", "kanál ￿ 1", "a01"]));
    // One bad number does not spoil the list that it is in.
    let list = r#"[{"id":"01","filling":1e999},{"id":"01","filling":"7","at":1700000001}]"#;
    let (status, answer) = gateway.send("POST", "/v1/readings", JSON, list).await;
    assert_eq!((status, refused(&answer)[0].0), (202, 0), "{answer}");
    for (kind, body, wanted) in [
        (JSON, "[{".to_owned(), 400),
        (JSON, String::new(), 400),
        ("text/plain", "[]".to_owned(), 415),
        (JSON, r#"[{"id":"","filling":1}]"#.to_owned(), 400),
        (JSON, format!("[{}]", vec!["1"; 10_001].join(",")), 413),
        (LINES, "x".repeat(5 << 20), 413),
    ] {
        let (status, answer) = gateway.send("POST", "/v1/readings", kind, &body).await;
        assert!(status == wanted && answer["error"].is_string(), "{body:.40}: {status} {answer}");
    }
    world.until_compared().await;
    assert!(gateway.stop().await.success() && worker.stop().await.success());
}

/// What a queue answers that fails every message once, and one of each ten for ever.
fn moody(calls: &Mutex<HashSet<String>>, body: &Value) -> Value {
    let (mut successful, mut failed) = (Vec::new(), Vec::new());
    for entry in body["Entries"].as_array().into_iter().flatten() {
        let (id, text) = (&entry["Id"], entry["MessageBody"].as_str().unwrap());
        let fail =
            |ours: bool| json!({ "Id": id, "Code": "Busy", "SenderFault": ours, "Message": "no" });
        match () {
            () if text.contains("\"bad") => failed.push(fail(true)),
            () if text.contains("\"never") => failed.push(fail(false)),
            () if calls.lock().unwrap().insert(text.to_owned()) => failed.push(fail(false)),
            () => successful.push(json!({ "Id": id, "MessageId": "m", "MD5OfMessageBody": "" })),
        }
    }
    json!({ "Successful": successful, "Failed": failed })
}

#[tokio::test]
async fn what_the_queue_fails_to_take_is_sent_again_and_what_it_never_takes_is_told() {
    let world = World::new().await;
    let calls = Mutex::new(HashSet::new());
    let queue = Recorder::new(move |it| (200, moody(&calls, &it.json()).to_string())).await;
    let gateway = world.sensor_gateway().env("AWS_ENDPOINT_URL_SQS", queue.url());
    let mut gateway = gateway.ready().await;
    let good = |n: i64| json!({ "id": format!("g{n}"), "filling": n, "at": 1_700_000_000 + n });
    let mut readings: Vec<_> = (0..23).map(good).collect();
    let list = json!(readings).to_string();
    let (status, answer) = gateway.send("POST", "/v1/readings", JSON, &list).await;
    assert_eq!((status, answer), (202, json!({ "accepted": 23, "refused": [] })));
    readings[3]["id"] = json!("bad");
    readings[12]["id"] = json!("never");
    let list = json!(readings).to_string();
    let (status, answer) = gateway.send("POST", "/v1/readings", JSON, &list).await;
    assert_eq!((status, &answer["accepted"], &answer["failed"]), (503, &json!(21), &json!([12])));
    assert_eq!(refused(&answer), [(3, "no".to_owned())]);
    assert!(gateway.stop().await.success());
}

#[tokio::test]
async fn who_sends_a_request_byte_by_byte_is_let_go_and_others_are_served() {
    let world = World::new().await;
    let mut gateway = world.sensor_gateway().env("FLOTILLA_HEAD_SECONDS", "1").ready().await;
    let mut slow = TcpStream::connect(gateway.addr()).await.unwrap();
    let dribble = async {
        for byte in b"GET /healthz HTTP/1.1\r\nx: ".iter().chain(std::iter::repeat(&b'y')) {
            if slow.write_all(&[*byte]).await.is_err() {
                return;
            }
            let mut answer = [0; 64];
            let read = timeout(Duration::from_millis(100), slow.read(&mut answer)).await;
            // Closed, with a word or without.
            if matches!(read, Ok(Ok(0) | Err(_))) {
                return;
            }
        }
    };
    let let_go = timeout(Duration::from_secs(20), dribble);
    let (let_go, (status, _)) = tokio::join!(let_go, gateway.json("/v1/problems"));
    assert!(let_go.is_ok() && status == 200);
    assert!(gateway.stop().await.success());
}
