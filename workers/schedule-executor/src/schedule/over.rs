//! Overrides: `on until 22:00`, `off for 3 h`.

use jiff::{
    SignedDuration, Span, Timestamp,
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
}

impl Override {
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
            "for" => length(end).and_then(|it| now.checked_add(it).ok()),
            _ => None,
        };
        let (from, until) = (now.as_second(), until.ok_or_else(wrong)?.as_second());
        if until <= from || until - from > LONGEST {
            let what = format!("the override {text:?} must end after now, and within a year");
            return Err(ScheduleError(what));
        }
        Ok(Self { power, from, until, reason: String::new() })
    }

    /// Whether it holds at an instant.
    pub fn holds(&self, at: Timestamp) -> bool {
        (self.from..self.until).contains(&at.as_second())
    }

    /// In words.
    pub fn describe(&self) -> String {
        let until = Timestamp::from_second(self.until).unwrap_or(Timestamp::MAX);
        let why = if self.reason.is_empty() { "" } else { ": " };
        format!("{} by override until {until}{why}{}", self.power, self.reason)
    }
}

/// A length that is above zero: `3 h`, `90 min`, `1h 30m`.
fn length(text: &str) -> Option<SignedDuration> {
    let length: SignedDuration = text.parse().ok()?;
    length.is_positive().then_some(length)
}

/// An instant, a local date and time, or the next time of day.
fn moment(text: &str, now: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
    if let Ok(at) = text.parse::<Timestamp>() {
        return Some(at);
    }
    let clock = Clock::of(zone.clone());
    if text.contains(['T', ' '])
        && let Ok(local) = text.parse::<DateTime>()
    {
        return Some(clock.instant(local));
    }
    let (hour, minute) = text.split_once(':')?;
    let digits = |text: &str| text.len() == 2 && text.bytes().all(|b| b.is_ascii_digit());
    if !digits(minute) || !(digits(hour) || digits(&format!("0{hour}"))) {
        return None;
    }
    let time = Time::new(hour.parse().ok()?, minute.parse().ok()?, 0, 0).ok()?;
    let today = zone.to_datetime(now).date();
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
        ] {
            assert_eq!(parse(text).unwrap(), (power, until.to_owned()), "{text}");
        }
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
        ] {
            assert!(parse(bad).is_err(), "{bad:?} was accepted");
        }
    }
}
