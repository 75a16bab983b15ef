//! Overrides: `on until 22:00`, `off for 3 h`.

use jiff::{
    Span, Timestamp,
    civil::{DateTime, Time},
    tz::TimeZone,
};
use serde::{Deserialize, Serialize};

use super::{Power, ScheduleError, zone::Clock};

/// The longest override, in seconds: whoever wants longer changes the schedule.
const LONGEST: i64 = 366 * 24 * 3600;

/// A state for some time, whatever the rules say. It ends by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Override {
    /// On or off.
    pub power: Power,
    /// From when on, in seconds since 1970.
    pub from: i64,
    /// Up to when.
    pub until: i64,
    /// Why, in the words of who asked for it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// Who asked for it, as they say.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub who: String,
}

impl Override {
    /// The longest that one may last, in seconds.
    pub const LONGEST: i64 = LONGEST;

    /// Reads `on until 22:00`, `off for 3 h`, `on until 2026-06-01T22:00:00Z`, said at `now`. A
    /// time of day is the next one on the clock of `zone`, moved like a rule where the clock
    /// changes.
    ///
    /// # Errors
    /// When the text is none of these, or it ends before it begins, or after a year.
    pub fn parse(text: &str, now: Timestamp, zone: &TimeZone) -> Result<Self, ScheduleError> {
        let wrong = || {
            let what = "say it as `on until 22:00`, `off for 3 h`, or with an instant such as \
                        `on until 2026-06-01T22:00:00Z`";
            ScheduleError(format!("the override {text:?}: {what}"))
        };
        let words = text.trim();
        let (power, rest) = words.split_once(char::is_whitespace).ok_or_else(wrong)?;
        let power = match power.to_ascii_lowercase().as_str() {
            "on" => Power::On,
            "off" => Power::Off,
            _ => return Err(wrong()),
        };
        let (how, end) = rest.trim().split_once(char::is_whitespace).ok_or_else(wrong)?;
        let end = end.trim();
        let until = match how.to_ascii_lowercase().as_str() {
            "until" => moment(end, now, zone),
            "for" => after(end, now, zone),
            _ => None,
        };
        let (from, until) = (now.as_second(), until.ok_or_else(wrong)?.as_second());
        if until <= from || until - from > LONGEST {
            let what = format!("the override {text:?} must end after now, and within a year");
            return Err(ScheduleError(what));
        }
        Ok(Self { power, from, until, reason: String::new(), who: String::new() })
    }

    /// Whether it holds at an instant.
    pub fn holds(&self, at: Timestamp) -> bool {
        (self.from..self.until).contains(&at.as_second())
    }

    /// The same, which was ended at an instant: what is switched back by that is told from it.
    pub fn ended(self, at: Timestamp) -> Self {
        Self { until: at.as_second().max(self.from).min(self.until), ..self }
    }

    /// Whether it holds at an instant, or is still to come.
    pub fn is_left(&self, at: Timestamp) -> bool {
        at.as_second() < self.until
    }

    /// In words.
    pub fn describe(&self) -> String {
        let until = Timestamp::from_second(self.until).unwrap_or(Timestamp::MAX);
        let why = if self.reason.is_empty() { "" } else { ": " };
        format!("{} by override until {until}{why}{}", self.power, self.reason)
    }
}

/// After a length that is above zero: `3 h`, `90 min`, `1h 30m`, `2 days`. Days are those of the
/// calendar: the same time of day, whatever the clock did meanwhile.
fn after(length: &str, now: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
    let length: Span = length.parse().ok()?;
    let end = now.to_zoned(zone.clone()).checked_add(length).ok()?;
    length.is_positive().then(|| end.timestamp())
}

/// An instant, a local date and time, or the next time of day.
fn moment(text: &str, now: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
    instant(text, zone).or_else(|| next_time(text, now, zone))
}

/// An instant such as `2026-06-01T22:00:00Z`, or a date of the clock of `zone`, with its time of day
/// or from its beginning (`2026-06-01`), moved like a rule where the clock changes.
pub fn instant(text: &str, zone: &TimeZone) -> Option<Timestamp> {
    let text = text.trim();
    if let Ok(at) = text.parse::<Timestamp>() {
        return Some(at);
    }
    let dated = text.get(..5).is_some_and(|it| it.ends_with('-'));
    let local = text.parse::<DateTime>().ok().filter(|_| dated)?;
    Some(Clock::of(zone.clone()).instant(local))
}

/// The same of what a request or a command calls `name`.
///
/// # Errors
/// When it is none, with the forms that there are.
pub fn said(name: &str, text: &str, zone: &TimeZone) -> Result<Timestamp, ScheduleError> {
    instant(text, zone).ok_or_else(|| {
        let place = zone.iana_name().unwrap_or("its zone");
        ScheduleError(format!(
            "{name} {text:?} is no time: say an instant such as 2026-06-01T08:00:00Z or \
             2026-06-01T08:00:00+02:00, or a date of {place} such as 2026-06-01 or 2026-06-01T08:00"
        ))
    })
}

/// The next time of day: `22:00`, `8:00`, `22:00:30`, or `24:00` for midnight.
fn next_time(text: &str, now: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
    let (hour, rest) = text.split_once(':')?;
    let (minute, second) = rest.split_once(':').unwrap_or((rest, "00"));
    let digits = |text: &str, least: usize| {
        (least..=2).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit())
    };
    if !(digits(hour, 1) && digits(minute, 2) && digits(second, 2)) {
        return None;
    }
    let midnight = (hour, minute, second) == ("24", "00", "00");
    let hour = if midnight { 0 } else { hour.parse().ok()? };
    let time = Time::new(hour, minute.parse().ok()?, second.parse().ok()?, 0).ok()?;
    let (clock, today) = (Clock::of(zone.clone()), zone.to_datetime(now).date());
    let days = [0, 1].into_iter().filter_map(|days| today.checked_add(Span::new().days(days)).ok());
    days.map(|day| clock.instant(day.to_datetime(time))).find(|at| *at > now)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::zone;

    fn parse(text: &str) -> Result<(Power, String), ScheduleError> {
        let now = "2026-06-01T15:00:00Z".parse().unwrap();
        let over = Override::parse(text, now, &zone("Europe/Berlin").unwrap())?;
        Ok((over.power, Timestamp::from_second(over.until).unwrap().to_string()))
    }

    #[test]
    fn an_override_is_said_as_people_say_it() {
        for (text, power, until) in [
            ("on until 22:00", Power::On, "2026-06-01T20:00:00Z"),
            ("off for 3 h", Power::Off, "2026-06-01T18:00:00Z"),
            ("OFF for 1h 30m", Power::Off, "2026-06-01T16:30:00Z"),
            ("on until 8:00", Power::On, "2026-06-02T06:00:00Z"),
            ("on until 17:00", Power::On, "2026-06-02T15:00:00Z"),
            ("on until 2026-06-03T12:00:00+02:00", Power::On, "2026-06-03T10:00:00Z"),
            ("off until 2026-06-03T12:00", Power::Off, "2026-06-03T10:00:00Z"),
            ("off until 2026-06-03 12:00", Power::Off, "2026-06-03T10:00:00Z"),
            ("off until 2026-06-03", Power::Off, "2026-06-02T22:00:00Z"),
            ("on until 22:00:30", Power::On, "2026-06-01T20:00:30Z"),
            ("on until 24:00", Power::On, "2026-06-01T22:00:00Z"),
            ("off for 3 hours", Power::Off, "2026-06-01T18:00:00Z"),
            ("off for PT90M", Power::Off, "2026-06-01T16:30:00Z"),
            ("off for 2 days", Power::Off, "2026-06-03T15:00:00Z"),
        ] {
            assert_eq!(parse(text).unwrap(), (power, until.to_owned()), "{text}");
        }
    }

    #[test]
    fn an_override_that_is_ended_lasted_neither_longer_than_it_was_to_nor_less_than_nothing() {
        let over = |at| {
            let over = Override {
                power: Power::On,
                from: 100,
                until: 200,
                reason: String::new(),
                who: String::new(),
            };
            over.ended(Timestamp::from_second(at).unwrap()).until
        };
        assert_eq!([50, 150, 250].map(over), [100, 150, 200]);
    }

    #[test]
    fn days_of_an_override_are_those_of_the_calendar() {
        // Berlin goes forward in the night to 2026-03-29.
        let (now, berlin) =
            ("2026-03-28T12:00:00Z".parse().unwrap(), zone("Europe/Berlin").unwrap());
        let until = |text| Override::parse(text, now, &berlin).unwrap().until - now.as_second();
        assert_eq!((until("on for 1 d"), until("on for 24 h")), (23 * 3600, 24 * 3600));
    }

    #[test]
    fn what_is_no_override_is_refused() {
        for bad in [
            "",
            "on",
            "on until",
            "on until 25:00",
            "off for -3 h",
            "off for",
            "maybe until 22:00",
            "on for 3",
            "on for 2 years",
            "on until 2020-01-01T00:00:00Z",
            "on until +8:00",
            "on until 22:0",
            "on until 24:01",
            "on until 2200",
            "on for 0 h",
        ] {
            assert!(parse(bad).is_err(), "{bad:?} was accepted");
        }
    }
}
