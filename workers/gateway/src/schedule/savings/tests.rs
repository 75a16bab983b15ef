//! What is saved, and by whom.

use super::*;

#[test]
fn what_two_contexts_have_is_saved_by_the_one_that_it_goes_by() {
    let home = Home { account: "123456789012".to_owned(), region: "eu-west-1".to_owned() };
    let arn = "arn:aws:rds:eu-west-1:123456789012:db:orders";
    let mut taken = HashSet::new();
    let mut left = |id: &str, scheduled: bool, resources: Value| {
        let fields = json!({
            "contextID": id, "schedulingPeriod": "daily 08:00-19:00", "isScheduled": scheduled,
        });
        let row = ResourceRow::from_json(id, &resources).unwrap();
        let whole = Whole::of(serde_json::from_value(fields).unwrap(), row);
        let lists = whole.less(&home, &mut taken).row.lists;
        lists.into_iter().flat_map(|(_, list)| list.id).collect::<Vec<_>>()
    };
    let both = json!({ "rds:instance": ["Orders", "orders", "sales"] });
    assert_eq!(left("stopped", false, both.clone()), ["Orders", "orders", "sales"]);
    let out = json!({ "rds:instance": { "id": ["sales"], "isScheduled": [false] } });
    assert_eq!(left("a", true, both), ["Orders", "sales"], "one resource is one");
    assert_eq!(left("b", true, json!({ "rds:instance": [arn, "other"] })), ["other"]);
    assert_eq!(left("c", true, out), ["sales"], "it is taken out, and saves nothing here");
}

/// The hours that a day of `daily 08:00-20:00` avoids, of three instances of which one is taken out.
fn avoided(fields: Value, settings: Value) -> f64 {
    let mut row = json!({ "contextID": "web", "schedulingPeriod": "daily 08:00-20:00" });
    row.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    let lists = json!({ "ec2:instance": { "id": ["i-1", "i-2", "i-3"], "isScheduled": [true, true, false] } });
    let lists = ResourceRow::from_json("web", &lists).unwrap();
    let whole = Whole::of(serde_json::from_value(row).unwrap(), lists);
    let home = Home { account: "123456789012".to_owned(), region: "eu-west-1".to_owned() };
    let settings = serde_json::from_value(settings).unwrap();
    let at = |text: &str| text.parse::<Timestamp>().unwrap();
    let span = (at("2026-06-01T00:00:00Z"), at("2026-06-02T00:00:00Z"));
    add_up(&home, &whole, &settings, span).unwrap()["hoursAvoided"].as_f64().unwrap()
}

#[test]
fn what_nobody_switches_saves_nothing() {
    let all = || json!({});
    assert_eq!(avoided(all(), all()), 24.0, "two, for twelve hours each");
    assert_eq!(avoided(all(), json!({ "neverTouch": ["i-2"] })), 12.0);
    assert_eq!(avoided(json!({ "dryRun": true }), all()), 0.0);
    assert_eq!(avoided(json!({ "isScheduled": false }), all()), 0.0);
    assert_eq!(avoided(all(), json!({ "isScheduled": false })), 0.0);
}

#[test]
fn over_two_years_and_less_than_a_second_are_not_added_up() {
    let checked = |seconds| {
        let from = Timestamp::from_second(1_780_000_000).unwrap();
        check(from, Timestamp::from_second(1_780_000_000 + seconds).unwrap()).is_ok()
    };
    assert_eq!([0, 1, LONGEST, LONGEST + 1].map(checked), [false, true, true, false]);
}

#[test]
fn nothing_saved_is_zero_and_not_below_it() {
    let none: f64 = std::iter::empty::<f64>().sum();
    assert_eq!(json!([cents(none), cents(-0.0)]).to_string(), "[0.0,0.0]");
}
