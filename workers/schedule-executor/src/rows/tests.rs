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
fn what_is_not_said_of_a_resource_stays() {
    let mut list = Resources::default();
    list.change("a", Some(false), Some("hibernate"));
    let known = |list: &Resources| (list.scheduled[0], list.attrib[0].clone());
    list.change("a", None, None);
    assert_eq!(known(&list), (false, "hibernate".to_owned()));
    list.change("a", None, Some(""));
    assert_eq!(known(&list), (false, String::new()));
    list.change("a", Some(true), None);
    list.change("b", None, None);
    assert_eq!((list.id.len(), list.scheduled), (2, vec![true, true]));
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
fn a_tick_that_is_older_than_one_that_was_worked_is_past() {
    let settings = Settings { last_tick: 1_000, ..Settings::default() };
    let at = |second| Timestamp::from_second(second).unwrap();
    assert!(settings.is_past(at(999), at(5_000)));
    assert!(!settings.is_past(at(1_000), at(5_000)) && !settings.is_past(at(1_001), at(5_000)));
    assert!(!settings.is_past(at(500), at(600)), "a tick ahead of the clock stops no other");
}

fn never(entries: &[&str]) -> Settings {
    let never = entries.iter().map(|it| (*it).to_owned()).collect();
    Settings { never, ..Settings::default() }
}

fn target(service: Service, text: &str) -> crate::arn::Target {
    let (account, region) = ("123456789012".to_owned(), "r".to_owned());
    crate::arn::Home { account, region }.target(service, text).unwrap()
}

#[test]
fn the_never_touch_list_knows_ids_keys_and_stars() {
    let settings = never(&["i-1", "rds:*", "*/eu-west-1/*", "a*b*c"]);
    let hit = |service, id: &str| {
        settings.never_touched(&target(service, id), id, "123456789012").map(str::to_owned)
    };
    assert_eq!(hit(Service::Ec2, "i-1").as_deref(), Some("i-1"));
    assert_eq!(hit(Service::Ec2, "i-12"), None);
    assert_eq!(hit(Service::Rds, "db").as_deref(), Some("rds:*"));
    let far = "arn:aws:ec2:eu-west-1:123456789012:instance/i-9";
    assert_eq!(hit(Service::Ec2, far).as_deref(), Some("*/eu-west-1/*"));
    assert_eq!(hit(Service::Group, "a-b-c").as_deref(), Some("a*b*c"));
    assert_eq!(hit(Service::Group, "a-c"), None);
}

#[test]
fn what_is_never_touched_is_not_reached_by_another_spelling() {
    let own = "123456789012";
    let group = "arn:aws:autoscaling:r:123456789012:autoScalingGroup:u-1:autoScalingGroupName/g";
    for (entry, service, text) in [
        ("arn:aws:ec2:r:123456789012:instance/i-1", Service::Ec2, "i-1"),
        ("i-1", Service::Ec2, "arn:aws:ec2:r:123456789012:instance/i-1"),
        ("arn:aws:ec2:r:*", Service::Ec2, "i-1"),
        ("arn:*:rds:*:*:db:ord*", Service::Rds, "orders"),
        ("Orders", Service::Rds, "orders"),
        ("arn:aws:rds:r:123456789012:db:orders", Service::Rds, "ORDERS"),
        ("arn:aws:ecs:r:123456789012:service/api", Service::Ecs, "default/api"),
        ("default/api", Service::Ecs, "api"),
        (group, Service::Group, "g"),
        ("ec2:instance/r/i-1", Service::Ec2, "arn:aws:ec2:r:210987654321:instance/i-1"),
    ] {
        // As an undo names it: by its bare id.
        let target = target(service, text);
        let found = never(&[entry]);
        assert_eq!(found.never_touched(&target, &target.id, own), Some(entry), "{text}");
    }
    let other = target(Service::Ec2, "arn:aws:ec2:r:210987654321:instance/i-1");
    let own_arn = "arn:aws:ec2:r:123456789012:instance/i-1";
    assert_eq!(never(&[own_arn]).never_touched(&other, "i-1", own), None);
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

#[test]
fn a_kind_that_is_named_by_both_of_its_names_has_the_resources_of_both() {
    let both =
        json!({"ec2": ["i-1", "i-2"], "ec2:instance": {"id": ["i-3"], "isScheduled": [false]}});
    let row = ResourceRow::from_json("web", &both).unwrap();
    let [(Service::Ec2, list)] = &row.lists[..] else { panic!("{row:?}") };
    let mut ids = list.id.clone();
    ids.sort();
    assert_eq!(ids, ["i-1", "i-2", "i-3"]);
    let third = list.id.iter().position(|id| id == "i-3").unwrap();
    assert!(!list.scheduled[third] && list.attrib.len() == 3);
}
