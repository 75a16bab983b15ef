//! The ledger on a real table: what it promises is kept by conditions, and no fake weighs those.

use std::time::Duration;

use aws_sdk_dynamodb::types::{AttributeValue as Attr, TransactWriteItem, Update};
use flotilla_runtime::ledger::{Claim, Claimed, Ledger, Renewal, Written};
use flotilla_tests::{World, eventually};

const KEY: &str = "test/a";

fn ledger(world: &World, owner: &str, lease: Duration) -> Ledger {
    let table = &world.outputs().ledger_table_name;
    Ledger::new(world.aws.dynamo.clone(), table, owner, lease)
}

async fn won(ledger: &Ledger) -> Claim {
    match ledger.claim(KEY, "m").await.unwrap() {
        Claimed::Won(claim) => claim,
        other => panic!("{other:?}"),
    }
}

/// An effect: one more in a row.
fn once_more(world: &World) -> Vec<TransactWriteItem> {
    let update = Update::builder()
        .table_name(&world.outputs().submissions_table_name)
        .key("subid", Attr::S("a".to_owned()))
        .key("place", Attr::S("-".to_owned()))
        .update_expression("ADD times :one")
        .expression_attribute_values(":one", Attr::N("1".to_owned()));
    vec![TransactWriteItem::builder().update(update.build().unwrap()).build()]
}

/// State, generation and attempts of the one row.
async fn row(world: &World) -> (String, String, String) {
    let row = world.ledger().await.remove(0);
    let number = |name: &str| row[name].as_n().unwrap().clone();
    (row["state"].as_s().unwrap().clone(), number("generation"), number("attempts"))
}

fn is(state: &str, generation: &str, attempts: &str) -> (String, String, String) {
    (state.to_owned(), generation.to_owned(), attempts.to_owned())
}

#[tokio::test]
async fn a_worker_that_lost_its_lease_can_write_nothing_and_its_successor_can() {
    let world = World::new().await;
    let lost = ledger(&world, "lost", Duration::from_millis(1));
    let next = ledger(&world, "next", Duration::from_secs(60));
    let old = won(&lost).await;
    let new = eventually("the end of a lease", Duration::from_secs(10), async || {
        match next.claim(KEY, "m").await.unwrap() {
            Claimed::Won(claim) => Some(claim),
            _ => None,
        }
    })
    .await;
    assert_eq!((old.generation, new.generation), (1, 2));
    assert_eq!(lost.renew(&old).await.unwrap(), Renewal::Fenced);
    assert_eq!(lost.complete(&old, once_more(&world)).await.unwrap(), Written::Fenced);
    assert_eq!(lost.write(&old, once_more(&world)).await.unwrap(), Written::Fenced);
    assert!(!lost.release(&old).await.unwrap());
    assert!(!lost.fail(&old, "why").await.unwrap());
    assert!(!lost.bury(&old, "why").await.unwrap());
    assert!(world.row("a").await.is_none(), "it published");
    assert_eq!(row(&world).await, is("claimed", "2", "2"));
    assert!(matches!(lost.claim(KEY, "m").await.unwrap(), Claimed::Held(_)));
    assert_eq!(next.renew(&new).await.unwrap(), Renewal::Renewed);
    assert_eq!(next.complete(&new, once_more(&world)).await.unwrap(), Written::Committed);
    assert_eq!(next.complete(&new, once_more(&world)).await.unwrap(), Written::Fenced);
    assert_eq!(world.row("a").await.unwrap()["times"], Attr::N("1".to_owned()));
    assert_eq!(next.renew(&new).await.unwrap(), Renewal::Completed);
    assert!(matches!(lost.claim(KEY, "m").await.unwrap(), Claimed::Done));
    assert!(!next.fail(&new, "why").await.unwrap() && !next.cancel(KEY, "why").await.unwrap());
    assert_eq!(row(&world).await.0, "done");
}

#[tokio::test]
async fn what_is_released_is_no_attempt_what_fails_is_one_and_what_is_buried_starts_afresh() {
    let world = World::new().await;
    let ledger = ledger(&world, "me", Duration::from_secs(60));
    for _ in 0..3 {
        let claim = won(&ledger).await;
        assert_eq!(claim.attempt, 1);
        assert!(ledger.release(&claim).await.unwrap());
    }
    for attempt in 1..=2 {
        let claim = won(&ledger).await;
        assert_eq!(claim.attempt, attempt);
        assert!(ledger.fail(&claim, "why").await.unwrap());
        assert!(!ledger.fail(&claim, "why").await.unwrap(), "it is given back");
    }
    assert_eq!(row(&world).await, is("free", "5", "2"));
    let claim = won(&ledger).await;
    assert_eq!((claim.attempt, claim.last_failure.as_deref()), (3, Some("why")));
    assert!(ledger.bury(&claim, "why").await.unwrap());
    assert_eq!(row(&world).await, is("free", "6", "0"));
    let claim = won(&ledger).await;
    assert_eq!((claim.attempt, claim.generation), (1, 7));
    assert!(ledger.cancel(KEY, "not wanted").await.unwrap());
    assert_eq!(ledger.renew(&claim).await.unwrap(), Renewal::Cancelled("not wanted".to_owned()));
    let refused = Written::Cancelled("not wanted".to_owned());
    assert_eq!(ledger.complete(&claim, once_more(&world)).await.unwrap(), refused);
    assert!(world.row("a").await.is_none(), "it was cancelled");
}
