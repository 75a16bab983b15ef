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
    match ledger(&fake).claim("k").await.unwrap() {
        Claimed::Held(left) => assert_eq!(left, LEASE),
        other => panic!("{other:?}"),
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
    match ledger(&fake).claim("k").await.unwrap() {
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
