//! Local times in UTC, with one policy for the two days a year that make it hard.
//!
//! What falls into a *gap* (clocks go forward) happens at its end; what falls into a *fold*
//! (clocks go back, an hour is shown twice) happens once, at the first of the two. The order of
//! local times is kept.

use jiff::{
    Timestamp,
    civil::DateTime,
    tz::{AmbiguousOffset, TimeZone, TimeZoneDatabase},
};

use super::ScheduleError;

const GAP: &str = "inside a gap: at its end";
const FOLD: &str = "inside a fold: at the first";

/// The zone of an IANA name, from the data that this program was built with: the same answer on
/// every host.
///
/// # Errors
/// When there is no zone of that name.
pub fn zone(name: &str) -> Result<TimeZone, ScheduleError> {
    static ZONES: std::sync::LazyLock<TimeZoneDatabase> =
        std::sync::LazyLock::new(TimeZoneDatabase::bundled);
    let wrong = |_| ScheduleError(format!("there is no IANA time zone {name:?}"));
    ZONES.get(name).map_err(wrong)
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

/// How a rule's local time comes, by the policy.
pub(super) fn arrival(zone: &TimeZone, local: DateTime) -> Arrival {
    let come = |at: Result<Timestamp, _>, note| {
        // Only the last hours of the year 9999 have no timestamp.
        Arrival { at: at.unwrap_or(Timestamp::MAX), reached: local, note }
    };
    match zone.to_ambiguous_timestamp(local).offset() {
        AmbiguousOffset::Unambiguous { offset } => come(offset.to_timestamp(local), None),
        AmbiguousOffset::Fold { before, .. } => come(before.to_timestamp(local), Some(FOLD)),
        AmbiguousOffset::Gap { before, .. } => {
            let end = before.to_timestamp(local).map(|inside| last_change(zone, inside));
            let come = come(end, Some(GAP));
            Arrival { reached: zone.to_datetime(come.at), ..come }
        }
    }
}

/// The instant at which a rule's local time comes.
pub(super) fn instant(zone: &TimeZone, local: DateTime) -> Timestamp {
    arrival(zone, local).at
}

/// The last local time whose instant is not after `at`: rules up to it have happened.
pub(super) fn reached(zone: &TimeZone, at: Timestamp) -> DateTime {
    let local = zone.to_datetime(at);
    match zone.to_ambiguous_timestamp(local).offset() {
        // Shown for the second time: all of the fold has happened at the first.
        AmbiguousOffset::Fold { before, after } if zone.to_offset(at) == after => {
            let end = before.to_datetime(last_change(zone, at));
            end.checked_sub(jiff::Span::new().nanoseconds(1)).unwrap_or(local)
        }
        _ => local,
    }
}

/// The last change of the clock at or before an instant.
fn last_change(zone: &TimeZone, at: Timestamp) -> Timestamp {
    let after = at.checked_add(jiff::Span::new().nanoseconds(1)).unwrap_or(at);
    zone.preceding(after).next().map_or(at, |change| change.timestamp())
}

/// Whether a rule's local time is shown once, never, or twice; for the reader.
pub(crate) fn note(zone: &TimeZone, local: DateTime) -> Option<&'static str> {
    arrival(zone, local).note
}
