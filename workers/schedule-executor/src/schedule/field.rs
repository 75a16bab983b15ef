//! One field of a cron rule: a list of numbers, names, ranges and steps, as bits.

use super::ScheduleError;

/// Month names, January first; their first three letters are names too.
pub(super) const MONTHS: [&str; 12] = [
    "JANUARY",
    "FEBRUARY",
    "MARCH",
    "APRIL",
    "MAY",
    "JUNE",
    "JULY",
    "AUGUST",
    "SEPTEMBER",
    "OCTOBER",
    "NOVEMBER",
    "DECEMBER",
];
/// Weekday names, Sunday first; their first three letters are names too.
pub(super) const WEEKDAYS: [&str; 7] =
    ["SUNDAY", "MONDAY", "TUESDAY", "WEDNESDAY", "THURSDAY", "FRIDAY", "SATURDAY"];

/// Whether a text is this name, whole or its first three letters.
pub(super) fn is_name(name: &str, text: &str) -> bool {
    name.eq_ignore_ascii_case(text) || name[..3].eq_ignore_ascii_case(text)
}

/// What a field may hold.
#[derive(Debug, Clone, Copy)]
pub(super) struct Field {
    /// Its name, for errors.
    pub(super) name: &'static str,
    /// The smallest number.
    pub(super) low: u16,
    /// The largest number.
    pub(super) high: u16,
    /// Names that stand for the numbers from `first_name` on.
    pub(super) names: &'static [&'static str],
    /// The number of the first name.
    pub(super) first_name: u16,
    /// Whether a range may run over the end (`FRI-MON`).
    pub(super) wraps: bool,
}

impl Field {
    /// A field of plain numbers.
    pub(super) const fn numbers(name: &'static str, low: u16, high: u16) -> Self {
        Self { name, low, high, names: &[], first_name: 0, wraps: false }
    }

    /// An error about this field.
    pub(super) fn wrong(&self, text: &str, why: &str) -> ScheduleError {
        ScheduleError(format!("the {} {text:?}: {why}", self.name))
    }

    /// One number or name.
    pub(super) fn value(&self, text: &str) -> Result<u16, ScheduleError> {
        let named = self.names.iter().position(|name| is_name(name, text));
        if let Some(index) = named {
            return Ok(self.first_name + u16::try_from(index).unwrap_or(0));
        }
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let value = text.parse().ok().filter(|_| digits);
        let value = value.filter(|value| (self.low..=self.high).contains(value));
        value.ok_or_else(|| {
            let (low, high) = (self.low, self.high);
            let numbers = format!("a number from {low} to {high}");
            self.wrong(
                text,
                &match self.spoken() {
                    Some(names) => format!("{names}, or {numbers} is wanted"),
                    None => format!("{numbers} is wanted"),
                },
            )
        })
    }

    /// Its names in short, where it has any; the week begins with Monday for those who write it.
    fn spoken(&self) -> Option<String> {
        let short = |name: &str| name[..3].to_ascii_lowercase();
        let (first, last) = (self.names.first()?, self.names.last()?);
        let is_week = self.names.len() == WEEKDAYS.len();
        let week = || "mon to sun".to_owned();
        Some(if is_week { week() } else { format!("{} to {}", short(first), short(last)) })
    }

    /// The numbers of one item of a list: `*`, `a`, `a-b`, each with an optional `/n`.
    pub(super) fn item(&self, text: &str) -> Result<Vec<u16>, ScheduleError> {
        let (range, step) = match text.split_once('/') {
            None => (text, None),
            Some((range, step)) => (range, Some(self.step(step)?)),
        };
        let (from, to) = self.range(range, step.is_some())?;
        let span = if to >= from { to - from } else { self.high - from + 1 + (to - self.low) };
        let size = self.high - self.low + 1;
        let numbers = (0..=span).step_by(step.unwrap_or(1));
        Ok(numbers.map(|n| (from - self.low + n) % size + self.low).collect())
    }

    fn step(&self, text: &str) -> Result<usize, ScheduleError> {
        let step = text.parse().ok().filter(|step| *step > 0);
        step.ok_or_else(|| self.wrong(text, "a step is a whole number above 0"))
    }

    fn range(&self, text: &str, stepped: bool) -> Result<(u16, u16), ScheduleError> {
        if text == "*" {
            return Ok((self.low, self.high));
        }
        let Some((from, to)) = text.split_once('-') else {
            let value = self.value(text)?;
            return Ok((value, if stepped { self.high } else { value }));
        };
        let (from, to) = (self.value(from)?, self.value(to)?);
        if from > to && !self.wraps {
            return Err(self.wrong(text, "the range ends before it begins"));
        }
        Ok((from, to))
    }

    /// The whole list as bits, each number at its own place.
    pub(super) fn bits(&self, text: &str) -> Result<u64, ScheduleError> {
        let mut bits = 0;
        for item in text.split(',') {
            for number in self.item(item)? {
                bits |= 1 << number;
            }
        }
        Ok(bits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_none_is_refused_with_the_names_that_there_are() {
        let field = |names: &'static [&'static str], low, high| Field {
            names,
            ..Field::numbers("field", low, high)
        };
        let said = |field: Field| field.value("FRY").unwrap_err().to_string();
        let week = said(field(&WEEKDAYS, 0, 7));
        assert!(week.contains("mon to sun, or a number from 0 to 7"), "{week}");
        let year = said(field(&MONTHS, 1, 12));
        assert!(year.contains("jan to dec, or a number from 1 to 12"), "{year}");
        let minute = said(Field::numbers("minute", 0, 59));
        assert!(minute.ends_with(": a number from 0 to 59 is wanted"), "{minute}");
    }
}
