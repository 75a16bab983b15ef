//! Every IANA zone, around each change of its clock in two years, against an oracle in Python that
//! looks at every minute alone. The bench `schedule` does the same for every minute of the years.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

mod driver;
mod words;

use driver::{Job, ask, disagreements, write_zones, zones};
use jiff::{SignedDuration, Timestamp};
use schedule_executor::schedule::{Schedule, zone};

const PAIRS: [(&str, &str); 5] = [
    ("30 1 * * *", "30 2 * * *"),
    ("0 2 * * *", "0 3 * * *"),
    ("45 2 * * 0,6", "15 2 * * *"),
    ("*/7 0-4 * * *", "*/11 * * * *"),
    ("0 0 * * *", "59 23 * * *"),
];
/// A day and a half before a change, and after.
const MINUTES: i64 = 72 * 60;

/// A window around each change of a zone's clock, and one in which nothing changes.
fn windows(name: &str) -> Vec<Timestamp> {
    let at = |text: &str| text.parse::<Timestamp>().unwrap();
    let zone = zone(name).unwrap();
    let changes = zone.following(at("2026-01-01T00:00:00Z")).map(|it| it.timestamp());
    let changes = changes.take_while(|it| *it < at("2028-01-01T00:00:00Z"));
    let begin = |it: Timestamp| it.checked_sub(SignedDuration::from_mins(MINUTES / 2)).unwrap();
    changes.map(begin).chain([at("2026-06-01T00:00:00Z")]).collect()
}

#[test]
fn in_every_zone_the_decision_around_each_clock_change_is_that_of_an_oracle_in_python() {
    let folder = tempfile::tempdir().unwrap();
    let mut jobs = Vec::new();
    for (turn, name) in zones(false).into_iter().enumerate() {
        for from in windows(name) {
            // Each window by two pairs, another two in each zone.
            for (start, stop) in [PAIRS[turn % 5], PAIRS[(turn + 2) % 5]] {
                let zone = name.to_owned();
                jobs.push(Job { zone, from, minutes: MINUTES, start, stop });
            }
        }
    }
    write_zones(folder.path()).unwrap();
    let answers = ask(folder.path(), &jobs).unwrap();
    assert!(jobs.len() > 1000, "{} windows", jobs.len());
    for (job, changes) in jobs.iter().zip(&answers) {
        // Every change within the window, and every minute of the hours about the clock's own.
        let schedule = Schedule::rules(job.start, job.stop, &job.zone).unwrap();
        let at = |minute: i64| job.from.checked_add(SignedDuration::from_mins(minute)).unwrap();
        let first = changes.first().unwrap().0;
        let told = schedule.preview(at(first + 1), at(MINUTES), 10_000);
        let told: Vec<Timestamp> = told.iter().map(|it| it.at).collect();
        let expected: Vec<Timestamp> = changes[1..].iter().map(|it| at(it.0)).collect();
        assert_eq!(told, expected, "{job:?}");
        let about = MINUTES / 2 - 75..MINUTES / 2 + 75;
        assert_eq!(disagreements(job, changes, about), Ok(vec![]), "{job:?}");
    }
}
