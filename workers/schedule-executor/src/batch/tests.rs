//! What names an effect, and what waits for a stage.

use serde_json::json;

use super::*;

#[test]
fn a_stage_that_has_to_wait_does_not_wait_for_a_tick_that_is_far_away() {
    let batch: Batch = serde_json::from_value(json!({
        "account": "", "region": "r", "service": "ec2:instance", "action": "START",
        "tick": "2026-01-01T08:00:00Z", "actor": "schedule", "occasion": "stage 1", "items": [],
    }))
    .unwrap();
    let tick = batch.tick.as_second();
    let far =
        |period, last_tick| is_far(&batch, &Settings { period, last_tick, ..Settings::default() });
    assert!(far(Some(3600), tick) && far(Some(300), tick - 300));
    assert!(!far(None, tick) && !far(Some(60), tick), "the next one is near");
    assert!(!far(Some(3600), tick + 1), "a later one sends its own");
    let twice = later(&later(&batch, Duration::from_secs(45)), Duration::from_secs(2));
    assert_eq!((twice.turn, twice.waited), (2, 47));
    let clock = twice.at_after(jiff::SignedDuration::from_secs(13));
    assert_eq!(clock.as_second(), tick + 60, "an override of that minute counts");
    assert_ne!(effect_key(&twice), effect_key(&batch));
    let order = Batch { actor: "hand".to_owned(), ..batch };
    assert_eq!(later(&order, Duration::from_secs(45)).waited, 0);
}

#[test]
fn an_effect_is_named_by_its_resources_and_occasion_and_not_by_its_tick() {
    let batch = |id: &str, tick: &str, occasion: &str| -> Batch {
        serde_json::from_value(json!({
            "account": "", "region": "r", "service": "ec2:instance", "action": "START",
            "tick": tick, "actor": "schedule", "occasion": occasion,
            "items": [{"id": id, "source": "context/a", "since": "2026-01-01T08:00:00Z", "reason": tick}],
        })).unwrap()
    };
    let first = effect_key(&batch("i-1", "2026-01-01T08:00:00Z", "transition"));
    assert_eq!(first, effect_key(&batch("i-1", "2026-01-01T08:01:00Z", "transition")));
    assert_ne!(first, effect_key(&batch("i-2", "2026-01-01T08:00:00Z", "transition")));
    assert_ne!(first, effect_key(&batch("i-1", "2026-01-01T08:00:00Z", "tick 1")));
}

#[test]
fn what_differs_in_anything_that_names_a_resource_or_its_transition_is_another_effect() {
    let batch = json!({
        "account": "", "region": "r", "service": "rds:instance", "action": "START",
        "tick": "2026-01-01T08:00:00Z", "actor": "schedule", "occasion": "o",
        "items": [{"id": "db", "source": "context/a", "since": "2026-01-01T08:00:00Z", "reason": ""}],
    });
    let key =
        |batch: &serde_json::Value| effect_key(&serde_json::from_value(batch.clone()).unwrap());
    let mut keys = std::collections::HashSet::from([key(&batch)]);
    for (field, other) in [
        ("/account", json!("210987654321")),
        ("/region", json!("s")),
        ("/service", json!("rds:cluster")),
        ("/action", json!("STOP")),
        ("/items/0/source", json!("context/b")),
        ("/items/0/since", json!("2026-01-02T08:00:00Z")),
    ] {
        let mut changed = batch.clone();
        *changed.pointer_mut(field).unwrap() = other;
        assert!(keys.insert(key(&changed)), "{field} makes no difference");
    }
}
