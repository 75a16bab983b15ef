//! What is read of requests, and refused.

use super::*;

#[test]
fn what_is_taken_out_of_a_context_is_out_of_its_stages_too() {
    let stages = |names: &[&[&str]]| -> Vec<Vec<String>> {
        names.iter().map(|it| it.iter().map(|it| (*it).to_owned()).collect()).collect()
    };
    let before = stages(&[&["rds"], &["i-1"], &["i-2", "i-1"]]);
    assert_eq!(without(&before, "i-1"), Some(stages(&[&["rds"], &["i-2"]])));
    assert_eq!(without(&before, "i-3"), None);
}

#[test]
fn a_rule_that_never_comes_is_refused_with_its_words() {
    let row = |fields: Value| check(&serde_json::from_value(fields).unwrap());
    for fields in [
        json!({"schedulingRuleStart": "0 8 30 2 *", "schedulingRuleStop": "0 19 * * *"}),
        json!({"schedulingRuleStop": "0 8 31 4,6 *"}),
    ] {
        let Err(Refused::Bad(why)) = row(fields.clone()) else { panic!("{fields}") };
        assert!(why.contains("never comes"), "{why}");
    }
    row(json!({"schedulingRuleStart": "0 8 29 2 *"})).unwrap();
    row(json!({"schedulingPeriod": "daily 00:00-24:00"})).unwrap();
}

#[test]
fn the_row_that_stands_for_all_is_not_forgotten_as_a_context() {
    let why = check_key("contextID", ALL).unwrap_err();
    assert!(matches!(why, Refused::Bad(why) if why.contains("stands for all")));
}

#[test]
fn of_two_hands_the_later_one_counts_though_its_clock_is_behind() {
    let now = Timestamp::from_millisecond(1_000_000).unwrap();
    let at = |last| later(now, last).as_millisecond();
    assert_eq!((at(None), at(Some(999_999))), (1_000_000, 1_000_000));
    assert_eq!(at(Some(1_000_500)), 1_000_501);
    assert_eq!(at(Some(1_000_000 + 10 * AHEAD)), 1_000_000);
}

#[test]
fn a_dry_run_of_a_wrong_type_is_refused_and_not_run() {
    assert!(
        is_dry(&json!({"dry_run": true})).unwrap() && is_dry(&json!({"dryRun": true})).unwrap()
    );
    assert!(!is_dry(&json!({})).unwrap() && !is_dry(&json!({"dry_run": null})).unwrap());
    for wrong in [json!("true"), json!(1), json!([true])] {
        assert!(matches!(is_dry(&json!({ "dry_run": wrong })), Err(Refused::Bad(_))));
    }
    assert!(flag(&json!({"isScheduled": "false"}), "isScheduled").is_err());
    assert!(words(&json!({"attrib": 7}), "attrib").is_err());
}
