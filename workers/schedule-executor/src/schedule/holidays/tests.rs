//! Holidays of iCalendar files.

use jiff::civil::date;

use super::*;

fn file(events: &[&str]) -> String {
    let events = events.iter().map(|it| format!("BEGIN:VEVENT\r\n{it}\r\nEND:VEVENT\r\n"));
    format!("BEGIN:VCALENDAR\r\nVERSION:2.0\r\n{}END:VCALENDAR\r\n", events.collect::<String>())
}

fn parse(text: &str) -> Result<Holidays, ScheduleError> {
    Holidays::parse(text, &TimeZone::UTC)
}

fn days(holidays: &Holidays, year: i16, month: i8) -> Vec<u32> {
    let bits = holidays.of(date(year, month, 1));
    (1..=31).filter(|day| bits >> day & 1 == 1).collect()
}

#[test]
fn days_spans_and_yearly_events_are_holidays() {
    let holidays = parse(&file(&[
        "DTSTART;VALUE=DATE:20260501\r\nSUMMARY:Tag der\r\n  Arbeit",
        "DTSTART;VALUE=DATE:20261224\r\nDTEND;VALUE=DATE:20261227",
        "DTSTART;VALUE=DATE:20201231\r\nDTEND;VALUE=DATE:20210102\r\nRRULE:FREQ=YEARLY",
        "DTSTART:20201126T000000Z\r\nRRULE:FREQ=YEARLY;BYMONTH=11;BYDAY=4TH\r\nEXDATE:20271125T000000Z",
        "DTSTART;VALUE=DATE:20260704\r\nSTATUS:CANCELLED",
        "DTSTART;VALUE=DATE:20250808\r\nRRULE:FREQ=YEARLY;UNTIL=20261231",
    ])).unwrap();
    assert_eq!(days(&holidays, 2026, 5), [1]);
    assert_eq!(days(&holidays, 2026, 12), [24, 25, 26, 31]);
    assert_eq!(days(&holidays, 2027, 1), [1]);
    assert_eq!(days(&holidays, 2026, 11), [26]);
    assert_eq!(days(&holidays, 2027, 11), [0; 0]);
    assert_eq!(days(&holidays, 2026, 7), [0; 0]);
    assert_eq!((days(&holidays, 2026, 8), days(&holidays, 2027, 8)), (vec![8], vec![]));
    assert_eq!(days(&holidays, 2019, 12), [0; 0]);
}

#[test]
fn every_line_of_an_event_counts_in_whatever_case_and_its_alarms_do_not() {
    let holidays = parse(&file(&[
        "DTSTART:20200101\r\nRRULE:FREQ=YEARLY\r\nEXDATE:20260101\r\nEXDATE:20270101,20280101",
        "DTSTART;VALUE=DATE:20260401\r\nDURATION:P2D\r\nRDATE;VALUE=DATE:20260410,20260430",
        "DTSTART;VALUE=DATE:20260501\r\nDURATION:P1W\r\nBEGIN:VALARM\r\nDURATION:PT5M\r\nDTSTART:1\r\nEND:VALARM",
        "dtstart;value=date:20260601\r\nduration:PT36H",
        "DTSTART:20260801\r\nRDATE:20260803,20260805\r\nEXDATE:20260803",
    ])).unwrap();
    assert_eq!(days(&holidays, 2026, 8), [1, 5], "what is left out is so of RDATE too");
    for year in 2026..=2028 {
        assert_eq!(days(&holidays, year, 1), [0; 0], "{year}");
    }
    assert_eq!((days(&holidays, 2025, 1), days(&holidays, 2029, 1)), (vec![1], vec![1]));
    assert_eq!(days(&holidays, 2026, 4), [1, 2, 10, 11, 30]);
    assert_eq!(days(&holidays, 2026, 5), [1, 2, 3, 4, 5, 6, 7]);
    assert_eq!(days(&holidays, 2026, 6), [1, 2]);
    let lower = file(&["DTSTART:20260704"]).to_lowercase();
    assert_eq!(days(&parse(&lower).unwrap(), 2026, 7), [4]);
}

#[test]
fn a_day_of_a_series_that_was_moved_is_where_it_was_moved_to() {
    let holidays = parse(&file(&[
        "UID:a\r\nDTSTART:20200103\r\nRRULE:FREQ=YEARLY",
        "UID:a\r\nRECURRENCE-ID;VALUE=DATE:20270103\r\nDTSTART:20270104",
        "UID:b\r\nDTSTART:20200107\r\nRRULE:FREQ=YEARLY",
        "UID:b\r\nRECURRENCE-ID:20270107\r\nDTSTART:20270107\r\nSTATUS:CANCELLED",
    ]))
    .unwrap();
    assert_eq!(days(&holidays, 2026, 1), [3, 7]);
    assert_eq!(days(&holidays, 2027, 1), [4]);
}

#[test]
fn years_without_the_day_do_not_count_and_days_may_be_told_from_the_end() {
    let holidays = parse(&file(&[
        "DTSTART:20240229\r\nRRULE:FREQ=YEARLY;COUNT=2",
        "DTSTART:20260131\r\nRRULE:FREQ=YEARLY;BYMONTH=6;BYMONTHDAY=-1",
        "DTSTART:20260101\r\nRRULE:freq=yearly;BYDAY=-1FR",
        "DTSTART:20260504T080000\r\nDTEND:20260505T120000",
        "DTSTART:20260704T000000\r\nDTEND:20260705T000000",
    ]))
    .unwrap();
    let february = |year| days(&holidays, year, 2);
    assert_eq!((february(2024), february(2028), february(2032)), (vec![29], vec![29], vec![]));
    assert_eq!((days(&holidays, 2026, 6), days(&holidays, 2026, 12)), (vec![30], vec![25]));
    assert_eq!((days(&holidays, 2026, 5), days(&holidays, 2026, 7)), (vec![4, 5], vec![4]));
}

#[test]
fn many_long_events_take_no_time_and_too_many_are_refused() {
    let event = "DTSTART:20200101\r\nDTEND:20201231\r\nRRULE:FREQ=YEARLY";
    let holidays = parse(&file(&vec![event; 1000])).unwrap();
    let begin = std::time::Instant::now();
    (2021..2121).for_each(|year| assert_eq!(holidays.of(date(year, 2, 1)).count_ones() / 28, 1));
    assert!(begin.elapsed() < std::time::Duration::from_secs(2), "{:?}", begin.elapsed());
    assert!(parse(&file(&vec!["DTSTART:20200101"; 1001])).is_err());
}

#[test]
fn a_line_is_split_outside_of_quotes_and_a_mark_before_the_file_is_passed_over() {
    let file = file(&[
        "DTSTART;TZID=\"Europe/Berlin\";X=\"a:20200101;b\":20260501T000000\r\nDURATION:P1D",
        "DTSTART;TZID=\"Europe/Berlin\":20260601T000000\r\nEXDATE;X=\":\":20270601\r\nRRULE:FREQ=YEARLY",
    ]);
    let holidays = parse(&format!("\u{feff}{file}")).unwrap();
    assert_eq!((days(&holidays, 2026, 5), days(&holidays, 2026, 6)), (vec![1], vec![1]));
    assert_eq!((days(&holidays, 2027, 6), days(&holidays, 2028, 6)), (vec![], vec![1]));
}

#[test]
fn an_event_of_years_is_of_all_its_days_and_does_not_come_back() {
    let years = "DTSTART;VALUE=DATE:20260315\r\nDTEND;VALUE=DATE:20290102";
    let holidays = parse(&file(&[years])).unwrap();
    assert_eq!((days(&holidays, 2028, 2).len(), days(&holidays, 2029, 1)), (29, vec![1]));
    assert_eq!(days(&holidays, 2026, 3).first(), Some(&15));
    let again = format!("{years}\r\nRRULE:FREQ=YEARLY");
    assert!(parse(&file(&[&again])).unwrap_err().to_string().contains("366"));
}

#[test]
fn what_moves_or_repeats_in_ways_that_are_not_known_is_refused_by_name() {
    for (event, word) in [
        ("UID:a\r\nDTSTART:20200103\r\nRECURRENCE-ID;RANGE=THISANDFUTURE:20270103", "RANGE"),
        ("UID:a\r\nDTSTART:20200103\r\nRECURRENCE-ID:soon", "RECURRENCE-ID"),
        ("DTSTART:20200103\r\nRECURRENCE-ID:20270103", "RECURRENCE-ID"),
        ("DTSTART:20200101\r\nRRULE:FREQ=YEARLY\r\nRRULE:FREQ=YEARLY;BYMONTH=5", "second RRULE"),
        ("DTSTART:20200101\r\nRRULE:FREQ=YEARLY\r\nEXRULE:FREQ=YEARLY;INTERVAL=2", "EXRULE"),
        ("DTSTART:20200101\r\nRRULE:FREQ=YEARLY;UNTIL=soon", "UNTIL"),
        ("DTSTART;TZID=Here:20200101T000000\r\nRRULE:FREQ=YEARLY;UNTIL=20270101T000000Z", "TZID"),
        ("DTSTART:20200101\r\nRDATE;VALUE=PERIOD:20200301T000000/soon", "soon"),
    ] {
        let why = parse(&file(&[event])).unwrap_err().to_string();
        assert!(why.contains(word), "{event}: {why}");
    }
}

#[test]
fn a_period_of_an_rdate_lasts_as_long_as_it_says() {
    let holidays = parse(&file(&[
        "DTSTART:20260101\r\nRDATE;VALUE=PERIOD:20260310T000000/P3D,20260320T080000/20260321T120000",
        "DTSTART:20260501T200000\r\nDURATION:PT8H",
    ]))
    .unwrap();
    assert_eq!(days(&holidays, 2026, 3), [10, 11, 12, 20, 21]);
    assert_eq!(days(&holidays, 2026, 5), [1, 2], "it goes on after midnight");
}

#[test]
fn the_end_of_a_rule_may_be_a_time_and_is_that_of_the_events_clock() {
    let last = |start: &str, until: &str| {
        let rule = format!("DTSTART{start}\r\nRRULE:FREQ=YEARLY;UNTIL={until}");
        let holidays = parse(&file(&[&rule])).unwrap();
        (2020..2040).filter(|year| !days(&holidays, *year, 1).is_empty()).max()
    };
    assert_eq!(last(":20200101", "20300101"), Some(2030));
    assert_eq!(last(";VALUE=DATE:20200101", "20291231T235959Z"), Some(2029));
    assert_eq!(last(";VALUE=DATE:20200101", "20300101T000000Z"), Some(2030));
    // Midnight of Berlin is an hour before that of UTC.
    let berlin = ";TZID=Europe/Berlin:20200101T000000";
    assert_eq!(last(berlin, "20291231T230000Z"), Some(2030));
    assert_eq!(last(berlin, "20291231T225959Z"), Some(2029));
    assert_eq!(last(":20200101T100000", "20300101T090000"), Some(2029));
}

/// The days of an event that begins on `start`, in the months from there on.
fn comes(start: &str, rule: &str, months: usize) -> Vec<String> {
    let event = format!("DTSTART;VALUE=DATE:{start}\r\nRRULE:{rule}");
    let holidays = parse(&file(&[&event])).unwrap_or_else(|why| panic!("{rule}: {why}"));
    let begin = super::date(start).unwrap().first_of_month();
    let month = |past: usize| begin.checked_add(Span::new().months(past as i64)).unwrap();
    let days = |first: Date| {
        let days = days(&holidays, first.year(), first.month()).into_iter();
        days.map(move |day| format!("{}-{:02}-{day:02}", first.year(), first.month()))
    };
    (0..months).map(month).flat_map(days).collect()
}

#[test]
fn events_come_back_by_the_day_week_month_and_year_as_the_examples_of_rfc_5545_do() {
    for (start, rule, months, found) in [
        ("19970902", "FREQ=DAILY;COUNT=3", 3, "1997-09-02 1997-09-03 1997-09-04"),
        (
            "19970902",
            "FREQ=DAILY;INTERVAL=10;COUNT=5",
            3,
            "1997-09-02 1997-09-12 1997-09-22 1997-10-02 1997-10-12",
        ),
        (
            "19970902",
            "FREQ=WEEKLY;INTERVAL=2;WKST=SU",
            2,
            "1997-09-02 1997-09-16 1997-09-30 1997-10-14 1997-10-28",
        ),
        (
            "19970902",
            "FREQ=WEEKLY;COUNT=4;WKST=SU;BYDAY=TU,TH",
            2,
            "1997-09-02 1997-09-04 1997-09-09 1997-09-11",
        ),
        (
            "19970805",
            "FREQ=WEEKLY;INTERVAL=2;COUNT=4;BYDAY=TU,SU;WKST=MO",
            2,
            "1997-08-05 1997-08-10 1997-08-19 1997-08-24",
        ),
        (
            "19970805",
            "FREQ=WEEKLY;INTERVAL=2;COUNT=4;BYDAY=TU,SU;WKST=SU",
            2,
            "1997-08-05 1997-08-17 1997-08-19 1997-08-31",
        ),
        (
            "19970905",
            "FREQ=MONTHLY;COUNT=4;BYDAY=1FR",
            6,
            "1997-09-05 1997-10-03 1997-11-07 1997-12-05",
        ),
        ("19970922", "FREQ=MONTHLY;COUNT=3;BYDAY=-2MO", 6, "1997-09-22 1997-10-20 1997-11-17"),
        ("19970928", "FREQ=MONTHLY;BYMONTHDAY=-3", 3, "1997-09-28 1997-10-29 1997-11-28"),
        ("19970902", "FREQ=MONTHLY;BYDAY=FR;BYMONTHDAY=13", 15, "1998-02-13 1998-03-13 1998-11-13"),
        (
            "19970904",
            "FREQ=MONTHLY;COUNT=3;BYDAY=TU,WE,TH;BYSETPOS=3",
            6,
            "1997-09-04 1997-10-07 1997-11-06",
        ),
        (
            "19970929",
            "FREQ=MONTHLY;BYDAY=MO,TU,WE,TH,FR;BYSETPOS=-2",
            4,
            "1997-09-29 1997-10-30 1997-11-27 1997-12-30",
        ),
        (
            "19961105",
            "FREQ=YEARLY;INTERVAL=4;BYMONTH=11;BYDAY=TU;BYMONTHDAY=2,3,4,5,6,7,8",
            97,
            "1996-11-05 2000-11-07 2004-11-02",
        ),
        (
            "19970101",
            "FREQ=YEARLY;INTERVAL=3;COUNT=4;BYYEARDAY=1,100,200",
            60,
            "1997-01-01 1997-04-10 1997-07-19 2000-01-01",
        ),
        (
            "20261225",
            "FREQ=YEARLY;BYMONTH=12;BYMONTHDAY=25,26",
            13,
            "2026-12-25 2026-12-26 2027-12-25 2027-12-26",
        ),
        (
            "20260101",
            "FREQ=MONTHLY;UNTIL=20260401",
            12,
            "2026-01-01 2026-02-01 2026-03-01 2026-04-01",
        ),
        ("20260131", "FREQ=MONTHLY", 5, "2026-01-31 2026-03-31 2026-05-31"),
        (
            "20260105",
            "FREQ=YEARLY;BYMONTH=1;BYDAY=MO",
            2,
            "2026-01-05 2026-01-12 2026-01-19 2026-01-26",
        ),
    ] {
        let expected: Vec<&str> = found.split(' ').collect();
        assert_eq!(comes(start, rule, months), expected, "{rule}");
    }
}

#[test]
fn a_day_that_is_left_out_of_a_series_counts_as_one_and_long_events_reach_into_the_next_month() {
    let holidays = parse(&file(&[
        "DTSTART:20260130\r\nDTEND:20260202\r\nRRULE:FREQ=WEEKLY;COUNT=3\r\nEXDATE:20260206",
    ]))
    .unwrap();
    assert_eq!(days(&holidays, 2026, 1), [30, 31]);
    assert_eq!(days(&holidays, 2026, 2), [1, 13, 14, 15]);
    let many = vec!["DTSTART:20260101\r\nRRULE:FREQ=DAILY"; 101];
    assert!(parse(&file(&many)).unwrap_err().to_string().contains("100"));
}

#[test]
fn a_time_in_utc_is_of_the_date_that_it_is_of_in_the_zone() {
    let berlin = crate::schedule::zone("Europe/Berlin").unwrap();
    let text = file(&[
        "DTSTART:20261224T230000Z\r\nDTEND:20261225T230000Z\r\nRRULE:FREQ=YEARLY;UNTIL=20291224T230000Z\r\n\
         EXDATE:20271224T230000Z",
        "DTSTART:20260430T220000Z\r\nDURATION:P1D\r\nRDATE:20260531T220000Z",
        "DTSTART:20260701T000000Z\r\nDURATION:P1D",
    ]);
    let holidays = Holidays::parse(&text, &berlin).unwrap();
    let december = |year| days(&holidays, year, 12);
    assert_eq!((december(2026), december(2027)), (vec![25], vec![]));
    assert_eq!((december(2029), december(2030)), (vec![25], vec![]));
    assert_eq!((days(&holidays, 2026, 5), days(&holidays, 2026, 6)), (vec![1], vec![1]));
    assert_eq!(days(&holidays, 2026, 7), [1], "midnight in UTC is how a date is written");
    assert_eq!(days(&parse(&text).unwrap(), 2026, 12), [24, 25], "in UTC it is of both");
}

#[test]
fn a_file_whose_days_cannot_be_told_is_refused() {
    for bad in [
        "",
        "hello",
        &file(&["SUMMARY:x"]),
        &file(&["DTSTART:soon"]),
        &file(&["DTSTART:20260101\r\nDURATION:long"]),
        &file(&["DTSTART:20260101\r\nRDATE:soon"]),
        &file(&["DTSTART:20260101\r\nRRULE:FREQ=HOURLY"]),
        &file(&["DTSTART:20260101\r\nRRULE:INTERVAL=2"]),
        &file(&["DTSTART:20260101\r\nRRULE:FREQ=YEARLY;BYSETPOS=1"]),
        &file(&["DTSTART:20260101\r\nRRULE:FREQ=YEARLY;BYDAY=MX"]),
        &file(&["DTSTART:20260101\r\nRRULE:FREQ=YEARLY;BYDAY=54MO"]),
        &file(&["DTSTART:20260101\r\nRRULE:FREQ=MONTHLY;BYDAY=6MO"]),
        &file(&["DTSTART:20260101\r\nRRULE:FREQ=WEEKLY;BYDAY=1MO"]),
        &file(&["DTSTART:20260101\r\nRRULE:FREQ=WEEKLY;WKST=X"]),
        &file(&["DTSTART:20260101\r\nRRULE:FREQ=YEARLY;INTERVAL=0"]),
        &file(&["DTSTART:20260101\r\nRRULE:FREQ=YEARLY;COUNT=0"]),
        &file(&["DTSTART:20260101\r\nRRULE:FREQ=YEARLY;BYMONTHDAY=32"]),
        &file(&["DTSTART:20260101\r\nRRULE:FREQ=YEARLY;BYMONTH=1,13;BYMONTHDAY=5"]),
        &file(&["DTSTART:20260101\r\nRRULE:FREQ=YEARLY;BYMONTH=1;BYMONTH=2"]),
        &file(&["DTSTART:20260101\r\nRRULE:FREQ=YEARLY;BYWEEKNO=20"]),
        "BEGIN:VCALENDAR\nBEGIN:VEVENT\nDTSTART:20260101",
    ] {
        assert!(parse(bad).is_err(), "{bad:?}");
    }
}
