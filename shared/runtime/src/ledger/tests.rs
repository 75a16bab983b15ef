use std::sync::Mutex;

use serde_json::json;

use super::*;
use crate::fake::FakeAws;

const LEASE: Duration = Duration::from_secs(60);

fn ledger(fake: &FakeAws) -> Ledger {
    Ledger::new(fake.dynamo(), "ledger", "me", LEASE)
}

fn claimed() -> Claim {
    Claim { key: "k".into(), generation: 1, attempt: 1, last_failure: None, cancelled: None }
}

#[tokio::test(start_paused = true)]
async fn a_holder_with_a_wrong_clock_keeps_a_message_back_for_one_lease_at_most() {
    let until = now_ms() + 3_600_000;
    let fake = FakeAws::new(move |_, _| {
        json!({
            "__status": 400,
            "__type": "com.amazonaws.dynamodb.v20120810#ConditionalCheckFailedException",
            "Item": { "state": { "S": "claimed" }, "lease_until": { "N": until.to_string() } },
        })
    });
    match ledger(&fake).claim("k", "m").await.unwrap() {
        Claimed::Held(left) => assert_eq!(left, LEASE),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_holder_that_leases_for_longer_is_given_its_own_time_to_renew() {
    const LONG: u64 = 600_000;
    for (left, doubted) in [(590_000, false), (86_400_000, true)] {
        let until = now_ms() + left;
        let fake = FakeAws::new(move |_, _| {
            json!({
                "__status": 400,
                "__type": "com.amazonaws.dynamodb.v20120810#ConditionalCheckFailedException",
                "Item": {
                    "state": { "S": "claimed" },
                    "lease_until": { "N": until.to_string() },
                    "lease_ms": { "N": LONG.to_string() },
                },
            })
        });
        let asked = now_ms();
        ledger(&fake).claim("k", "m").await.unwrap();
        let calls = fake.calls();
        let values = |call: usize| &calls[call].1["ExpressionAttributeValues"];
        assert_eq!(values(0)[":lease"]["N"], "60000", "a claim names its lease");
        assert_eq!(calls.len() == 2, doubted, "{left} ms left");
        if doubted {
            let ends: u64 = values(1)[":over"]["N"].as_str().unwrap().parse().unwrap();
            assert!((asked + LONG..asked + LONG + 60_000).contains(&ends), "{ends}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_claim_whose_answer_was_lost_is_ours_when_it_is_asked_for_again() {
    let made = Mutex::new(None);
    let fake = FakeAws::new(move |_, body| {
        let id = &body["ExpressionAttributeValues"][":id"];
        match made.lock().unwrap().replace(id.clone()) {
            None => json!({ "__status": 500 }),
            Some(id) => json!({
                "__status": 400,
                "__type": "com.amazonaws.dynamodb.v20120810#ConditionalCheckFailedException",
                "Item": {
                    "state": { "S": "claimed" },
                    "claim_id": id,
                    "generation": { "N": "7" },
                    "attempts": { "N": "2" },
                },
            }),
        }
    });
    match ledger(&fake).claim("k", "m").await.unwrap() {
        Claimed::Won(claim) => assert_eq!((claim.generation, claim.attempt), (7, 2)),
        other => panic!("{other:?}"),
    }
}

fn cancelled(code: &str) -> serde_json::Value {
    json!({
        "__status": 400,
        "__type": "com.amazonaws.dynamodb.v20120810#TransactionCanceledException",
        "CancellationReasons": [{ "Code": code }],
    })
}

#[tokio::test(start_paused = true)]
async fn a_commit_that_meets_its_own_heartbeat_is_sent_again() {
    let first = Mutex::new(true);
    let fake = FakeAws::new(move |_, _| match std::mem::take(&mut *first.lock().unwrap()) {
        true => cancelled("TransactionConflict"),
        false => json!({}),
    });
    let written = ledger(&fake).complete(&claimed(), Vec::new()).await.unwrap();
    assert_eq!((written, fake.count("TransactWriteItems")), (Written::Committed, 2));
}

#[tokio::test(start_paused = true)]
async fn a_commit_of_a_lost_claim_is_refused_and_not_sent_again() {
    let fake = FakeAws::new(|_, _| cancelled("ConditionalCheckFailed"));
    let written = ledger(&fake).complete(&claimed(), Vec::new()).await.unwrap();
    assert_eq!((written, fake.count("TransactWriteItems")), (Written::Fenced, 1));
}

#[tokio::test(start_paused = true)]
async fn a_commit_of_what_an_operator_has_cancelled_is_refused_for_that_reason() {
    let refused = |generation: &str| {
        let mut answer = cancelled("ConditionalCheckFailed");
        answer["CancellationReasons"][0]["Item"] = json!({
            "state": { "S": "claimed" },
            "generation": { "N": generation },
            "cancelled": { "S": "not wanted" },
        });
        answer
    };
    for (generation, wanted) in
        [("1", Written::Cancelled("not wanted".to_owned())), ("2", Written::Fenced)]
    {
        let answer = refused(generation);
        let fake = FakeAws::new(move |_, _| answer.clone());
        assert_eq!(ledger(&fake).complete(&claimed(), Vec::new()).await.unwrap(), wanted);
        let update = &fake.calls()[0].1["TransactItems"][0]["Update"];
        let condition = update["ConditionExpression"].as_str().unwrap();
        assert!(condition.ends_with("AND attribute_not_exists(cancelled)"), "{condition}");
    }
}

/// The time at which DynamoDB may remove the row of a request, in seconds of the Unix epoch.
fn expiry(request: &serde_json::Value) -> u64 {
    let text = request["UpdateExpression"].as_str().unwrap();
    assert!(text.contains("expires_at = "), "{text}");
    request["ExpressionAttributeValues"][":ttl"]["N"].as_str().unwrap().parse().unwrap()
}

#[tokio::test(start_paused = true)]
async fn every_row_outlives_the_longest_retention_and_no_row_lives_for_ever() {
    let fake = FakeAws::new(|_, _| json!({}));
    let ledger = ledger(&fake);
    ledger.claim("k", "m").await.unwrap();
    ledger.complete(&claimed(), Vec::new()).await.unwrap();
    ledger.cancel("k", "why").await.unwrap();
    let calls = fake.calls();
    let done = &calls[1].1["TransactItems"][0]["Update"];
    let now = now_ms() / 1000;
    for request in [&calls[0].1, done, &calls[2].1] {
        let days = (expiry(request) - now) as f64 / 86_400.0;
        assert!((34.99..36.0).contains(&days), "{days} days");
    }
}

#[tokio::test]
async fn the_row_of_a_claim_names_its_message_for_an_operator_who_looks_for_it() {
    let text = |value: &str| json!({ "S": value });
    let fake = FakeAws::new(move |operation, _| match operation {
        "Scan" => json!({ "Items": [
            { "effect": text("w/a"), "state": text("claimed"), "message_id": text("m") },
            { "effect": text("w/b"), "state": text("free") },
            { "effect": text("w/c"), "cancelled": text("in advance") },
        ] }),
        _ => json!({}),
    });
    ledger(&fake).claim("w/a", "m").await.unwrap();
    let values = &fake.calls()[0].1["ExpressionAttributeValues"];
    assert_eq!(values[":message"], text("m"));
    let open = |key: &str, held, id: Option<&str>| Open {
        key: key.to_owned(),
        held,
        message_id: id.map(str::to_owned),
    };
    let found = ledger(&fake).open("w/").await.unwrap();
    assert_eq!(found, [open("w/a", true, Some("m")), open("w/b", false, None)]);
}

#[tokio::test]
async fn what_is_dead_lettered_is_neither_open_nor_cancelled_before_its_redrive() {
    let text = |value: &str| json!({ "S": value });
    let fake = FakeAws::new(move |operation, body| match operation {
        "GetItem" => match body["Key"]["effect"]["S"].as_str().unwrap() {
            "dead" => json!({ "Item": { "state": text("free"), "buried": { "BOOL": true } } }),
            "done" => json!({ "Item": { "state": text("done") } }),
            _ => json!({ "Item": { "state": text("free") } }),
        },
        _ => json!({}),
    });
    let ledger = ledger(&fake);
    ledger.bury(&claimed(), "why").await.unwrap();
    ledger.cancel("k", "why").await.unwrap();
    ledger.open("k").await.unwrap();
    ledger.claim("k", "m").await.unwrap();
    let said = |call: usize, name: &str| fake.calls()[call].1[name].as_str().unwrap().to_owned();
    assert!(said(0, "UpdateExpression").contains("buried = :yes"));
    assert!(said(1, "ConditionExpression").ends_with("AND attribute_not_exists(buried)"));
    assert!(said(2, "FilterExpression").ends_with("AND attribute_not_exists(buried)"));
    assert!(said(3, "UpdateExpression").contains("REMOVE buried"), "a redrive may be cancelled");
    for (key, wanted) in [("dead", Some(Ended::Buried)), ("done", Some(Ended::Done)), ("k", None)] {
        assert_eq!(ledger.ended(key).await.unwrap(), wanted, "{key}");
    }
}
