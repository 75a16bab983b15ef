//! Rules of both kinds, on the local calendar.

use jiff::civil::date;

use super::*;

fn rule(text: &str) -> Calendar {
    text.parse::<Cron>().unwrap().calendar
}

/// The first `count` days after a date on which a rule matches.
fn days(text: &str, from: Date, count: usize) -> Vec<String> {
    let (rule, mut at, mut found) = (rule(text), from.at(0, 0, 0, 0), Vec::new());
    while found.len() < count {
        at = rule.after(at).unwrap();
        found.push(at.date().to_string());
        at = at.date().at(23, 59, 0, 0);
    }
    found
}

#[test]
fn the_letters_of_aws_mean_what_aws_says() {
    let new_year = date(2026, 1, 1);
    assert_eq!(days("0 8 L * ? *", new_year, 2), ["2026-01-31", "2026-02-28"]);
    assert_eq!(days("0 8 L-2 * ? *", new_year, 2), ["2026-01-29", "2026-02-26"]);
    assert_eq!(days("0 8 LW * ? *", new_year, 2), ["2026-01-30", "2026-02-27"]);
    // 2026-02-22 and 2026-03-28 are a Sunday and a Saturday.
    assert_eq!(days("0 8 L-6W 2 ? *", new_year, 1), ["2026-02-23"]);
    assert_eq!(days("0 8 L-3W 3 ? *", new_year, 1), ["2026-03-27"]);
    assert!("0 8 L-3WW * ? *".parse::<Cron>().is_err());
    // 2026-02-15 is a Sunday, 2026-02-01 too, 2026-08-01 a Saturday, 2026-05-31 a Sunday.
    assert_eq!(days("0 8 15W 2 ? *", new_year, 1), ["2026-02-16"]);
    assert_eq!(days("0 8 1W 2,8 ? *", new_year, 2), ["2026-02-02", "2026-08-03"]);
    assert_eq!(days("0 8 31W 5 ? *", new_year, 1), ["2026-05-29"]);
    assert_eq!(days("0 8 ? * 3#2 *", new_year, 2), ["2026-01-13", "2026-02-10"]);
    assert_eq!(days("0 8 ? * FRI#5 *", new_year, 2), ["2026-01-30", "2026-05-29"]);
    assert_eq!(days("0 8 ? * 6L *", new_year, 2), ["2026-01-30", "2026-02-27"]);
    assert_eq!(days("0 8 ? * L *", new_year, 2), ["2026-01-03", "2026-01-10"]);
    assert_eq!(days("cron(0 8 ? * MON 2027)", new_year, 1), ["2027-01-04"]);
}

#[test]
fn weekdays_count_from_0_in_5_fields_and_from_1_in_6() {
    let new_year = date(2026, 1, 1); // a Thursday
    assert_eq!(days("0 8 * * 0", new_year, 1), ["2026-01-04"]);
    assert_eq!(days("0 8 * * 7", new_year, 1), ["2026-01-04"]);
    assert_eq!(days("0 8 ? * 1 *", new_year, 1), ["2026-01-04"]);
    assert_eq!(days("0 8 * * 5-7", new_year, 3), ["2026-01-02", "2026-01-03", "2026-01-04"]);
    let over = ["2026-01-02", "2026-01-03", "2026-01-04", "2026-01-05", "2026-01-09"];
    assert_eq!(days("0 8 * * FRI-MON", new_year, 5), over);
    assert_eq!(days("0 8 ? * FRI-MON *", new_year, 5), over);
    // Sunday, 0 and 7, is one day of the range, and one step of it.
    let every_other = ["2026-01-02", "2026-01-04", "2026-01-09", "2026-01-11"];
    assert_eq!(days("0 8 * * FRI-MON/2", new_year, 4), every_other);
    assert_eq!(days("0 8 ? * FRI-MON/2 *", new_year, 4), every_other);
    assert_eq!(days("0 8 * * 6-2/2", new_year, 3), ["2026-01-03", "2026-01-05", "2026-01-10"]);
    assert_eq!(days("0 8 * * 7-3/2", new_year, 3), ["2026-01-04", "2026-01-06", "2026-01-11"]);
    assert_eq!(days("0 8 * * 0-7/7", new_year, 2), ["2026-01-04", "2026-01-11"]);
    assert_eq!(days("0 8 * * */3", new_year, 3), ["2026-01-03", "2026-01-04", "2026-01-07"]);
    assert_eq!(days("0 8 * * 1/2", new_year, 3), ["2026-01-02", "2026-01-05", "2026-01-07"]);
}

#[test]
fn in_5_fields_a_day_of_either_field_counts() {
    let either = ["2026-01-02", "2026-01-09", "2026-01-13", "2026-01-16"];
    assert_eq!(days("0 8 13 * FRI", date(2026, 1, 1), 4), either);
}

#[test]
fn a_leap_day_is_found_over_the_gap_of_a_century() {
    assert_eq!(days("0 0 29 2 *", date(2096, 3, 1), 1), ["2104-02-29"]);
    let before = rule("0 0 29 2 *").at_or_before(date(2103, 1, 1).at(0, 0, 0, 0));
    assert_eq!(before.unwrap().date(), date(2096, 2, 29));
    assert_eq!(rule("0 0 30 2 *").after(date(2026, 1, 1).at(0, 0, 0, 0)), None);
}

#[test]
fn steps_ranges_and_lists_are_walked_in_both_directions() {
    let rule = rule("5/20 9-17/4,23 * * *");
    let mut at = date(2026, 1, 1).at(0, 0, 0, 0);
    let mut forward = Vec::new();
    for _ in 0..200 {
        at = rule.after(at).unwrap();
        forward.push(at);
    }
    assert_eq!(
        forward[..2].iter().map(|t| t.to_string()).collect::<Vec<_>>(),
        ["2026-01-01T09:05:00", "2026-01-01T09:25:00"]
    );
    for pair in forward.windows(2).rev() {
        let just_before = pair[1].checked_sub(jiff::Span::new().minutes(1)).unwrap();
        assert_eq!(rule.at_or_before(pair[1]), Some(pair[1]));
        assert_eq!(rule.at_or_before(just_before), Some(pair[0]));
    }
}

#[test]
fn what_is_no_rule_is_refused_with_the_field_that_is_wrong() {
    for (text, field) in [
        ("60 8 * * *", "minute"),
        ("0 24 * * *", "hour"),
        ("0 8 0 * *", "day of month"),
        ("0 8 * 13 *", "month"),
        ("0 8 * * 8", "day of week"),
        ("0 8 ? * 0 *", "day of week"),
        ("0 8 ? * * 1969", "year"),
        ("0 8 * * MON#6", "day of week"),
        ("*/0 * * * *", "minute"),
        ("0 19-8 * * *", "hour"),
        ("0 8 1 * 2 *", "must be `?`"),
        ("0 8 * *", "4 fields"),
        ("", "0 fields"),
        ("0 8 , * *", "day of month"),
        ("+1 8 * * *", "minute"),
    ] {
        let why = text.parse::<Cron>().unwrap_err().to_string();
        assert!(why.contains(field), "{text:?}: {why}");
    }
}

#[test]
fn a_rule_that_would_fill_the_memory_is_refused() {
    let text = format!("0 8 ? * * {}", vec!["*"; 400].join(",,"));
    assert!(text.parse::<Cron>().is_err());
    let long = format!("{} 8 * * *", vec!["1"; 1000].join(","));
    assert!(long.parse::<Cron>().unwrap_err().to_string().contains("1000 bytes"));
}

proptest::proptest! {
    /// What the masks find is what a walk over every match of the first rule finds.
    #[test]
    fn a_minute_of_one_rule_and_not_of_the_other_is_found(
        minutes in ("[0-5]?[0-9]|\\*|\\*/7|0-30", "[0-5]?[0-9]|\\*|\\*/5|10-59"),
        hours in ("1?[0-9]|\\*|8-18", "1?[0-9]|\\*|0-12"),
        days in ("\\*|1-10|L", "\\*|5-31|L"),
        minute in 0..1440i16,
    ) {
        let rule = |m: &str, h: &str, d: &str| self::rule(&format!("{m} {h} {d} * *"));
        let one = rule(&minutes.0, &hours.0, &days.0);
        let other = rule(&minutes.1, &hours.1, &days.1);
        let from = date(2026, 1, 9).at((minute / 60) as i8, (minute % 60) as i8, 0, 0);
        let end = date(2026, 4, 1).at(0, 0, 0, 0);
        let all = std::iter::successors(one.after(from), |at| one.after(*at));
        let walked = all.take_while(|at| *at < end).find(|at| !other.matches(*at));
        proptest::prop_assert_eq!(one.after_but(&other, from).filter(|at| *at < end), walked);
    }
}
