//! When a thing should be on: rules or periods in a zone, and nothing else.
//!
//! The one decision, [`Schedule::desired`], is what the tick acts on, what the preview prints and
//! what every figure is computed from. It depends on no memory: the state at any instant follows
//! from the latest rule before it, so missed ticks need no replay.

mod cron;
mod days;
mod field;
mod holidays;
mod over;
mod period;
mod zone;

use std::fmt;

use jiff::{Timestamp, civil::DateTime, tz::TimeZone};
use serde::{Deserialize, Serialize};

pub(crate) use self::zone::note;
use self::zone::{instant, reached};
pub use self::{cron::Cron, over::Override, period::Periods, zone::zone};

/// How many firings are looked at for one that changes the state: rules that always cancel each
/// other never do.
const LOOKS: usize = 20_000;

/// What is wrong with a rule, a period or a zone, in words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ScheduleError(pub(crate) String);

/// On or off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Power {
    /// Running.
    #[serde(alias = "on")]
    On,
    /// Not running.
    #[serde(alias = "off")]
    Off,
}

impl Power {
    /// The other one.
    pub fn other(self) -> Self {
        if self == Power::On { Power::Off } else { Power::On }
    }
}

impl fmt::Display for Power {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if *self == Power::On { "on" } else { "off" })
    }
}

/// A schedule in a zone.
#[derive(Debug, Clone)]
pub struct Schedule {
    zone: TimeZone,
    plan: Plan,
}

#[derive(Debug, Clone)]
enum Plan {
    Rules(Box<Pair>),
    Periods(Periods),
}

#[derive(Debug, Clone)]
struct Pair {
    start: Option<Cron>,
    stop: Option<Cron>,
}

/// What should be, and since when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Desired {
    /// On or off.
    pub power: Power,
    /// When the latest rule came, which is not always a change: a start at 8 follows a start at 7.
    pub since: Timestamp,
    /// The local time that the rule names.
    pub local: DateTime,
}

/// A change of what should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Transition {
    /// When, in UTC.
    pub at: Timestamp,
    /// The wall clock at that moment, with its offset and zone.
    pub local: String,
    /// To which state.
    pub power: Power,
    /// Where the rule's local time is shown never or twice: what the policy made of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<&'static str>,
}

impl Schedule {
    /// A pair of rules; empty texts are no rule, and one of them may be empty.
    ///
    /// # Errors
    /// When a rule or the zone is none, or both rules are empty.
    pub fn rules(start: &str, stop: &str, zone_name: &str) -> Result<Self, ScheduleError> {
        let rule = |text: &str| match text.trim() {
            "" => Ok(None),
            text => text.parse().map(Some),
        };
        let (start, stop) = (rule(start)?, rule(stop)?);
        if start.is_none() && stop.is_none() {
            return Err(ScheduleError("there is no rule to start and none to stop".to_owned()));
        }
        Ok(Self { zone: zone(zone_name)?, plan: Plan::Rules(Box::new(Pair { start, stop })) })
    }

    /// Periods of being on.
    ///
    /// # Errors
    /// When the period or the zone is none.
    pub fn periods(text: &str, zone_name: &str) -> Result<Self, ScheduleError> {
        Self::periods_but(text, "", zone_name)
    }

    /// Periods of being on, of which none begins on a holiday of the iCalendar file `holidays`;
    /// an empty one is none.
    ///
    /// # Errors
    /// When the period, the file or the zone is none.
    pub fn periods_but(text: &str, holidays: &str, zone_name: &str) -> Result<Self, ScheduleError> {
        let holidays = Some(holidays).filter(|text| !text.trim().is_empty());
        let plan = Plan::Periods(Periods::parse(text, holidays)?);
        Ok(Self { zone: zone(zone_name)?, plan })
    }

    /// The zone.
    pub fn zone(&self) -> &TimeZone {
        &self.zone
    }

    /// What should be at an instant: what the latest rule says. Of rules at the same instant (the
    /// end of a gap gathers them) the one with the later local time counts, then the stop.
    /// `None` before the first rule ever.
    pub fn desired(&self, at: Timestamp) -> Option<Desired> {
        match &self.plan {
            Plan::Rules(pair) => {
                let local = reached(&self.zone, at);
                let last = |rule: &Option<Cron>, power| {
                    let local = rule.as_ref()?.calendar.at_or_before(local)?;
                    Some(Desired { power, since: instant(&self.zone, local), local })
                };
                later(last(&pair.start, Power::On), last(&pair.stop, Power::Off))
            }
            Plan::Periods(periods) => self.within(periods, at),
        }
    }

    fn within(&self, periods: &Periods, at: Timestamp) -> Option<Desired> {
        let (mut on, mut off) = (None, None);
        for stretch in periods.begun(&self.zone, at) {
            let (power, since, local) = match at < stretch.to {
                true => (Power::On, stretch.from, stretch.from_local),
                false => (Power::Off, stretch.to, stretch.to_local),
            };
            let side = if power == Power::On { &mut on } else { &mut off };
            *side = later(side.take(), Some(Desired { power, since, local }));
        }
        // Windows may overlap: it is off only outside all of them.
        on.or(off)
    }

    /// The first change of the desired state after an instant; `None` when there is none in the
    /// years that rules know (up to 2199).
    pub fn next(&self, after: Timestamp) -> Option<Transition> {
        let now = self.desired(after).map(|desired| desired.power);
        let mut cursor = after;
        for _ in 0..LOOKS {
            cursor = match now {
                Some(power) => self.candidate(power.other(), cursor)?,
                None => [Power::On, Power::Off]
                    .into_iter()
                    .filter_map(|power| self.candidate(power, cursor))
                    .min()?,
            };
            let desired = self.desired(cursor)?;
            if Some(desired.power) != now {
                return Some(self.transition(cursor, &desired));
            }
        }
        None
    }

    fn transition(&self, at: Timestamp, desired: &Desired) -> Transition {
        let local = at.to_zoned(self.zone.clone()).to_string();
        Transition { at, local, power: desired.power, note: note(&self.zone, desired.local) }
    }

    /// The next instant at which the state may become `power`.
    fn candidate(&self, power: Power, after: Timestamp) -> Option<Timestamp> {
        match (&self.plan, power) {
            (Plan::Rules(pair), Power::On) => self.firing(pair.start.as_ref()?, after),
            (Plan::Rules(pair), Power::Off) => self.firing(pair.stop.as_ref()?, after),
            (Plan::Periods(periods), Power::On) => periods.next_beginning(&self.zone, after),
            (Plan::Periods(periods), Power::Off) => {
                let ends = periods.begun(&self.zone, after).map(|stretch| stretch.to);
                ends.filter(|end| *end > after).min()
            }
        }
    }

    fn firing(&self, rule: &Cron, after: Timestamp) -> Option<Timestamp> {
        let local = rule.calendar.after(reached(&self.zone, after))?;
        Some(instant(&self.zone, local))
    }

    /// Every change from `from` on and before `to`, in order, at most `limit`.
    pub fn preview(&self, from: Timestamp, to: Timestamp, limit: usize) -> Vec<Transition> {
        let before = from.checked_sub(jiff::Span::new().nanoseconds(1)).unwrap_or(from);
        let first = self.next(before);
        let all = std::iter::successors(first, |transition| self.next(transition.at));
        all.take_while(|transition| transition.at < to).take(limit).collect()
    }
}

/// The later of two; of equal instants the later local time, then the stop.
fn later(left: Option<Desired>, right: Option<Desired>) -> Option<Desired> {
    let rank = |it: &Desired| (it.since, it.local, it.power == Power::Off);
    match (left, right) {
        (Some(left), Some(right)) => Some(if rank(&left) > rank(&right) { left } else { right }),
        (left, right) => left.or(right),
    }
}

#[cfg(test)]
mod tests;
