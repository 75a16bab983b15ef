use std::sync::Mutex;

use serde_json::{Value, json};

use super::*;
use crate::fake::FakeAws;

type Rows = Arc<Mutex<HashMap<String, Standing>>>;

/// A ledger table that holds these rows and does with them as DynamoDB would.
fn table(rows: &Rows) -> FakeAws {
    let (rows, orders) = (rows.clone(), Mutex::new(0));
    FakeAws::new(move |operation, body| {
        let mut rows = rows.lock().unwrap();
        if operation == "BatchGetItem" {
            let rows: Vec<_> = rows.iter().map(|(name, it)| row(name, it)).collect();
            return json!({ "Responses": { "ledger": rows } });
        }
        let key = body["Key"]["effect"]["S"].as_str().unwrap();
        let Some(name) = key.strip_prefix("control/") else {
            let mut orders = orders.lock().unwrap();
            *orders += 1;
            return json!({ "Attributes": { "orders": { "N": orders.to_string() } } });
        };
        let value = |name: &str| {
            let text = body["ExpressionAttributeValues"][name]["N"].as_str();
            text.map(|text| text.parse().unwrap())
        };
        let row = rows.entry(name.to_owned()).or_default();
        let number = value(":number").unwrap();
        match body["ExpressionAttributeNames"]["#order"].as_str().unwrap() {
            "pause" => row.pause = row.pause.max(number),
            "resume" => row.resume = row.resume.max(number),
            _ => (row.drain, row.drain_at) = (number, value(":at").unwrap()),
        }
        json!({})
    })
}

fn row(name: &str, it: &Standing) -> Value {
    let number = |value: u64| json!({ "N": value.to_string() });
    json!({
        "effect": { "S": key(name) },
        "pause": number(it.pause),
        "resume": number(it.resume),
        "drain": number(it.drain),
        "drain_at": number(it.drain_at),
    })
}

fn drain(number: u64, drain_at: u64) -> Standing {
    Standing { drain: number, drain_at, ..Standing::default() }
}

fn control(rows: &Rows) -> Control {
    Control::new(table(rows).dynamo(), "ledger")
}

/// A worker that obeys what these rows say.
fn obedience(rows: &Rows) -> Obedience {
    Obedience {
        control: control(rows),
        names: ["grading".to_owned(), "one".to_owned()],
        every: Duration::from_secs(10),
        drain: Arc::new(Drain::new(Duration::from_secs(90))),
        health: Health::new(Duration::from_secs(20)),
        paused: watch::Sender::new(false),
        in_advance: Arc::new(InAdvance::new("grading")),
        started: now_ms(),
        known: None,
    }
}

/// What a worker makes of these rows that is started now: whether it is paused, and drains.
async fn started(rows: &Rows) -> (bool, bool) {
    let mut obedience = obedience(rows);
    obedience.first(&CancellationToken::new()).await;
    let paused = *obedience.paused.borrow();
    (paused, obedience.drain.begun().is_cancelled())
}

const DAY: u64 = 86_400_000;

#[tokio::test]
async fn an_order_to_drain_is_obeyed_whatever_clock_it_was_given_by() {
    for at in [now_ms() - DAY, now_ms() + DAY] {
        let rows = Rows::default();
        let mut obedience = obedience(&rows);
        obedience.first(&CancellationToken::new()).await;
        rows.lock().unwrap().insert("one".to_owned(), drain(1, at));
        assert!(!obedience.drain.begun().is_cancelled());
        obedience.look().await.unwrap();
        assert!(obedience.drain.begun().is_cancelled(), "given at {at}");
    }
}

#[tokio::test]
async fn an_order_of_before_the_start_is_not_obeyed_until_it_is_given_again() {
    for at in [now_ms() - DAY, now_ms() + DAY] {
        let rows = Rows::default();
        rows.lock().unwrap().insert("grading".to_owned(), drain(1, at));
        let mut obedience = obedience(&rows);
        obedience.first(&CancellationToken::new()).await;
        obedience.look().await.unwrap();
        assert!(!obedience.drain.begun().is_cancelled(), "given at {at}");
        rows.lock().unwrap().insert("grading".to_owned(), drain(2, at));
        obedience.look().await.unwrap();
        assert!(obedience.drain.begun().is_cancelled());
    }
}

#[tokio::test]
async fn an_order_of_the_moment_between_the_start_and_the_first_look_is_obeyed() {
    let rows = Rows::default();
    let mut obedience = obedience(&rows);
    control(&rows).order("one", Order::Drain).await.unwrap();
    obedience.first(&CancellationToken::new()).await;
    assert!(obedience.drain.begun().is_cancelled());
}

#[tokio::test]
async fn the_last_order_counts_whether_it_names_the_kind_or_the_worker() {
    for (first, second) in [("one", "grading"), ("grading", "one")] {
        let rows = Rows::default();
        let (mut obedience, operator) = (obedience(&rows), control(&rows));
        operator.order(first, Order::Pause).await.unwrap();
        obedience.look().await.unwrap();
        assert!(*obedience.paused.borrow());
        operator.order(second, Order::Resume).await.unwrap();
        obedience.look().await.unwrap();
        assert!(!*obedience.paused.borrow(), "{second} was resumed after {first} was paused");
        operator.order(first, Order::Pause).await.unwrap();
        obedience.look().await.unwrap();
        assert!(*obedience.paused.borrow(), "{first} is paused again");
    }
}

#[tokio::test]
async fn a_drain_of_a_paused_worker_keeps_the_pause_until_it_is_resumed() {
    for (paused, drained) in [("grading", "grading"), ("one", "one"), ("grading", "one")] {
        let rows = Rows::default();
        let (mut running, operator) = (obedience(&rows), control(&rows));
        running.first(&CancellationToken::new()).await;
        operator.order(paused, Order::Pause).await.unwrap();
        operator.order(drained, Order::Drain).await.unwrap();
        running.look().await.unwrap();
        let drains = running.drain.begun().is_cancelled();
        assert!(drains && *running.paused.borrow(), "{paused} paused, {drained} drained");
        // The order to drain is of before this start, by any clock that is not ahead.
        rows.lock().unwrap().get_mut(drained).unwrap().drain_at -= 1;
        assert_eq!(started(&rows).await, (true, false), "started again");
        operator.order("grading", Order::Resume).await.unwrap();
        assert_eq!(started(&rows).await, (false, false), "resumed");
    }
}

#[tokio::test]
async fn a_resume_by_an_operator_whose_clock_is_behind_ends_a_pause_since_no_clock_is_asked() {
    let rows = Rows::default();
    let fake = table(&rows);
    let operator = Control::new(fake.dynamo(), "ledger");
    operator.order("one", Order::Pause).await.unwrap();
    assert_eq!(started(&rows).await, (true, false));
    operator.order("one", Order::Resume).await.unwrap();
    assert_eq!(started(&rows).await, (false, false));
    for (call, body) in fake.calls() {
        let values = body["ExpressionAttributeValues"].as_object().unwrap();
        let numbers = values.values().map(|it| it["N"].as_str().unwrap().parse::<u64>());
        let times = numbers.filter(|it| *it.as_ref().unwrap() > 1_000_000).count();
        assert_eq!(times, 0, "{call} says a time: {body}");
    }
}

#[tokio::test]
async fn an_order_that_a_later_one_overtook_changes_nothing() {
    let fake = FakeAws::new(|_, body| match body["Key"]["effect"]["S"].as_str() {
        Some(COUNTER) => json!({ "Attributes": { "orders": { "N": "3" } } }),
        _ => json!({
            "__status": 400,
            "__type": "com.amazonaws.dynamodb.v20120810#ConditionalCheckFailedException",
        }),
    });
    let operator = Control::new(fake.dynamo(), "ledger");
    operator.order("one", Order::Pause).await.unwrap();
    let written = &fake.calls()[1].1;
    assert_eq!(written["ExpressionAttributeValues"][":number"]["N"], "3");
    let condition = written["ConditionExpression"].as_str().unwrap();
    assert!(condition.ends_with("#order < :number"), "{condition}");
}

#[tokio::test]
async fn a_row_that_was_not_read_ends_no_pause() {
    let throttled = Arc::new(Mutex::new(false));
    let keys = json!({ "Keys": [{ "effect": { "S": key("one") } }] });
    let paused = row("one", &Standing { pause: 1, ..Standing::default() });
    let now = throttled.clone();
    let fake = FakeAws::new(move |_, _| match *now.lock().unwrap() {
        true => json!({ "Responses": {}, "UnprocessedKeys": { "ledger": keys } }),
        false => json!({ "Responses": { "ledger": [paused] } }),
    });
    let mut obedience = obedience(&Rows::default());
    obedience.control = Control::new(fake.dynamo(), "ledger");
    obedience.look().await.unwrap();
    *throttled.lock().unwrap() = true;
    obedience.look().await.unwrap_err();
    assert!(*obedience.paused.borrow());
    let asked = &fake.calls()[0].1["RequestItems"]["ledger"];
    assert_eq!(asked["ConsistentRead"], true, "an order of a moment ago is no later one");
}
