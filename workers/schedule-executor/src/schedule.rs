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

use jiff::{Timestamp, Zoned, civil::DateTime, tz::TimeZone};
use serde::{Deserialize, Serialize};

pub use self::{
    cron::Cron,
    over::{Override, instant, said},
    period::Periods,
    zone::{ClockChange, Fold, Gap, zone},
};
use self::{
    period::Stretch,
    zone::{Clock, just_before},
};

/// How many firings are looked at for one that changes the state: of rules, one in each gap of the
/// clock may not; of periods, all windows that touch, which some make all year long.
const LOOKS: usize = 100_000;

/// The zone of whatever names none.
pub const DEFAULT_ZONE: &str = "UTC";

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
    clock: Clock,
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
    pub local: Zoned,
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
        let clock = Clock::of(zone(zone_name)?);
        Ok(Self { clock, plan: Plan::Rules(Box::new(Pair { start, stop })) })
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
        let zone = zone(zone_name)?;
        let plan = Plan::Periods(Periods::parse(text, holidays, &zone)?);
        Ok(Self { clock: Clock::of(zone), plan })
    }

    /// The same with another policy for the changes of the clock.
    ///
    /// # Errors
    /// When it is to leave out what falls into a gap, and there are periods: one without its end
    /// would have none.
    pub fn with(mut self, policy: ClockChange) -> Result<Self, ScheduleError> {
        if policy.gap == Gap::Skip && matches!(self.plan, Plan::Periods(_)) {
            let what = "a gap of the clock can be skipped by rules, and not by periods";
            return Err(ScheduleError(what.to_owned()));
        }
        self.clock.policy = policy;
        Ok(self)
    }

    /// The rule or the period that never comes in the years that rules know, such as one of
    /// February 30.
    pub fn never(&self) -> Option<String> {
        let last = jiff::civil::date(2199, 12, 31).at(23, 59, 0, 0);
        match &self.plan {
            Plan::Rules(pair) => {
                let all = [&pair.start, &pair.stop].into_iter().flatten();
                let mut never = all.filter(|rule| rule.calendar.at_or_before(last).is_none());
                never.next().map(|rule| format!("the rule {:?}", rule.to_string()))
            }
            Plan::Periods(_) => {
                let never = self.desired(self.clock.instant(last)).is_none();
                never.then(|| "the period".to_owned())
            }
        }
    }

    /// The zone.
    pub fn zone(&self) -> &TimeZone {
        &self.clock.zone
    }

    /// What the policy makes of a rule's local time, where it is shown never or twice.
    pub(crate) fn note(&self, local: DateTime) -> Option<&'static str> {
        self.clock.note(local)
    }

    /// What should be at an instant: what the latest rule says. Of rules at the same instant (the
    /// end of a gap gathers them) the one with the later local time counts, then the stop.
    /// `None` before the first rule ever.
    pub fn desired(&self, at: Timestamp) -> Option<Desired> {
        match &self.plan {
            Plan::Rules(pair) => {
                let (power, local) = pair.latest(&self.clock, self.clock.reached(at))?;
                Some(Desired { power, since: self.clock.instant(local), local })
            }
            Plan::Periods(periods) => self.within(periods, at),
        }
    }

    fn within(&self, periods: &Periods, at: Timestamp) -> Option<Desired> {
        let (mut begun, mut over, mut is_on) = (None, None, false);
        for Stretch { from, from_local, to, to_local } in periods.begun(&self.clock, at) {
            // The latest beginning is what the rules said last, also of a window that ended within
            // another one: what a hand asked for before it is over for good.
            let on = Desired { power: Power::On, since: from, local: from_local };
            begun = later(begun, Some(on));
            match at < to {
                true => is_on = true,
                false => {
                    let off = Desired { power: Power::Off, since: to, local: to_local };
                    over = later(over, Some(off));
                }
            }
        }
        // Windows may overlap: it is off only outside all of them.
        if is_on { begun } else { over }
    }

    /// When a rule comes next, whether or not it changes the state: a start at 8 follows a start at
    /// 7. It ends what a hand asked for.
    pub fn next_rule(&self, after: Timestamp) -> Option<Timestamp> {
        match &self.plan {
            Plan::Rules(pair) => {
                let local = self.clock.reached(after);
                let next = [&pair.start, &pair.stop].into_iter().flatten();
                let next = next.filter_map(|rule| self.clock.shown_after(rule, local)).min();
                next.map(|local| self.clock.instant(local))
            }
            Plan::Periods(periods) => {
                let (begins, ends) =
                    (periods.next_beginning(&self.clock, after), self.next_end(periods, after));
                begins.into_iter().chain(ends).min()
            }
        }
    }

    /// The first change of the desired state after an instant; `None` when there is none in the
    /// years that rules know (up to 2199).
    pub fn next(&self, after: Timestamp) -> Option<Transition> {
        match &self.plan {
            Plan::Rules(pair) => self.next_ruled(pair, after),
            Plan::Periods(periods) => self.next_within(periods, after),
        }
    }

    /// Walks the local calendar alone: instants are as local times are in their order, so the zone
    /// is asked only for where the walk begins and for what it meets.
    fn next_ruled(&self, pair: &Pair, after: Timestamp) -> Option<Transition> {
        let mut local = self.clock.reached(after);
        let now = pair.latest(&self.clock, local).map(|(power, _)| power);
        for _ in 0..LOOKS {
            let rule = pair.firing(now, local)?;
            if let Some((_, end)) = self.clock.skipped(rule) {
                local = just_before(end);
                continue;
            }
            let arrival = self.clock.arrival(rule);
            // The end of a gap gathers all rules inside.
            let (power, named) = match arrival.reached == rule {
                true => (pair.at(rule), rule),
                false => pair.latest(&self.clock, arrival.reached)?,
            };
            if Some(power) != now {
                let note = if named == rule { arrival.note } else { self.clock.note(named) };
                let local = arrival.at.to_zoned(self.clock.zone.clone());
                return Some(Transition { at: arrival.at, local, power, note });
            }
            local = arrival.reached;
        }
        None
    }

    fn next_within(&self, periods: &Periods, after: Timestamp) -> Option<Transition> {
        let power = |at| self.within(periods, at).map(|desired| desired.power);
        let (now, mut cursor) = (power(after), after);
        for _ in 0..LOOKS {
            cursor = match now {
                Some(Power::On) => self.next_end(periods, cursor)?,
                _ => periods.next_beginning(&self.clock, cursor)?,
            };
            let desired = self.within(periods, cursor)?;
            if Some(desired.power) != now {
                let (local, note) =
                    (cursor.to_zoned(self.clock.zone.clone()), self.clock.note(desired.local));
                return Some(Transition { at: cursor, local, power: desired.power, note });
            }
        }
        None
    }

    fn next_end(&self, periods: &Periods, after: Timestamp) -> Option<Timestamp> {
        let ends = periods.begun(&self.clock, after).map(|stretch| stretch.to);
        ends.filter(|end| *end > after).min()
    }

    /// Every change from `from` on and before `to`, in order, at most `limit`.
    pub fn preview(&self, from: Timestamp, to: Timestamp, limit: usize) -> Vec<Transition> {
        let before = from.checked_sub(jiff::Span::new().nanoseconds(1)).unwrap_or(from);
        let first = self.next(before);
        let all = std::iter::successors(first, |transition| self.next(transition.at));
        all.take_while(|transition| transition.at < to).take(limit).collect()
    }
}

impl Pair {
    /// What the latest rule up to a local time says, and which local time it names. Of the same
    /// local time, the stop counts.
    fn latest(&self, clock: &Clock, local: DateTime) -> Option<(Power, DateTime)> {
        let last = |rule: &Option<Cron>| {
            let calendar = &rule.as_ref()?.calendar;
            let mut last = calendar.at_or_before(local)?;
            while let Some((from, _)) = clock.skipped(last) {
                last = calendar.at_or_before(just_before(from))?;
            }
            Some(last)
        };
        match (last(&self.start), last(&self.stop)) {
            (Some(on), Some(off)) if on > off => Some((Power::On, on)),
            (_, Some(off)) => Some((Power::Off, off)),
            (Some(on), None) => Some((Power::On, on)),
            (None, None) => None,
        }
    }

    /// The next local time at which the state may become another than `now`.
    fn firing(&self, now: Option<Power>, local: DateTime) -> Option<DateTime> {
        let next = |rule: &Option<Cron>| rule.as_ref()?.calendar.after(local);
        match now {
            Some(Power::On) => next(&self.stop),
            Some(Power::Off) => match (&self.start, &self.stop) {
                // A start at the minute of a stop is none: what is left is found by its masks,
                // since there may be years of such minutes.
                (Some(on), Some(off)) => on.calendar.after_but(&off.calendar, local),
                _ => next(&self.start),
            },
            None => next(&self.start).into_iter().chain(next(&self.stop)).min(),
        }
    }

    /// What is said at a local time at which one of the rules fires.
    fn at(&self, local: DateTime) -> Power {
        let stops = self.stop.as_ref().is_some_and(|rule| rule.calendar.matches(local));
        if stops { Power::Off } else { Power::On }
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
