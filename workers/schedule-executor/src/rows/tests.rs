//! The shapes of rows.

use serde_json::json;

use super::{settings::glob, *};

#[test]
fn a_row_survives_the_way_through_an_item() {
    let row = json!({
        "contextID": "web", "contextDesc": "d", "schedulingRuleStart": "0 8 * * *",
        "schedulingRuleStop": "0 19 * * *", "timeZone": "UTC", "powerState": true,
        "isScheduled": false, "lastScheduling": 1_767_000_000,
    });
    let context: Context = serde_json::from_value(row.clone()).unwrap();
    assert_eq!(json(&to_item(&context)), row);
    assert_eq!(from_item::<Context>(&to_item(&context)), Some(context));
}

#[test]
fn resources_are_read_in_every_shape_they_come_in() {
    let full = json!({"id": ["i-1"], "isScheduled": [true], "attrib": [""]});
    for shape in [full.clone(), json!(full.to_string()), json!(["i-1"]), json!({"id": ["i-1"]})] {
        let row = json!({ "ec2:instance": shape });
        for row in [row.clone(), json!(row.to_string())] {
            let found = ResourceRow::from_json("c", &row).unwrap();
            let list = r#"{"id":["i-1"],"isScheduled":[true],"attrib":[""]}"#;
            let text = json!({"contextID": "c", "ec2:instance": list});
            assert_eq!(found.to_json(), text);
        }
    }
    for bad in [
        json!({"ec2:instance": {"id": ["i-1"], "isScheduled": [true, false]}}),
        json!({"s3:bucket": ["b"]}),
        json!("{"),
        json!(7),
        json!({"ec2:instance": [""]}),
        json!(["i-1"]),
    ] {
        assert_eq!(ResourceRow::from_json("c", &bad), None, "{bad}");
    }
}

#[test]
fn a_resource_is_added_once_and_removed() {
    let mut list = Resources::default();
    list.add("a", true, "");
    list.add("b", true, "");
    list.add("a", false, "x");
    assert_eq!(
        (list.id.clone(), list.scheduled.clone()),
        (vec!["b".into(), "a".into()], vec![true, false])
    );
    assert!(list.remove("b") && !list.remove("b"));
    assert_eq!(list.attrib, ["x"]);
}

#[test]
fn one_tick_in_each_period_counts() {
    let mut settings = Settings { period: Some(300), ..Settings::default() };
    let at = |second| Timestamp::from_second(second).unwrap();
    assert!(settings.is_due(at(1_000)));
    settings.last_tick = 1_000;
    assert!(!settings.is_due(at(1_000)) && !settings.is_due(at(1_199)));
    assert!(settings.is_due(at(1_200)));
    assert!(!settings.is_due(at(900)) && settings.is_due(at(600)));
    settings.period = None;
    assert!(settings.is_due(at(1_000)));
}

#[test]
fn the_never_touch_list_knows_ids_keys_and_stars() {
    let never = ["i-1", "rds:*", "*/eu-west-1/*", "a*b*c"].map(str::to_owned).to_vec();
    let settings = Settings { never, ..Settings::default() };
    let hit = |key: &str, id: &str| settings.never_touched(key, id, id);
    assert_eq!(hit("ec2:instance/r/i-1", "i-1"), Some("i-1"));
    assert_eq!(hit("ec2:instance/r/i-12", "i-12"), None);
    assert_eq!(hit("rds:instance/r/db", "db"), Some("rds:*"));
    assert_eq!(hit("ec2:instance/eu-west-1/i-9", "i-9"), Some("*/eu-west-1/*"));
    assert_eq!(hit("k", "a-b-c"), Some("a*b*c"));
    assert_eq!(hit("k", "a-c"), None);
}

proptest::proptest! {
    #[test]
    fn a_pattern_of_a_text_with_stars_for_parts_of_it_fits(text in "[a-z/]{0,12}", cuts in proptest::collection::vec(0..12usize, 0..4)) {
        let mut pattern: Vec<char> = text.chars().collect();
        for cut in cuts {
            if cut < pattern.len() { pattern[cut] = '*'; }
        }
        let pattern: String = pattern.into_iter().collect();
        proptest::prop_assert!(glob(&pattern, &text));
    }
}
