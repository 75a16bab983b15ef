//! Every word of rules, periods and holidays, in sentences that nobody chose, against the oracle.

use jiff::{SignedDuration, Timestamp, civil::Date};
use proptest::{option, prelude::*, sample::select, strategy::ValueTree, test_runner::TestRunner};
use schedule_executor::schedule::{ClockChange, Fold, Gap, Power, Schedule};
use serde_json::{Value, json};

use crate::{
    MINUTES,
    driver::{Changes, ask_all, write_zones, zones},
    windows,
};

/// How many rules and periods are looked at by the day, and how many by the minute.
const BY_THE_DAY: usize = 120;
const BY_THE_MINUTE: usize = 120;
/// The days of four years, one of them leap.
const DAYS: i64 = 1461;

fn some<T: std::fmt::Debug>(of: &impl Strategy<Value = T>, count: usize) -> Vec<T> {
    let mut runner = TestRunner::default();
    (0..count).map(|_| of.new_tree(&mut runner).unwrap().current()).collect()
}

fn list(of: impl Strategy<Value = String> + 'static) -> BoxedStrategy<String> {
    proptest::collection::vec(of, 1..3).prop_map(|items| items.join(",")).boxed()
}

/// A range of numbers, which does not run over their end.
fn range(low: u8, high: u8) -> impl Strategy<Value = String> {
    (low..=high, low..=high).prop_map(|(a, b)| format!("{}-{}", a.min(b), a.max(b)))
}

fn days_of_month() -> BoxedStrategy<String> {
    list(prop_oneof![
        (1..=31u8).prop_map(|day| day.to_string()),
        range(1, 31),
        (2..15u8).prop_map(|step| format!("*/{step}")),
        (1..=31u8, 1..15u8).prop_map(|(day, step)| format!("{day}/{step}")),
        Just("L".to_owned()),
        Just("LW".to_owned()),
        (1..=30u8).prop_map(|back| format!("L-{back}")),
        (1..=30u8).prop_map(|back| format!("L-{back}W")),
        (1..=31u8).prop_map(|day| format!("{day}W")),
    ])
}

fn weekday() -> impl Strategy<Value = String> {
    select(vec!["SUN", "MON", "tue", "Wed", "THU", "FRI", "SAT"]).prop_map(str::to_owned)
}

/// Weekdays as cron or AWS numbers them, or by their names.
fn days_of_week(first: u8) -> BoxedStrategy<String> {
    let one = move || prop_oneof![(first..first + 7).prop_map(|it| it.to_string()), weekday()];
    list(prop_oneof![
        one(),
        range(first, first + 6),
        (weekday(), weekday()).prop_map(|(from, to)| format!("{from}-{to}")),
        (2..4u8).prop_map(|step| format!("*/{step}")),
        (first..first + 7, 1..4u8).prop_map(|(day, step)| format!("{day}/{step}")),
        (one(), 1..=5u8).prop_map(|(day, nth)| format!("{day}#{nth}")),
        one().prop_map(|day| format!("{day}L")),
        Just("L".to_owned()),
    ])
}

fn months() -> BoxedStrategy<String> {
    let name = || select(vec!["JAN", "feb", "Mar", "APR", "JUN", "SEP", "nov", "DEC"]);
    prop_oneof![
        4 => Just("*".to_owned()),
        1 => list((1..=12u8).prop_map(|month| month.to_string())),
        1 => (name(), name()).prop_map(|(from, to)| format!("{from}-{to}")),
        1 => (2..7u8).prop_map(|step| format!("*/{step}")),
    ]
    .boxed()
}

/// The fields of a rule from the day of month on.
fn rule_days() -> impl Strategy<Value = String> {
    let years = select(vec!["*", "2027", "2026,2028", "2027-2040", "2026/2", "*/3"]);
    let any = || Just("?".to_owned());
    let aws = prop_oneof![(days_of_month(), any()), (any(), days_of_week(1))];
    let aws = (aws, months(), years)
        .prop_map(|((month, week), months, years)| format!("{month} {months} {week} {years}"));
    let every = || Just("*".to_owned());
    let cron =
        (prop_oneof![every(), days_of_month()], months(), prop_oneof![every(), days_of_week(0)])
            .prop_map(|(month, months, week)| format!("{month} {months} {week}"));
    prop_oneof![2 => aws, 1 => cron]
}

/// The words of a period before its times, of holidays alone or not.
fn period_days() -> impl Strategy<Value = String> {
    let date = || {
        (select(vec!["jan", "Feb", "jun", "DEC"]), 1..=28u8)
            .prop_map(|(month, day)| format!("{month}{day}"))
    };
    let when = prop_oneof![
        2 => Just(String::new()),
        1 => (date(), date()).prop_map(|(from, to)| format!("{from}-{to}")),
        1 => select(vec!["feb-mar", "nov-feb", "jun,aug"]).prop_map(str::to_owned),
    ];
    let named = prop_oneof![
        weekday(),
        (weekday(), weekday()).prop_map(|(from, to)| format!("{from}-{to}")),
        (weekday(), 1..=5u8).prop_map(|(day, nth)| format!("{day}#{nth}")),
        weekday().prop_map(|day| format!("{day}L")),
    ];
    let days = prop_oneof![
        Just(String::new()),
        Just("daily".to_owned()),
        list(named),
        range(1, 31),
        select(vec!["L", "1,L", "15W", "LW", "L-3", "L-3W"]).prop_map(str::to_owned),
    ];
    (when, days).prop_map(|(when, days)| format!("{when} {days}"))
}

/// A rule by which an event comes on several days of a year.
fn several_a_year() -> impl Strategy<Value = String> {
    let day = || select(vec!["MO", "TU", "WE", "TH", "FR", "SA", "SU"]);
    let days = move || list(day().prop_map(str::to_owned));
    let number = |most: i16| prop_oneof![1..=most, -most..=-1];
    let numbers = move |most| list(number(most).prop_map(|it| it.to_string()));
    prop_oneof![
        Just("FREQ=DAILY;BYMONTH=2,8".to_owned()),
        (days(), day())
            .prop_map(|(days, begins)| format!("FREQ=WEEKLY;BYDAY={days};WKST={begins}")),
        Just("FREQ=WEEKLY".to_owned()),
        Just("FREQ=MONTHLY".to_owned()),
        numbers(31).prop_map(|days| format!("FREQ=MONTHLY;BYMONTHDAY={days}")),
        (number(5), day()).prop_map(|(nth, day)| format!("FREQ=MONTHLY;BYDAY={nth}{day}")),
        (days(), numbers(9))
            .prop_map(|(days, at)| format!("FREQ=MONTHLY;BYDAY={days};BYSETPOS={at}")),
        day()
            .prop_map(|day| format!("FREQ=YEARLY;BYMONTH=11;BYDAY={day};BYMONTHDAY=2,3,4,5,6,7,8")),
        numbers(31).prop_map(|days| format!("FREQ=YEARLY;BYMONTH=3,12;BYMONTHDAY={days}")),
        numbers(366).prop_map(|days| format!("FREQ=YEARLY;BYYEARDAY={days}")),
        day().prop_map(|day| format!("FREQ=YEARLY;BYMONTH=5;BYDAY={day}")),
    ]
}

/// An event, as the oracle is told it.
fn event() -> impl Strategy<Value = Value> {
    let nth = prop_oneof![1..=5i8, -5..=-1i8];
    let day = || select(vec!["MO", "WE", "TH", "SU"]);
    let on = prop_oneof![
        Just(String::new()),
        (1..=12u8, nth, day())
            .prop_map(|(month, nth, day)| format!(";BYMONTH={month};BYDAY={nth}{day}")),
        (1..=12u8, prop_oneof![1..=31i8, -31..=-1i8])
            .prop_map(|(month, day)| format!(";BYMONTH={month};BYMONTHDAY={day}")),
        (prop_oneof![1..=53i8, -53..=-1i8], day())
            .prop_map(|(nth, day)| format!(";BYDAY={nth}{day}")),
    ];
    let end = prop_oneof![
        Just(String::new()),
        (1..6u8).prop_map(|count| format!(";COUNT={count}")),
        (2025..2031u16, 1..=12u8, 1..=28u8, select(vec!["", "T000000Z", "T235959Z"]))
            .prop_map(|(year, month, day, time)| format!(";UNTIL={year}{month:02}{day:02}{time}")),
        (1..4u8).prop_map(|years| format!(";INTERVAL={years}")),
    ];
    let yearly = on.prop_map(|on| format!("FREQ=YEARLY{on}"));
    let rule =
        (prop_oneof![3 => yearly, 1 => several_a_year()], end).prop_map(|(on, end)| on + &end);
    let rule = option::weighted(0.8, rule);
    let first = (2019..2029i16, 1..=366i16).prop_map(|(year, day)| {
        let days = jiff::Span::new().days(day - 1);
        Date::new(year, 1, 1).unwrap().checked_add(days).unwrap()
    });
    // Of a leap day more often than chance has it.
    let first = prop_oneof![4 => first, 1 => Just(Date::new(2024, 2, 29).unwrap())];
    (first, 1..5u8, rule, any::<bool>()).prop_map(|(first, days, rule, but)| {
        let except = if but { vec![first.to_string()] } else { Vec::new() };
        json!({ "first": first, "days": days, "rule": rule, "except": except })
    })
}

/// The same as an iCalendar file.
fn calendar(events: &[Value]) -> String {
    let plain = |date: &Value| date.as_str().unwrap().replace('-', "");
    let events = events.iter().map(|event| {
        let mut text = format!(
            "BEGIN:VEVENT\r\nDTSTART;VALUE=DATE:{}\r\nDURATION:P{}D\r\n",
            plain(&event["first"]),
            event["days"]
        );
        if let Some(rule) = event["rule"].as_str() {
            text += &format!("RRULE:{rule}\r\n");
        }
        for date in event["except"].as_array().unwrap() {
            text += &format!("EXDATE;VALUE=DATE:{}\r\n", plain(date));
        }
        text + "END:VEVENT\r\n"
    });
    format!("BEGIN:VCALENDAR\r\n{}END:VCALENDAR\r\n", events.collect::<String>())
}

/// The days on which a schedule goes on, in four years of UTC.
fn days_of(schedule: &Schedule) -> Vec<String> {
    let from: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
    let to = from.checked_add(SignedDuration::from_hours(24 * DAYS)).unwrap();
    let found = schedule.preview(from, to, 10_000).into_iter();
    let on = found.filter(|it| it.power == Power::On);
    on.map(|it| it.local.date().to_string()).collect()
}

#[test]
fn every_word_for_days_means_the_days_that_the_oracle_says() {
    let folder = tempfile::tempdir().unwrap();
    let rules = some(&rule_days(), BY_THE_DAY);
    let holidays = option::of(proptest::collection::vec(event(), 1..4));
    let periods = some(&(period_days(), holidays, any::<bool>()), BY_THE_DAY);
    let (mut jobs, mut found) = (Vec::new(), Vec::new());
    for rule in rules {
        let text = format!("0 12 {rule}");
        let schedule = Schedule::rules(&text, "0 13 * * *", "UTC");
        found.push(days_of(&schedule.unwrap_or_else(|why| panic!("{text}: {why}"))));
        jobs.push(json!({ "rule": rule, "from": "2026-01-01", "days": DAYS }));
    }
    for (days, events, only) in periods {
        let only = if only && events.is_some() { "holidays" } else { "" };
        let (days, file) = (format!("{days} {only}"), events.as_deref().map(calendar));
        let text = format!("{days} 12:00-13:00");
        let schedule = Schedule::periods_but(&text, &file.unwrap_or_default(), "UTC");
        found.push(days_of(&schedule.unwrap_or_else(|why| panic!("{text}: {why}"))));
        jobs.push(json!({
            "period": text, "holidays": events, "from": "2026-01-01", "days": DAYS,
        }));
    }
    let expected: Vec<Vec<String>> = ask_all(folder.path(), &jobs).unwrap();
    for ((job, found), expected) in jobs.iter().zip(found).zip(expected) {
        assert_eq!(found, expected, "{job}");
    }
}

/// A rule whose hours are those in which clocks change.
fn rule() -> impl Strategy<Value = String> {
    let minute = select(vec!["0", "15", "30", "59", "*/7", "10-50/20"]);
    let hour = select(vec!["0", "1", "2", "3", "4", "22,23", "23", "*", "1-3"]);
    let days = prop_oneof![
        2 => Just("* * *".to_owned()),
        1 => days_of_week(0).prop_map(|week| format!("* * {week}")),
        1 => days_of_week(1).prop_map(|week| format!("? * {week} *")),
        1 => days_of_month().prop_map(|month| format!("{month} * ? *")),
    ];
    (minute, hour, days).prop_map(|(minute, hour, days)| format!("{minute} {hour} {days}"))
}

fn period() -> impl Strategy<Value = String> {
    let time = || {
        let hour = prop_oneof![3 => 0..4u8, 1 => 0..24u8];
        (hour, select(vec![0, 15, 30, 59u8]))
            .prop_map(|(hour, minute)| format!("{hour}:{minute:02}"))
    };
    let days = select(vec!["", "daily", "mon-fri", "fri-mon", "sun", "sat#1", "sunL", "25-31"]);
    let one = (days, time(), time()).prop_map(|(days, from, to)| format!("{days} {from}-{to}"));
    proptest::collection::vec(one, 1..4).prop_map(|all| all.join("; "))
}

#[test]
fn around_clock_changes_rules_and_periods_of_every_policy_do_what_the_oracle_says() {
    let folder = tempfile::tempdir().unwrap();
    let changing: Vec<&str> = zones(true).into_iter().filter(|it| windows(it).len() > 1).collect();
    let plan = prop_oneof![
        (rule(), rule()).prop_map(|(start, stop)| json!({ "start": start, "stop": stop })),
        period().prop_map(|text| json!({ "period": text })),
    ];
    let any = (plan, select(changing), 0..6usize, any::<bool>(), any::<bool>());
    let (mut jobs, mut schedules) = (Vec::new(), Vec::new());
    for (mut job, name, at, skip, second) in some(&any, BY_THE_MINUTE) {
        let windows = windows(name);
        let from = windows[at % windows.len()];
        let gap = if skip && job["start"].is_string() { Gap::Skip } else { Gap::End };
        let policy = ClockChange { gap, fold: if second { Fold::Second } else { Fold::First } };
        let text = |field: &str| job[field].as_str().unwrap_or_default().to_owned();
        let schedule = match job["period"].as_str() {
            Some(period) => Schedule::periods(period, name),
            None => Schedule::rules(&text("start"), &text("stop"), name),
        };
        let schedule = schedule.and_then(|it| it.with(policy));
        schedules.push((schedule.unwrap_or_else(|why| panic!("{job}: {why}")), from));
        let about = json!({
            "zone": name, "from": from.as_second(), "minutes": MINUTES, "gap": gap,
            "fold": policy.fold,
        });
        job.as_object_mut().unwrap().extend(about.as_object().unwrap().clone());
        jobs.push(job);
    }
    write_zones(folder.path()).unwrap();
    let answers: Vec<Changes> = ask_all(folder.path(), &jobs).unwrap();
    for ((job, (schedule, from)), changes) in jobs.iter().zip(schedules).zip(answers) {
        let at = |minute: i64| from.checked_add(SignedDuration::from_mins(minute)).unwrap();
        // Before its first rule a pair is nothing yet.
        let Some((first, _)) = changes.first() else { continue };
        let told = schedule.preview(at(first + 1), at(MINUTES), 10_000);
        let told: Vec<(Timestamp, bool)> =
            told.iter().map(|it| (it.at, it.power == Power::On)).collect();
        let expected = changes[1..].iter().map(|(minute, state)| (at(*minute), state == "ON"));
        assert_eq!(told, expected.collect::<Vec<_>>(), "{job}");
    }
}
