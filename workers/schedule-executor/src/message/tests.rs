//! What arrives, told apart and checked.

use serde_json::json;

use super::*;

#[test]
fn ticks_orders_and_batches_are_told_apart() {
    let event = json!({
        "version": "0", "id": "1", "detail-type": "Scheduled Event", "source": "aws.events",
        "account": "123456789012", "time": "2026-06-01T08:00:00Z", "region": "eu-west-1",
        "resources": [], "detail": {},
    });
    let tick: Message = serde_json::from_value(event).unwrap();
    let time = Some("2026-06-01T08:00:00Z".parse().unwrap());
    assert_eq!(tick, Message::Tick(Tick { time, forced: false, dry_run: false }));
    let unfilled = json!({"time": PLACEHOLDER, "forced": true, "dry_run": true});
    let tick: Message = serde_json::from_value(unfilled).unwrap();
    assert_eq!(tick, Message::Tick(Tick { time: None, forced: true, dry_run: true }));
    let undo: Message = serde_json::from_value(json!({"action": "UNDO"})).unwrap();
    assert_eq!(undo, Message::Undo(Undo { bulk: None, dry_run: false }));
    for order in [
        json!({"action": "START", "context": "web"}),
        json!({"action": "STOP", "tag": "env"}),
        json!({"action": "STOP", "service": "ec2", "ids": ["i-1"], "region": "eu-west-1"}),
        json!({"action": "MODCLASS", "service": "rds:instance", "ids": ["db"], "attrib": "db.t3.micro"}),
        json!({"action": "MODCLASS", "service": "rds:cluster", "ids": ["c"], "attrib": "db.r6g.large"}),
    ] {
        let found = serde_json::from_value(order.clone()).unwrap();
        assert!(matches!(found, Message::Hand(_)), "{order}");
    }
}

#[test]
fn an_order_is_named_by_what_it_asks_for_and_when_and_is_not_given_in_the_future() {
    let order = |at: Value| -> Order {
        serde_json::from_value(json!({"action": "STOP", "context": "web", "at": at})).unwrap()
    };
    let sent: Timestamp = "2026-06-01T08:00:00Z".parse().unwrap();
    let told = order(json!("2026-06-01T07:59:00.5Z"));
    assert_eq!(told.name("m"), "STOP context/web 2026-06-01T07:59:00.5Z");
    assert_eq!(told.given(sent), told.at.unwrap());
    assert_eq!(order(json!("2099-01-01T00:00:00Z")).given(sent), sent);
    assert_eq!(
        (order(Value::Null).name("m").as_str(), order(Value::Null).given(sent)),
        ("m", sent)
    );
}

#[test]
fn what_is_no_message_is_refused_with_its_reason() {
    for (bad, word) in [
        (json!({}), "neither"),
        (json!({"time": "soon"}), "soon"),
        (json!({"action": "REBOOT", "context": "web"}), "REBOOT"),
        (json!({"action": "START"}), "names"),
        (json!({"action": "START", "context": "a", "tag": "b"}), "names"),
        (json!({"action": "START", "service": "ec2", "ids": []}), "names"),
        (json!({"action": "MODCLASS", "context": "web"}), "rds"),
        (json!({"action": "MODCLASS", "service": "rds", "ids": ["a"]}), "attrib"),
        (json!({"batch": {}}), "batch"),
        (json!({"time": "2026-06-01T08:00:00Z", "dry_run": "true"}), "dry_run"),
        (json!({"action": "UNDO", "dryRun": 1}), "dryRun"),
        (json!({"action": "UNDO", "bulks": "x"}), "bulks"),
        (json!({"action": "STOP", "context": "web", "dryrun": true}), "dry_run"),
        (json!({"action": "STOP", "context": "web", "Dry-Run": true}), "dry_run"),
        (json!({"action": "STOP", "context": "web", "idz": []}), "idz"),
        (json!({"time": "2026-06-01T08:00:00Z", "dryrun": true}), "dry_run"),
        (json!({"action": "UNDO", "bulk": 7}), "bulk"),
        (json!({"action": "STOP", "context": "web", "dry_run": "true"}), "dry_run"),
        (json!({"action": "STOP", "service": "ec2", "ids": ["i-1"], "region": "a/b"}), "no region"),
        (json!({"action": "STOP", "service": "ec2", "ids": ["i-1"], "region": "mars-1"}), "mars-1"),
    ] {
        let why = serde_json::from_value::<Message>(bad.clone()).unwrap_err().to_string();
        assert!(why.contains(word), "{bad}: {why}");
    }
}
