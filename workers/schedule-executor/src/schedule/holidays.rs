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
/// The most events.
const EVENTS: usize = 1_000;
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
    /// First and last day of each.
    spans: Vec<(Date, Date)>,
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
        let events = events(&text)?;
        if events.len() > EVENTS {
            return Err(wrong(&format!("it has over {EVENTS} events")));
        }
        for event in events {
            holidays.add(&event)?;
        }
        Ok(holidays)
    }

    fn add(&mut self, event: &Event<'_>) -> Result<(), ScheduleError> {
        if event.field("STATUS").is_some_and(|it| it.eq_ignore_ascii_case("CANCELLED")) {
            return Ok(());
        }
        let first = event.field("DTSTART").and_then(date);
        let first =
            first.ok_or_else(|| wrong("an event has no DTSTART, or one that is no date"))?;
        let days = event.days(first)?;
        for more in event.dates("RDATE")? {
            self.spans.extend(span(more, days));
        }
        let except = event.dates("EXDATE")?;
        match event.field("RRULE") {
            None if except.contains(&first) => {}
            None => self.spans.extend(span(first, days)),
            Some(rule) => self.yearly.push(Yearly::parse(rule, first, days, except)?),
        }
        Ok(())
    }

    /// The holidays of the month that begins on `first`, as bits.
    pub(super) fn of(&self, first: Date) -> u32 {
        // One that began last year may reach over into this one.
        let years = [first.year() - 1, first.year()];
        let yearly = self
            .yearly
            .iter()
            .flat_map(|it| years.into_iter().filter_map(|year| span(it.begins(year)?, it.days)));
        let spans = self.spans.iter().copied().chain(yearly);
        spans.fold(0, |bits, span| bits | within(span, first))
    }
}

/// The days of a span that are in the month that begins on `first`, as bits.
fn within((from, to): (Date, Date), first: Date) -> u32 {
    let last = first.last_of_month();
    if to < first || from > last {
        return 0;
    }
    let (from, to) = (from.max(first).day(), to.min(last).day());
    let up_to = |day: i8| (1_u64 << (day + 1)) - 1;
    (up_to(to) & !up_to(from - 1)) as u32
}

/// The first and the last of so many days.
fn span(first: Date, days: i32) -> Option<(Date, Date)> {
    Some((first, first.checked_add(Span::new().days(days - 1)).ok()?))
}

/// The lines of an event: name and value.
#[derive(Debug, Default)]
struct Event<'a>(Vec<(&'a str, &'a str)>);

/// The events of a file, without what is inside them, such as their alarms.
fn events(text: &str) -> Result<Vec<Event<'_>>, ScheduleError> {
    let (mut events, mut inside) = (Vec::new(), None::<(Event<'_>, usize)>);
    for line in text.lines() {
        let Some((key, value)) = line.trim().split_once(':') else { continue };
        let (name, value) = (key.split(';').next().unwrap_or_default(), value.trim());
        let is = |word: &str| name.eq_ignore_ascii_case(word);
        let event = value.eq_ignore_ascii_case("VEVENT");
        inside = match inside.take() {
            None => (is("BEGIN") && event).then(Default::default),
            Some((found, 0)) if is("END") && event => {
                events.push(found);
                None
            }
            Some((found, depth)) if is("BEGIN") => Some((found, depth + 1)),
            Some((found, depth)) if is("END") => Some((found, depth.saturating_sub(1))),
            Some((mut found, 0)) => {
                found.0.push((name, value));
                Some((found, 0))
            }
            alarm => alarm,
        };
    }
    if inside.is_some() {
        return Err(wrong("an event has no END:VEVENT"));
    }
    Ok(events)
}

impl<'a> Event<'a> {
    fn fields(&self, name: &str) -> impl Iterator<Item = &'a str> {
        let named = self.0.iter().filter(move |(key, _)| key.eq_ignore_ascii_case(name));
        named.map(|(_, value)| *value).filter(|value| !value.is_empty())
    }

    fn field(&self, name: &str) -> Option<&'a str> {
        self.fields(name).next()
    }

    /// All dates of the lines of this name, which hold lists; of a period its beginning.
    fn dates(&self, name: &str) -> Result<BTreeSet<Date>, ScheduleError> {
        let all = self.fields(name).flat_map(|list| list.split(','));
        let read = |text: &str| {
            date(text.trim()).ok_or_else(|| wrong(&format!("{name}:{text} is no date")))
        };
        all.map(read).collect()
    }

    /// How many days it lasts.
    fn days(&self, first: Date) -> Result<i32, ScheduleError> {
        let days = match (self.field("DTEND"), self.field("DURATION")) {
            (Some(end), _) => {
                let end = date(end).ok_or_else(|| wrong(&format!("DTEND:{end} is no date")))?;
                first.until(end).map_or(0, |span| span.get_days())
            }
            (None, Some(length)) => {
                let none = || wrong(&format!("DURATION:{length} is no duration"));
                let span: Span = length.parse().map_err(|_| none())?;
                let relative = jiff::SpanRelativeTo::days_are_24_hours();
                let hours = span.total((jiff::Unit::Hour, relative)).map_err(|_| none())?;
                (hours / 24.0).ceil().clamp(0.0, f64::from(LONGEST)) as i32
            }
            (None, None) => 1,
        };
        Ok(days.clamp(1, LONGEST))
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
    fn every_line_of_an_event_counts_in_whatever_case_and_its_alarms_do_not() {
        let holidays = Holidays::parse(&file(&[
            "DTSTART:20200101\r\nRRULE:FREQ=YEARLY\r\nEXDATE:20260101\r\nEXDATE:20270101,20280101",
            "DTSTART;VALUE=DATE:20260401\r\nDURATION:P2D\r\nRDATE;VALUE=DATE:20260410,20260430",
            "DTSTART;VALUE=DATE:20260501\r\nDURATION:P1W\r\nBEGIN:VALARM\r\nDURATION:PT5M\r\nDTSTART:1\r\nEND:VALARM",
            "dtstart;value=date:20260601\r\nduration:PT36H",
        ])).unwrap();
        for year in 2026..=2028 {
            assert_eq!(days(&holidays, year, 1), [0; 0], "{year}");
        }
        assert_eq!((days(&holidays, 2025, 1), days(&holidays, 2029, 1)), (vec![1], vec![1]));
        assert_eq!(days(&holidays, 2026, 4), [1, 2, 10, 11, 30]);
        assert_eq!(days(&holidays, 2026, 5), [1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(days(&holidays, 2026, 6), [1, 2]);
        let lower = file(&["DTSTART:20260704"]).to_lowercase();
        assert_eq!(days(&Holidays::parse(&lower).unwrap(), 2026, 7), [4]);
    }

    #[test]
    fn many_long_events_take_no_time_and_too_many_are_refused() {
        let event = "DTSTART:20200101\r\nDTEND:20201231\r\nRRULE:FREQ=YEARLY";
        let holidays = Holidays::parse(&file(&vec![event; 1000])).unwrap();
        let begin = std::time::Instant::now();
        (2021..2121)
            .for_each(|year| assert_eq!(holidays.of(date(year, 2, 1)).count_ones() / 28, 1));
        assert!(begin.elapsed() < std::time::Duration::from_secs(2), "{:?}", begin.elapsed());
        assert!(Holidays::parse(&file(&vec!["DTSTART:20200101"; 1001])).is_err());
    }

    #[test]
    fn a_file_whose_days_cannot_be_told_is_refused() {
        for bad in [
            "",
            "hello",
            &file(&["SUMMARY:x"]),
            &file(&["DTSTART:soon"]),
            &file(&["DTSTART:20260101\r\nDURATION:long"]),
            &file(&["DTSTART:20260101\r\nRDATE:soon"]),
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
