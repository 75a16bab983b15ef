use serde_json::{Value, json};

use super::*;
use crate::fake::FakeAws;

fn presence(fake: &FakeAws) -> Arc<Presence> {
    let mut settings = Reader::from_pairs([
        ("FLOTILLA_QUEUE_URL", "http://h/1/q"),
        ("FLOTILLA_LEDGER_TABLE", "ledger"),
        ("FLOTILLA_PAYLOADS_BUCKET", "payloads"),
        ("FLOTILLA_FLEET_TABLE", "fleet"),
        ("FLOTILLA_GROUP", "g"),
        ("FLOTILLA_INSTANCE_ID", "i-1"),
    ]);
    let config = WorkerConfig::read(&mut settings);
    settings.finish().unwrap();
    Presence::new(&config, &fake.sdk(), Health::new(Duration::ZERO), "j").unwrap()
}

fn drain() -> Arc<Drain> {
    Arc::new(Drain::new(Duration::from_secs(90)))
}

fn values(call: &(String, Value)) -> &Value {
    &call.1["ExpressionAttributeValues"]
}

#[tokio::test(start_paused = true)]
async fn a_worker_tells_in_beats_and_at_once_when_it_begins_to_work() {
    let fake = FakeAws::new(|_, _| json!({ "Attributes": {} }));
    let (drain, end) = (drain(), CancellationToken::new());
    let it = presence(&fake);
    let work = end.clone().cancelled_owned();
    let (told, order) = (Some(it.clone()), drain.clone());
    let running = tokio::spawn(async move { telling(told, &order, work).await });
    tokio::time::sleep(Duration::from_secs(16)).await;
    let beats = fake.count("UpdateItem");
    assert!((3..=5).contains(&beats), "{beats} beats in 16 s");
    it.began();
    tokio::time::sleep(Duration::from_millis(10)).await;
    assert_eq!(values(fake.calls().last().unwrap())[":held"], json!({ "N": "1" }));
    end.cancel();
    running.await.unwrap();
    assert!(!drain.begun().is_cancelled());
}

#[tokio::test(start_paused = true)]
async fn what_is_done_with_is_told_by_queue_within_a_second_though_others_are_in_hand() {
    let fake = FakeAws::new(|_, _| json!({ "Attributes": {} }));
    let (drain, end, it) = (drain(), CancellationToken::new(), presence(&fake));
    let gone = || values(fake.calls().last().unwrap())[":gone"]["M"]["q"]["N"].clone();
    it.began();
    it.began();
    let (told, order, work) = (Some(it.clone()), drain.clone(), end.clone().cancelled_owned());
    let running = tokio::spawn(async move { telling(told, &order, work).await });
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let before: u64 = gone().as_str().unwrap().parse().unwrap();
    tally::gone("http://h/1/q", 1);
    it.ended(Some(Duration::from_secs(1)));
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    assert_eq!(gone(), (before + 1).to_string());
    assert_eq!(values(fake.calls().last().unwrap())[":held"], json!({ "N": "1" }));
    end.cancel();
    running.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_order_to_drain_stops_the_worker_which_then_says_that_it_is_drained() {
    let fake = FakeAws::new(|_, _| json!({ "Attributes": { "drain": { "N": "1" } } }));
    let (it, drain) = (presence(&fake), drain());
    it.beat(&drain).await;
    assert!(drain.begun().is_cancelled());
    let over = tokio::time::timeout(Duration::from_secs(86_400), drain.over()).await;
    assert!(over.is_err(), "running jobs end in their own time");
    assert_eq!(values(&fake.calls()[0])[":drained"], Value::Null);
    it.drained().await;
    assert!(values(&fake.calls()[1])[":drained"]["N"].is_string());
    let conditions = fake.calls().into_iter().map(|call| call.1["ConditionExpression"].clone());
    let late = "attribute_not_exists(drained) OR started_at <> :started_at";
    assert_eq!(conditions.collect::<Vec<_>>(), [json!(late), Value::Null], "it stays drained");
}

#[tokio::test]
async fn a_table_that_does_not_answer_stops_nobody() {
    let fake = FakeAws::new(|_, _| json!({ "__status": 400, "__type": "X" }));
    let drain = drain();
    presence(&fake).beat(&drain).await;
    assert!(!drain.begun().is_cancelled());
}
