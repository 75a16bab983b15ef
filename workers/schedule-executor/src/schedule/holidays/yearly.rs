//! Events that come back on one day of each year.

use std::collections::BTreeSet;

use jiff::civil::{Date, Weekday};

use super::{LAST_YEAR, WEEKDAYS, rule::Rule};
use crate::schedule::ScheduleError;

/// An event that comes back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Yearly {
    first: Date,
    pub(super) days: i32,
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

impl Yearly {
    /// The event of a rule; none where the rule is of any other kind.
    ///
    /// # Errors
    /// When it is no rule.
    pub(super) fn of(
        rule: &Rule<'_>,
        first: Date,
        days: i32,
        except: &BTreeSet<Date>,
    ) -> Result<Option<Self>, ScheduleError> {
        let other = rule.part("BYSETPOS").or(rule.part("BYYEARDAY")).is_some();
        let parts = ["BYMONTH", "BYMONTHDAY", "BYDAY"].map(|name| rule.part(name));
        let is_of_years = rule.part("FREQ") == Some("YEARLY") && !other;
        let Some(on) = is_of_years.then(|| On::parse(parts, first)).flatten() else {
            return Ok(None);
        };
        let (every, times) = (rule.every()?, rule.times()?);
        let mut yearly = Self { first, days, every, until: None, except: except.clone(), on };
        yearly.ends_at(times.and_then(|times| yearly.nth(times)));
        Ok(Some(yearly))
    }

    /// Ends it on a date, unless it ends before that.
    pub(super) fn ends_at(&mut self, last: Option<Date>) {
        self.until = self.until.into_iter().chain(last).min();
    }

    /// The day of its n-th year: a year without its day, such as one without February 29, does not
    /// count. None where it comes after the years that rules know.
    fn nth(&self, times: i16) -> Option<Date> {
        let years = (self.first.year()..=LAST_YEAR).step_by(usize::try_from(self.every).ok()?);
        let days = years.filter_map(|year| self.on.of(year)).filter(|day| *day >= self.first);
        days.take(usize::try_from(times).ok()?).nth(usize::try_from(times - 1).ok()?)
    }

    /// Its day in a year.
    pub(super) fn begins(&self, year: i16) -> Option<Date> {
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
