//! Events that come back by any other rule than once a year: each day is looked at by itself.

use std::collections::BTreeSet;

use jiff::{
    Span,
    civil::{Date, Weekday},
};

use super::{LAST_YEAR, WEEKDAYS, rule::Rule, span};
use crate::schedule::ScheduleError;

/// An event that comes back on the days that match all lists which are not empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Series {
    first: Date,
    until: Option<Date>,
    days: i32,
    except: BTreeSet<Date>,
    freq: Freq,
    every: i32,
    week_begins: Weekday,
    months: Vec<i16>,
    month_days: Vec<i16>,
    year_days: Vec<i16>,
    /// Which of them in the month or year, where that is not 0.
    weekdays: Vec<(i16, Weekday)>,
    /// Which of the matching days of each of its weeks, months or years.
    positions: Vec<i16>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Freq {
    Daily,
    Weekly,
    Monthly,
    Yearly,
}

impl Series {
    /// The event of a rule that begins on a day, and comes up to another.
    ///
    /// # Errors
    /// When its days cannot be told.
    pub(super) fn of(
        rule: &Rule<'_>,
        (first, last): (Date, Option<Date>),
        days: i32,
        except: BTreeSet<Date>,
    ) -> Result<Self, ScheduleError> {
        let freq = freq(rule)?;
        let mut series = Self {
            first,
            until: last,
            days,
            except,
            freq,
            every: rule.every()?.into(),
            week_begins: rule.part("WKST").map_or(Ok(Weekday::Monday), |it| weekday(rule, it))?,
            months: rule.numbers("BYMONTH", 1..=12)?,
            month_days: rule.numbers("BYMONTHDAY", -31..=31)?,
            year_days: rule.numbers("BYYEARDAY", -366..=366)?,
            weekdays: weekdays(rule, freq)?,
            positions: rule.numbers("BYSETPOS", -366..=366)?,
        };
        if !series.positions.is_empty() && !series.chooses() && series.months.is_empty() {
            return Err(rule.wrong("BYSETPOS is of what another part chooses"));
        }
        series.fill();
        if let Some(times) = rule.times()? {
            series.until = series.until.into_iter().chain(series.nth(times)).min();
        }
        Ok(series)
    }

    fn chooses(&self) -> bool {
        !(self.month_days.is_empty() && self.year_days.is_empty() && self.weekdays.is_empty())
    }

    /// What a rule does not say is as it is of the first day.
    fn fill(&mut self) {
        if self.chooses() {
            return;
        }
        let first = self.first;
        match self.freq {
            Freq::Daily => {}
            Freq::Weekly => self.weekdays.push((0, first.weekday())),
            Freq::Monthly | Freq::Yearly => self.month_days.push(first.day().into()),
        }
        if self.freq == Freq::Yearly && self.months.is_empty() {
            self.months.push(first.month().into());
        }
    }

    /// The first and last day of each that is in the month that begins on `first`, or reaches into it.
    pub(super) fn spans(&self, first: Date) -> impl Iterator<Item = (Date, Date)> {
        let begin = first.checked_sub(Span::new().days(self.days - 1)).unwrap_or(first);
        let begin = begin.max(self.first);
        let last = first.last_of_month().min(self.until.unwrap_or(Date::MAX));
        let days = each(begin, last).filter(move |day| self.comes(*day));
        days.filter_map(move |day| span(day, self.days))
    }

    /// Whether it begins on a day between its first and its last.
    fn comes(&self, day: Date) -> bool {
        self.matches(day)
            && !self.except.contains(&day)
            && self.is_turn(day)
            && (self.positions.is_empty() || self.chosen(day).contains(&day))
    }

    /// Its n-th day, left out or not. None where that is after the years that rules know.
    fn nth(&self, times: i16) -> Option<Date> {
        let mut left = usize::try_from(times).ok()?;
        let mut begin = self.round(self.first).0;
        while begin.year() <= LAST_YEAR {
            let days = self.chosen(begin).into_iter().filter(|day| *day >= self.first);
            let days: Vec<Date> = days.collect();
            if let Some(day) = days.get(left - 1) {
                return Some(*day);
            }
            left -= days.len();
            begin = self.next_round(begin)?;
        }
        None
    }

    /// Its days in the day, week, month or year that a day is in.
    fn chosen(&self, day: Date) -> Vec<Date> {
        let (from, to) = self.round(day);
        let all: Vec<Date> = each(from, to).filter(|day| self.matches(*day)).collect();
        if self.positions.is_empty() {
            return all;
        }
        let at = |position: &i16| {
            let (from_end, index) = (*position < 0, usize::from(position.unsigned_abs()));
            let index = if from_end { all.len().checked_sub(index)? } else { index - 1 };
            all.get(index).copied()
        };
        self.positions.iter().filter_map(at).collect::<BTreeSet<_>>().into_iter().collect()
    }

    fn matches(&self, day: Date) -> bool {
        let has = |list: &[i16], (number, length): (i16, i16)| {
            list.is_empty() || list.contains(&number) || list.contains(&(number - length - 1))
        };
        has(&self.months, (i16::from(day.month()), 12))
            && has(&self.month_days, in_month(day))
            && has(&self.year_days, in_year(day))
            && (self.weekdays.is_empty() || self.weekdays.iter().any(|it| self.is_one(day, *it)))
    }

    /// Whether a day is the n-th of its weekdays, counted in its month where the rule knows one.
    fn is_one(&self, day: Date, (nth, weekday): (i16, Weekday)) -> bool {
        let by_month = self.freq == Freq::Monthly || !self.months.is_empty();
        let (number, length) = if by_month { in_month(day) } else { in_year(day) };
        let is_nth = match nth {
            0 => true,
            1.. => (number - 1) / 7 + 1 == nth,
            _ => (length - number) / 7 + 1 == -nth,
        };
        day.weekday() == weekday && is_nth
    }

    /// The first and last day of the day, week, month or year that a day is in.
    fn round(&self, day: Date) -> (Date, Date) {
        match self.freq {
            Freq::Daily => (day, day),
            Freq::Weekly => {
                let number = |it: Weekday| i32::from(it.to_monday_zero_offset());
                let passed = (number(day.weekday()) - number(self.week_begins)).rem_euclid(7);
                let begin = day.checked_sub(Span::new().days(passed)).unwrap_or(day);
                (begin, begin.checked_add(Span::new().days(6)).unwrap_or(day))
            }
            Freq::Monthly => (day.first_of_month(), day.last_of_month()),
            Freq::Yearly => (day.first_of_year(), day.last_of_year()),
        }
    }

    fn next_round(&self, begin: Date) -> Option<Date> {
        let span = match self.freq {
            Freq::Daily => Span::new().days(self.every),
            Freq::Weekly => Span::new().weeks(self.every),
            Freq::Monthly => Span::new().months(self.every),
            Freq::Yearly => Span::new().years(self.every),
        };
        begin.checked_add(span).ok()
    }

    /// Whether it comes in the day, week, month or year of a day: in one of so many.
    fn is_turn(&self, day: Date) -> bool {
        let (first, now) = (self.round(self.first).0, self.round(day).0);
        let years = i32::from(now.year()) - i32::from(first.year());
        let passed = match self.freq {
            Freq::Daily => apart(first, now),
            Freq::Weekly => apart(first, now) / 7,
            Freq::Monthly => years * 12 + i32::from(now.month()) - i32::from(first.month()),
            Freq::Yearly => years,
        };
        passed % self.every == 0
    }
}

fn freq(rule: &Rule<'_>) -> Result<Freq, ScheduleError> {
    match rule.part("FREQ") {
        Some("DAILY") => Ok(Freq::Daily),
        Some("WEEKLY") => Ok(Freq::Weekly),
        Some("MONTHLY") => Ok(Freq::Monthly),
        Some("YEARLY") => Ok(Freq::Yearly),
        _ => Err(rule.wrong("FREQ is one of DAILY, WEEKLY, MONTHLY and YEARLY: holidays are days")),
    }
}

/// `MO`, or `2MO` and `-1MO` of months and years.
fn weekdays(rule: &Rule<'_>, freq: Freq) -> Result<Vec<(i16, Weekday)>, ScheduleError> {
    let items = rule.part("BYDAY").into_iter().flat_map(|list| list.split(','));
    let most = match freq {
        Freq::Daily | Freq::Weekly => 0,
        Freq::Yearly if rule.part("BYMONTH").is_none() => 53,
        Freq::Monthly | Freq::Yearly => 5,
    };
    let item = |text: &str| {
        let (nth, name) = text.split_at_checked(text.len().saturating_sub(2)).unwrap_or((text, ""));
        let number = if nth.is_empty() { Some(0) } else { nth.parse::<i16>().ok() };
        let number = number.filter(|it| nth.is_empty() || (*it != 0 && it.abs() <= most));
        let bad = || rule.wrong(&format!("BYDAY: {text:?} is none of its weekdays"));
        Ok((number.ok_or_else(bad)?, weekday(rule, name)?))
    };
    items.map(item).collect()
}

fn weekday(rule: &Rule<'_>, name: &str) -> Result<Weekday, ScheduleError> {
    let found = WEEKDAYS.iter().find(|(it, _)| *it == name).map(|(_, weekday)| *weekday);
    found.ok_or_else(|| rule.wrong(&format!("{name:?} is no weekday such as MO")))
}

/// The number of a day in its month, and how many days that has.
fn in_month(day: Date) -> (i16, i16) {
    (day.day().into(), day.days_in_month().into())
}

/// The same of its year.
fn in_year(day: Date) -> (i16, i16) {
    (day.day_of_year(), day.days_in_year())
}

/// How many days lie between two.
fn apart(first: Date, now: Date) -> i32 {
    first.until(now).map_or(0, |span| span.get_days())
}

/// The days from one up to another.
fn each(from: Date, to: Date) -> impl Iterator<Item = Date> {
    std::iter::successors(Some(from), |day| day.tomorrow().ok()).take_while(move |day| *day <= to)
}
