//! The minutes of one rule that are none of another.

use jiff::civil::{Date, DateTime, Time};

use super::{Calendar, at, at_or_above};

impl Calendar {
    /// The first match after `local` that is no match of `other`: by masks of days, hours and
    /// minutes, however many matches in a row both have.
    pub(in crate::schedule) fn after_but(&self, other: &Self, local: DateTime) -> Option<DateTime> {
        let (date, left) = (local.date(), Left::of(self, other));
        let mut month = date.first_of_month();
        let mut days = self.days_of(month) & at_or_above(date.day());
        let mut both = days & other.days_of(month);
        if days >> date.day() & 1 == 1 {
            let found = match both >> date.day() & 1 {
                1 => left.after(local.time()),
                _ => self.time_after(local.time()),
            };
            if let Some(found) = found {
                return Some(date.to_datetime(found));
            }
            days &= !(1 << date.day());
        }
        loop {
            let worth = if left.hours == 0 { days & !both } else { days };
            if worth != 0 {
                let day = worth.trailing_zeros();
                let time = if both >> day & 1 == 1 { left.first() } else { self.first_time() };
                let date = Date::new(month.year(), month.month(), day as i8).ok()?;
                return Some(date.to_datetime(time?));
            }
            month = self.next_month(month)?;
            days = self.days_of(month);
            both = days & other.days_of(month);
        }
    }
}

/// What is left of a day that both rules match.
struct Left<'a> {
    calendar: &'a Calendar,
    other: &'a Calendar,
    /// The hours in which anything is.
    hours: u32,
}

impl<'a> Left<'a> {
    fn of(calendar: &'a Calendar, other: &'a Calendar) -> Self {
        let mut left = Self { calendar, other, hours: 0 };
        let hours = (0..24).filter(|hour| left.minutes(*hour) != 0);
        left.hours = hours.fold(0, |bits, hour| bits | 1 << hour);
        left
    }

    fn minutes(&self, hour: u32) -> u64 {
        let of = |calendar: &Calendar| match calendar.hours >> hour & 1 {
            1 => calendar.minutes,
            _ => 0,
        };
        of(self.calendar) & !of(self.other)
    }

    fn first(&self) -> Option<Time> {
        let hour = self.hours.trailing_zeros();
        at(hour, self.minutes(hour).trailing_zeros())
    }

    fn after(&self, time: Time) -> Option<Time> {
        let (hour, minute) = (time.hour().unsigned_abs(), time.minute().unsigned_abs());
        let minutes = self.minutes(u32::from(hour)) & !((2_u64 << minute) - 1);
        if minutes != 0 {
            return at(u32::from(hour), minutes.trailing_zeros());
        }
        let hours = u64::from(self.hours) & !((2_u64 << hour) - 1);
        let hour = hours.trailing_zeros();
        (hours != 0).then(|| at(hour, self.minutes(hour).trailing_zeros())).flatten()
    }
}
