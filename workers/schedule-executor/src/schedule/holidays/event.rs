//! The events of an iCalendar file: its lines, and the days that they tell.

use std::collections::BTreeSet;

use jiff::{Span, civil::Date};

use super::{date, is_within, wrong};
use crate::schedule::ScheduleError;

/// The most days that are counted: more than those of all years that rules know.
const ALL: i32 = 100_000;

/// A line of an event.
#[derive(Debug, Clone, Copy)]
pub(super) struct Line<'a> {
    name: &'a str,
    /// What stands between name and value: `;TZID=Europe/Berlin`.
    parameters: &'a str,
    pub(super) value: &'a str,
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
pub(super) struct Event<'a>(Vec<Line<'a>>);

/// The events of a file, without what is inside them, such as their alarms.
pub(super) fn events(text: &str) -> Result<Vec<Event<'_>>, ScheduleError> {
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

    pub(super) fn line(&self, name: &str) -> Option<Line<'a>> {
        self.lines(name).next()
    }

    /// Refuses what would be holidays, or none, without a word.
    pub(super) fn check(&self) -> Result<(), ScheduleError> {
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
    pub(super) fn more(&self, days: i32) -> Result<BTreeSet<(Date, i32)>, ScheduleError> {
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

    pub(super) fn field(&self, name: &str) -> Option<&'a str> {
        self.fields(name).next()
    }

    /// Of a day of a series that was moved: the series, and the day.
    pub(super) fn moves(&self) -> Option<(&'a str, Date)> {
        Some((self.field("UID")?, self.field("RECURRENCE-ID").and_then(date)?))
    }

    /// All dates of the lines of this name, which hold lists.
    pub(super) fn dates(&self, name: &str) -> Result<BTreeSet<Date>, ScheduleError> {
        let all = self.fields(name).flat_map(|list| list.split(','));
        let read = |text: &str| {
            date(text.trim()).ok_or_else(|| wrong(&format!("{name}:{text} is no date")))
        };
        all.map(read).collect()
    }

    /// How many days it lasts.
    pub(super) fn days(&self, first: Date) -> Result<i32, ScheduleError> {
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
    Ok(days.clamp(1, ALL))
}

/// How many days a duration is of from a time of day on.
fn lasting(begin: &str, length: &str) -> Result<i32, ScheduleError> {
    let none = || wrong(&format!("DURATION:{length} is no duration"));
    let span: Span = length.parse().map_err(|_| none())?;
    let relative = jiff::SpanRelativeTo::days_are_24_hours();
    let hours = span.total((jiff::Unit::Hour, relative)).map_err(|_| none())?;
    let hours = hours + f64::from(minute(begin)) / 60.0;
    Ok((hours / 24.0).ceil().clamp(1.0, f64::from(ALL)) as i32)
}

/// The last date on which an event that begins at `start` may come by its rule. The end of a rule may
/// be an instant: it is read on the clock of the event's zone, and where there is none as it is written.
pub(super) fn until(rule: &str, start: Line<'_>) -> Result<Option<Date>, ScheduleError> {
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
        let zone = crate::schedule::zone(name).map_err(|_| {
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
