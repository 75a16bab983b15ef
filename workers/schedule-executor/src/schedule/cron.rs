//! Cron rules on the local calendar: the 5 fields of cron, or the 6 of AWS.
//!
//! A rule knows no zone: it says which local minutes match. What these are in UTC, clock changes
//! included, is decided in [`zone`](super::zone), so that the same policy holds for every rule.

use std::{fmt, str::FromStr, sync::Arc};

use jiff::civil::{Date, DateTime, Time};

use super::{
    ScheduleError,
    days::{Days, Numbering},
    field::{Field, MONTHS},
    holidays::Holidays,
};

const MINUTE: Field = Field::numbers("minute", 0, 59);
const HOUR: Field = Field::numbers("hour", 0, 23);
const YEAR: Field = Field::numbers("year", FIRST_YEAR, LAST_YEAR);
pub(super) const MONTH: Field =
    Field { name: "month", low: 1, high: 12, names: &MONTHS, first_name: 1, wraps: true };
/// The years that AWS's sixth field can name.
const FIRST_YEAR: u16 = 1970;
const LAST_YEAR: u16 = 2199;

/// The longest rule, in bytes.
const LONGEST: usize = 1_000;

/// A rule: the local minutes at which something happens.
///
/// `minute hour day-of-month month day-of-week`, weekdays from 0 (Sunday) to 6, a day of either
/// field counting where both choose days; or with a `year` as sixth field as AWS has it:
/// weekdays from 1 (Sunday) to 7, one of the day fields `?` or `*`. Both take lists, ranges,
/// steps, names, `?`, `L` and `L-3` (last day), `15W`, `LW` and `L-3W` (workday), `FRI#2` and `FRIL`; and
/// may stand in `cron(…)`.
///
/// ```
/// use schedule_executor::schedule::Cron;
/// assert!("0 8 * * 1-5".parse::<Cron>().is_ok());
/// assert!("cron(0 8 ? * MON-FRI *)".parse::<Cron>().is_ok());
/// assert!("0 25 * * *".parse::<Cron>().is_err());
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cron {
    text: String,
    pub(super) calendar: Calendar,
}

/// Days and times of day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Calendar {
    pub(super) minutes: u64,
    pub(super) hours: u32,
    pub(super) months: u16,
    pub(super) days: Days,
    pub(super) years: Option<Vec<u16>>,
    /// Only these days of the year; of periods alone.
    pub(super) season: Option<Season>,
    /// Not on these days, or on them alone; of periods alone.
    pub(super) holidays: Option<Free>,
}

/// The days of a year from one date up to another, both included; over its end if the second
/// comes first. Month and day of each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Season {
    pub(super) from: (i8, i8),
    pub(super) to: (i8, i8),
}

/// What holidays are to a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Free {
    pub(super) days: Arc<Holidays>,
    /// Whether it is about the holidays, and not about all other days.
    pub(super) only: bool,
}

impl Season {
    /// The days of it in a month, as bits.
    fn of(self, month: i8) -> u32 {
        let day = |day: i8| (month, day);
        let within = |it: (i8, i8)| match self.from <= self.to {
            true => self.from <= it && it <= self.to,
            false => self.from <= it || it <= self.to,
        };
        (1..=31).filter(|it| within(day(*it))).fold(0, |bits, day| bits | 1 << day)
    }
}

impl FromStr for Cron {
    type Err = ScheduleError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bare = text.trim();
        if bare.len() > LONGEST {
            return Err(ScheduleError(format!("a rule of over {LONGEST} bytes")));
        }
        let inner = bare.strip_prefix("cron(").and_then(|rest| rest.strip_suffix(')'));
        let fields: Vec<&str> = inner.unwrap_or(bare).split_whitespace().collect();
        let calendar = match fields[..] {
            [minute, hour, day, month, weekday] => {
                let days = Days::parse(day, weekday, Numbering::Cron)?;
                Calendar::parse(minute, hour, month, days, None)
            }
            [minute, hour, day, month, weekday, year] => {
                let days = Days::parse(day, weekday, Numbering::Aws)?;
                if days.has_both() {
                    let what = format!(
                        "the rule {bare:?}: of 6 fields, one of day of month and \
                        day of week must be `?`"
                    );
                    return Err(ScheduleError(what));
                }
                Calendar::parse(minute, hour, month, days, Some(year))
            }
            _ => Err(ScheduleError(format!(
                "the rule {bare:?} has {} fields, not 5 or 6",
                fields.len()
            ))),
        }?;
        Ok(Self { text: bare.to_owned(), calendar })
    }
}

impl fmt::Display for Cron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Calendar {
    fn parse(
        minute: &str,
        hour: &str,
        month: &str,
        days: Days,
        year: Option<&str>,
    ) -> Result<Self, ScheduleError> {
        Ok(Self {
            minutes: MINUTE.bits(minute)?,
            hours: HOUR.bits(hour)? as u32,
            months: MONTH.bits(month)? as u16,
            days,
            years: year.filter(|year| *year != "*").map(years).transpose()?,
            season: None,
            holidays: None,
        })
    }

    /// Whether it is a match itself; seconds do not count.
    pub(super) fn matches(&self, local: DateTime) -> bool {
        let (date, time) = (local.date(), local.time());
        self.minutes >> time.minute() & 1 == 1
            && self.hours >> time.hour() & 1 == 1
            && self.days_of(date.first_of_month()) >> date.day() & 1 == 1
    }

    /// The first match after `local`.
    pub(super) fn after(&self, local: DateTime) -> Option<DateTime> {
        let (date, time) = (local.date(), local.time());
        let mut month = date.first_of_month();
        let mut days = self.days_of(month) & at_or_above(date.day());
        if days >> date.day() & 1 == 1 {
            if let Some(found) = self.time_after(time) {
                return Some(date.to_datetime(found));
            }
            days &= !(1 << date.day());
        }
        while days == 0 {
            month = self.next_month(month)?;
            days = self.days_of(month);
        }
        let day = Date::new(month.year(), month.month(), days.trailing_zeros() as i8).ok()?;
        Some(day.to_datetime(self.first_time()?))
    }

    /// The last match at or before `local`.
    pub(super) fn at_or_before(&self, local: DateTime) -> Option<DateTime> {
        let (date, time) = (local.date(), local.time());
        let mut month = date.first_of_month();
        let mut days = self.days_of(month) & at_or_below(date.day());
        if days >> date.day() & 1 == 1 {
            if let Some(found) = self.time_at_or_before(time) {
                return Some(date.to_datetime(found));
            }
            days &= !(1 << date.day());
        }
        while days == 0 {
            month = self.last_month(month)?;
            days = self.days_of(month);
        }
        let day = Date::new(month.year(), month.month(), days.ilog2() as i8).ok()?;
        Some(day.to_datetime(self.last_time()?))
    }

    /// The matching days of a month as bits; none outside the rule's months and years.
    fn days_of(&self, first: Date) -> u32 {
        let year = first.year().unsigned_abs();
        let in_year = self.years.as_ref().is_none_or(|years| years.binary_search(&year).is_ok());
        let in_month = self.months >> first.month() & 1 == 1;
        if in_year && in_month && (FIRST_YEAR..=LAST_YEAR).contains(&year) {
            let season = self.season.map_or(u32::MAX, |season| season.of(first.month()));
            let free = self.holidays.as_ref().map_or(u32::MAX, |free| {
                let days = free.days.of(first);
                if free.only { days } else { !days }
            });
            return self.days.of(first) & season & free;
        }
        0
    }

    /// The rule's next month that is worth a look.
    fn next_month(&self, first: Date) -> Option<Date> {
        let later = u32::from(self.months) & !at_or_below(first.month());
        let (year, month) = match later {
            0 => (first.year() + 1, self.months.trailing_zeros()),
            later => (first.year(), later.trailing_zeros()),
        };
        let year = year.max(FIRST_YEAR.cast_signed());
        let within = year <= LAST_YEAR.cast_signed();
        within.then(|| Date::new(year, month as i8, 1).ok()).flatten()
    }

    fn last_month(&self, first: Date) -> Option<Date> {
        let earlier = u32::from(self.months) & !at_or_above(first.month());
        let (year, month) = match earlier {
            0 => (first.year() - 1, u32::from(self.months).ilog2()),
            earlier => (first.year(), earlier.ilog2()),
        };
        let year = year.min(LAST_YEAR.cast_signed());
        let within = year >= FIRST_YEAR.cast_signed();
        within.then(|| Date::new(year, month as i8, 1).ok()).flatten()
    }

    fn first_time(&self) -> Option<Time> {
        at(self.hours.trailing_zeros(), self.minutes.trailing_zeros())
    }

    fn last_time(&self) -> Option<Time> {
        at(self.hours.ilog2(), self.minutes.ilog2())
    }

    fn time_after(&self, time: Time) -> Option<Time> {
        let (hour, minute) = (time.hour().unsigned_abs(), time.minute().unsigned_abs());
        let minutes = self.minutes & !((2_u64 << minute) - 1);
        if self.hours >> hour & 1 == 1 && minutes != 0 {
            return at(u32::from(hour), minutes.trailing_zeros());
        }
        let hours = u64::from(self.hours) & !((2_u64 << hour) - 1);
        (hours != 0).then(|| at(hours.trailing_zeros(), self.minutes.trailing_zeros())).flatten()
    }

    fn time_at_or_before(&self, time: Time) -> Option<Time> {
        let (hour, minute) = (time.hour().unsigned_abs(), time.minute().unsigned_abs());
        let minutes = self.minutes & ((2_u64 << minute) - 1);
        if self.hours >> hour & 1 == 1 && minutes != 0 {
            return at(u32::from(hour), minutes.ilog2());
        }
        let hours = self.hours & ((1_u32 << hour) - 1);
        (hours != 0).then(|| at(hours.ilog2(), self.minutes.ilog2())).flatten()
    }
}

fn years(text: &str) -> Result<Vec<u16>, ScheduleError> {
    let items = text.split(',').map(|item| YEAR.item(item)).collect::<Result<Vec<_>, _>>()?;
    let mut years: Vec<u16> = items.into_iter().flatten().collect();
    years.sort_unstable();
    years.dedup();
    Ok(years)
}

fn at(hour: u32, minute: u32) -> Option<Time> {
    Time::new(hour as i8, minute as i8, 0, 0).ok()
}

fn at_or_above(day: i8) -> u32 {
    !((1 << day) - 1)
}

fn at_or_below(day: i8) -> u32 {
    ((2_u64 << day) - 1) as u32
}

mod but;

#[cfg(test)]
mod tests;
