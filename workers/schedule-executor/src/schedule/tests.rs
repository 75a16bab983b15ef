//! Schedules against the clock changes of real zones, and against a naive oracle.

use jiff::Span;
use proptest::prelude::*;

use super::*;

fn ts(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn transitions(schedule: &Schedule, from: &str, to: &str) -> Vec<String> {
    let found = schedule.preview(ts(from), ts(to), 1000);
    found.iter().map(|it| format!("{} {}", it.at, it.power)).collect()
}

#[test]
fn a_pair_of_rules_follows_the_local_clock_over_a_change() {
    let schedule = Schedule::rules("0 8 * * *", "0 19 * * *", "Europe/Berlin").unwrap();
    assert_eq!(
        transitions(&schedule, "2026-03-28T00:00:00Z", "2026-03-30T00:00:00Z"),
        [
            "2026-03-28T07:00:00Z on",
            "2026-03-28T18:00:00Z off",
            "2026-03-29T06:00:00Z on",
            "2026-03-29T17:00:00Z off",
        ]
    );
}

#[test]
fn what_falls_into_a_gap_happens_at_its_end() {
    // New York skips 02:00 to 03:00 on 2026-03-08.
    let schedule = Schedule::rules("30 2 * * *", "0 8 * * *", "America/New_York").unwrap();
    let found = schedule.preview(ts("2026-03-08T00:00:00Z"), ts("2026-03-08T12:00:00Z"), 9);
    assert_eq!(found[0].at, ts("2026-03-08T07:00:00Z"));
    assert_eq!(found[0].local.to_string(), "2026-03-08T03:00:00-04:00[America/New_York]");
    assert_eq!(found[0].note, Some("inside a gap: at its end"));
}

#[test]
fn what_falls_into_a_fold_happens_once_at_the_first() {
    // New York shows 01:00 to 02:00 twice on 2026-11-01.
    let schedule = Schedule::rules("30 1 * * *", "0 8 * * *", "America/New_York").unwrap();
    let found = schedule.preview(ts("2026-11-01T00:00:00Z"), ts("2026-11-02T00:00:00Z"), 9);
    let on: Vec<_> = found.iter().filter(|it| it.power == Power::On).map(|it| it.at).collect();
    assert_eq!(on, [ts("2026-11-01T05:30:00Z")]);
    let firing = schedule.desired(ts("2026-11-01T06:45:00Z")).unwrap().since;
    assert_eq!(firing, ts("2026-11-01T05:30:00Z"));
}

fn changed(gap: Gap, fold: Fold) -> ClockChange {
    ClockChange { gap, fold }
}

#[test]
fn what_falls_into_a_gap_or_a_fold_follows_the_policy_that_is_declared() {
    let new_york = |start, stop, policy| {
        let schedule = Schedule::rules(start, stop, "America/New_York").unwrap();
        schedule.with(policy).unwrap()
    };
    let skips = new_york("30 2 * * *", "0 8 * * *", changed(Gap::Skip, Fold::First));
    assert_eq!(
        transitions(&skips, "2026-03-07T00:00:00Z", "2026-03-10T00:00:00Z"),
        [
            "2026-03-07T07:30:00Z on",
            "2026-03-07T13:00:00Z off",
            "2026-03-09T06:30:00Z on",
            "2026-03-09T12:00:00Z off"
        ]
    );
    assert_eq!(skips.desired(ts("2026-03-08T10:00:00Z")).unwrap().power, Power::Off);
    let second = new_york("30 1 * * *", "0 8 * * *", changed(Gap::End, Fold::Second));
    let found = second.preview(ts("2026-11-01T00:00:00Z"), ts("2026-11-02T00:00:00Z"), 9);
    assert_eq!((found[0].at, found[0].power), (ts("2026-11-01T06:30:00Z"), Power::On));
    assert_eq!(found[0].note, Some("inside a fold: at the second"));
    let period = Schedule::periods("daily 02:30-08:00", "America/New_York").unwrap();
    assert!(period.clone().with(changed(Gap::Skip, Fold::First)).is_err());
    assert!(period.with(changed(Gap::End, Fold::Second)).is_ok());
}

#[test]
fn of_equal_instants_the_later_local_time_counts_then_the_stop() {
    let gap_end = ts("2026-03-08T07:00:00Z");
    let at_gap = |start, stop| {
        let schedule = Schedule::rules(start, stop, "America/New_York").unwrap();
        schedule.desired(gap_end).unwrap().power
    };
    assert_eq!(at_gap("15 2 * * *", "45 2 * * *"), Power::Off);
    assert_eq!(at_gap("45 2 * * *", "15 2 * * *"), Power::On);
    assert_eq!(at_gap("30 2 * * *", "30 2 * * *"), Power::Off);
    assert_eq!(at_gap("0 3 * * *", "59 2 * * *"), Power::On);
}

#[test]
fn rules_that_always_cancel_each_other_change_nothing_and_end() {
    let schedule = Schedule::rules("* * * * *", "* * * * *", "UTC").unwrap();
    assert_eq!(schedule.next(ts("2026-01-01T00:00:00Z")), None);
}

#[test]
fn a_start_that_a_stop_cancels_for_months_is_found_all_the_same() {
    let schedule = Schedule::rules("* * * * *", "* * * 11-2 *", "UTC").unwrap();
    let on = schedule.next(ts("2026-11-05T00:00:00Z")).unwrap();
    assert_eq!((on.at, on.power), (ts("2027-03-01T00:00:00Z"), Power::On));
    let off = schedule.next(on.at).unwrap();
    assert_eq!((off.at, off.power), (ts("2027-11-01T00:00:00Z"), Power::Off));
}

#[test]
fn windows_that_touch_for_years_end_when_they_end() {
    let text = "jan01-feb28 00:00-06:00,06:00-24:00; mar01-dec31 00:00-06:00,06:00-24:00";
    let schedule = Schedule::periods(text, "UTC").unwrap();
    let off = schedule.next(ts("2025-03-05T00:00:00Z")).unwrap();
    assert_eq!((off.at, off.power), (ts("2028-02-29T00:00:00Z"), Power::Off));
    let many = vec!["00:00-00:01"; 33].join(",");
    assert!(Schedule::periods(&many, "UTC").unwrap_err().to_string().contains("32 windows"));
}

#[test]
fn a_window_over_midnight_belongs_to_the_day_it_begins_on() {
    let schedule = Schedule::periods("fri 22:00-06:00", "UTC").unwrap();
    assert_eq!(
        transitions(&schedule, "2026-01-01T00:00:00Z", "2026-01-08T00:00:00Z"),
        ["2026-01-02T22:00:00Z on", "2026-01-03T06:00:00Z off"]
    );
    assert_eq!(schedule.desired(ts("2026-01-03T05:59:59Z")).unwrap().power, Power::On);
}

#[test]
fn windows_that_touch_or_overlap_are_one() {
    let from = "2026-01-02T00:00:00Z";
    for text in ["fri 22:00-24:00; sat 00:00-02:00", "fri 22:00-01:00; sat 00:00-02:00"] {
        let schedule = Schedule::periods(text, "UTC").unwrap();
        let expected = ["2026-01-02T22:00:00Z on", "2026-01-03T02:00:00Z off"];
        assert_eq!(transitions(&schedule, from, "2026-01-09T00:00:00Z"), expected, "{text}");
    }
    // One that ends when it begins is a whole day.
    let day = Schedule::periods("fri 22:00-22:00", "UTC").unwrap();
    let expected = ["2026-01-02T22:00:00Z on", "2026-01-03T22:00:00Z off"];
    assert_eq!(transitions(&day, from, "2026-01-09T00:00:00Z"), expected);
    let always = Schedule::periods("daily 00:00-24:00", "Europe/Berlin").unwrap();
    assert_eq!(transitions(&always, "2026-01-01T00:00:00Z", "2027-01-01T00:00:00Z"), [""; 0]);
}

#[test]
fn the_latest_beginning_is_the_latest_rule_also_after_its_window_ended_within_another() {
    let schedule = Schedule::periods("daily 08:00-19:00; daily 10:00-11:00", "UTC").unwrap();
    let since = |time: &str| schedule.desired(ts(&format!("2026-06-01T{time}Z"))).unwrap().since;
    for (time, latest) in
        [("09:00:00", "08"), ("10:30:00", "10"), ("12:00:00", "10"), ("20:00:00", "19")]
    {
        assert_eq!(since(time), ts(&format!("2026-06-01T{latest}:00:00Z")), "{time}");
    }
}

#[test]
fn the_next_rule_is_one_whether_or_not_it_changes_anything() {
    let next = |schedule: Result<Schedule, ScheduleError>, after| {
        schedule.unwrap().next_rule(ts(after)).unwrap().to_string()
    };
    let rules = || Schedule::rules("30 2,8 * * *", "0 19 * * *", "America/New_York");
    assert_eq!(next(rules(), "2026-06-01T00:00:00Z"), "2026-06-01T06:30:00Z");
    assert_eq!(next(rules(), "2026-06-01T06:30:00Z"), "2026-06-01T12:30:00Z");
    assert_eq!(next(rules(), "2026-06-01T12:30:00Z"), "2026-06-01T23:00:00Z");
    // In the gap of 2026-03-08, at its end or not at all.
    assert_eq!(next(rules(), "2026-03-08T06:59:00Z"), "2026-03-08T07:00:00Z");
    let skips = rules().and_then(|it| it.with(changed(Gap::Skip, Fold::First)));
    assert_eq!(next(skips, "2026-03-08T06:59:00Z"), "2026-03-08T12:30:00Z");
    let always = || Schedule::periods("daily 00:00-24:00", "UTC");
    assert_eq!(next(always(), "2026-06-01T12:00:00Z"), "2026-06-02T00:00:00Z");
}

#[test]
fn periods_take_months_days_of_the_month_and_several_windows() {
    let schedule = Schedule::periods("feb-mar 1,L 08:00-12:00,13:00-24:00", "UTC").unwrap();
    let found = transitions(&schedule, "2026-01-01T00:00:00Z", "2026-03-02T00:00:00Z");
    assert_eq!(found.len(), 11);
    assert_eq!(found[3], "2026-02-02T00:00:00Z off");
    assert_eq!(found[4], "2026-02-28T08:00:00Z on");
    for bad in [
        "",
        ";",
        "mon",
        "mon 8-9",
        "mon 08:00",
        "mon 24:01-25:00",
        "xyz 08:00-09:00",
        "mon tue 08:00-09:00",
        "mon 08:60-09:00",
        "mon 08:00-+9:00",
    ] {
        assert!(Schedule::periods(bad, "UTC").is_err(), "{bad:?} was accepted");
    }
}

#[test]
fn a_period_is_understood_as_people_write_it() {
    let plain = |text| Schedule::periods(text, "UTC").unwrap_or_else(|why| panic!("{text}: {why}"));
    for (text, same) in [
        ("Mon - Fri  08:00 - 12:00, 13:00 - 19:00", "mon-fri 08:00-12:00,13:00-19:00"),
        ("monday-friday 8:00-19:00", "mon-fri 08:00-19:00"),
        ("Daily 08:00-19:00", "08:00-19:00"),
        ("l 08:00-09:00", "L 08:00-09:00"),
        ("january-march 1,15 08:00-09:00", "jan-mar 1,15 08:00-09:00"),
    ] {
        let days = |text| transitions(&plain(text), "2026-01-01T00:00:00Z", "2026-06-01T00:00:00Z");
        assert_eq!(days(text), days(same), "{text}");
    }
}

#[test]
fn a_season_runs_over_the_end_of_the_year() {
    let schedule = Schedule::periods("dec20-jan06 daily 10:00-12:00", "UTC").unwrap();
    let found = transitions(&schedule, "2026-12-01T00:00:00Z", "2027-03-01T00:00:00Z");
    assert_eq!(found.len(), 2 * 18);
    assert_eq!(found[0], "2026-12-20T10:00:00Z on");
    assert_eq!(found[35], "2027-01-06T12:00:00Z off");
    for bad in ["dec32-jan06 daily 10:00-12:00", "dec-jan06 10:00-12:00", "feb30-mar01 10:00-11:00"]
    {
        assert!(Schedule::periods(bad, "UTC").is_err(), "{bad}");
    }
}

#[test]
fn no_period_begins_on_a_holiday_but_those_of_holidays() {
    let holidays =
        "BEGIN:VCALENDAR\nBEGIN:VEVENT\nDTSTART;VALUE=DATE:20260501\nEND:VEVENT\nEND:VCALENDAR";
    let text = "mon-fri 08:00-19:00; holidays 10:00-12:00; thu 22:00-06:00";
    let schedule = Schedule::periods_but(text, holidays, "UTC").unwrap();
    assert_eq!(
        transitions(&schedule, "2026-04-30T00:00:00Z", "2026-05-02T00:00:00Z"),
        [
            "2026-04-30T08:00:00Z on",
            "2026-04-30T19:00:00Z off",
            "2026-04-30T22:00:00Z on",
            "2026-05-01T06:00:00Z off",
            "2026-05-01T10:00:00Z on",
            "2026-05-01T12:00:00Z off",
        ]
    );
    assert!(Schedule::periods("holidays 10:00-12:00", "UTC").is_err());
}

#[test]
fn a_zone_or_rule_that_is_none_is_refused() {
    for (start, stop, zone) in
        [("0 8 * * *", "", "Mars/Base"), ("", " ", "UTC"), ("0 8 * * *", "x", "UTC")]
    {
        assert!(Schedule::rules(start, stop, zone).is_err());
    }
}

/// Zones whose clocks change by an hour, by half of one, over midnight, and not at all.
const ZONES: [&str; 7] = [
    "America/New_York",
    "Europe/Berlin",
    "Australia/Lord_Howe",
    "America/Santiago",
    "Africa/Casablanca",
    "Asia/Kathmandu",
    "Africa/Cairo",
];

/// The state after every minute of a stretch of time, found by looking at each minute alone: the
/// wall clock before and after it says which local times were reached in it.
fn oracle(
    start: &Cron,
    stop: &Cron,
    zone: &TimeZone,
    from: Timestamp,
    minutes: i64,
) -> Vec<Option<Power>> {
    let matches = |rule: &Cron, local: DateTime| {
        let before = local.checked_sub(Span::new().seconds(1)).unwrap();
        rule.calendar.after(before) == Some(local)
    };
    let mut high = None::<DateTime>;
    let mut power = None;
    let states = (0..minutes).map(|minute| {
        let now = from.checked_add(Span::new().minutes(minute)).unwrap();
        let wall = zone.to_datetime(now);
        let mut local = high.map_or(wall, |high| high.checked_add(Span::new().minutes(1)).unwrap());
        // All minutes up to what the wall shows; none while it shows what it has shown before.
        while local <= wall {
            if matches(start, local) {
                power = Some(Power::On);
            }
            if matches(stop, local) {
                power = Some(Power::Off);
            }
            high = Some(local);
            local = local.checked_add(Span::new().minutes(1)).unwrap();
        }
        power
    });
    states.collect()
}

/// A day and a half before and after each change of the clock in two years.
fn changes(zone: &TimeZone) -> Vec<Timestamp> {
    let following = zone.following(ts("2026-01-01T00:00:00Z"));
    let changes = following.take_while(|it| it.timestamp() < ts("2028-01-01T00:00:00Z"));
    let changes = changes.map(|it| it.timestamp().checked_sub(Span::new().hours(36)).unwrap());
    changes.chain([ts("2026-06-01T00:00:00Z")]).collect()
}

#[test]
fn around_every_clock_change_the_decision_is_that_of_a_naive_clock() {
    let pairs = [
        ("30 1 * * *", "30 2 * * *"),
        ("0 2 * * *", "0 3 * * *"),
        ("0 0 * * *", "59 23 * * *"),
        ("*/7 * * * *", "*/11 * * * *"),
        ("15 0-3 * * *", "45 0-3 * * *"),
        ("45 2 * * *", "15 2 * * *"),
    ];
    for name in ZONES {
        let zone = zone(name).unwrap();
        for from in changes(&zone) {
            for (start, stop) in pairs {
                let schedule = Schedule::rules(start, stop, name).unwrap();
                let (start, stop) = (start.parse().unwrap(), stop.parse().unwrap());
                let expected = oracle(&start, &stop, &zone, from, 72 * 60);
                for (minute, expected) in expected.iter().enumerate().filter(|(_, it)| it.is_some())
                {
                    let now = from.checked_add(Span::new().minutes(minute as i64)).unwrap();
                    let found = schedule.desired(now).map(|it| it.power);
                    assert_eq!(found, *expected, "{name} {start} {stop} at {now}");
                }
            }
        }
    }
}

fn rule() -> impl Strategy<Value = String> {
    let minute = prop_oneof![
        (0..60u8).prop_map(|m| m.to_string()),
        Just("*/17".to_owned()),
        Just("0,30".to_owned())
    ];
    let hour = prop_oneof![
        (0..24u8).prop_map(|h| h.to_string()),
        Just("*".to_owned()),
        Just("0-5".to_owned())
    ];
    let days = prop_oneof![
        Just("* * *"),
        Just("* * 1-5"),
        Just("L * *"),
        Just("? * MON#1"),
        Just("15W * ?")
    ];
    (minute, hour, days).prop_map(|(m, h, days)| format!("{m} {h} {days}"))
}

fn period() -> impl Strategy<Value = String> {
    let clock = (0..24u8, 0..60u8).prop_map(|(h, m)| format!("{h:02}:{m:02}"));
    let days =
        prop_oneof![Just("daily"), Just("mon-fri"), Just("fri-mon"), Just("sun#1"), Just("25-31")];
    let one = (days, clock.clone(), clock).prop_map(|(d, from, to)| format!("{d} {from}-{to}"));
    proptest::collection::vec(one, 1..3).prop_map(|all| all.join("; "))
}

fn schedule() -> impl Strategy<Value = Schedule> {
    let zone = (0..ZONES.len()).prop_map(|n| ZONES[n]);
    let rules = (rule(), rule(), zone.clone())
        .prop_map(|(start, stop, zone)| Schedule::rules(&start, &stop, zone).unwrap());
    let periods = (period(), zone).prop_map(|(text, zone)| Schedule::periods(&text, zone).unwrap());
    prop_oneof![rules, periods]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// Ticking every minute sees exactly the transitions that the preview prints.
    #[test]
    fn the_preview_is_what_ticks_would_do(schedule in schedule(), day in 0..730i64, skip: bool, second: bool, change in 0..14usize) {
        let gap = if skip { Gap::Skip } else { Gap::End };
        let fold = if second { Fold::Second } else { Fold::First };
        let schedule = schedule.clone().with(changed(gap, fold)).unwrap_or(schedule);
        // Every other time over a change of the clock, if the zone has as many.
        let near = schedule.zone().following(ts("2026-01-01T00:00:00Z")).nth(change / 2);
        let near = near.filter(|_| change % 2 == 0).map(|it| it.timestamp());
        let from = near.map_or(day, |at| (at.as_second() - 1_767_225_600) / 86_400 - 1);
        let day = from.clamp(0, 20_000);
        let from = ts("2026-01-01T00:00:00Z").checked_add(Span::new().hours(24 * day)).unwrap();
        let to = from.checked_add(Span::new().hours(60)).unwrap();
        let mut power = schedule.desired(from.checked_sub(Span::new().minutes(1)).unwrap()).map(|it| it.power);
        let mut seen = Vec::new();
        let mut now = from;
        while now < to {
            let desired = schedule.desired(now).map(|it| it.power);
            if desired != power {
                seen.push((now, desired.unwrap()));
                power = desired;
            }
            now = now.checked_add(Span::new().minutes(1)).unwrap();
        }
        let preview: Vec<_> = schedule.preview(from, to, 10_000).iter().map(|it| (it.at, it.power)).collect();
        prop_assert_eq!(seen, preview);
    }

    #[test]
    fn no_text_makes_the_parser_panic(text in ".{0,40}", fields in "[0-9*?LW#/,A-Z -]{0,30}") {
        for text in [text, fields] {
            let _ = (text.parse::<Cron>(), text.parse::<Periods>());
        }
    }
}
