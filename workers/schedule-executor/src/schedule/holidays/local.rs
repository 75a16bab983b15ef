//! Times in UTC as dates of a zone: a holiday begins on the date that its instant has there.

use jiff::{Timestamp, tz::TimeZone};

use super::is_within;

/// The lines that tell when an event is.
const DATED: [&str; 5] = ["DTSTART", "DTEND", "EXDATE", "RDATE", "RECURRENCE-ID"];

/// The same file, with the times of day in UTC on the clock of the zone. Midnight in UTC is how a date
/// is written.
pub(super) fn dates(text: &str, zone: &TimeZone) -> String {
    text.lines().map(|line| told(line, zone) + "\n").collect()
}

fn told(line: &str, zone: &TimeZone) -> String {
    let end = line.find([':', ';']).unwrap_or(line.len());
    let is_dated = DATED.iter().any(|name| name.eq_ignore_ascii_case(line[..end].trim()));
    let Some((key, values)) = line.rsplit_once(':').filter(|_| is_dated) else {
        return line.to_owned();
    };
    let local: Vec<String> = values.split(',').map(|value| value_in(value, zone)).collect();
    let local = local.join(",");
    // The end of its rule is an instant too.
    let start = line[..end].trim().eq_ignore_ascii_case("DTSTART") && local != values;
    match zone.iana_name().filter(|_| start) {
        Some(name) => format!("DTSTART;TZID={name}:{local}"),
        None => format!("{key}:{local}"),
    }
}

/// A time, or a period of two.
fn value_in(value: &str, zone: &TimeZone) -> String {
    let parts: Vec<String> = value.split('/').map(|part| time_in(part, zone)).collect();
    parts.join("/")
}

fn time_in(text: &str, zone: &TimeZone) -> String {
    let bare = text.trim();
    let instant = bare.parse::<Timestamp>().ok();
    let instant = instant.filter(|_| bare.ends_with(['Z', 'z']) && is_within(bare));
    let local = instant.map(|at| zone.to_datetime(at).strftime("%Y%m%dT%H%M%S").to_string());
    local.unwrap_or_else(|| text.to_owned())
}
