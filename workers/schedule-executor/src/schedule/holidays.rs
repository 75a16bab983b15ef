//! Holidays, from an iCalendar file (RFC 5545): whole days, several in a row, and those that come
//! back, by the day.

mod event;
mod local;
mod rule;
mod series;
mod yearly;

use jiff::{
    Span,
    civil::{Date, Weekday},
    tz::TimeZone,
};

use self::{
    event::{Event, events, until},
    rule::Rule,
    series::Series,
    yearly::Yearly,
};
use super::ScheduleError;

/// The largest file that is read, in bytes.
const LIMIT: usize = 128 << 10;
/// The most events.
const EVENTS: usize = 1_000;
/// The most of them that come back on more than one day a year: these are looked at day by day.
const SERIES: usize = 100;
/// The longest event that comes back, in days.
const LONGEST: i32 = 366;
/// The last year that rules know.
const LAST_YEAR: i16 = 2199;
const WEEKDAYS: [(&str, Weekday); 7] = [
    ("MO", Weekday::Monday),
    ("TU", Weekday::Tuesday),
    ("WE", Weekday::Wednesday),
    ("TH", Weekday::Thursday),
    ("FR", Weekday::Friday),
    ("SA", Weekday::Saturday),
    ("SU", Weekday::Sunday),
];

/// The days of a calendar.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Holidays {
    /// First and last day of each.
    spans: Vec<(Date, Date)>,
    yearly: Vec<Yearly>,
    series: Vec<Series>,
}

impl Holidays {
    /// Reads a file; a time in UTC is of the date that it is of in `zone`.
    ///
    /// # Errors
    /// When it is none, or has an event whose days cannot be told.
    pub(super) fn parse(text: &str, zone: &TimeZone) -> Result<Self, ScheduleError> {
        if text.len() > LIMIT {
            return Err(wrong(&format!("it is over {LIMIT} bytes")));
        }
        let text = text.trim_start_matches('\u{feff}');
        let text = text.replace("\r\n", "\n").replace("\n ", "").replace("\n\t", "");
        if !text.trim_start().to_ascii_uppercase().starts_with("BEGIN:VCALENDAR") {
            return Err(wrong("it does not begin with BEGIN:VCALENDAR"));
        }
        let mut holidays = Self::default();
        let text = local::dates(&text, zone);
        let events = events(&text)?;
        if events.len() > EVENTS {
            return Err(wrong(&format!("it has over {EVENTS} events")));
        }
        let moved: Vec<(&str, Date)> = events.iter().filter_map(Event::moves).collect();
        for event in events {
            holidays.add(&event, &moved)?;
        }
        if holidays.series.len() > SERIES {
            let what = "events that come back on more than one day a year";
            return Err(wrong(&format!("it has over {SERIES} {what}")));
        }
        Ok(holidays)
    }

    /// Adds an event; `moved` are the days of which other events of the file tell where they went.
    fn add(&mut self, event: &Event<'_>, moved: &[(&str, Date)]) -> Result<(), ScheduleError> {
        event.check()?;
        if event.field("STATUS").is_some_and(|it| it.eq_ignore_ascii_case("CANCELLED")) {
            return Ok(());
        }
        let start = event.line("DTSTART");
        let first = start.and_then(|it| date(it.value));
        let (start, first) = start
            .zip(first)
            .ok_or_else(|| wrong("an event has no DTSTART, or one that is no date"))?;
        let days = event.days(first)?;
        // What is left out is so wherever it comes from.
        let mut except = event.dates("EXDATE")?;
        if event.moves().is_none() {
            let own = moved.iter().filter(|(uid, _)| event.field("UID") == Some(*uid));
            except.extend(own.map(|(_, day)| *day));
        }
        for (more, days) in event.more(days)? {
            self.spans.extend(span(more, days).filter(|_| !except.contains(&more)));
        }
        match event.field("RRULE") {
            None if except.contains(&first) => {}
            None => self.spans.extend(span(first, days)),
            Some(_) if days > LONGEST => {
                let what =
                    format!("an event of over {LONGEST} days comes back: name each by itself");
                return Err(wrong(&what));
            }
            Some(rule) => {
                let rule = rule.to_ascii_uppercase();
                let (rule, last) = (Rule::parse(&rule)?, until(&rule, start)?);
                match Yearly::of(&rule, first, days, &except)? {
                    Some(mut yearly) => {
                        yearly.ends_at(last);
                        self.yearly.push(yearly);
                    }
                    None => self.series.push(Series::of(&rule, (first, last), days, except)?),
                }
            }
        }
        Ok(())
    }

    /// The holidays of the month that begins on `first`, as bits.
    pub(super) fn of(&self, first: Date) -> u32 {
        // One that began last year may reach over into this one.
        let years = [first.year() - 1, first.year()];
        let yearly = self
            .yearly
            .iter()
            .flat_map(|it| years.into_iter().filter_map(|year| span(it.begins(year)?, it.days)));
        let series = self.series.iter().flat_map(|it| it.spans(first));
        let spans = self.spans.iter().copied().chain(yearly).chain(series);
        spans.fold(0, |bits, span| bits | within(span, first))
    }
}

/// The days of a span that are in the month that begins on `first`, as bits.
fn within((from, to): (Date, Date), first: Date) -> u32 {
    let last = first.last_of_month();
    if to < first || from > last {
        return 0;
    }
    let (from, to) = (from.max(first).day(), to.min(last).day());
    let up_to = |day: i8| (1_u64 << (day + 1)) - 1;
    (up_to(to) & !up_to(from - 1)) as u32
}

/// The first and the last of so many days.
fn span(first: Date, days: i32) -> Option<(Date, Date)> {
    Some((first, first.checked_add(Span::new().days(days - 1)).ok()?))
}

/// Whether a time is after the beginning of its day.
fn is_within(text: &str) -> bool {
    let time = text.get(8..).and_then(|rest| rest.strip_prefix(['T', 't']));
    time.is_some_and(|time| time.bytes().any(|b| (b'1'..=b'9').contains(&b)))
}

/// `20261225`, or a time of that date: `20261225T000000`.
fn date(text: &str) -> Option<Date> {
    let digits = text.get(..8).filter(|it| it.bytes().all(|b| b.is_ascii_digit()))?;
    let number = |range: std::ops::Range<usize>| digits[range].parse::<i16>().ok();
    Date::new(number(0..4)?, number(4..6)? as i8, number(6..8)? as i8).ok()
}

fn wrong(why: &str) -> ScheduleError {
    ScheduleError(format!("the iCalendar file of holidays: {why}"))
}

#[cfg(test)]
mod tests;
