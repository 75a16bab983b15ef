//! Periods: `mon-fri 08:00-19:00`, windows over midnight included.

use std::{str::FromStr, sync::Arc};

use jiff::{
    Span, Timestamp,
    civil::{Date, DateTime, Time},
    tz::TimeZone,
};

use super::{
    ScheduleError,
    cron::{Calendar, Free, MONTH, Season},
    days::{Days, Numbering},
    field::{MONTHS, is_name},
    holidays::Holidays,
    zone::Clock,
};

/// The longest text of periods, in bytes, and the most windows of one.
const LONGEST: usize = 4_000;
const MOST: usize = 32;
const MINUTES_OF_A_DAY: u16 = 24 * 60;

/// Times of being on, from their beginning up to their end.
///
/// `[months] [days] from-to[,from-to…]`, several separated by `;`. Days are weekdays by name
/// (`mon-fri`, `sat,sun`, `mon#1`, `friL`) or days of the month (`1-15`, `L`); without any it is
/// every day. A window that ends before it begins ends on the next day; 24:00 is midnight.
///
/// A season stands where months do: `jun15-sep15 daily 08:00-20:00`, over the end of the year too.
/// With a calendar of holidays no window begins on one, but those of `holidays 10:00-14:00`.
///
/// ```
/// use schedule_executor::schedule::Periods;
/// assert!("mon-fri 08:00-12:00,13:00-19:00; sat 22:00-06:00".parse::<Periods>().is_ok());
/// assert!("mon-fri 8-25".parse::<Periods>().is_err());
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Periods(Vec<Window>);

/// A window on the days of a calendar.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Window {
    /// Matches at the beginning of each window.
    begins: Calendar,
    /// How long it is on the clock, in minutes: from 1 to a whole day.
    minutes: u16,
}

/// One window on one day.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stretch {
    pub(super) from_local: DateTime,
    pub(super) to_local: DateTime,
    pub(super) from: Timestamp,
    pub(super) to: Timestamp,
}

impl Periods {
    /// For each window, the last stretch that has begun.
    pub(super) fn begun<'a>(
        &'a self,
        clock: &'a Clock,
        at: Timestamp,
    ) -> impl Iterator<Item = Stretch> + 'a {
        let local = clock.reached(at);
        self.0
            .iter()
            .filter_map(move |window| window.stretch(clock, window.begins.at_or_before(local)?))
    }

    /// The next beginning of any window.
    pub(super) fn next_beginning(&self, clock: &Clock, at: Timestamp) -> Option<Timestamp> {
        let local = clock.reached(at);
        let next = self.0.iter().filter_map(|window| window.begins.after(local));
        next.map(|local| clock.instant(local)).min()
    }
}

impl Window {
    fn stretch(&self, clock: &Clock, from_local: DateTime) -> Option<Stretch> {
        let to_local = from_local.checked_add(Span::new().minutes(self.minutes)).ok()?;
        let (from, to) = (clock.instant(from_local), clock.instant(to_local));
        Some(Stretch { from_local, to_local, from, to })
    }
}

impl FromStr for Periods {
    type Err = ScheduleError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text, None, &TimeZone::UTC)
    }
}

impl Periods {
    /// Reads periods, with the iCalendar file of holidays if there is one, whose times in UTC are of
    /// the dates of `zone`.
    ///
    /// # Errors
    /// When a period is none, or the file, or a period is about holidays without a file.
    pub(super) fn parse(
        text: &str,
        holidays: Option<&str>,
        zone: &TimeZone,
    ) -> Result<Self, ScheduleError> {
        if text.len() > LONGEST {
            return Err(ScheduleError(format!("a period of over {LONGEST} bytes")));
        }
        let holidays = holidays.map(|file| Holidays::parse(file, zone)).transpose()?.map(Arc::new);
        let text = tight(text);
        let parts = text.split(';').map(str::trim).filter(|part| !part.is_empty());
        let windows =
            parts.map(|it| windows(it, holidays.as_ref())).collect::<Result<Vec<_>, _>>()?.concat();
        if windows.is_empty() {
            return Err(ScheduleError("the period is empty".to_owned()));
        }
        if windows.len() > MOST {
            return Err(ScheduleError(format!("the period has over {MOST} windows")));
        }
        Ok(Self(windows))
    }
}

/// The same with one blank between words, and none around commas and dashes: `08:00 - 19:00`.
fn tight(text: &str) -> String {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    [",", "-"].iter().fold(text, |text, sign| {
        text.replace(&format!(" {sign}"), sign).replace(&format!("{sign} "), sign)
    })
}

fn windows(text: &str, holidays: Option<&Arc<Holidays>>) -> Result<Vec<Window>, ScheduleError> {
    let mut words: Vec<&str> = text.split_whitespace().collect();
    let times = words.pop().unwrap_or_default();
    let season = words.first().and_then(|word| season(word));
    if season.is_some() {
        words.remove(0);
    }
    let only = words.last().is_some_and(|word| word.eq_ignore_ascii_case("holidays"));
    if only {
        words.pop();
    }
    if only && holidays.is_none() {
        let what = format!("the period {text:?}: there is no calendar of holidays");
        return Err(ScheduleError(what));
    }
    let months = match words.first() {
        Some(word) if is_month(word) => MONTH.bits(words.remove(0))? as u16,
        _ => MONTH.bits("*")? as u16,
    };
    let days = match words[..] {
        [] | ["*"] => Days::default(),
        [word] if word.eq_ignore_ascii_case("daily") => Days::default(),
        // No weekday begins with L.
        [word] if word.starts_with(|c: char| c.is_ascii_digit() || matches!(c, 'L' | 'l')) => {
            Days::parse(word, "?", Numbering::Cron)?
        }
        [word] => Days::parse("?", word, Numbering::Cron)?,
        _ => return Err(wrong(text)),
    };
    let window = |times: &str| {
        let (from, minutes) = clock_range(times).ok_or_else(|| wrong(text))?;
        let begins = Calendar {
            minutes: 1 << from.minute(),
            hours: 1 << from.hour(),
            months,
            days: days.clone(),
            years: None,
            season,
            holidays: holidays.map(|days| Free { days: days.clone(), only }),
        };
        Ok(Window { begins, minutes })
    };
    times.split(',').map(window).collect()
}

/// `jun15-sep15`.
fn season(word: &str) -> Option<Season> {
    let date = |text: &str| {
        let (name, day) = text.split_at_checked(3)?;
        let month = MONTHS.iter().position(|it| is_name(it, name))?;
        let (month, day) = (i8::try_from(month).ok()? + 1, day.parse().ok()?);
        // Of a leap year, so that a season may end on Feb 29.
        Date::new(2028, month, day).ok().map(|_| (month, day))
    };
    let (from, to) = word.split_once('-')?;
    Some(Season { from: date(from)?, to: date(to)? })
}

fn is_month(word: &str) -> bool {
    word.get(..3).is_some_and(|word| MONTHS.iter().any(|name| is_name(name, word)))
}

/// The beginning of `08:00-19:00`, and its length in minutes.
fn clock_range(text: &str) -> Option<(Time, u16)> {
    let (from, to) = text.split_once('-')?;
    let (from, to) = (minute_of_day(from)?, minute_of_day(to)?);
    let length = if to > from { to - from } else { to + MINUTES_OF_A_DAY - from };
    let begin = Time::new((from / 60) as i8, (from % 60) as i8, 0, 0).ok()?;
    Some((begin, length))
}

fn minute_of_day(text: &str) -> Option<u16> {
    let (hour, minute) = text.split_once(':')?;
    let number = |text: &str| {
        let digits = text.len() <= 2 && text.bytes().all(|b| b.is_ascii_digit());
        text.parse::<u16>().ok().filter(|_| digits)
    };
    let (hour, minute) = (number(hour)?, number(minute)?);
    let within = minute < 60 && hour * 60 + minute <= MINUTES_OF_A_DAY;
    within.then_some(hour * 60 + minute)
}

fn wrong(text: &str) -> ScheduleError {
    ScheduleError(format!(
        "the period {text:?}: say it as `mon-fri 08:00-19:00`, with optional months and days before \
         the times"
    ))
}
