//! The parts of a rule by which an event comes back (RRULE).

use std::ops::RangeInclusive;

use super::wrong;
use crate::schedule::ScheduleError;

/// The parts that are read.
const KNOWN: [&str; 10] = [
    "FREQ",
    "INTERVAL",
    "COUNT",
    "UNTIL",
    "WKST",
    "BYMONTH",
    "BYMONTHDAY",
    "BYYEARDAY",
    "BYDAY",
    "BYSETPOS",
];

/// A rule: `FREQ=YEARLY;BYMONTH=12;BYMONTHDAY=25,26`.
#[derive(Debug)]
pub(super) struct Rule<'a> {
    text: &'a str,
    parts: Vec<(&'a str, &'a str)>,
}

impl<'a> Rule<'a> {
    /// Reads a rule in upper case.
    ///
    /// # Errors
    /// When it is none, or has a part that is not known, or one twice.
    pub(super) fn parse(text: &'a str) -> Result<Self, ScheduleError> {
        let mut rule = Self { text, parts: Vec::new() };
        for part in text.split(';').filter(|it| !it.is_empty()) {
            let (name, value) =
                part.split_once('=').ok_or_else(|| rule.wrong(&format!("{part:?} is no part")))?;
            if !KNOWN.contains(&name) {
                let known = KNOWN.join(", ");
                return Err(rule.wrong(&format!("{name} is not known, but {known}")));
            }
            if rule.part(name).is_some() {
                return Err(rule.wrong(&format!("{name} is there twice")));
            }
            rule.parts.push((name, value));
        }
        Ok(rule)
    }

    /// The value of a part.
    pub(super) fn part(&self, name: &str) -> Option<&'a str> {
        self.parts.iter().find(|(key, _)| *key == name).map(|(_, value)| *value)
    }

    /// An error about it.
    pub(super) fn wrong(&self, why: &str) -> ScheduleError {
        wrong(&format!("RRULE:{}: {why}", self.text))
    }

    /// In how many of its days, weeks, months or years it comes once.
    pub(super) fn every(&self) -> Result<i16, ScheduleError> {
        Ok(self.count("INTERVAL")?.unwrap_or(1))
    }

    /// How often it comes.
    pub(super) fn times(&self) -> Result<Option<i16>, ScheduleError> {
        self.count("COUNT")
    }

    fn count(&self, name: &str) -> Result<Option<i16>, ScheduleError> {
        let Some(text) = self.part(name) else { return Ok(None) };
        let number = text.parse().ok().filter(|number| *number > 0);
        let bad = || self.wrong(&format!("{name} is a whole number from 1 to {}", i16::MAX));
        number.map(Some).ok_or_else(bad)
    }

    /// A list of numbers, none of them 0; those below it count from the end.
    pub(super) fn numbers(
        &self,
        name: &str,
        known: RangeInclusive<i16>,
    ) -> Result<Vec<i16>, ScheduleError> {
        let items = self.part(name).into_iter().flat_map(|list| list.split(','));
        let number = |text: &str| {
            let number = text.parse::<i16>().ok().filter(|it| *it != 0 && known.contains(it));
            let (low, high) = (known.start(), known.end());
            let bad = || self.wrong(&format!("{name}: {text:?} is no number from {low} to {high}"));
            number.ok_or_else(bad)
        };
        items.map(number).collect()
    }
}
