//! Local times in UTC, with a declared policy for the two days a year that make it hard.
//!
//! What falls into a *gap* (clocks go forward) happens at its end, or not at all; what falls into a
//! *fold* (clocks go back, an hour is shown twice) happens once, at the first of the two or at the
//! second. The order of local times is kept.

use jiff::{
    Timestamp,
    civil::DateTime,
    tz::{AmbiguousOffset, TimeZone, TimeZoneDatabase},
};
use serde::{Deserialize, Serialize};

use super::{Cron, ScheduleError};

const GAP: &str = "inside a gap: at its end";
const FIRST: &str = "inside a fold: at the first";
const SECOND: &str = "inside a fold: at the second";

/// What becomes of a start or stop where the clock changes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ClockChange {
    /// At a local time that is never shown.
    pub gap: Gap,
    /// At a local time that is shown twice.
    pub fold: Fold,
}

/// A local time that is never shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Gap {
    /// It happens at the end of the gap.
    #[default]
    End,
    /// It does not happen that day.
    Skip,
}

/// A local time that is shown twice.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Fold {
    /// It happens once, at the first.
    #[default]
    First,
    /// It happens once, at the second.
    Second,
}

/// A zone's clock, and the policy for its changes.
#[derive(Debug, Clone)]
pub(super) struct Clock {
    pub(super) zone: TimeZone,
    pub(super) policy: ClockChange,
}

/// The zone of an IANA name, from the data that this program was built with: the same answer on
/// every host.
///
/// # Errors
/// When there is no zone of that name.
pub fn zone(name: &str) -> Result<TimeZone, ScheduleError> {
    static ZONES: std::sync::LazyLock<TimeZoneDatabase> =
        std::sync::LazyLock::new(TimeZoneDatabase::bundled);
    let wrong = || ScheduleError(format!("there is no IANA time zone {name:?}"));
    // The name of the zone that nobody knows, which no rule can go by.
    let known = Some(name).filter(|name| !name.eq_ignore_ascii_case("Etc/Unknown"));
    known.and_then(|name| ZONES.get(name).ok()).ok_or_else(wrong)
}

/// How a rule's local time comes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Arrival {
    /// When.
    pub(super) at: Timestamp,
    /// The last local time that has come by then: later than the rule's own where that is shown
    /// never.
    pub(super) reached: DateTime,
    /// What the policy made of it, for the reader.
    pub(super) note: Option<&'static str>,
}

impl Clock {
    /// The clock of a zone, with the policy that holds where nobody declares another.
    pub(super) fn of(zone: TimeZone) -> Self {
        Self { zone, policy: ClockChange::default() }
    }

    /// How a rule's local time comes, by the policy.
    pub(super) fn arrival(&self, local: DateTime) -> Arrival {
        let come = |at: Result<Timestamp, _>, note| {
            // Only the last hours of the year 9999 have no timestamp.
            Arrival { at: at.unwrap_or(Timestamp::MAX), reached: local, note }
        };
        match (self.zone.to_ambiguous_timestamp(local).offset(), self.policy.fold) {
            (AmbiguousOffset::Unambiguous { offset }, _) => come(offset.to_timestamp(local), None),
            (AmbiguousOffset::Fold { before, .. }, Fold::First) => {
                come(before.to_timestamp(local), Some(FIRST))
            }
            (AmbiguousOffset::Fold { after, .. }, Fold::Second) => {
                come(after.to_timestamp(local), Some(SECOND))
            }
            (AmbiguousOffset::Gap { before, .. }, _) => {
                let end = before.to_timestamp(local).map(|inside| last_change(&self.zone, inside));
                let come = come(end, Some(GAP));
                Arrival { reached: self.zone.to_datetime(come.at), ..come }
            }
        }
    }

    /// The instant at which a rule's local time comes.
    pub(super) fn instant(&self, local: DateTime) -> Timestamp {
        self.arrival(local).at
    }

    /// The last local time whose instant is not after `at`: rules up to it have happened.
    pub(super) fn reached(&self, at: Timestamp) -> DateTime {
        let local = self.zone.to_datetime(at);
        let AmbiguousOffset::Fold { before, after } =
            self.zone.to_ambiguous_timestamp(local).offset()
        else {
            return local;
        };
        let again = self.zone.to_offset(at) == after;
        match self.policy.fold {
            // Shown for the second time: all of the fold has happened at the first.
            Fold::First if again => just_before(before.to_datetime(last_change(&self.zone, at))),
            // Shown for the first time: nothing of the fold has happened yet.
            Fold::Second if !again => just_before(after.to_datetime(next_change(&self.zone, at))),
            _ => local,
        }
    }

    /// The gap that a local time is in, from its first local time up to its end, where rules in
    /// gaps do not happen.
    pub(super) fn skipped(&self, local: DateTime) -> Option<(DateTime, DateTime)> {
        if self.policy.gap == Gap::End {
            return None;
        }
        match self.zone.to_ambiguous_timestamp(local).offset() {
            AmbiguousOffset::Gap { before, after } => {
                let change = last_change(&self.zone, before.to_timestamp(local).ok()?);
                Some((before.to_datetime(change), after.to_datetime(change)))
            }
            _ => None,
        }
    }

    /// The next local time of a rule, without those in gaps where these do not happen.
    pub(super) fn shown_after(&self, rule: &Cron, local: DateTime) -> Option<DateTime> {
        let mut next = rule.calendar.after(local)?;
        while let Some((_, end)) = self.skipped(next) {
            next = rule.calendar.after(just_before(end))?;
        }
        Some(next)
    }

    /// Whether a rule's local time is shown once, never, or twice; for the reader.
    pub(super) fn note(&self, local: DateTime) -> Option<&'static str> {
        self.arrival(local).note
    }
}

/// The last moment before a local time.
pub(super) fn just_before(local: DateTime) -> DateTime {
    local.checked_sub(jiff::Span::new().nanoseconds(1)).unwrap_or(local)
}

/// The last change of the clock at or before an instant.
fn last_change(zone: &TimeZone, at: Timestamp) -> Timestamp {
    let after = at.checked_add(jiff::Span::new().nanoseconds(1)).unwrap_or(at);
    zone.preceding(after).next().map_or(at, |change| change.timestamp())
}

/// The next change of the clock after an instant.
fn next_change(zone: &TimeZone, at: Timestamp) -> Timestamp {
    zone.following(at).next().map_or(at, |change| change.timestamp())
}
