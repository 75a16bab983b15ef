//! Holidays, from an iCalendar file (RFC 5545): whole days, several in a row, and those that come
//! every year.

use std::collections::BTreeSet;

use jiff::{
    Span,
    civil::{Date, Weekday},
};

use super::ScheduleError;

/// The largest file that is read, in bytes.
const LIMIT: usize = 128 << 10;
/// The longest event, in days.
const LONGEST: i32 = 366;
const WEEKDAYS: [(&str, Weekday); 7] = [
    ("MO", Weekday::Monday),
    ("TU", Weekday::Tuesday),
    ("WE", Weekday::Wednesday),
    ("TH", Weekday::Thursday),
    ("FR", Weekday::Friday),
    ("SA", Weekday::Saturday),
    ("SU", Weekday::Sunday),
];

/// The days of a calendar.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Holidays {
    single: BTreeSet<Date>,
    yearly: Vec<Yearly>,
}

/// An event that comes back.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Yearly {
    first: Date,
    days: i32,
    every: i16,
    times: Option<i16>,
    until: Option<Date>,
    except: BTreeSet<Date>,
    on: On,
}

/// On which day of its year.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum On {
    Date { month: i8, day: i8 },
    Nth { month: i8, nth: i8, weekday: Weekday },
}

impl Holidays {
    /// Reads a file.
    ///
    /// # Errors
    /// When it is none, or has an event whose days cannot be told.
    pub(super) fn parse(text: &str) -> Result<Self, ScheduleError> {
        if text.len() > LIMIT {
            return Err(wrong(&format!("it is over {LIMIT} bytes")));
        }
        let text = text.replace("\r\n", "\n").replace("\n ", "").replace("\n\t", "");
        if !text.trim_start().to_ascii_uppercase().starts_with("BEGIN:VCALENDAR") {
            return Err(wrong("it does not begin with BEGIN:VCALENDAR"));
        }
        let mut holidays = Self::default();
        for event in text.split("BEGIN:VEVENT").skip(1) {
            let Some((event, _)) = event.split_once("END:VEVENT") else {
                return Err(wrong("an event has no END:VEVENT"));
            };
            holidays.add(event)?;
        }
        Ok(holidays)
    }

    fn add(&mut self, event: &str) -> Result<(), ScheduleError> {
        let field = |name: &str| {
            let found = event.lines().find_map(|line| {
                let (key, value) = line.trim().split_once(':')?;
                key.split(';').next()?.eq_ignore_ascii_case(name).then_some(value.trim())
            });
            found.filter(|value| !value.is_empty())
        };
        if field("STATUS").is_some_and(|status| status.eq_ignore_ascii_case("CANCELLED")) {
            return Ok(());
        }
        let first = field("DTSTART").and_then(date);
        let first =
            first.ok_or_else(|| wrong("an event has no DTSTART, or one that is no date"))?;
        let days = match field("DTEND") {
            None => 1,
            Some(end) => {
                let end = date(end).ok_or_else(|| wrong(&format!("DTEND:{end} is no date")))?;
                first.until(end).map_or(0, |span| span.get_days()).clamp(1, LONGEST)
            }
        };
        match field("RRULE") {
            None => (0..days).for_each(|n| self.single.extend(later(first, n))),
            Some(rule) => {
                let except = field("EXDATE").unwrap_or_default().split(',').filter_map(date);
                self.yearly.push(Yearly::parse(rule, first, days, except.collect())?);
            }
        }
        Ok(())
    }

    /// The holidays of the month that begins on `first`, as bits.
    pub(super) fn of(&self, first: Date) -> u32 {
        let last = first.last_of_month();
        let single = self.single.range(first..=last).copied();
        let yearly = self.yearly.iter().flat_map(|it| {
            // One that began last year may reach over into this one.
            [first.year() - 1, first.year()]
                .into_iter()
                .filter_map(|year| it.begins(year))
                .flat_map(|begin| (0..it.days).filter_map(move |n| later(begin, n)))
        });
        let days = single.chain(yearly).filter(|day| *day >= first && *day <= last);
        days.fold(0, |bits, day| bits | 1 << day.day())
    }
}

impl Yearly {
    fn parse(
        rule: &str,
        first: Date,
        days: i32,
        except: BTreeSet<Date>,
    ) -> Result<Self, ScheduleError> {
        let bad = || wrong(&format!("RRULE:{rule}: only events of every year are known"));
        let part = |name: &str| {
            rule.split(';').find_map(|part| part.split_once('=').filter(|(key, _)| *key == name))
        };
        let number = |name: &str| part(name).map(|(_, it)| it.parse::<i16>().map_err(|_| bad()));
        let known =
            ["FREQ", "INTERVAL", "COUNT", "UNTIL", "BYMONTH", "BYMONTHDAY", "BYDAY", "WKST"];
        let unknown =
            |part: &str| part.split_once('=').is_none_or(|(key, _)| !known.contains(&key));
        if part("FREQ") != Some(("FREQ", "YEARLY")) || rule.split(';').any(unknown) {
            return Err(bad());
        }
        let month = number("BYMONTH").transpose()?;
        let month = month.map_or(Ok(first.month()), |it| i8::try_from(it).map_err(|_| bad()))?;
        let on = match part("BYDAY") {
            Some((_, day)) => {
                let (nth, name) =
                    day.split_at_checked(day.len().saturating_sub(2)).ok_or_else(bad)?;
                let weekday = WEEKDAYS.iter().find(|(it, _)| *it == name).ok_or_else(bad)?.1;
                let nth = nth.parse().ok().filter(|nth| (-5..=5).contains(nth) && *nth != 0);
                On::Nth { month, nth: nth.ok_or_else(bad)?, weekday }
            }
            None => {
                let day = number("BYMONTHDAY").transpose()?.unwrap_or(first.day().into());
                On::Date { month, day: i8::try_from(day).map_err(|_| bad())? }
            }
        };
        let every = number("INTERVAL").transpose()?.unwrap_or(1);
        let until = part("UNTIL").map(|(_, it)| date(it).ok_or_else(bad)).transpose()?;
        let times = number("COUNT").transpose()?;
        if every < 1 || !(1..=12).contains(&month) {
            return Err(bad());
        }
        Ok(Self { first, days, every, times, until, except, on })
    }

    fn begins(&self, year: i16) -> Option<Date> {
        let turn = (year - self.first.year()) / self.every;
        let due = year >= self.first.year() && (year - self.first.year()) % self.every == 0;
        let day = match self.on {
            On::Date { month, day } => Date::new(year, month, day).ok()?,
            On::Nth { month, nth, weekday } => {
                Date::new(year, month, 1).ok()?.nth_weekday_of_month(nth, weekday).ok()?
            }
        };
        let within = self.until.is_none_or(|until| day <= until)
            && self.times.is_none_or(|times| turn < times)
            && !self.except.contains(&day)
            && day >= self.first;
        (due && within).then_some(day)
    }
}

/// `20261225`, or a time whose date is `20261225T000000Z`.
fn date(text: &str) -> Option<Date> {
    let digits = text.get(..8).filter(|it| it.bytes().all(|b| b.is_ascii_digit()))?;
    let number = |range: std::ops::Range<usize>| digits[range].parse::<i16>().ok();
    Date::new(number(0..4)?, number(4..6)? as i8, number(6..8)? as i8).ok()
}

fn later(day: Date, days: i32) -> Option<Date> {
    day.checked_add(Span::new().days(days)).ok()
}

fn wrong(why: &str) -> ScheduleError {
    ScheduleError(format!("the iCalendar file of holidays: {why}"))
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;

    use super::*;

    fn file(events: &[&str]) -> String {
        let events = events.iter().map(|it| format!("BEGIN:VEVENT\r\n{it}\r\nEND:VEVENT\r\n"));
        format!("BEGIN:VCALENDAR\r\nVERSION:2.0\r\n{}END:VCALENDAR\r\n", events.collect::<String>())
    }

    fn days(holidays: &Holidays, year: i16, month: i8) -> Vec<u32> {
        let bits = holidays.of(date(year, month, 1));
        (1..=31).filter(|day| bits >> day & 1 == 1).collect()
    }

    #[test]
    fn days_spans_and_yearly_events_are_holidays() {
        let holidays = Holidays::parse(&file(&[
            "DTSTART;VALUE=DATE:20260501\r\nSUMMARY:Tag der\r\n  Arbeit",
            "DTSTART;VALUE=DATE:20261224\r\nDTEND;VALUE=DATE:20261227",
            "DTSTART;VALUE=DATE:20201231\r\nDTEND;VALUE=DATE:20210102\r\nRRULE:FREQ=YEARLY",
            "DTSTART:20201126T000000Z\r\nRRULE:FREQ=YEARLY;BYMONTH=11;BYDAY=4TH\r\nEXDATE:20271125T000000Z",
            "DTSTART;VALUE=DATE:20260704\r\nSTATUS:CANCELLED",
            "DTSTART;VALUE=DATE:20250808\r\nRRULE:FREQ=YEARLY;UNTIL=20261231",
        ])).unwrap();
        assert_eq!(days(&holidays, 2026, 5), [1]);
        assert_eq!(days(&holidays, 2026, 12), [24, 25, 26, 31]);
        assert_eq!(days(&holidays, 2027, 1), [1]);
        assert_eq!(days(&holidays, 2026, 11), [26]);
        assert_eq!(days(&holidays, 2027, 11), [0; 0]);
        assert_eq!(days(&holidays, 2026, 7), [0; 0]);
        assert_eq!((days(&holidays, 2026, 8), days(&holidays, 2027, 8)), (vec![8], vec![]));
        assert_eq!(days(&holidays, 2019, 12), [0; 0]);
    }

    #[test]
    fn a_file_whose_days_cannot_be_told_is_refused() {
        for bad in [
            "",
            "hello",
            &file(&["SUMMARY:x"]),
            &file(&["DTSTART:soon"]),
            &file(&["DTSTART:20260101\r\nRRULE:FREQ=DAILY"]),
            &file(&["DTSTART:20260101\r\nRRULE:FREQ=YEARLY;BYSETPOS=1"]),
            &file(&["DTSTART:20260101\r\nRRULE:FREQ=YEARLY;BYDAY=MO"]),
            &file(&["DTSTART:20260101\r\nRRULE:FREQ=YEARLY;INTERVAL=0"]),
            "BEGIN:VCALENDAR\nBEGIN:VEVENT\nDTSTART:20260101",
        ] {
            assert!(Holidays::parse(bad).is_err(), "{bad:?}");
        }
    }
}
