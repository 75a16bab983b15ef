//! Holidays, from an iCalendar file (RFC 5545): whole days, several in a row, and those that come
//! every year.

mod event;

use std::collections::BTreeSet;

use jiff::{
    Span,
    civil::{Date, Weekday},
};

use self::event::{Event, events, until};
use super::ScheduleError;

/// The largest file that is read, in bytes.
const LIMIT: usize = 128 << 10;
/// The most events.
const EVENTS: usize = 1_000;
/// The longest event, in days.
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
}

/// An event that comes back.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Yearly {
    first: Date,
    days: i32,
    every: i16,
    until: Option<Date>,
    except: BTreeSet<Date>,
    on: On,
}

/// On which day of its year.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum On {
    /// Days below zero count from the end of the month.
    Date {
        month: i8,
        day: i8,
    },
    Nth {
        month: i8,
        nth: i8,
        weekday: Weekday,
    },
    NthOfYear {
        nth: i8,
        weekday: Weekday,
    },
}

impl Holidays {
    /// Reads a file.
    ///
    /// # Errors
    /// When it is none, or has an event whose days cannot be told.
    pub(super) fn parse(text: &str) -> Result<Self, ScheduleError> {
        if text.len() > LIMIT {
            return Err(wrong(&format!("it is over {LIMIT} bytes")));
        }
        let text = text.trim_start_matches('\u{feff}');
        let text = text.replace("\r\n", "\n").replace("\n ", "").replace("\n\t", "");
        if !text.trim_start().to_ascii_uppercase().starts_with("BEGIN:VCALENDAR") {
            return Err(wrong("it does not begin with BEGIN:VCALENDAR"));
        }
        let mut holidays = Self::default();
        let events = events(&text)?;
        if events.len() > EVENTS {
            return Err(wrong(&format!("it has over {EVENTS} events")));
        }
        let moved: Vec<(&str, Date)> = events.iter().filter_map(Event::moves).collect();
        for event in events {
            holidays.add(&event, &moved)?;
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
            Some(rule) => {
                let rule = rule.to_ascii_uppercase();
                let mut yearly = Yearly::parse(&rule, first, days, except)?;
                yearly.ends_at(until(&rule, start)?);
                self.yearly.push(yearly);
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
        let spans = self.spans.iter().copied().chain(yearly);
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

impl Yearly {
    fn parse(
        rule: &str,
        first: Date,
        days: i32,
        except: BTreeSet<Date>,
    ) -> Result<Self, ScheduleError> {
        let bad = || wrong(&format!("RRULE:{rule}: only events of one day a year are known"));
        let known =
            ["FREQ", "INTERVAL", "COUNT", "UNTIL", "BYMONTH", "BYMONTHDAY", "BYDAY", "WKST"];
        let pairs = rule.split(';').map(|part| part.split_once('=')).collect::<Option<Vec<_>>>();
        let pairs = pairs.filter(|all| all.iter().all(|(key, _)| known.contains(key)));
        let pairs = pairs.ok_or_else(bad)?;
        let part = |name: &str| pairs.iter().find(|(key, _)| *key == name).map(|(_, it)| *it);
        let number = |name: &str| part(name).map(|it| it.parse::<i16>().map_err(|_| bad()));
        if part("FREQ") != Some("YEARLY") {
            return Err(bad());
        }
        let on = On::parse([part("BYMONTH"), part("BYMONTHDAY"), part("BYDAY")], first);
        let on = on.ok_or_else(bad)?;
        let every = number("INTERVAL").transpose()?.unwrap_or(1);
        let times = number("COUNT").transpose()?;
        if every < 1 || times.is_some_and(|times| times < 1) {
            return Err(bad());
        }
        let mut yearly = Self { first, days, every, until: None, except, on };
        yearly.ends_at(times.and_then(|times| yearly.nth(times)));
        Ok(yearly)
    }

    /// Ends it on a date, unless it ends before that.
    fn ends_at(&mut self, last: Option<Date>) {
        self.until = self.until.into_iter().chain(last).min();
    }

    /// The day of its n-th year: a year without its day, such as one without February 29, does not
    /// count. None where it comes after the years that rules know.
    fn nth(&self, times: i16) -> Option<Date> {
        let years = (self.first.year()..=LAST_YEAR).step_by(usize::try_from(self.every).ok()?);
        let days = years.filter_map(|year| self.on.of(year)).filter(|day| *day >= self.first);
        days.take(usize::try_from(times).ok()?).nth(usize::try_from(times - 1).ok()?)
    }

    fn begins(&self, year: i16) -> Option<Date> {
        let over = self.until.is_some_and(|until| until.year() < year);
        if over || year < self.first.year() || (year - self.first.year()) % self.every != 0 {
            return None;
        }
        let day = self.on.of(year).filter(|day| *day >= self.first)?;
        let within = self.until.is_none_or(|until| day <= until) && !self.except.contains(&day);
        within.then_some(day)
    }
}

impl On {
    /// The day that `BYMONTH`, `BYMONTHDAY` and `BYDAY` name, or else that of the first event; none
    /// where these name several days of a year.
    fn parse([month, day, weekday]: [Option<&str>; 3], first: Date) -> Option<Self> {
        let own = month.map_or(Some(first.month()), |it| it.parse().ok());
        let own = own.filter(|month| (1..=12).contains(month))?;
        match (weekday, day) {
            (None, None) => Some(Self::Date { month: own, day: first.day() }),
            // Without a month it would be one of each.
            (None, Some(day)) => {
                let day = day.parse().ok().filter(|day| (-31..=31).contains(day) && *day != 0)?;
                month.map(|_| Self::Date { month: own, day })
            }
            (Some(text), None) => {
                let (nth, name) = text.split_at_checked(text.len().checked_sub(2)?)?;
                let weekday = WEEKDAYS.iter().find(|(it, _)| *it == name)?.1;
                let most = if month.is_some() { 5 } else { 53 };
                let nth =
                    nth.parse().ok().filter(|nth| (-most..=most).contains(nth) && *nth != 0)?;
                Some(match month {
                    Some(_) => Self::Nth { month: own, nth, weekday },
                    None => Self::NthOfYear { nth, weekday },
                })
            }
            (Some(_), Some(_)) => None,
        }
    }

    /// The day in a year, if the year has it.
    fn of(self, year: i16) -> Option<Date> {
        let first = |month| Date::new(year, month, 1).ok();
        match self {
            Self::Date { month, day } if day < 0 => {
                let day = first(month)?.days_in_month() + 1 + day;
                Date::new(year, month, day).ok()
            }
            Self::Date { month, day } => Date::new(year, month, day).ok(),
            Self::Nth { month, nth, weekday } => {
                first(month)?.nth_weekday_of_month(nth, weekday).ok()
            }
            Self::NthOfYear { nth, weekday } => {
                // The day before the year, or the day after it: not of it itself.
                let edge = match nth > 0 {
                    true => Date::new(year - 1, 12, 31).ok()?,
                    false => Date::new(year + 1, 1, 1).ok()?,
                };
                edge.nth_weekday(nth.into(), weekday).ok().filter(|day| day.year() == year)
            }
        }
    }
}

/// Whether a time is after the beginning of its day.
fn is_within(text: &str) -> bool {
    let time = text.get(8..).and_then(|rest| rest.strip_prefix(['T', 't']));
    time.is_some_and(|time| time.bytes().any(|b| (b'1'..=b'9').contains(&b)))
}

/// `20261225`, or a time whose date is `20261225T000000Z`.
///
/// A time of day in UTC is of one date here and of another there: whose holiday that is cannot be told.
fn date(text: &str) -> Option<Date> {
    if text.ends_with(['Z', 'z']) && is_within(text) {
        return None;
    }
    let digits = text.get(..8).filter(|it| it.bytes().all(|b| b.is_ascii_digit()))?;
    let number = |range: std::ops::Range<usize>| digits[range].parse::<i16>().ok();
    Date::new(number(0..4)?, number(4..6)? as i8, number(6..8)? as i8).ok()
}

fn wrong(why: &str) -> ScheduleError {
    ScheduleError(format!("the iCalendar file of holidays: {why}"))
}

#[cfg(test)]
mod tests;
