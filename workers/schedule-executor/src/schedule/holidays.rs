//! Holidays, from an iCalendar file (RFC 5545): whole days, several in a row, and those that come
//! every year.

use std::collections::BTreeSet;

use jiff::{
    Span,
    civil::{Date, Weekday},
};

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

/// A line of an event.
#[derive(Debug, Clone, Copy)]
struct Line<'a> {
    name: &'a str,
    /// What stands between name and value: `;TZID=Europe/Berlin`.
    parameters: &'a str,
    value: &'a str,
}

impl<'a> Line<'a> {
    /// A line is split at the first colon outside of quotes, such as those of a zone or an address.
    fn parse(line: &'a str) -> Option<Self> {
        let mut quoted = false;
        let colon = line.char_indices().find(|(_, it)| {
            quoted ^= *it == '"';
            *it == ':' && !quoted
        })?;
        let (key, value) = (&line[..colon.0], line[colon.0 + 1..].trim());
        let (name, parameters) = key.split_at(key.find(';').unwrap_or(key.len()));
        Some(Self { name, parameters, value })
    }

    /// The value of a parameter, without quotes.
    fn parameter(&self, name: &str) -> Option<&'a str> {
        let all = self.parameters.split(';').filter_map(|it| it.split_once('='));
        let mut named = all.filter(|(key, _)| key.trim().eq_ignore_ascii_case(name));
        named.next().map(|(_, value)| value.trim().trim_matches('"'))
    }
}

/// The lines of an event.
#[derive(Debug, Default)]
struct Event<'a>(Vec<Line<'a>>);

/// The events of a file, without what is inside them, such as their alarms.
fn events(text: &str) -> Result<Vec<Event<'_>>, ScheduleError> {
    let (mut events, mut inside) = (Vec::new(), None::<(Event<'_>, usize)>);
    for line in text.lines() {
        let Some(line) = Line::parse(line.trim()) else { continue };
        let Line { name, value, .. } = line;
        let is = |word: &str| name.eq_ignore_ascii_case(word);
        let event = value.eq_ignore_ascii_case("VEVENT");
        inside = match inside.take() {
            None => (is("BEGIN") && event).then(Default::default),
            Some((found, 0)) if is("END") && event => {
                events.push(found);
                None
            }
            Some((found, depth)) if is("BEGIN") => Some((found, depth + 1)),
            Some((found, depth)) if is("END") => Some((found, depth.saturating_sub(1))),
            Some((mut found, 0)) => {
                found.0.push(line);
                Some((found, 0))
            }
            alarm => alarm,
        };
    }
    if inside.is_some() {
        return Err(wrong("an event has no END:VEVENT"));
    }
    Ok(events)
}

impl<'a> Event<'a> {
    fn fields(&self, name: &str) -> impl Iterator<Item = &'a str> {
        self.lines(name).map(|line| line.value)
    }

    fn lines(&self, name: &str) -> impl Iterator<Item = Line<'a>> {
        let named = self.0.iter().copied();
        named.filter(move |it| it.name.eq_ignore_ascii_case(name) && !it.value.is_empty())
    }

    fn line(&self, name: &str) -> Option<Line<'a>> {
        self.lines(name).next()
    }

    /// Refuses what would be holidays, or none, without a word.
    fn check(&self) -> Result<(), ScheduleError> {
        if self.fields("RRULE").count() > 1 {
            return Err(wrong("an event has a second RRULE: make it an event of its own"));
        }
        if self.field("EXRULE").is_some() {
            return Err(wrong("an event has an EXRULE: name the days with EXDATE"));
        }
        let Some(moved) = self.line("RECURRENCE-ID") else { return Ok(()) };
        if moved.parameter("RANGE").is_some() {
            let what = "with a RANGE moves all that follow: end the series, and begin another";
            return Err(wrong(&format!("RECURRENCE-ID:{} {what}", moved.value)));
        }
        let what = "is no date of a series with a UID";
        let wrong = || wrong(&format!("RECURRENCE-ID:{} {what}", moved.value));
        self.moves().map(drop).ok_or_else(wrong)
    }

    /// The dates of its RDATE lines, and how many days each lasts: a period tells that itself.
    fn more(&self, days: i32) -> Result<BTreeSet<(Date, i32)>, ScheduleError> {
        let all = self.fields("RDATE").flat_map(|list| list.split(',')).map(str::trim);
        let read = |text: &str| {
            let (begin, end) = text.split_once('/').map_or((text, None), |(a, b)| (a, Some(b)));
            let none = || wrong(&format!("RDATE:{text} is no date"));
            let first = date(begin).ok_or_else(none)?;
            let days = match end {
                None => days,
                Some(length) if length.starts_with(['P', 'p', '+']) => lasting(begin, length)?,
                Some(end) => up_to(first, end)?,
            };
            Ok((first, days))
        };
        all.map(read).collect()
    }

    fn field(&self, name: &str) -> Option<&'a str> {
        self.fields(name).next()
    }

    /// Of a day of a series that was moved: the series, and the day.
    fn moves(&self) -> Option<(&'a str, Date)> {
        Some((self.field("UID")?, self.field("RECURRENCE-ID").and_then(date)?))
    }

    /// All dates of the lines of this name, which hold lists.
    fn dates(&self, name: &str) -> Result<BTreeSet<Date>, ScheduleError> {
        let all = self.fields(name).flat_map(|list| list.split(','));
        let read = |text: &str| {
            date(text.trim()).ok_or_else(|| wrong(&format!("{name}:{text} is no date")))
        };
        all.map(read).collect()
    }

    /// How many days it lasts.
    fn days(&self, first: Date) -> Result<i32, ScheduleError> {
        match (self.field("DTEND"), self.field("DURATION")) {
            (Some(end), _) => up_to(first, end),
            (None, Some(length)) => lasting(self.field("DTSTART").unwrap_or_default(), length),
            (None, None) => Ok(1),
        }
    }
}

/// How many days there are from one on and up to an end, which is not of them unless it is within its
/// day.
fn up_to(first: Date, end: &str) -> Result<i32, ScheduleError> {
    let last = date(end).ok_or_else(|| wrong(&format!("the end {end} is no date")))?;
    let days = first.until(last).map_or(0, |span| span.get_days()) + i32::from(is_within(end));
    Ok(days.clamp(1, LONGEST))
}

/// How many days a duration is of from a time of day on.
fn lasting(begin: &str, length: &str) -> Result<i32, ScheduleError> {
    let none = || wrong(&format!("DURATION:{length} is no duration"));
    let span: Span = length.parse().map_err(|_| none())?;
    let relative = jiff::SpanRelativeTo::days_are_24_hours();
    let hours = span.total((jiff::Unit::Hour, relative)).map_err(|_| none())?;
    let hours = hours + f64::from(minute(begin)) / 60.0;
    Ok((hours / 24.0).ceil().clamp(1.0, f64::from(LONGEST)) as i32)
}

/// The last date on which an event that begins at `start` may come by its rule. The end of a rule may
/// be an instant: it is read on the clock of the event's zone, and where there is none as it is written.
fn until(rule: &str, start: Line<'_>) -> Result<Option<Date>, ScheduleError> {
    let Some(text) = rule.split(';').find_map(|it| it.strip_prefix("UNTIL=")) else {
        return Ok(None);
    };
    let bad = || wrong(&format!("RRULE:{rule}: its UNTIL is no date or time"));
    let day = date(text.trim_end_matches('Z')).ok_or_else(bad)?;
    if text.len() == 8 {
        return Ok(Some(day));
    }
    let written = text.get(8..13).filter(|it| it.starts_with('T')).ok_or_else(bad)?;
    let number = |range: std::ops::Range<usize>| written.get(range)?.parse::<i8>().ok();
    let (hour, minutes) = number(1..3).zip(number(3..5)).ok_or_else(bad)?;
    let mut end = day.at(hour.clamp(0, 23), minutes.clamp(0, 59), 0, 0);
    if let Some(name) = start.parameter("TZID").filter(|_| text.ends_with('Z')) {
        let zone = super::zone(name).map_err(|_| {
            wrong(&format!("RRULE:{rule}: its UNTIL is of UTC, and TZID {name:?} is no IANA zone"))
        })?;
        let instant = jiff::tz::TimeZone::UTC.to_timestamp(end).map_err(|_| bad())?;
        end = zone.to_datetime(instant);
    }
    let time = i32::from(end.hour()) * 60 + i32::from(end.minute());
    let last =
        if time < minute(start.value) { end.date().yesterday().ok() } else { Some(end.date()) };
    last.map(Some).ok_or_else(bad)
}

/// The minute of the day of a time such as `20261225T083000`; 0 of a date.
fn minute(text: &str) -> i32 {
    let time = text.get(8..13).filter(|it| it.starts_with(['T', 't']));
    let number = |range: std::ops::Range<usize>| time?.get(range)?.parse::<i32>().ok();
    number(1..3).unwrap_or_default() * 60 + number(3..5).unwrap_or_default()
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
