//! Whose a row is, and where it stands.

use serde_json::json;

use super::*;
use crate::schedule::Override;

fn batch(actor: &str, tick: &str) -> Batch {
    let item =
        json!({"id": "i", "source": "context/a", "since": "2026-06-01T17:00:00Z", "reason": "r"});
    let batch = json!({
        "account": "", "region": "r", "service": "ec2:instance", "action": "STOP",
        "tick": tick, "actor": actor, "bulk": "b", "occasion": "o", "items": [item],
    });
    serde_json::from_value(batch).unwrap()
}

fn refused(actor: &str, tick: &str, why: &Refusal) -> Entry {
    let batch = batch(actor, tick);
    failed(&batch, &batch.items[0], Action::Stop, "running", why)
}

#[test]
fn what_an_override_does_is_of_who_asked_for_it() {
    let batch = batch("schedule", "2026-06-01T17:00:00Z");
    let acts = |item: &BatchItem| {
        let row = entry(&batch, item, Action::Stop, "running");
        (row.actor, row.who)
    };
    let item = batch.items[0].clone();
    assert_eq!(acts(&item), ("schedule".to_owned(), String::new()));
    let item = BatchItem { who: Some("anna".to_owned()), ..item };
    assert_eq!(acts(&item), ("override".to_owned(), "anna".to_owned()));
    let over: Override =
        serde_json::from_value(json!({"power": "ON", "from": 1, "until": 2, "who": "ben"}))
            .unwrap();
    let case = Case {
        item: &item,
        key: String::new(),
        seen: crate::plan::Observed::On.into(),
        held: None,
        over: Some(&over),
        step: Step::Skip("already", String::new()),
    };
    let row = case.signed(case.left(&batch).unwrap());
    assert_eq!((row.actor.as_str(), row.who.as_str()), ("override", "ben"));
}

#[test]
fn a_failure_that_lasts_is_told_when_it_begins_when_its_reason_changes_and_once_a_day() {
    let denied = Refusal::under_way("k", "w");
    let row = |tick| refused("schedule", tick, &denied).at;
    let first = row("2026-06-01T17:00:00Z");
    assert_eq!(first, "2026-06-01T17:00:00Z#STOP#transitional");
    assert_eq!(first, row("2026-06-01T23:59:00Z"));
    assert_eq!(row("2026-06-02T00:00:00Z"), "2026-06-02T00:00:00Z#STOP#transitional");
    assert_eq!(row("2026-06-02T00:00:00Z"), row("2026-06-02T16:59:00Z"));
    let other = Refusal { kind: "capacity", ..denied.clone() };
    assert_ne!(refused("schedule", "2026-06-01T17:01:00Z", &other).at, first);
    // An order meets it once, each under its own clock.
    let order = refused("hand", "2026-06-01T17:00:01Z", &denied);
    assert_eq!((order.at.as_str(), unmade(&order).len()), ("2026-06-01T17:00:01Z#STOP", 0));
}

#[test]
fn what_a_tick_was_refused_leaves_no_row_that_says_it_is_about_to_be_done() {
    let row = refused("schedule", "2026-06-01T17:05:00Z", &Refusal::under_way("k", "w"));
    let key = ("ec2:instance/r/i".to_owned(), "2026-06-01T17:05:00Z#STOP".to_owned());
    let bulk = ("bulk/b".to_owned(), "ec2:instance/r/i".to_owned());
    assert_eq!(unmade(&row), [bulk, key]);
}
