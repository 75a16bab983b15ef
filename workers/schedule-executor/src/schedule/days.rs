//! Which days of a month a rule means: by their number, by their weekday, or by either.

use jiff::civil::Date;

use super::{
    ScheduleError,
    field::{Field, WEEKDAYS},
};

const DAY_OF_MONTH: Field = Field::numbers("day of month", 1, 31);

/// The days of a rule.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Days {
    month: Option<MonthDays>,
    week: Option<WeekDays>,
}

/// Days by number: bits, `L`, `L-3`, `LW`, `L-3W`, `15W`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct MonthDays {
    bits: u32,
    before_last: Vec<u8>,
    nearest: Vec<u8>,
    nearest_before_last: Vec<u8>,
}

/// Days by weekday (0 is Sunday): bits, `FRI#2`, `FRIL`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct WeekDays {
    bits: u8,
    nth: Vec<(u8, u8)>,
    last: Vec<u8>,
}

/// How weekdays are numbered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Numbering {
    /// As cron does: 0 is Sunday, and so is 7.
    Cron,
    /// As AWS does: 1 is Sunday.
    Aws,
}

impl Numbering {
    fn field(self) -> Field {
        let (low, high) = if self == Numbering::Cron { (0, 7) } else { (1, 7) };
        Field { name: "day of week", low, high, names: &WEEKDAYS, first_name: low, wraps: true }
    }

    /// The weekday of a number, 0 being Sunday.
    fn weekday(self, number: u16) -> u8 {
        let number = if self == Numbering::Cron { number % 7 } else { number - 1 };
        u8::try_from(number).unwrap_or(0)
    }
}

impl Days {
    /// Reads the two fields; `*` and `?` leave a field out.
    pub(super) fn parse(
        of_month: &str,
        of_week: &str,
        numbering: Numbering,
    ) -> Result<Self, ScheduleError> {
        let named = |text: &str| !matches!(text, "*" | "?");
        let month = named(of_month).then(|| MonthDays::parse(of_month)).transpose()?;
        let week = named(of_week).then(|| WeekDays::parse(of_week, numbering)).transpose()?;
        Ok(Self { month, week })
    }

    /// Whether both fields choose days.
    pub(super) fn has_both(&self) -> bool {
        self.month.is_some() && self.week.is_some()
    }

    /// The days of a month as bits, 1 to 31. Where both fields choose, a day of either counts.
    pub(super) fn of(&self, first: Date) -> u32 {
        let length = first.days_in_month().unsigned_abs();
        let all = ((1_u64 << (length + 1)) - 2) as u32;
        let chosen = match (&self.month, &self.week) {
            (None, None) => all,
            (Some(month), None) => month.of(first, length),
            (None, Some(week)) => week.of(first, length),
            (Some(month), Some(week)) => month.of(first, length) | week.of(first, length),
        };
        chosen & all
    }
}

/// The weekday of a day of the month that begins on `first`, 0 being Sunday.
fn weekday(first: Date, day: u8) -> u8 {
    (first.weekday().to_sunday_zero_offset().unsigned_abs() + day - 1) % 7
}

impl MonthDays {
    fn parse(text: &str) -> Result<Self, ScheduleError> {
        let mut days = Self::default();
        for item in text.split(',') {
            days.add(&item.to_ascii_uppercase())?;
        }
        Ok(days)
    }

    fn add(&mut self, item: &str) -> Result<(), ScheduleError> {
        let small = |text: &str| DAY_OF_MONTH.value(text).map(|n| u8::try_from(n).unwrap_or(0));
        match item {
            "L" => self.before_last.push(0),
            "LW" => self.nearest_before_last.push(0),
            _ => match (item.strip_prefix("L-"), item.strip_suffix('W')) {
                (Some(back), Some(_)) => {
                    let back = back.strip_suffix('W').unwrap_or(back);
                    self.nearest_before_last.push(small(back)?);
                }
                (Some(back), None) => self.before_last.push(small(back)?),
                (None, Some(day)) => self.nearest.push(small(day)?),
                (None, None) => self.bits |= DAY_OF_MONTH.bits(item)? as u32,
            },
        }
        Ok(())
    }

    fn of(&self, first: Date, length: u8) -> u32 {
        let from_end = self.before_last.iter().filter(|back| **back < length);
        let from_end = from_end.map(|back| length - back);
        let nearest = self.nearest.iter().filter(|day| **day <= length);
        let nearest = nearest.map(|day| workday(first, *day, length));
        let last = self.nearest_before_last.iter().filter(|back| **back < length);
        let last = last.map(|back| workday(first, length - back, length));
        from_end.chain(nearest).chain(last).fold(self.bits, |bits, day| bits | 1 << day)
    }
}

/// The day from Monday to Friday that is nearest to `day`, in the same month.
fn workday(first: Date, day: u8, length: u8) -> u8 {
    match weekday(first, day) {
        6 if day == 1 => 3,
        6 => day - 1,
        0 if day == length => day - 2,
        0 => day + 1,
        _ => day,
    }
}

impl WeekDays {
    fn parse(text: &str, numbering: Numbering) -> Result<Self, ScheduleError> {
        let mut days = Self::default();
        for item in text.split(',') {
            days.add(&item.to_ascii_uppercase(), numbering)?;
        }
        Ok(days)
    }

    fn add(&mut self, item: &str, numbering: Numbering) -> Result<(), ScheduleError> {
        let field = numbering.field();
        let one = |text: &str| field.value(text).map(|n| numbering.weekday(n));
        if item == "L" {
            self.bits |= 1 << 6; // the last day of the week: Saturday
        } else if let Some((day, nth)) = item.split_once('#') {
            let nth = nth.parse().ok().filter(|nth| (1..=5).contains(nth));
            let nth = nth.ok_or_else(|| field.wrong(item, "after # comes a number from 1 to 5"))?;
            self.nth.push((one(day)?, nth));
        } else if let Some(day) = item.strip_suffix('L') {
            self.last.push(one(day)?);
        } else {
            for number in numbers(&field, item)? {
                self.bits |= 1 << numbering.weekday(number);
            }
        }
        Ok(())
    }

    fn of(&self, first: Date, length: u8) -> u32 {
        let begins = weekday(first, 1);
        let first_of = |day: u8| 1 + (day + 7 - begins) % 7;
        let by_weekday = every_week(self.bits, begins);
        let nth = self.nth.iter().map(|(day, nth)| first_of(*day) + 7 * (nth - 1));
        let nth = nth.filter(|day| *day <= length);
        let last = self.last.iter().map(|day| first_of(*day));
        let last = last.map(|day| day + 7 * ((length - day) / 7));
        nth.chain(last).fold(by_weekday, |bits, day| bits | 1 << day)
    }
}

/// The days from 1 on that fall on weekdays of these bits, in a month that begins on `begins`: the
/// week as the month sees it, once for each week.
fn every_week(weekdays: u8, begins: u8) -> u32 {
    let twice = u64::from(weekdays) << 7 | u64::from(weekdays);
    let week = (twice >> begins) & 0x7f;
    // Ones seven places apart: a copy for each of five weeks.
    ((week * 0x1020_4081) << 1) as u32
}

/// The numbers of an item, where a range may run over the end of the week. With 0 and 7 both Sunday,
/// `FRI-MON` meets it twice: it is one day, and one step. Steps without an end go up to Saturday: `1/2`
/// is Monday, Wednesday and Friday.
fn numbers(field: &Field, item: &str) -> Result<Vec<u16>, ScheduleError> {
    let (range, step) = item.split_once('/').unwrap_or((item, "1"));
    if field.low == 1 || !range.contains('-') {
        let all = field.low == 0 && (item == "*" || item.contains('/'));
        let field = if all { Field { high: 6, ..*field } } else { *field };
        return field.item(item);
    }
    field.item(item)?;
    let mut days: Vec<u16> = field.item(range)?.into_iter().map(|number| number % 7).collect();
    days.dedup();
    Ok(days.into_iter().step_by(step.parse().unwrap_or(1)).collect())
}
